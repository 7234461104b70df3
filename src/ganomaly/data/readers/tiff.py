"""TIFF, 8 and 16 bit, 1 to 4 channels, compressed or not.

tifffile reads what the file says of itself. The pixels are decoded by libtiff, through imagecodecs, because the LZW
decoder that tifffile takes can read beyond its memory and end the process on a damaged file. But libtiff gives pixels
in spite of a wrong checksum, so tifffile decodes what carries one, and what is not compressed, in less memory.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import IO, Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, PLANARCONFIG, TiffFile, TiffPage

from ganomaly.data.large_images import check_memory
from ganomaly.data.readers.encoded_image import (
    MAX_PIXELS,
    EncodedImage,
    FormatFamily,
    ImageHeader,
    Pixels,
    swaps_sides,
    upright,
)
from ganomaly.errors import ImageError

# Without a handler Python would print tifffile's messages about odd files on the terminal
logging.getLogger("tifffile").addHandler(logging.NullHandler())

Samples = NDArray[Any]

_ORIENTATION = 274
_MAX_PAGES = 100
_DECODED_TO_RGB = (PHOTOMETRIC.SEPARATED, PHOTOMETRIC.YCBCR)
_BY_TIFFFILE = (
    COMPRESSION.NONE,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.LZMA,
    COMPRESSION.ZSTD,
)
_ALPHA = (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)


class TiffImage(EncodedImage):
    """A TIFF of one page that has been opened and not decoded.

    Parameters
    ----------
    file : binary file
        Read again when decoding, so it must stay open until then.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        page = self._page = _only_page(TiffFile(file))
        if page.dtype is None or page.dtype.kind not in "bu" or page.dtype.itemsize > 2:
            kind = "unknown" if page.dtype is None else page.dtype.name
            raise ImageError(
                f"has {kind} pixels; only unsigned 8- and 16-bit ones are read: convert it to those"
            )
        if page.planarconfig not in tuple(PLANARCONFIG):  # as where its tag is of a wrong type
            raise ImageError(f"is truncated or damaged (its planar configuration is {page.planarconfig!r})")
        if page.axes not in ("YX", "YXS", "SYX"):
            raise ImageError(f"is not one flat image but has the axes {page.axes}; save one plane of it")
        _check_complete(page)
        orientation = page.tags.valueof(_ORIENTATION, 1)
        self._orientation = orientation if isinstance(orientation, int) else 1
        self._colours = _colours(page)
        if page.photometric in _DECODED_TO_RGB and self._orientation != 1:
            raise ImageError(
                f"is {_name(page.photometric)} and turned, which is not read together; save it as RGB"
            )
        height, width = page.imagelength, page.imagewidth
        if swaps_sides(self._orientation):
            height, width = width, height
        self.header = ImageHeader(height, width, self._colours.channels, self._colours.bits).checked()

    def decode(self, smallest_side: int | None = None) -> Pixels:
        """Decode at full size; TIFF offers no reduced sizes."""
        page = self._page
        check_memory(3 * self.header.n_bytes)
        samples: Samples
        if page.compression in _BY_TIFFFILE:
            samples = page.asarray(maxworkers=1)
            samples = samples.view(np.uint8) if samples.dtype == np.bool_ else samples
        else:
            self._file.seek(0)
            samples = imagecodecs.tiff_decode(self._file.read(), index=0)
        if page.axes == "SYX" and samples.ndim == 3:
            samples = np.moveaxis(samples, 0, -1)
        samples = samples.reshape(page.imagelength, page.imagewidth, -1)
        pixels = np.ascontiguousarray(self._colours.convert(samples))
        if pixels.shape[2] != self.header.channels:
            raise ImageError(
                f"has {pixels.shape[2]} channels where its header promises {self.header.channels}"
            )
        return upright(pixels, self._orientation)


@dataclass(frozen=True)
class _Colours:
    """How the samples of a page become pixels."""

    channels: int
    bits: int
    convert: Callable[[Samples], Samples]


def _only_page(tiff: TiffFile) -> TiffPage:
    """Return the page, or raise `ImageError` if there are more, not counting thumbnails and masks."""
    # not all are counted, because the pages of a damaged file may form a circle
    pages = [page for page in islice(tiff.pages, _MAX_PAGES) if isinstance(page, TiffPage)]
    if any(not (page.is_reduced or page.is_mask) for page in pages[1:]):
        number = f"at least {_MAX_PAGES}" if len(pages) == _MAX_PAGES else str(len(pages))
        raise ImageError(f"holds {number} pages; save each as an image of its own")
    return pages[0]


