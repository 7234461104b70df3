"""An image that has been opened but not decoded: its size is known, its pixels are not."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ganomaly.errors import ImageError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""Decoded pixels, `[H, W, C]` with 1 to 4 channels."""

MAX_PIXELS = 178_956_970
"""Height times width above which an image is refused, as Pillow does against decompression bombs."""

MAX_CHANNELS = 4


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the first bytes of an image tell about its pixels.

    Attributes
    ----------
    height, width : int
        In pixels, as a person sees it: the EXIF orientation is applied.
    channels : int
        1 to 4, those that decoding gives.
    bits : int
        Bits per sample that decoding gives: 8 or 16.
    """

    height: int
    width: int
    channels: int
    bits: int

    def checked(self) -> "ImageHeader":
        """Return the header, or raise `ImageError` if such an image is not decoded."""
        if min(self.height, self.width) < 1:
            raise ImageError(f"has no pixels: it is {self.width}×{self.height} px")
        if self.height * self.width > MAX_PIXELS:
            raise ImageError(
                f"is too large: {self.width}×{self.height} px are {self.height * self.width / 1e6:.0f} megapixels, "
                f"and at most {MAX_PIXELS / 1e6:.0f} are decoded; cut it into tiles or scale it down"
            )
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise ImageError(
                f"has {self.channels} channels; images have 1 to {MAX_CHANNELS}: choose some of them"
            )
        return self


class EncodedImage(ABC):
    """An image whose header is known and whose pixels can be had.

    Attributes
    ----------
    header : ImageHeader
        Size, channels and bits of the decoded image.
    """

    header: ImageHeader

    @abstractmethod
    def decode(self, smallest_side: int | None = None) -> Pixels:
        """Decode the pixels.

        Parameters
        ----------
        smallest_side : int, optional
            The image will be made as small as this many pixels a side, so that a format which can may decode a
            smaller version, never below twice this side. None decodes all pixels.

        Returns
        -------
        ndarray
            `uint8` or `uint16` `[H, W, C]`, contiguous.
        """


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation, 1 to 8, to pixels as they are stored; another value changes nothing."""
    if orientation not in range(2, 9):
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return cast(Pixels, np.ascontiguousarray(pixels))


def is_turned(orientation: int) -> bool:
    """Say whether height and width change places under an EXIF orientation."""
    return orientation in range(5, 9)
