"""DICOM, by pydicom: gray and colour images, of one frame or of several.

Gray images with more than 8 bits, or with a rescale slope and intercept, hold physical values such as Hounsfield
units. Which of them are black and white is no matter of the file (its window is a choice for that image) but of the
model, see `ganomaly.data.value_range`. `MONOCHROME1` is inverted, so that all images show the same as bright.

Nothing that pydicom says of a damaged file is passed on, because it may quote what identifies a patient.
"""

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ganomaly.data.large_images import check_memory
from ganomaly.data.readers.dicom_header import DicomHeader, read_dicom_header
from ganomaly.data.readers.encoded_image import EncodedImage, FormatFamily, ImageHeader, Pixels
from ganomaly.data.readers.physical_values import PhysicalValues
from ganomaly.errors import ImageError

# pydicom quotes odd values in warnings. The filter is set once, because `warnings.catch_warnings` around each image
# is not thread-safe.
warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\b")

_GRAY = ("MONOCHROME1", "MONOCHROME2")
_PALETTE = "PALETTE COLOR"
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "YBR_PARTIAL_422")
_PACKAGES = (  # by the beginning of the transfer syntax's name
    ("JPEG-LS", "pyjpegls"),
    ("JPEG 2000", "pylibjpeg pylibjpeg-openjpeg"),
    ("High-Throughput JPEG 2000", "pylibjpeg pylibjpeg-openjpeg"),
    ("JPEG", "pylibjpeg pylibjpeg-libjpeg"),
)


