"""Batches of images, decoded and resized by threads before they are asked for."""

import math
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from typing import Any, cast

import numpy as np

from ganomaly.config import Preprocessing
from ganomaly.data.ignored_region import with_region, without_region
from ganomaly.data.large_images import one_large_image
from ganomaly.data.prefetch import in_order
from ganomaly.data.readers.encoded_image import ImageHeader, Pixels
from ganomaly.data.readers.physical_values import ValueRange
from ganomaly.data.resizing import resize_image
from ganomaly.data.resources import usable_processors
from ganomaly.data.sources.dataset import ImageDataset
from ganomaly.errors import ImageError

CHUNK = 8
"""Images that a thread decodes in one go: few, so that the first batch is soon complete."""

CHUNKS_AHEAD = 16
"""Two batches of 64 images; more would let Ctrl-C wait for longer."""

_MAX_WORKERS = 16


def scaled_side(side: int, scale: float) -> int:
    """A side in pixels times the scale, at least 1; rounded to the nearest, halves up, as exported graphs do it."""
    return max(1, math.floor(scale * side + 0.5))


@dataclass(frozen=True)
class InputFormat:
    """Size, channels and bit depth that images are brought to.

    Attributes
    ----------
    image_size : int
        Side of the square in pixels; not used with a scale.
    channels : int
        1 to 4.
    bits : int
        Bits per sample, 8 or 16; images of another bit depth are failures.
    scale : float or None
        Factor that shrinks each image, its aspect ratio kept; None resizes to the square.
    ignored : str or None
        Mask of the region whose pixels are set to 0 after resizing.
    with_regions : bool
        Whether the region of each image that is ignored is one more channel, see `with_region`.
    value_range : (float, float) or None
        The physical values that become 0 and 65535; None for pixels. Images of the other sort are failures.
    """

    image_size: int
    channels: int
    bits: int
    scale: float | None = None
    ignored: str | None = None
    with_regions: bool = False
    value_range: ValueRange | None = None

    @classmethod
    def of(
        cls, preprocessing: Preprocessing, *, full_size: bool = False, with_regions: bool = False
    ) -> "InputFormat":
        """The format that a preprocessing asks for.

        With `full_size`, for a graph that does both, a scale counts as 1, and no region is set to 0.
        """
        scale = 1.0 if full_size and preprocessing.scale is not None else preprocessing.scale
        ignored = None if full_size else preprocessing.ignored
        return cls(
            preprocessing.image_size,
            preprocessing.channels,
            preprocessing.bits,
            scale,
            ignored,
            with_regions,
            preprocessing.value_range,
        )

    @property
    def dtype(self) -> Any:
        """`uint8` or `uint16`."""
        return np.uint8 if self.bits == 8 else np.uint16

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """`(h, w, C)` that an image of this height and width is brought to; C counts the channel of regions."""
        channels = self.channels + self.with_regions
        if self.scale is None:
            return self.image_size, self.image_size, channels
        return scaled_side(height, self.scale), scaled_side(width, self.scale), channels


@dataclass
class DecodedImages:
    """Images that were decoded and resized, and the failures among them.

    Attributes
    ----------
    indices : list of int
        Indices of the decoded images in their dataset.
    images : list of ndarray
        Their pixels, `[h, w, C]` each.
    sizes : list of (int, int)
        Height and width of each before resizing.
    failures : dict of int to str
        Index of each image that could not be decoded, and why.
    brightest : int
        The largest value before resizing; 0 for 8-bit images, where it is not needed.
    """

    indices: list[int] = field(default_factory=list)
    images: list[Pixels] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    brightest: int = 0

    def extend(self, other: "DecodedImages") -> None:
        """Append the images and failures of `other`."""
        self.indices += other.indices
        self.images += other.images
        self.sizes += other.sizes
        self.failures |= other.failures
        self.brightest = max(self.brightest, other.brightest)

    def stacked(self) -> Pixels:
        """The images as one array `[n, h, w, C]`; there must be one, and all must be of one size."""
        return cast(Pixels, np.stack(self.images))


