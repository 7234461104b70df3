"""What every source of images offers: their names and labels, headers, pixels and masks."""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from ganomaly.data.large_images import one_large_image
from ganomaly.data.readers.encoded_image import EncodedImage, Pixels
from ganomaly.data.readers.physical_values import ValueRange

Item = TypeVar("Item")

_MOST_ENDINGS = 6  # that a message names


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """Name and label of an image.

    Attributes
    ----------
    path : str
        Its path as given, ``train.parquet#17``, or ``array[3]``.
    kind : str or None
        Its label on disk, as ``good``, ``crack`` or ``7``; None without a label.
    is_anomalous : bool or None
        None if it is not labelled normal or anomalous.
    """

    path: str
    kind: str | None = None
    is_anomalous: bool | None = None


@dataclass(frozen=True, slots=True)
class StoredImage:
    """What is known of an image without reading it, for the fingerprint of its dataset.

    Attributes
    ----------
    name : str
        Of the image in its dataset, wherever that is; empty where images have none.
    size : int
        Bytes of the file that holds it; −1 if there is none.
    time : int
        When this file was modified, in nanoseconds; 0 if that is not known.
    """

    name: str
    size: int
    time: int

    @classmethod
    def of(cls, name: str, path: Path) -> "StoredImage":
        """That of an image in a file, which may be missing."""
        try:
            status = path.stat()
        except (OSError, ValueError):
            return cls(name, -1, 0)
        return cls(name, status.st_size, status.st_mtime_ns)


class ImageDataset(ABC):
    """A source of images with optional labels and masks; safe to read from several threads.

    Attributes
    ----------
    name : str
        What messages call the dataset.
    records : sequence of ImageRecord
        One for each image, in order; it may be a lazy sequence.
    left_out : mapping of str to int
        Number of files beside the images that are none by their ending, such as `.gif`, by that.
    """

    name: str
    records: Sequence[ImageRecord]
    left_out: Mapping[str, int] = MappingProxyType({})

    def __len__(self) -> int:
        """Number of images, broken ones included."""
        return len(self.records)

    @abstractmethod
    def open(self, index: int) -> AbstractContextManager[EncodedImage]:
        """Open an image to read its header, and its pixels if they are asked for.

        Raises
        ------
        ImageError
            If it cannot be opened, or decoded later.
        """

    @abstractmethod
    def stored(self, index: int) -> StoredImage:
        """Name, size and time of an image."""

    @abstractmethod
    def content_digest(self, index: int) -> bytes:
        """Hash the encoded image, all of its bytes; empty if they cannot be read."""

    @abstractmethod
    def identity(self, index: int) -> bytes:
        """What the fingerprints of earlier versions are made of."""

    def part(self, start: int, stop: int) -> "ImageDataset":
        """The images from one index up to another, as a dataset that carries little more than these."""
        return Subset(self, np.arange(start, stop))

    def read(
        self, index: int, *, smallest_side: int | None = None, value_range: ValueRange | None = None
    ) -> Pixels:
        """Decode an image.

        Parameters
        ----------
        index : int
            From 0 to ``len(self) - 1``.
        smallest_side : int, optional
            The side in pixels that the image will be resized to; a JPEG may be decoded at a part of its size, never
            below twice this side. None decodes at full size.
        value_range : (float, float), optional
            The physical values that become 0 and 65535, where the image has such.

        Returns
        -------
        ndarray
            `uint8` or `uint16` `[H, W, C]`, C from 1 to 4. Do not write to it: it may be the user's own array.

        Raises
        ------
        ImageError
            In one sentence that names the image.
        """
        with self.open(index) as image, one_large_image(image.header.height, image.header.width):
            return image.decode_in(value_range, smallest_side)

    def read_mask(self, index: int) -> NDArray[np.bool_] | None:
        """Read the mask of the anomalous pixels.

        Returns
        -------
        ndarray or None
            `bool[H, W]` at the image's size; None for a normal image and where there is no mask.

        Raises
        ------
        ImageError
            If there is a mask and it cannot be read, or is of another size than its image.
        """
        return None

    def open_without_defect(self, index: int) -> AbstractContextManager[EncodedImage] | None:
        """Open the image of the same part without its defect; None where the dataset has none."""
        return None

    @property
    def concurrent_reads(self) -> int:
        """How many images are best read at the same time, apart from decoding them: more from far away."""
        return 1

    @property
    def has_ignored_regions(self) -> bool:
        """Whether images may have regions of their own that are ignored."""
        return False

    def read_ignored_region(self, index: int) -> NDArray[np.bool_] | None:
        """Read the region of an image that is ignored.

        Returns
        -------
        ndarray or None
            `bool[h, w]`, of any size, relative to the sides of the image; None if nothing is ignored.

        Raises
        ------
        ImageError
            If there is a mask and it cannot be read.
        """
        return None


