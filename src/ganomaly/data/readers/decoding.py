"""From a file or bytes to pixels: `uint8` or `uint16` `[H, W, C]`.

The content chooses the reader, not the file's name. Pixels are what the file stores, with these conversions:

- EXIF and TIFF orientation is applied;
- transparency is dropped and the colours below it stay, so RGBA has 3 channels and gray with alpha has 1;
- a palette becomes RGB, or gray if all its colours are gray, as in 8-bit gray BMP;
- CMYK becomes RGB, without colour profiles;
- samples of 1, 2 or 4 bits are stretched to 0 … 255;
- 16 bits stay 16 bits. Only TIFF gives two channels, and four that are not RGBA;
- physical values (of DICOM, OpenEXR, floating-point TIFF) become 16 bits by a range that belongs to the model.

An animation is refused: taking the first image would hide the others. Pages of TIFF, and frames of DICOM and video,
are images of their own where a path names the file, and refused elsewhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import Image

from ganomaly.data.readers.encoded_image import (
    MAX_PIXELS,
    EncodedImage,
    FormatFamily,
    ImageHeader,
    Pixels,
)
from ganomaly.data.readers.physical_values import PhysicalValues, ValueRange
from ganomaly.data.readers.registry import format_families
from ganomaly.data.special_files import special_kind
from ganomaly.errors import ImageError

_SIGNATURE_BYTES = 256  # more than the signature of any format needs


def decode_image(
    source: Path | bytes,
    *,
    name: str | None = None,
    smallest_side: int | None = None,
    value_range: ValueRange | None = None,
) -> Pixels:
    """Decode an image.

    Parameters
    ----------
    source : Path or bytes
        A file, or its content.
    name : str, optional
        What errors call it; the file's name if left out.
    smallest_side : int, optional
        The side in pixels that the image will be resized to, so that a JPEG may be decoded at 1/2, 1/4 or 1/8 of
        its size, never below twice this side. None decodes at full size.
    value_range : (float, float), optional
        The physical values that become 0 and 65535, where the image has such; the largest range that its bits can
        hold if left out.

    Returns
    -------
    ndarray
        `uint8` or `uint16` `[H, W, C]`, C from 1 to 4; the conversions are listed at the top of this module.

    Raises
    ------
    ImageError
        In one sentence, if it cannot be read, is damaged, too large, or of a kind that is not decoded.
    """
    with open_image(source, name=name) as image:
        return image.decode_in(value_range, smallest_side)


def count_images(path: Path) -> int:
    """How many images a file holds, each of which `open_image` opens by its number; 1 if it cannot be read."""
    try:
        with _opened(path, path.name) as file:
            family = _format_family(file)
            return 1 if family.count_images is None else family.count_images(file)
    except Exception:  # whoever opens the image says what is wrong
        return 1


def read_header(source: Path | bytes, *, name: str | None = None) -> ImageHeader:
    """Read size, channels and bit depth without decoding the pixels.

    Raises
    ------
    ImageError
        As `decode_image`, except for damage in the pixels, which are not read.
    """
    with open_image(source, name=name) as image:
        return image.header


@contextmanager
def open_image(
    source: Path | bytes, *, name: str | None = None, number: int | None = None
) -> Iterator[EncodedImage]:
    """Open an image and read its header; it can be decoded until the block ends, which closes the file.

    Parameters
    ----------
    source : Path or bytes
        A file, or its content.
    name : str, optional
        What errors call it; the file's name if left out.
    number : int, optional
        Which image of a file that holds several, from 1; None for the only one.

    Yields
    ------
    EncodedImage
        Its `header`, and `decode`.

    Raises
    ------
    ImageError
        On opening and on decoding.
    """
    if name is None:
        name = source.name if isinstance(source, Path) else "the image"
        name = name if number is None else f"{name}#{number}"
    with _opened(source, name) as file:
        yield _NamedImage(file, name, number)


class _NamedImage(EncodedImage):
    """An image whose errors are sentences that begin with its name."""

    def __init__(self, file: IO[bytes], name: str, number: int | None) -> None:
        self._name = name
        with _errors_in_words(name):
            family = _format_family(file)
            if number is None or family.read_image is None:
                self._image = family.read_header(file)
            else:
                self._image = family.read_image(file, number)
        self.header = self._image.header

    @property
    def as_read(self) -> EncodedImage:
        return self._image

    def decode(self, smallest_side: int | None = None) -> Pixels:
        with _errors_in_words(self._name):
            return self._image.decode(smallest_side)

    def decode_values(self) -> PhysicalValues:
        with _errors_in_words(self._name):
            return self._image.decode_values()

    def decode_in(self, value_range: ValueRange | None, smallest_side: int | None = None) -> Pixels:
        with _errors_in_words(self._name):
            return self._image.decode_in(value_range, smallest_side)


@contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[IO[bytes]]:
    kind = None if isinstance(source, bytes) else special_kind(source)
    if kind is not None:  # opening it could wait forever
        raise ImageError(f"{name} is a {kind} and no file; name an image")
    try:
        file = BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist; check the path") from None
    except IsADirectoryError:
        raise ImageError(f"{name} is a folder; name an image in it") from None
    except PermissionError:
        raise ImageError(
            f"{name} cannot be opened: no permission to read it; change its permissions"
        ) from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{name} cannot be opened: {_in_one_line(error)}") from error
    with file:
        yield file


def _format_family(file: IO[bytes]) -> FormatFamily:
    """The family whose signature the file begins with."""
    start = file.read(_SIGNATURE_BYTES)
    file.seek(0)
    families = format_families()
    for family in reversed(families):
        if family.signature.match(start):
            return family
    if not start:
        raise ImageError("is empty: it has 0 bytes")
    *names, last = (name for family in families for name in family.names)
    raise ImageError(f"is not an image in {', '.join(names)} or {last} format, whatever its name says")


@contextmanager
def _errors_in_words(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an `ImageError` of one sentence."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name} {error}") from None
    except MemoryError:
        raise ImageError(f"{name} does not fit into memory; scale it down") from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name} is too large: at most {MAX_PIXELS / 1e6:.0f} megapixels are decoded; "
            "cut it into tiles or scale it down"
        ) from None
    except Exception as error:
        # decoders raise anything on damaged bytes: SyntaxError, struct.error, IndexError …
        # their words are about their own code, and say nothing to who sees the image
        raise ImageError(f"{name} is truncated or damaged") from error


def _in_one_line(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return words[:120] or type(error).__name__
