"""The sources of images: files and arrays. Parquet has a file of its own."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganomaly.data.readers.decoding import decode_image, open_image, read_header
from ganomaly.data.readers.encoded_image import MAX_CHANNELS, EncodedImage, ImageHeader, Pixels
from ganomaly.data.sources.dataset import ImageDataset, ImageRecord
from ganomaly.errors import DataError, ImageError, UsageError


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that holds one image, and what is known of it.

    Attributes
    ----------
    path : Path
        The file; it need not exist, it then costs its own row.
    kind, is_anomalous
        As in `ImageRecord`.
    mask : Path or None
        A file of the same size, not 0 where the image is anomalous.
    label : str
        What tells it from other files in the fingerprint: its path below the folder it was found in.
    """

    path: Path
    label: str
    kind: str | None = None
    is_anomalous: bool | None = None
    mask: Path | None = None


class ImageFiles(ImageDataset):
    """Images in files of their own.

    Parameters
    ----------
    files : sequence of ImageFile
        In the order they shall have.
    name : str
        What a person would call the whole.
    """

    def __init__(self, files: Sequence[ImageFile], name: str) -> None:
        self.name = name
        self._files = files
        self.records = [ImageRecord(str(file.path), file.kind, file.is_anomalous) for file in files]

    def open(self, index: int) -> AbstractContextManager[EncodedImage]:
        """Open the file."""
        return open_image(self._files[index].path)

    def identity(self, index: int) -> bytes:
        """Return name and size of the file; reading all of it would take as long as training on it."""
        file = self._files[index]
        try:
            size = file.path.stat().st_size
        except (OSError, ValueError):
            size = -1
        return f"{file.label}\0{size}".encode(errors="surrogateescape")

    def read_mask(self, index: int) -> NDArray[np.bool_] | None:
        """Read the mask file: pixels that are not 0 are anomalous."""
        file = self._files[index]
        if file.mask is None:
            return None
        mask: NDArray[np.bool_] = np.any(decode_image(file.mask), axis=2)
        header = read_header(file.path)
        if mask.shape != (header.height, header.width):
            raise ImageError(
                f"the mask {file.mask.name} is {mask.shape[1]}×{mask.shape[0]} px, but its image {file.path.name} "
                f"is {header.width}×{header.height} px; make the mask at the size of the image"
            )
        return mask


class ImageArrays(ImageDataset):
    """Images that are in memory already.

    Parameters
    ----------
    arrays : ndarray or sequence of ndarray
        `uint8` or `uint16` `[N, H, W]` or `[N, H, W, C]`; or N arrays `[H, W]` or `[H, W, C]` of any sizes.

    Raises
    ------
    UsageError
        If they are of another type or shape; the sentence says how to convert them.
    DataError
        If there is none.
    """

    def __init__(self, arrays: NDArray[Any] | Sequence[NDArray[Any]]) -> None:
        if isinstance(arrays, np.ndarray) and arrays.ndim not in (3, 4):
            raise UsageError(
                f"images have the shape {arrays.shape}, but [N, H, W] or [N, H, W, C] is needed; "
                "one image becomes an array of one by image[np.newaxis]"
            )
        if len(arrays) == 0:
            raise DataError("no images: the array is empty; give at least one")
        self._images = [_checked(image, index) for index, image in enumerate(arrays)]
        self.name = f"an array of {len(arrays)} images"
        self.records = [ImageRecord(f"array[{index}]") for index in range(len(arrays))]

    @contextmanager
    def open(self, index: int) -> Iterator[EncodedImage]:
        """Give the array itself."""
        yield _ArrayImage(self._images[index], self.records[index].path)

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


def _checked(image: Any, index: int) -> Pixels:
    """Return a view `[H, W, C]` in native byte order, or raise `UsageError`."""
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