def left_out_in_words(dataset: ImageDataset) -> str | None:
    """Which files of a dataset's folders are no images by their ending, in one sentence; None if there are none."""
    if not dataset.left_out:
        return None
    counts = sorted(dataset.left_out.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{ending or 'without one'} ({count})" for ending, count in counts[:_MOST_ENDINGS])
    more = ", and others" if len(counts) > _MOST_ENDINGS else ""
    return f"files left out, since their ending is not that of an image that is read: {named}{more}"


class LazySequence(Sequence[Item], Generic[Item]):
    """A sequence whose items are made on access.

    Parameters
    ----------
    length : int
        Number of items.
    item : callable
        Makes the item at an index from 0 to ``length - 1``.
    """

    def __init__(self, length: int, item: Callable[[int], Item]) -> None:
        self._length, self._item = length, item

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self._item(i) for i in range(*index.indices(self._length))]
        return self._item(range(self._length)[index])  # a range handles negative and wrong indices


class DerivedImages(ImageDataset):
    """Images of other datasets; everything is asked of the one that an image is in, unless a subclass says otherwise.

    Parameters
    ----------
    parts : sequence of ImageDataset
        The other datasets.
    """

    def __init__(self, parts: Sequence[ImageDataset]) -> None:
        self._parts = parts
        self.left_out = sum((Counter(part.left_out) for part in parts), Counter[str]())

    @abstractmethod
    def _located(self, index: int) -> tuple[ImageDataset, int]:
        """The dataset that holds an image, and the index of the image there."""

    def open(self, index: int) -> AbstractContextManager[EncodedImage]:
        """Open an image where it is."""
        dataset, position = self._located(index)
        return dataset.open(position)

    def stored(self, index: int) -> StoredImage:
        """Name, size and time of an image where it is."""
        dataset, position = self._located(index)
        return dataset.stored(position)

    def content_digest(self, index: int) -> bytes:
        """Hash an image where it is."""
        dataset, position = self._located(index)
        return dataset.content_digest(position)

    def identity(self, index: int) -> bytes:
        """Identity of an image where it is."""
        dataset, position = self._located(index)
        return dataset.identity(position)

    def read_mask(self, index: int) -> NDArray[np.bool_] | None:
        """Mask of an image where it is."""
        dataset, position = self._located(index)
        return dataset.read_mask(position)

    def open_without_defect(self, index: int) -> AbstractContextManager[EncodedImage] | None:
        """Open an image without its defect where it is."""
        dataset, position = self._located(index)
        return dataset.open_without_defect(position)

    @property
    def concurrent_reads(self) -> int:
        """Those of the part that needs most."""
        return max(part.concurrent_reads for part in self._parts)

    @property
    def has_ignored_regions(self) -> bool:
        """Whether images may have regions that are ignored."""
        return any(part.has_ignored_regions for part in self._parts)

    def read_ignored_region(self, index: int) -> NDArray[np.bool_] | None:
        """Region of an image that is ignored where it is."""
        dataset, position = self._located(index)
        return dataset.read_ignored_region(position)


class JoinedImages(DerivedImages):
    """Several datasets, one after the other.

    Parameters
    ----------
    parts : sequence of ImageDataset
        At least one.
    name : str
        What messages call the dataset.
    """

    def __init__(self, parts: Sequence[ImageDataset], name: str) -> None:
        super().__init__(parts)
        self.name = name
        self._starts = [0, *accumulate(len(part) for part in parts)]
        self.records = LazySequence(self._starts[-1], self._record)

    def part(self, start: int, stop: int) -> ImageDataset:
        """The images from one index up to another, from those datasets alone that have them."""
        parts = [
            part.part(max(start - first, 0), min(stop - first, len(part)))
            for part, first in zip(self._parts, self._starts, strict=False)
            if first < stop and start < first + len(part)
        ]
        return JoinedImages(parts, self.name)

    def _record(self, index: int) -> ImageRecord:
        part, index_in_part = self._located(index)
        return part.records[index_in_part]

    def _located(self, index: int) -> tuple[ImageDataset, int]:
        number = bisect_right(self._starts, index) - 1
        return self._parts[number], index - self._starts[number]


class Subset(DerivedImages):
    """Some images of a dataset, in the order of the indices.

    Parameters
    ----------
    dataset : ImageDataset
        All images.
    indices : ndarray
        `int[n]`, indices into the dataset.
    """

    def __init__(self, dataset: ImageDataset, indices: NDArray[np.int64]) -> None:
        super().__init__([dataset])
        self.name = dataset.name
        self._dataset, self._indices = dataset, [int(index) for index in indices]
        self.records = LazySequence(len(indices), lambda index: dataset.records[self._indices[index]])

    def _located(self, index: int) -> tuple[ImageDataset, int]:
        return self._dataset, self._indices[index]
