"""TIFF, 8 and 16 bit or floating point, 1 to 4 channels, compressed or not; one page, or several as many images.

tifffile reads what the file says of itself. The pixels are decoded by libtiff, through imagecodecs, because the LZW
decoder that tifffile takes can read beyond its memory and end the process on a damaged file. But libtiff gives pixels
in spite of a wrong checksum, so tifffile decodes what carries one, and what is not compressed, in less memory.

Samples of floating point are physical values, see `ganomaly.data.value_range`.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
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
from ganomaly.data.readers.physical_values import NOMINAL_RANGE, PhysicalValues
from ganomaly.data.readers.tiff_pages import has_one_page, image_pages
from ganomaly.errors import ImageError

# Without a handler Python would print tifffile's messages about odd files on the terminal
logging.getLogger("tifffile").addHandler(logging.NullHandler())

Samples = NDArray[Any]

_ORIENTATION = 274
_DECODED_TO_RGB = (PHOTOMETRIC.SEPARATED, PHOTOMETRIC.YCBCR)
_BY_TIFFFILE = (
    COMPRESSION.NONE,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.LZMA,
    COMPRESSION.ZSTD,
)
_WHOLE_NUMBERS = ("bool", "uint8", "uint16")
_FLOATS = ("float16", "float32", "float64")
_ALPHA = (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)


class TiffImage(EncodedImage):
    """A page of a TIFF that has been opened and not decoded.

    Parameters
    ----------
    file : binary file
        Read again when decoding, so it must stay open until then.
    number : int, optional
        Counts from 1, without thumbnails and masks. None for the only one: a file of several is refused.
    """

    def __init__(self, file: IO[bytes], number: int | None = None) -> None:
        self._file = file
        self._position, page = _page(TiffFile(file), number)
        self._page = page
        kind = "unknown" if page.dtype is None else page.dtype.name
        self._has_values = kind in _FLOATS
        if not (self._has_values or kind in _WHOLE_NUMBERS):
            raise ImageError(
                f"has {kind} pixels; unsigned ones of 8 and 16 bits and floating-point ones are read: convert it"
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
        self.header = ImageHeader(
            height, width, self._colours.channels, self._colours.bits, self._has_values
        ).checked()

    def decode(self, smallest_side: int | None = None) -> Pixels:
        """Decode at full size; TIFF offers no reduced sizes. Physical values as if they were in `NOMINAL_RANGE`."""
        if self._has_values:
            return self.decode_values().in_range(NOMINAL_RANGE)
        return upright(self._samples(), self._orientation)

    def decode_values(self) -> PhysicalValues:
        """Decode floating-point samples."""
        if not self._has_values:
            return super().decode_values()
        values = upright(self._samples(), self._orientation)
        return PhysicalValues(
            np.asarray(values, np.float32), self._page.photometric == PHOTOMETRIC.MINISWHITE
        )

    def _samples(self) -> Any:
        """The samples in the channels and bits of the header, as they are stored, `[H, W, C]`."""
        page = self._page
        check_memory((6 if self._has_values else 3) * self.header.n_bytes)
        samples: Samples
        if page.compression in _BY_TIFFFILE:
            samples = page.asarray(maxworkers=1)
            samples = samples.view(np.uint8) if samples.dtype == np.bool_ else samples
        else:
            self._file.seek(0)
            samples = imagecodecs.tiff_decode(self._file.read(), index=self._position)
        if page.axes == "SYX" and samples.ndim == 3:
            samples = np.moveaxis(samples, 0, -1)
        samples = samples.reshape(page.imagelength, page.imagewidth, -1)
        pixels = np.ascontiguousarray(self._colours.convert(samples))
        if pixels.shape[2] != self.header.channels:
            raise ImageError(
                f"has {pixels.shape[2]} channels where its header promises {self.header.channels}"
            )
        return pixels


@dataclass(frozen=True)
class _Colours:
    """How the samples of a page become pixels."""

    channels: int
    bits: int
    convert: Callable[[Samples], Samples]


def _page(tiff: TiffFile, number: int | None) -> tuple[int, TiffPage]:
    """The page of this number, and its position among all; `ImageError` if none is named and there are several."""
    pages = image_pages(tiff)
    if number is None and len(pages) > 1:
        raise ImageError(f"holds {len(pages)} pages where one image is expected; save the one that is meant")
    if (number or 1) > len(pages):
        raise ImageError(f"holds {len(pages)} pages, and no page {number}")
    position = pages[(number or 1) - 1]
    page = tiff.pages[position]
    if not isinstance(page, TiffPage):
        raise ImageError("is damaged: its page is not complete")
    return position, page


def _count_pages(file: IO[bytes]) -> int:
    if has_one_page(file):
        return 1
    file.seek(0)
    return len(image_pages(TiffFile(file)))


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
    if page.dtype is not None and page.dtype.name in _FLOATS:
        if photometric not in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.RGB):
            raise ImageError(
                f"has floating-point samples of kind {_name(photometric)}; save it as gray or RGB"
            )
        return _Colours(n_channels, 16, lambda samples: samples[..., channels])
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
    count_images=_count_pages,
    read_image=TiffImage,
)