def _check_complete(page: TiffPage) -> None:
    """Raise `ImageError` if strips or tiles are missing, or if tiles are larger than any image."""
    needed = prod(page.chunked)
    counts = page.databytecounts
    if min(len(page.dataoffsets), len(counts)) < needed or 0 in page.dataoffsets or 0 in counts:
        raise ImageError(f"is truncated or damaged (some of its {needed} strips or tiles are missing)")
    if page.is_tiled and page.tilelength * page.tilewidth > MAX_PIXELS:
        raise ImageError(f"is damaged (its tiles would be {page.tilewidth}×{page.tilelength} px)")
    if page.compression == COMPRESSION.NONE and any(
        count < size for count, size in zip(counts, _stored_sizes(page), strict=False)
    ):
        raise ImageError("is truncated or damaged (some of its strips or tiles are too short)")


def _stored_sizes(page: TiffPage) -> list[int]:
    """Bytes of each strip or tile that is not compressed."""
    samples = page.samplesperpixel if page.planarconfig == PLANARCONFIG.CONTIG else 1
    width = page.tilewidth if page.is_tiled else page.imagewidth
    bytes_per_row = (width * samples * page.bitspersample + 7) // 8
    if page.is_tiled:
        return [page.tilelength * bytes_per_row] * prod(page.chunked)
    rows = range(0, page.imagelength, page.rowsperstrip)
    heights = [min(page.rowsperstrip, page.imagelength - first) for first in rows]
    planes = prod(page.chunked) // len(heights)
    return [height * bytes_per_row for height in heights] * planes


def _colours(page: TiffPage) -> _Colours:
    """The conversion for the colour space that the file names."""
    bits = 8 if page.bitspersample <= 8 else 16
    without_alpha = [i for i in range(page.samplesperpixel) if not _is_alpha(page, i)]
    n_channels = len(without_alpha)
    # a slice where it will do, since a list would copy the pixels
    channels = slice(n_channels) if without_alpha == list(range(n_channels)) else without_alpha
    photometric = page.photometric
    if photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB):
        return _Colours(
            n_channels, bits, lambda samples: _full_range(samples[..., channels], page.bitspersample)
        )
    if photometric == PHOTOMETRIC.MINISWHITE:
        white = _white(page.bitspersample)
        return _Colours(
            n_channels,
            bits,
            lambda samples: white - _full_range(samples[..., channels], page.bitspersample),
        )
    if photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        table = _table(page.colormap)
        return _Colours(table.shape[1], 8, lambda samples: table[samples[..., 0].astype(np.intp)])
    if photometric in _DECODED_TO_RGB and bits == 8:
        return _Colours(3, 8, _rgb)
    raise ImageError(f"has the colour space {_name(photometric)}, which is not read; save it as gray or RGB")


def _name(photometric: int) -> str:
    return photometric.name if isinstance(photometric, PHOTOMETRIC) else str(photometric)


def _is_alpha(page: TiffPage, sample: int) -> bool:
    first_extra = page.samplesperpixel - len(page.extrasamples)
    return sample >= first_extra and page.extrasamples[sample - first_extra] in _ALPHA


def _white(bits_per_sample: int) -> Any:
    """Return the largest value, of the type that samples are decoded to."""
    return np.uint8(255) if bits_per_sample <= 8 else np.uint16(2**bits_per_sample - 1)


def _full_range(samples: Samples, bits_per_sample: int) -> Samples:
    """Stretch samples of fewer than 8 bits to 0 … 255; others stay, since 12 bits in 16 are not stretched."""
    if bits_per_sample >= 8:
        return samples
    largest = 2**bits_per_sample - 1
    full: NDArray[np.uint8] = (samples.astype(np.uint16) * 255 // largest).astype(np.uint8)
    return full


def _table(colour_map: Samples) -> NDArray[np.uint8]:
    """Colours of a palette, `uint8[n, 3]`, or `uint8[n, 1]` if all of them are gray."""
    colours = np.asarray(colour_map).T  # [n, 3] of 16 bit
    if colours.max() > 255:  # some programs write 8-bit colours
        colours = colours >> 8
    table = colours.astype(np.uint8)
    return table[:, :1] if (table == table[:, :1]).all() else table


def _rgb(samples: Samples) -> Samples:
    """RGB as libtiff gives it, or by multiplying what the four inks let through, as Pillow does."""
    if samples.shape[2] == 3:
        return samples
    light = 255 - samples.astype(np.uint16)
    rgb: Samples = (light[..., :3] * light[..., 3:4] // 255).astype(np.uint8)
    return rgb


TIFF = FormatFamily(
    names=("TIFF",),
    suffixes=(".tif", ".tiff"),
    signature=re.compile(rb"II[*+]\0|MM\0[*+]"),
    read_header=TiffImage,
)
