"""What every reader gives: an image whose header has been read and whose pixels are decoded when asked for."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from ganomaly.data.readers.physical_values import PhysicalValues, ValueRange
from ganomaly.errors import ImageError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""Decoded pixels, `[H, W, C]` with 1 to 4 channels."""

MAX_PIXELS = 178_956_970
"""Height times width above which an image is refused, as Pillow does against decompression bombs."""

MAX_BYTES = 3 * MAX_PIXELS
"""Bytes of decoded pixels above which an image is refused: those of the largest image in RGB with 8 bits."""

MAX_CHANNELS = 4


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Size, channels and bit depth of an image, read without decoding it.

    Attributes
    ----------
    height, width : int
        In pixels, with the EXIF orientation applied.
    channels : int
        Channels of the decoded image, 1 to 4.
    bits : int
        Bits per sample of the decoded image, 8 or 16.
    has_values : bool
        Whether the samples are physical values, which a range of the model's maps to 16 bits.
    group : bytes or None
        The same for images that belong together, as those of one patient, so that they do not end up on both sides
        of a split. A hash with a key of this process: it identifies nobody, and is not stored. None for an image on
        its own.
    """

    height: int
    width: int
    channels: int
    bits: int
    has_values: bool = False
    group: bytes | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes of the decoded pixels."""
        return self.height * self.width * self.channels * self.bits // 8

    def checked(self) -> "ImageHeader":
        """Return the header, or raise `ImageError` if an image with this header is refused."""
        if min(self.height, self.width) < 1:
            raise ImageError(f"has no pixels: it is {self.width}×{self.height} px")
        if self.height * self.width > MAX_PIXELS:
            raise ImageError(
                f"is too large: {self.width}×{self.height} px are {self.height * self.width / 1e6:.0f} megapixels, "
                f"and at most {MAX_PIXELS / 1e6:.0f} are decoded; cut it into tiles or scale it down"
            )
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise ImageError(
                f"has {self.channels} channels; images have 1 to {MAX_CHANNELS}: save those that matter"
            )
        if self.n_bytes > MAX_BYTES:
            raise ImageError(
                f"is too large: {self.width}×{self.height} px with {self.channels} channels of {self.bits} bits are "
                f"{self.n_bytes / 1e6:.0f} MB, and at most {MAX_BYTES / 1e6:.0f} are decoded; cut it into tiles or "
                "scale it down"
            )
        return self


class EncodedImage(ABC):
    """An image whose header has been read and whose pixels can be decoded.

    Attributes
    ----------
    header : ImageHeader
        Size, channels and bits of the decoded image.
    """

    header: ImageHeader

    @property
    def as_read(self) -> "EncodedImage":
        """The image of its format's reader, where this one adds to it."""
        return self

    @abstractmethod
    def decode(self, smallest_side: int | None = None) -> Pixels:
        """Decode the pixels.

        Parameters
        ----------
        smallest_side : int, optional
            The side in pixels that the image will be resized to. A format that offers reduced sizes may then decode
            one of them, never below twice this side. None decodes at full size.

        Returns
        -------
        ndarray
            `uint8` or `uint16` `[H, W, C]`, contiguous.
        """

    def decode_values(self) -> PhysicalValues:
        """Decode the physical values of an image whose header says that it has them.

        Raises
        ------
        ImageError
            If it has none.
        """
        raise ImageError("has no physical values, only pixels")

    def decode_in(self, value_range: ValueRange | None, smallest_side: int | None = None) -> Pixels:
        """Decode the pixels; physical values are mapped by this range, or as `decode` does it if there is none."""
        if value_range is None or not self.header.has_values:
            return self.decode(smallest_side)
        return self.decode_values().in_range(value_range)


@dataclass(frozen=True)
class FormatFamily:
    """File formats that one reader decodes.

    Attributes
    ----------
    names : tuple of str
        What people call the formats.
    suffixes : tuple of str
        Endings of such files, in lower case with the dot.
    signature : Pattern
        Matches the first bytes of such files.
    read_header : callable
        Takes an open file at its start and gives the `EncodedImage`, which reads on in the file when it is decoded.
        It raises `ImageError`, whose sentence goes on after the file's name; anything else that it raises means that
        the file is damaged.
    count_images : callable, optional
        Takes an open file at its start and gives the number of images in it; each is then an image of its own.
    read_image : callable, optional
        As `read_header`, for one of several: takes the file and a number that counts from 1.
    """

    names: tuple[str, ...]
    suffixes: tuple[str, ...]
    signature: re.Pattern[bytes]
    read_header: Callable[[IO[bytes]], EncodedImage]
    count_images: Callable[[IO[bytes]], int] | None = None
    read_image: Callable[[IO[bytes], int], EncodedImage] | None = None


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation, 1 to 8, to stored pixels; any other value changes nothing."""
    if orientation not in range(2, 9):
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return cast(Pixels, np.ascontiguousarray(pixels))


def swaps_sides(orientation: int) -> bool:
    """Whether an EXIF orientation exchanges height and width."""
    return orientation in range(5, 9)
