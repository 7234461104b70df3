"""From a file or bytes to pixels: `uint8` or `uint16` `[H, W, C]`.

What is inside decides, not the file's name. Pixels are what the file stores, with these conversions:

- EXIF and TIFF orientation is applied;
- transparency is left away and the colours below it are kept, so RGBA has 3 channels and gray with alpha has 1;
- a palette becomes RGB, or gray if all its colours are gray, as in 8-bit gray BMP;
- CMYK becomes RGB, without colour profiles;
- samples of 1, 2 or 4 bits are stretched to 0 … 255;
- 16 bits stay 16 bits. Two channels, and four that are not RGBA, can be had from TIFF.

A file that holds several images (pages of a TIFF, an animation) is refused: taking the first would hide the others.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import Image

from ganomaly.data.readers.encoded_image import MAX_PIXELS, EncodedImage, ImageHeader, Pixels
from ganomaly.data.readers.pillow import PillowImage
from ganomaly.data.readers.tiff import TiffImage
from ganomaly.errors import ImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".tif", ".tiff")
"""Endings, in lower case, of the files that are looked for in folders."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def decode_image(
    source: Path | bytes, *, name: str | None = None, smallest_side: int | None = None
) -> Pixels:
    """Decode an image.

    Parameters
    ----------
    source : Path or bytes
        A file, or its content.
    name : str, optional
        What errors call it; the file's name if left out.
    smallest_side : int, optional
        The image will be made as small as this many pixels a side, so that a JPEG may be decoded at 1/2, 1/4 or
        1/8 of its size, never below twice this side. None decodes all pixels.

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
        return image.decode(smallest_side)


def read_header(source: Path | bytes, *, name: str | None = None) -> ImageHeader:
    """Tell size, channels and bits without decoding the pixels.

    Raises
    ------
    ImageError
        As `decode_image`, but for damage in the pixels, which is not seen.
    """
    with open_image(source, name=name) as image:
        return image.header


@contextmanager
def open_image(source: Path | bytes, *, name: str | None = None) -> Iterator[EncodedImage]:
    """Open an image, look at its header, and decode it if wanted; the file is closed when the block ends.

    Parameters
    ----------
    source : Path or bytes
        A file, or its content.
    name : str, optional
        What errors call it; the file's name if left out.

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
    with _opened(source, name) as file:
        yield _NamedImage(file, name)


class _NamedImage(EncodedImage):
    """An image whose troubles are told in a sentence that begins with its name."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._name = name
        with _troubles_in_words(name):
            format_name = _format(file)
            self._image: EncodedImage = (
                TiffImage(file) if format_name == "TIFF" else PillowImage(file, format_name)
            )
        self.header = self._image.header

    def decode(self, smallest_side: int | None = None) -> Pixels:
        with _troubles_in_words(self._name):
            return self._image.decode(smallest_side)


@contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[IO[bytes]]:
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


def _format(file: IO[bytes]) -> str:
    start = file.read(12)
    file.seek(0)
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if start.startswith(b"BM"):
        return "BMP"
    if start.startswith(b"RIFF") and start[8:] == b"WEBP":
        return "WebP"
    if start.startswith(_TIFF):
        return "TIFF"
    if not start:
        raise ImageError("is empty: it has 0 bytes")
    raise ImageError("is not an image in PNG, JPEG, BMP, WebP or TIFF format, whatever its name says")


@contextmanager
def _troubles_in_words(name: str) -> Iterator[None]:
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
        raise ImageError(f"{name} is truncated or damaged ({_in_one_line(error)})") from error


def _in_one_line(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return words[:120] or type(error).__name__
