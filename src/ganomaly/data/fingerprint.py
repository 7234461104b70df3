"""What tells one set of images from another: a checkpoint goes on with the same images only.

There are three kinds, and a fingerprint says by its beginning which it is:

- ``content:…`` of the names and the whole content of all images, where memory holds the decoded images: their files
  are read anyway;
- ``sample:…:…`` of all names and sizes and the content of some images, then of all times of modification, where the
  images are streamed, because reading them all would take as long as an epoch of training;
- 64 hexadecimal digits, of names and sizes in files and of the content of parquet and arrays, as earlier versions
  wrote it.

The folder that holds the images does not count.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing

import numpy as np

from ganomaly.data.prefetch import in_order
from ganomaly.data.readers.encoded_image import EncodedImage
from ganomaly.data.resources import usable_processors
from ganomaly.data.sources.dataset import DerivedImages, ImageDataset

SAMPLE_SIZE = 1000
"""Images whose content counts where images are streamed."""

_CONTENT, _SAMPLE = "content", "sample"
_CHUNK = 64  # images that a thread reads in one go


def content_fingerprint(dataset: ImageDataset) -> str:
    """The fingerprint of names and content; reads all images, but for those of `HashedOnOpening` that were opened."""

    def record(index: int) -> bytes:
        return _joined(dataset.stored(index).name, dataset.content_digest(index))

    return f"{_CONTENT}:{_digest(dataset, record)}"


def sample_fingerprint(dataset: ImageDataset) -> str:
    """The fingerprint of names, sizes and times, and of the content of `SAMPLE_SIZE` images; always the same ones."""
    n_images = len(dataset)
    sample = np.random.default_rng(0).choice(n_images, min(SAMPLE_SIZE, n_images), replace=False)
    is_sampled = np.zeros(n_images, dtype=bool)
    is_sampled[sample] = True

    def record(index: int) -> bytes:
        stored = dataset.stored(index)
        return _joined(
            f"{stored.name}\0{stored.size}", dataset.content_digest(index) if is_sampled[index] else b""
        )

    content = _digest(dataset, record)
    times = _digest(dataset, lambda index: str(dataset.stored(index).time).encode())
    return f"{_SAMPLE}:{content}:{times}"


def earlier_fingerprint(dataset: ImageDataset) -> str:
    """The fingerprint that earlier versions took."""
    digest = hashlib.sha256()
    for identity in _in_chunks(dataset, dataset.identity):
        digest.update(len(identity).to_bytes(8, "little") + identity)
    return digest.hexdigest()


def fingerprint_like(recorded: str, dataset: ImageDataset) -> str:
    """The fingerprint of a dataset, of the same kind as one that was recorded, perhaps of other images."""
    if recorded.startswith(f"{_CONTENT}:"):
        return content_fingerprint(dataset)
    return sample_fingerprint(dataset) if recorded.startswith(f"{_SAMPLE}:") else earlier_fingerprint(dataset)


def has_fingerprint(dataset: ImageDataset, recorded: str) -> bool:
    """Whether a dataset holds the images of a fingerprint, of whichever kind; times of modification do not count."""
    return without_times(fingerprint_like(recorded, dataset)) == without_times(recorded)


class HashedOnOpening(DerivedImages):
    """The same images; the content of each one that is opened is hashed on the way, while the system still holds it.

    Attributes
    ----------
    digests : dict of int to bytes
        By index, as `ImageDataset.content_digest` gives them.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        super().__init__([dataset])
        self.name, self.records = dataset.name, dataset.records
        self._dataset = dataset
        self.digests: dict[int, bytes] = {}

    def open(self, index: int) -> AbstractContextManager[EncodedImage]:
        """Hash an image, and open it."""
        self.digests[index] = self._dataset.content_digest(index)
        return self._dataset.open(index)

    def content_digest(self, index: int) -> bytes:
        """Hash an image that has not been opened."""
        return self.digests[index] if index in self.digests else self._dataset.content_digest(index)

    def _located(self, index: int) -> tuple[ImageDataset, int]:
        return self._dataset, index


def without_times(fingerprint: str) -> str:
    """A fingerprint of the same images, whenever they were copied."""
    return ":".join(fingerprint.split(":")[:2])


def _joined(name: str, digest: bytes) -> bytes:
    return name.encode(errors="surrogateescape") + b"\0" + digest


def _digest(dataset: ImageDataset, record: Callable[[int], bytes]) -> str:
    """A digest over the records of all images in order."""
    digest = hashlib.blake2b(digest_size=16)
    for content in _in_chunks(dataset, record):
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def _in_chunks(dataset: ImageDataset, record: Callable[[int], bytes]) -> Iterator[bytes]:
    """The records of all images in order, computed by threads."""
    workers = usable_processors()
    chunks = (range(start, min(start + _CHUNK, len(dataset))) for start in range(0, len(dataset), _CHUNK))

    def records(chunk: range) -> list[bytes]:
        return [record(index) for index in chunk]

    with closing(in_order(records, chunks, workers=workers, ahead=4 * workers)) as parts:
        for part in parts:
            yield from part
