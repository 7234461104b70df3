"""Images that are in memory already, as NumPy arrays."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from ganomaly.data.readers.encoded_image import MAX_CHANNELS, EncodedImage, ImageHeader, Pixels
from ganomaly.data.sources.dataset import ImageDataset, ImageRecord, StoredImage
from ganomaly.errors import DataError, ImageError, UsageError


class ImageArrays(ImageDataset):
    """Images in arrays.

    Parameters
    ----------
    arrays : ndarray or sequence of ndarray
        `uint8` or `uint16` `[N, H, W]` or `[N, H, W, C]`; or N arrays `[H, W]` or `[H, W, C]` of any sizes.

    Raises
    ------
    UsageError
        If they are of another type or shape; the message says how to convert them.
    DataError
        If there are none.
    """

    def __init__(self, arrays: NDArray[Any] | Sequence[NDArray[Any]]) -> None:
        if isinstance(arrays, np.ndarray) and arrays.ndim not in (3, 4):
            raise UsageError(
                f"images have the shape {arrays.shape}, but [N, H, W] or [N, H, W, C] is needed; "
                "one image becomes an array of one by image[np.newaxis]"
            )
        if len(arrays) == 0:
            raise DataError("no images: the array is empty; give at least one")
        self._images = [_as_pixels(image, index) for index, image in enumerate(arrays)]
        self.name = f"an array of {len(arrays)} images"
        self.records = [ImageRecord(f"array[{index}]") for index in range(len(arrays))]

    @contextmanager
    def open(self, index: int) -> Iterator[EncodedImage]:
        """Give the array itself, not a copy."""
        yield _ArrayImage(self._images[index], self.records[index].path)

    def stored(self, index: int) -> StoredImage:
        """Size of the pixels; arrays have neither names nor times."""
        return StoredImage("", self._images[index].nbytes, 0)

    def content_digest(self, index: int) -> bytes:
        """Hash shape, type and pixels."""
        image = self._images[index]
        digest = xxhash.xxh3_128(f"{image.shape}{image.dtype.str}".encode())
        digest.update(np.ascontiguousarray(image).data)
        return digest.digest()

    def identity(self, index: int) -> bytes:
        """Hash shape, type and pixels."""
        image = self._images[index]
        digest = hashlib.sha256(f"{image.shape}{image.dtype.str}".encode())
        digest.update(np.ascontiguousarray(image).data)
        return digest.digest()


class _ArrayImage(EncodedImage):
    def __init__(self, pixels: Pixels, name: str) -> None:
        self._pixels = pixels
        height, width, channels = pixels.shape
        try:
            self.header = ImageHeader(height, width, channels, 8 * pixels.dtype.itemsize).checked()
        except ImageError as error:
            raise ImageError(f"{name} {error}") from None

    def decode(self, smallest_side: int | None = None) -> Pixels:
        return self._pixels


def _as_pixels(image: Any, index: int) -> Pixels:
    """The image as `[H, W, C]` in native byte order, a view where possible, or `UsageError`."""
    if not isinstance(image, np.ndarray):
        raise UsageError(
            f"image {index} is a {type(image).__name__}, but a NumPy array is needed: np.asarray(image)"
        )
    native = image.dtype.newbyteorder("=")
    if native not in (np.uint8, np.uint16):
        remedy = {
            "f": "values from 0 to 1 are converted by (images * 255).round().astype(np.uint8)",
            "b": "convert by images.astype(np.uint8) * 255",
        }.get(image.dtype.kind, "if all values are from 0 to 255, convert by images.astype(np.uint8)")
        raise UsageError(f"images are {image.dtype.name}, but uint8 or uint16 is needed; {remedy}")
    if image.ndim == 2:
        image = image[..., np.newaxis]
    if image.ndim != 3 or not 1 <= image.shape[2] <= MAX_CHANNELS:
        raise UsageError(
            f"image {index} has the shape {image.shape}, but [H, W] or [H, W, C] with 1 to {MAX_CHANNELS} channels "
            "is needed; [C, H, W] becomes that by np.moveaxis(image, 0, -1)"
        )
    pixels: Pixels = image.astype(native, copy=False)
    return pixels