def decode_batches(
    dataset: ImageDataset,
    index_batches: Iterable[Iterable[int]],
    input_format: InputFormat,
    *,
    workers: int | None = None,
    chunk: int = CHUNK,
    chunks_ahead: int = CHUNKS_AHEAD,
) -> Generator[DecodedImages, None, None]:
    """Decode batches of indices in order; each is cut into chunks, so that all threads work on the first one.

    Parameters
    ----------
    dataset : ImageDataset
        The images.
    index_batches : iterable of iterable of int
        Indices into the dataset, taken as far ahead as chunks are decoded ahead.
    input_format : InputFormat
        What each image is brought to.
    workers : int, optional
        Threads; as many as processors, at most 16, if left out.
    chunk : int
        Images that a thread decodes in one go; with a scale always 1, since each may be large.
    chunks_ahead : int
        Chunks that wait to be asked for, beside two for each thread.

    Yields
    ------
    DecodedImages
        One for each batch that is not empty.
    """
    workers = workers or min(max(usable_processors(), dataset.concurrent_reads), _MAX_WORKERS)
    if input_format.scale is not None:
        chunk = 1

    def chunks() -> Iterator[tuple[list[int], bool]]:
        for indices in index_batches:
            batch = [int(index) for index in indices]
            for start in range(0, len(batch), chunk):
                yield batch[start : start + chunk], start + chunk >= len(batch)

    decode = partial(_decode_chunk, dataset, input_format)
    with closing(in_order(decode, chunks(), workers=workers, ahead=chunks_ahead + 2 * workers)) as decoded:
        batch = DecodedImages()
        for images, ends_batch in decoded:
            batch.extend(images)
            if ends_batch:
                yield batch
                batch = DecodedImages()


def _decode_chunk(
    dataset: ImageDataset, input_format: InputFormat, chunk: tuple[list[int], bool]
) -> tuple[DecodedImages, bool]:
    indices, ends_batch = chunk
    decoded = DecodedImages()
    for index in indices:
        name = PurePath(dataset.records[index].path).name
        try:
            _decode_one(dataset, input_format, index, name, decoded)
        except ImageError as error:
            decoded.failures[index] = str(error)
        except MemoryError:
            decoded.failures[index] = f"{name} does not fit into memory; scale it down"
    return decoded, ends_batch


def _decode_one(
    dataset: ImageDataset, input_format: InputFormat, index: int, name: str, decoded: DecodedImages
) -> None:
    with dataset.open(index) as image, one_large_image(image.header.height, image.header.width):
        header = image.header
        _check_sort(header, input_format, name)
        height, width, _ = input_format.shape(header.height, header.width)
        # with a scale decoded in full, as an exported graph gets it; for a square, libjpeg may decode at a part of
        # the size, which is faster
        smallest_side = None if input_format.scale is not None else max(height, width)
        pixels = image.decode_in(input_format.value_range, smallest_side)
        try:
            resized = resize_image(pixels, (height, width), input_format.channels)
            if input_format.with_regions:
                resized = with_region(resized, dataset.read_ignored_region(index))
        except ImageError as error:
            raise ImageError(f"{name} cannot be used: {error}") from None
        if input_format.ignored is not None:
            resized = without_region(resized, input_format.ignored)
        if input_format.bits == 16:
            decoded.brightest = max(decoded.brightest, int(pixels.max()))
        del pixels  # a large one, before another thread decodes the next
    decoded.indices.append(index)
    decoded.images.append(resized)
    decoded.sizes.append((header.height, header.width))


def _check_sort(header: ImageHeader, input_format: InputFormat, name: str) -> None:
    """Raise `ImageError` if an image is not of the sort that the model learned from."""
    value_range = input_format.value_range
    if header.has_values and value_range is None:
        raise ImageError(
            f"{name} holds physical values, such as heights, but the model learned from pixels of "
            f"{input_format.bits} bits; export it as the images of training were"
        )
    if value_range is not None and not header.has_values:
        raise ImageError(
            f"{name} holds {header.bits}-bit pixels, but the model learned from physical values, from "
            f"{value_range[0]:g} to {value_range[1]:g}; give an image with such values, as what it was "
            "exported from, or train a model of its own for images like it"
        )
    if header.bits != input_format.bits:
        article = "an" if header.bits == 8 else "a"
        raise ImageError(
            f"{name} is {article} {header.bits}-bit image, but the model learned from "
            f"{input_format.bits}-bit images; convert it"
        )