class DicomImage(EncodedImage):
    """A frame of a DICOM file whose header has been read and whose pixels have not been decoded.

    Parameters
    ----------
    file : binary file
        At its start; read again when decoding, so it must stay open until then.
    frame : int, optional
        Counts from 1. None for the only one: a file of several is refused.
    """

    def __init__(self, file: IO[bytes], frame: int | None = None) -> None:
        self._file, self._frame = file, frame or 1
        with _nothing_quoted():
            dicom = self._dicom = read_dicom_header(file, self._frame)
        if frame is None and dicom.frames > 1:
            raise ImageError(
                f"holds {dicom.frames} frames where one image is expected; save the one that is meant"
            )
        if self._frame > dicom.frames:
            raise ImageError(f"holds {dicom.frames} frames, and no frame {self._frame}")
        channels, bits, self._has_values = _kind(dicom)
        self.header = ImageHeader(
            dicom.rows, dicom.columns, channels, bits, self._has_values, dicom.group
        ).checked()

    def decode(self, smallest_side: int | None = None) -> Pixels:
        """Decode at full size; physical values as if their range were that of the bits in the file."""
        if self._has_values:
            return self.decode_values().in_range(_largest_range(self._dicom))
        samples = self._samples()
        dicom = self._dicom
        if dicom.photometric == _PALETTE:
            with _nothing_quoted():
                from pydicom.pixels.processing import apply_color_lut

                colours = apply_color_lut(samples[..., 0], dicom.dataset)
            samples = colours if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)
        elif dicom.bits_stored < 8:
            samples = (samples.astype(np.uint16) * 255 // (2**dicom.bits_stored - 1)).astype(np.uint8)
        if samples.shape[2] < self.header.channels:
            raise ImageError("is damaged: it has fewer channels than its header promises")
        # a look-up table may have transparency
        pixels = np.ascontiguousarray(samples[..., : self.header.channels])
        return cast(Pixels, np.uint8(255) - pixels if dicom.photometric == "MONOCHROME1" else pixels)

    def decode_values(self) -> PhysicalValues:
        """Decode the values, such as Hounsfield units."""
        if not self._has_values:
            return super().decode_values()
        dicom, samples = self._dicom, self._samples()
        is_inverted = dicom.photometric == "MONOCHROME1"
        if dicom.has_table:
            with _nothing_quoted():
                from pydicom.pixels.processing import apply_modality_lut

                values = np.asarray(apply_modality_lut(samples, dicom.dataset), np.float32)
        else:
            # samples of 32 bits are rounded once, not twice
            exact = np.float64 if samples.dtype.itemsize > 2 else np.float32
            values = (samples * exact(dicom.slope) + exact(dicom.intercept)).astype(np.float32, copy=False)
        if dicom.padding is not None:
            is_padding = (samples >= dicom.padding[0]) & (samples <= dicom.padding[1])
            values[is_padding] = np.inf if is_inverted else -np.inf  # black
        return PhysicalValues(values, is_inverted)

    @property
    def frame(self) -> int:
        """The number of the frame in its file, from 1."""
        return self._frame

    def elements(self, names: list[str]) -> Any:
        """Elements of the file, whoever they identify, as a `pydicom.Dataset`: for what is to be filed with it."""
        with _nothing_quoted():
            import pydicom

            self._file.seek(0)
            tags: list[Any] = list(names)
            return pydicom.dcmread(cast(BinaryIO, self._file), stop_before_pixels=True, specific_tags=tags)

    def _samples(self) -> NDArray[Any]:
        """The samples as stored, of colour images as RGB, `[H, W, C]`."""
        dicom, header = self._dicom, self.header
        check_memory(4 * header.n_bytes + 8 * header.height * header.width)
        _check_decoder(dicom)
        with _nothing_quoted(_remedy(dicom)):
            from pydicom.pixels.utils import pixel_array

            self._file.seek(0)
            samples = pixel_array(cast(BinaryIO, self._file), index=self._frame - 1)
        if samples.shape[:2] != (header.height, header.width) or samples.ndim not in (2, 3):
            raise ImageError("is damaged: its pixels are not of the size that its header promises")
        if samples.dtype.kind not in "bui":
            raise ImageError(f"has {samples.dtype.name} pixels; only whole numbers are read")
        return samples.reshape(header.height, header.width, -1)


def _kind(dicom: DicomHeader) -> tuple[int, int, bool]:
    """Channels and bits of the decoded image, and whether it has physical values."""
    if not 1 <= dicom.bits_stored <= dicom.bits_allocated <= 32:
        raise ImageError(f"is damaged: it has {dicom.bits_stored} bits in {dicom.bits_allocated}")
    is_8_bit = dicom.bits_stored <= 8 and not dicom.is_signed
    if dicom.photometric in _GRAY and dicom.samples == 1:
        is_plain = is_8_bit and not dicom.has_table and (dicom.slope, dicom.intercept) == (1, 0)
        return 1, 8 if is_plain else 16, not is_plain
    if dicom.photometric == _PALETTE and dicom.samples == 1:
        return 3, 8, False
    if dicom.photometric in _COLOUR and dicom.samples == 3:
        if dicom.bits_allocated not in (8, 16) or dicom.is_signed:
            raise ImageError(f"has {dicom.bits_allocated}-bit colours; 8 and 16 bits without sign are read")
        return 3, dicom.bits_allocated, False
    raise ImageError(
        f"has {dicom.samples} samples of kind {dicom.photometric[:20] or 'unknown'}, which is not read; "
        "save it as MONOCHROME2 or RGB"
    )


def _largest_range(dicom: DicomHeader) -> tuple[float, float]:
    """The values that the bits of the file can hold."""
    least = -(2 ** (dicom.bits_stored - 1)) if dicom.is_signed else 0
    ends = [dicom.slope * n + dicom.intercept for n in (least, least + 2**dicom.bits_stored - 1)]
    return min(ends), max(ends)


def _check_decoder(dicom: DicomHeader) -> None:
    """Raise `ImageError` if nothing installed decodes the transfer syntax; it says what to install."""
    from pydicom.pixels.decoders.base import get_decoder

    try:
        decoder = get_decoder(dicom.transfer_syntax)
    except NotImplementedError:  # so pydicom says that it knows no such transfer syntax
        raise ImageError("has a transfer syntax that is not read; save it without compression") from None
    name = dicom.transfer_syntax.name.partition(" (")[0]
    if name.startswith("JPEG Extended") and dicom.bits_stored > 8 and not _decodes_12_bits(decoder):
        raise ImageError(
            f"is a JPEG with {dicom.bits_stored} bits, which no installed package decodes; "
            f"pip install {_package(dicom)}"
        )
    if not decoder.is_available:
        raise ImageError(
            f"is compressed as {name}, which no installed package decodes; pip install {_package(dicom)}"
        )


def _decodes_12_bits(decoder: Any) -> bool:
    return any(plugin != "pillow" for plugin in decoder.available_plugins)


def _package(dicom: DicomHeader) -> str | None:
    name = str(dicom.transfer_syntax.name)
    return next((package for beginning, package in _PACKAGES if name.startswith(beginning)), None)


def _remedy(dicom: DicomHeader) -> str:
    """What to do where an installed decoder fails."""
    package = _package(dicom)
    return "" if package is None else f"; if other programs show it, pip install {package}"


class _Silence(threading.local, logging.Filter):
    """Drops what pydicom logs while this thread reads, since it quotes odd values too."""

    active = False

    def filter(self, record: logging.LogRecord) -> bool:
        return not self.active


_SILENCE = _Silence()
logging.getLogger("pydicom").addFilter(_SILENCE)


@contextmanager
def _nothing_quoted(remedy: str = "") -> Iterator[None]:
    """Turn whatever pydicom raises into a sentence without its words, which may quote the patient's data."""
    _SILENCE.active = True
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except ModuleNotFoundError as error:
        if error.name != "pydicom":
            raise ImageError(f"cannot be decoded ({type(error).__name__}){remedy}") from None
        raise ImageError("is a DICOM file, which pydicom reads; pip install 'ganomaly[dicom]'") from None
    except Exception:  # pydicom and its decoders raise anything on damaged bytes
        raise ImageError(f"is truncated or damaged{remedy}") from None
    finally:
        _SILENCE.active = False


def _count_frames(file: IO[bytes]) -> int:
    with _nothing_quoted():
        return read_dicom_header(file, 1).frames


DICOM = FormatFamily(
    names=("DICOM",),
    suffixes=(".dcm", ".dicom", ".dic", ".ima"),
    signature=re.compile(rb".{128}DICM", re.DOTALL),
    read_header=DicomImage,
    count_images=_count_frames,
    read_image=DicomImage,
)


def _refuse_without_preamble(file: IO[bytes]) -> EncodedImage:
    raise ImageError(
        "is a DICOM file without its preamble; write it with one, as pydicom's dcmread(file, force=True) and "
        "save_as(file, enforce_file_format=True) do"
    )


WITHOUT_PREAMBLE = FormatFamily(
    names=(),
    suffixes=(),
    # the first element of the groups 2 and 8: a known pair of letters for its kind, or the tag of a usual one
    signature=re.compile(
        rb"[\x02\x08]\0.\0(?:UL|CS|UI|DA|LO|SH|OB)|\x08\0[\x05\x08\x16\x18]\0.\0\0\0", re.DOTALL
    ),
    read_header=_refuse_without_preamble,
)
"""DICOM files that are refused; no other format begins like them."""
