"""Images in files, most of them in files of their own."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import xxhash
from numpy.typing import NDArray

from ganomaly.data.readers.decoding import count_images, decode_image, open_image, read_header
from ganomaly.data.readers.encoded_image import EncodedImage
from ganomaly.data.readers.registry import image_suffixes, several_images_suffixes
from ganomaly.data.sources.dataset import ImageDataset, ImageRecord, StoredImage
from ganomaly.data.special_files import special_kind
from ganomaly.errors import ImageError

_READ_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in a file, with its label and mask.

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
    number : int or None
        Which image of a file that holds several, from 1; None for the only one.
    """

    path: Path
    label: str
    kind: str | None = None
    is_anomalous: bool | None = None
    mask: Path | None = None
    without_defect: Path | None = None
    number: int | None = None


class ImageFiles(ImageDataset):
    """Images in files. A file that holds several, as frames of DICOM, gives each as an image of its own.

    Parameters
    ----------
    files : sequence of ImageFile
        In order. The images of a file that holds several are called `scan.dcm#1`, `scan.dcm#2` …, without a mask.
    name : str
        What messages call the dataset.
    left_out : mapping of str to int
        Other files of the folder, as in `ImageDataset`.
    """

    def __init__(
        self, files: Sequence[ImageFile], name: str, left_out: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        self.name, self.left_out = name, left_out
        files = self._files = [image for file in files for image in _images_in(file)]
        self._digests: dict[Path, bytes] = {}  # of files that hold several images: each is hashed once
        self.records = [
            ImageRecord(_numbered(str(file.path), file.number), file.kind, file.is_anomalous)
            for file in files
        ]

    def part(self, start: int, stop: int) -> "ImageFiles":
        """The images from one index up to another."""
        part = copy(self)  # not constructed: files with several images are opened for that
        part._files, part.records, part._digests = self._files[start:stop], self.records[start:stop], {}
        return part

    def open(self, index: int) -> AbstractContextManager[EncodedImage]:
        """Open the file."""
        file = self._files[index]
        return open_image(file.path, number=file.number)

    def stored(self, index: int) -> StoredImage:
        """Name, size and time of the file."""
        file = self._files[index]
        return StoredImage.of(file.label, file.path)

    def content_digest(self, index: int) -> bytes:
        """Hash the file, and the image's number where it holds several."""
        file = self._files[index]
        if file.number is None:
            return _digest(file.path)
        if file.path not in self._digests:
            self._digests[file.path] = _digest(file.path)
        return xxhash.xxh3_128(self._digests[file.path] + str(file.number).encode()).digest()

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


def _images_in(file: ImageFile) -> list[ImageFile]:
    """The images in a file; the file itself if there is one, or if it cannot be read."""
    suffix = file.path.suffix.lower()
    if file.number is not None or (suffix in image_suffixes() and suffix not in several_images_suffixes()):
        return [file]  # most files are not opened for this
    number_of_images = count_images(file.path)
    if number_of_images == 1:
        return [file]
    return [
        replace(file, label=_numbered(file.label, number), mask=None, number=number)
        for number in range(1, number_of_images + 1)
    ]


def _numbered(name: str, number: int | None) -> str:
    return name if number is None else f"{name}#{number}"


def _digest(path: Path) -> bytes:
    """Hash a file; empty if it cannot be read."""
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
