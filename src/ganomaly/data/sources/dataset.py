"""What every source of images offers: records that name them, headers, pixels, masks."""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from ganomaly.data.readers.encoded_image import EncodedImage, Pixels

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What is known of an image before it is opened.

    Attributes
    ----------
    path : str
        What a person would call it: its path as given, ``train.parquet#17``, ``array[3]``.
    kind : str or None
        The name on disk of its kind, as ``good``, ``crack`` or ``7``; None if it has no label.
    is_anomalous : bool or None
        None if that is not known.
    """

    path: str
    kind: str | None = None
    is_anomalous: bool | None = None


class ImageDataset(ABC):
    """A source of images with optional labels and masks; safe to read from several threads.

    Attributes
    ----------
    name : str
        What a person would call the whole.
    records : sequence of ImageRecord
        One for each image, perhaps made when asked for.
    """

    name: str
    records: Sequence[ImageRecord]

    def __len__(self) -> int:
        """Count the images, broken ones included."""
        return len(self.records)

    @abstractmethod
    def open(self, index: int) -> AbstractContextManager[EncodedImage]:
        """Open an image for its header, and for its pixels if wanted.

        Raises
        ------
        ImageError
            If it cannot be opened, or decoded later.
        """

    @abstractmethod
    def identity(self, index: int) -> bytes:
        """Bytes that change when the image is another one; what the fingerprint of a dataset is made of."""

    def read(self, index: int, *, smallest_side: int | None = None) -> Pixels:
        """Decode an image.

        Parameters
        ----------
        index : int
            From 0 to ``len(self) - 1``.
        smallest_side : int, optional
            The image will be made as small as this many pixels a side; a JPEG may be decoded at a part of its
            size, never below twice this side. None decodes all pixels.

        Returns
        -------
        ndarray
            `uint8` or `uint16` `[H, W, C]`, C from 1 to 4; to be read only, it may be the caller's own array.

        Raises
        ------
        ImageError
            In one sentence that names the image.
        """
        with self.open(index) as image:
            return image.decode(smallest_side)

    def read_mask(self, index: int) -> NDArray[np.bool_] | None:
        """Read which pixels are anomalous.

        Returns
        -------
        ndarray or None
            `bool[H, W]` at the image's size; None for a normal image and where nobody made a mask.

        Raises
        ------
        ImageError
            If there is a mask and it cannot be read, or is of another size than its image.
        """
        return None


class LazySequence(Sequence[Item], Generic[Item]):
    """A sequence whose items are made when asked for.

    Parameters
    ----------
    length : int
        How many items there are.
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
        return self._item(range(self._length)[index])  # a range knows negative and wrong indices


class JoinedImages(ImageDataset):
    """Several datasets, one after the other.

    Parameters
    ----------
    parts : sequence of ImageDataset
        At least one.
    name : str
        What a person would call the whole.
    """

    def __init__(self, parts: Sequence[ImageDataset], name: str) -> None:
        self.name = name
        self._parts = parts
        self._starts = [0, *accumulate(len(part) for part in parts)]
        self.records = LazySequence(self._starts[-1], self._record)

    def open(self, index: int) -> AbstractContextManager[EncodedImage]:
        """Open an image of the part it belongs to."""
        part, place = self._found(index)
        return part.open(place)

    def identity(self, index: int) -> bytes:
        """Identity that the image has in its part."""
        part, place = self._found(index)
        return part.identity(place)

    def read_mask(self, index: int) -> NDArray[np.bool_] | None:
        """Mask that the image has in its part."""
        part, place = self._found(index)
        return part.read_mask(place)

    def _record(self, index: int) -> ImageRecord:
        part, place = self._found(index)
        return part.records[place]

    def _found(self, index: int) -> tuple[ImageDataset, int]:
        number = bisect_right(self._starts, index) - 1
        return self._parts[number], index - self._starts[number]


class Subset(ImageDataset):
    """Some images of a dataset, in the order they are asked for.

    Parameters
    ----------
    dataset : ImageDataset
        Where they come from.
    indices : ndarray
        `int[n]`.
    """

    def __init__(self, dataset: ImageDataset, indices: NDArray[np.int64]) -> None:
        self.name = dataset.name
        self._dataset, self._indices = dataset, [int(index) for index in indices]
        self.records = LazySequence(len(indices), lambda place: dataset.records[self._indices[place]])

    def open(self, index: int) -> AbstractContextManager[EncodedImage]:
        """Open an image of the dataset."""
        return self._dataset.open(self._indices[index])

    def identity(self, index: int) -> bytes:
        """Identity that the image has in the dataset."""
        return self._dataset.identity(self._indices[index])

    def read_mask(self, index: int) -> NDArray[np.bool_] | None:
        """Mask that the image has in the dataset."""
        return self._dataset.read_mask(self._indices[index])
