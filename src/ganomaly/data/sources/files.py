"""Images in files of their own."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from ganomaly.data.readers.decoding import decode_image, open_image, read_header
from ganomaly.data.readers.encoded_image import EncodedImage
from ganomaly.data.sources.dataset import ImageDataset, ImageRecord, StoredImage
from ganomaly.data.special_files import special_kind
from ganomaly.errors import ImageError

_READ_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that holds one image, with its label and mask.

    Attributes
    ----------
    path : Path
        The file. If it does not exist, reading it fails like that of a damaged file.
    label : str
        Its name in the fingerprint of the dataset: its path below the folder that was given.
    kind, is_anomalous
        As in `ImageRecord`.
    mask : Path or None
        An image of the same size, not 0 where `path` is anomalous.
    without_defect : Path or None
        An image of the same part without its defect.
    """

    path: Path
    label: str
    kind: str | None = None
    is_anomalous: bool | None = None
    mask: Path | None = None
    without_defect: Path | None = None


class ImageFiles(ImageDataset):
    """Images in files of their own.

    Parameters
    ----------
    files : sequence of ImageFile
        In order.
    name : str
        What messages call the dataset.
    """

    def __init__(self, files: Sequence[ImageFile], name: str) -> None:
        self.name = name
        self._files = files
        self.records = [ImageRecord(str(file.path), file.kind, file.is_anomalous) for file in files]

    def open(self, index: int) -> AbstractContextManager[EncodedImage]:
        """Open the file."""
        return open_image(self._files[index].path)

    def stored(self, index: int) -> StoredImage:
        """Name, size and time of the file."""
        file = self._files[index]
        return StoredImage.of(file.label, file.path)

    def content_digest(self, index: int) -> bytes:
        """Hash the file."""
        path = self._files[index].path
        if special_kind(path) is not None:
            return b""
        digest = xxhash.xxh3_128()
        try:
            with path.open("rb", buffering=0) as file:
                while part := file.read(_READ_BYTES):
                    digest.update(part)
        except (OSError, ValueError):
            return b""
        return digest.digest()

    def identity(self, index: int) -> bytes:
        """Name and size of the file."""
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

    def open_without_defect(self, index: int) -> AbstractContextManager[EncodedImage] | None:
        """Open the file of the image without its defect."""
        path = self._files[index].without_defect
        return None if path is None else open_image(path)
