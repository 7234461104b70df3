"""Images that are in memory as the bytes of their files, such as uploads."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import xxhash

from ganomaly.data.readers.decoding import open_image
from ganomaly.data.readers.encoded_image import EncodedImage
from ganomaly.data.sources.dataset import ImageDataset, ImageRecord, StoredImage


class EncodedImages(ImageDataset):
    """Encoded images in memory.

    Parameters
    ----------
    contents : sequence of bytes
        Each the content of an image file.
    names : sequence of str
        What messages call them, one for each.
    name : str
        What messages call the dataset.
    """

    def __init__(self, contents: Sequence[bytes], names: Sequence[str], name: str = "uploads") -> None:
        self.name = name
        self._contents = contents
        self.records = [ImageRecord(each) for each in names]

    def open(self, index: int) -> AbstractContextManager[EncodedImage]:
        """Open an image by its bytes."""
        return open_image(self._contents[index], name=self.records[index].path)

    def stored(self, index: int) -> StoredImage:
        """Size of the encoded image."""
        return StoredImage(self.records[index].path, len(self._contents[index]), 0)

    def content_digest(self, index: int) -> bytes:
        """Hash the encoded image."""
        return xxhash.xxh3_128(self._contents[index]).digest()

    def identity(self, index: int) -> bytes:
        """Name and size."""
        return f"{self.records[index].path}\0{len(self._contents[index])}".encode(errors="surrogateescape")
