"""From a dataset to batches at the network's size: from memory, or decoded ahead by threads."""

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ganomaly.data.inspect import Inspection, agreed_bits, inspect_images
from ganomaly.data.prefetch import in_order
from ganomaly.data.readers.encoded_image import Pixels
from ganomaly.data.resizing import resize_image
from ganomaly.data.resources import available_memory, usable_processors
from ganomaly.data.sources.dataset import ImageDataset
from ganomaly.errors import ImageError

SHARE_OF_MEMORY = 4
"""The images are kept in memory if they need no more than this part of what is available: a quarter."""

_WHITE_LEVELS = (1023, 4095, 16383, 65535)  # of cameras with 10, 12, 14 and 16 bits
_PIECE = 8  # images a thread decodes in one go: few, so that a batch is soon there
_LARGE_PIECE = 64  # where all are decoded anyway
_PIECES_AHEAD = 16  # two batches of 64; few enough that Ctrl-C need not wait long
_MOST_WORKERS = 16


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Consecutive images of a dataset, at the network's size or, with a scale, all of one size.

    Attributes
    ----------
    indices : ndarray
        `int64[n]`, those that could be decoded.
    images : ndarray
        `[n, h, w, C]`, their pixels.
    sizes : ndarray
        `int64[n, 2]`, their own height and width in pixels.
    failures : dict of int to str
        Index of each of the others, and why.
    """

    indices: NDArray[np.int64]
    images: Pixels
    sizes: NDArray[np.int64]
    failures: dict[int, str]


def scaled_side(side: int, scale: float) -> int:
    """A side made smaller, in pixels: to the nearest, halves up, as an exported graph does it too; at least 1."""
    return max(1, math.floor(scale * side + 0.5))


@dataclass(frozen=True)
class _NetworkInput:
    """What each image shall become."""

    size: int
    channels: int
    bits: int
    scale: float | None = None

    @property
    def dtype(self) -> Any:
        return np.uint8 if self.bits == 8 else np.uint16

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """What an image of this size becomes."""
        if self.scale is None:
            return self.size, self.size, self.channels
        return scaled_side(height, self.scale), scaled_side(width, self.scale), self.channels


@dataclass
class _Piece:
    """A few decoded images."""

    indices: list[int] = field(default_factory=list)
    images: list[Pixels] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    peak: int = 0

    def add(self, other: "_Piece") -> None:
        self.indices += other.indices
        self.images += other.images
        self.sizes += other.sizes
        self.failures |= other.failures
        self.peak = max(self.peak, other.peak)

    def as_batch(self, wanted: _NetworkInput) -> ImageBatch:
        images = self.stacked() if self.images else np.empty((0, *wanted.shape(1, 1)), wanted.dtype)
        indices = np.array(self.indices, dtype=np.int64)
        return ImageBatch(indices, images, np.array(self.sizes, dtype=np.int64).reshape(-1, 2), self.failures)

    def stacked(self) -> Pixels:
        return cast(Pixels, np.stack(self.images))


def read_batches(
    dataset: ImageDataset,
    *,
    image_size: int,
    channels: int,
    batch_size: int,
    dtype: type[np.uint8] | type[np.uint16],
    scale: float | None = None,
    workers: int | None = None,
) -> Generator[ImageBatch, None, None]:
    """Decode a dataset once, in order, in bounded memory; threads are a few batches ahead.

    Parameters
    ----------
    dataset : ImageDataset
        The images.
    image_size, channels : int
        What each becomes, by `resize_image`.
    batch_size : int
        Images in a batch, broken ones included; the last one may be smaller. With a scale, an image is a batch.
    dtype : {uint8, uint16}
        That of the images the model learned from; an image with other bits is a failure.
    scale : float, optional
        Make each image smaller by this factor instead of a square.
    workers : int, optional
        Threads; as many as processors if left out.

    Yields
    ------
    ImageBatch
        Each image of the dataset is in one, decoded or as a failure.
    """
    wanted = _NetworkInput(image_size, channels, 8 * np.dtype(dtype).itemsize, scale)
    # at a common scale images may be of any size: one by one they are judged, and one by one they wait
    step = batch_size if scale is None else 1
    batches = (range(start, min(start + step, len(dataset))) for start in range(0, len(dataset), step))
    ahead = _PIECES_AHEAD if scale is None else 0
    for batch in _decoded(dataset, batches, wanted, workers, ahead=ahead):
        yield batch.as_batch(wanted)


class ImageLoader:
    """The images of a dataset at the network's size, kept in memory where they fit, else decoded ahead by threads.

    Parameters
    ----------
    dataset : ImageDataset
        The images.
    image_size, channels : int
        What each becomes, by `resize_image`.
    scale : float, optional
        Make each image smaller by this factor instead of a square; `image_size` is the side of `patches`.
    memory_limit : int, optional
        Bytes that the decoded images may take; a quarter of the memory available now if left out.
    workers : int, optional
        Threads; as many as processors if left out.
    progress : callable, optional
        Called with the number of images decoded so far, while they are decoded for the first time.
    inspection : Inspection, optional
        What `inspect_images` found in the dataset, if it was called already.

    Attributes
    ----------
    in_memory : bool
        Whether they are kept.
    usable : ndarray
        `int64[n]`, indices of the images that decode; where they are not kept and have 8 bits, of those that could be
        opened.
    failures : dict of int to str
        Index of each image that could not be decoded so far, and why.
    white_level : int
        255 for 8 bits; for 16 bits the smallest of 1023, 4095, 16383 and 65535 that holds the brightest pixel.
    wait_seconds : float
        Time that batches made their caller wait, in all.
    patches_per_image : int
        How many patches it takes, on average, to cover an image; 1 without a scale.

    Raises
    ------
    DataError
        If no image can be opened, or if some have 8 bits and some 16.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        *,
        image_size: int,
        channels: int,
        scale: float | None = None,
        memory_limit: int | None = None,
        workers: int | None = None,
        progress: Callable[[int], None] | None = None,
        inspection: Inspection | None = None,
    ) -> None:
        inspection = inspection or inspect_images(dataset)
        self._dataset = dataset
        self._wanted = wanted = _NetworkInput(image_size, channels, agreed_bits(inspection), scale)
        self._workers = workers
        self.failures = dict(inspection.failures)
        self.usable = inspection.openable
        self.wait_seconds = 0.0
        shapes = {wanted.shape(*size): n for size, n in inspection.sizes.items()}
        area = sum(n * shape[0] * shape[1] for shape, n in shapes.items()) / max(1, sum(shapes.values()))
        self.patches_per_image = 1 if scale is None else math.ceil(area / image_size**2)
        limit = available_memory() // SHARE_OF_MEMORY if memory_limit is None else memory_limit
        n_bytes = len(dataset) * area * channels * np.dtype(wanted.dtype).itemsize
        self.in_memory = n_bytes <= limit
        # one block for squares, which is quick to take batches from; else image by image
        self._block: Pixels | None = None
        if self.in_memory and scale is None:
            self._block = np.zeros((len(dataset), *wanted.shape(1, 1)), wanted.dtype)
        self._images: dict[int, Pixels] = {}
        peak = 255
        if self.in_memory or self._wanted.bits == 16:  # the white level of 16 bits needs a look at all pixels
            peak = self._decode_all(progress or (lambda done: None))
        self.white_level = (
            255 if self._wanted.bits == 8 else next(level for level in _WHITE_LEVELS if peak <= level)
        )

    def batches(self, index_batches: Iterable[NDArray[np.int64]]) -> Iterator[Pixels]:
        """Yield the images of each batch of indices, in the order asked for.

        A broken image is left out of its batch and noted in `failures`; a batch of broken images alone is left out.
        With a scale, each image is a batch of its own.

        Parameters
        ----------
        index_batches : iterable of ndarray
            `int[n]` each, of indices into the dataset. Where the images are not kept, some batches are taken ahead.

        Yields
        ------
        ndarray
            `uint8` or `uint16` `[n, h, w, C]`.
        """
        for images in self._timed(index_batches):
            if isinstance(images, list):
                yield from (image[np.newaxis] for image in images)
            else:
                yield images

    def training_batches(
        self, index_batches: Iterable[NDArray[np.int64]], seeds: Iterable[Sequence[int]]
    ) -> Iterator[Pixels]:
        """Yield what training takes: the images of each batch, or, with a scale, one random patch of each.

        Parameters
        ----------
        index_batches : iterable of ndarray
            As for `batches`; an index may come more than once.
        seeds : iterable of sequence of int
            One for each batch; where its patches lie follows from it alone.

        Yields
        ------
        ndarray
            `uint8` or `uint16` `[n, S, S, C]`.
        """
        seed = iter(seeds)
        for images in self._timed(index_batches):
            place = np.random.default_rng(next(seed))
            if isinstance(images, list):
                yield cast(Pixels, np.stack([_patch(image, self._wanted.size, place) for image in images]))
            else:
                yield images

    def _timed(self, index_batches: Iterable[NDArray[np.int64]]) -> Iterator[Pixels | list[Pixels]]:
        """Batches as one array or, with a scale, as a list; the time they take is counted."""
        with closing(
            self._kept(index_batches) if self.in_memory else self._streamed(index_batches)
        ) as batches:
            while True:
                asked = time.perf_counter()
                batch = next(batches, None)
                self.wait_seconds += time.perf_counter() - asked
                if batch is None:
                    return
                yield batch

    def _kept(
        self, index_batches: Iterable[NDArray[np.int64]]
    ) -> Generator[Pixels | list[Pixels], None, None]:
        is_broken = np.zeros(len(self._dataset), dtype=bool)
        is_broken[list(self.failures)] = True
        for indices in index_batches:
            whole = indices[~is_broken[indices]]
            if len(whole):
                yield [self._images[i] for i in whole] if self._block is None else self._block[whole]

    def _streamed(
        self, index_batches: Iterable[NDArray[np.int64]]
    ) -> Generator[Pixels | list[Pixels], None, None]:
        with closing(_decoded(self._dataset, index_batches, self._wanted, self._workers)) as batches:
            for batch in batches:
                self.failures |= batch.failures
                if batch.images:
                    yield batch.stacked() if self._wanted.scale is None else batch.images

    def _decode_all(self, progress: Callable[[int], None]) -> int:
        """Decode all usable images, keep them where they are kept, and return the brightest pixel."""
        peak = done = 0
        pieces = np.array_split(self.usable, range(_LARGE_PIECE, len(self.usable), _LARGE_PIECE))
        for piece in _decoded(self._dataset, pieces, self._wanted, self._workers, piece_size=_LARGE_PIECE):
            if self._block is not None and piece.images:
                self._block[piece.indices] = piece.images
            elif self.in_memory:
                self._images.update(zip(piece.indices, piece.images, strict=True))
            self.failures |= piece.failures
            peak = max(peak, piece.peak)
            done += len(piece.indices) + len(piece.failures)
            progress(done)
        self.usable = np.setdiff1d(self.usable, list(self.failures))
        return peak


def _decoded(
    dataset: ImageDataset,
    index_batches: Iterable[Iterable[int]],
    wanted: _NetworkInput,
    workers: int | None,
    *,
    piece_size: int = _PIECE,
    ahead: int = _PIECES_AHEAD,
) -> Generator[_Piece, None, None]:
    """Decode batches of indices ahead, each cut into pieces so that all threads work on the first one."""
    workers = workers or min(usable_processors(), _MOST_WORKERS)
    if wanted.scale is not None:
        piece_size = 1  # each may be large

    def pieces() -> Iterator[tuple[list[int], bool]]:
        for indices in index_batches:
            batch = [int(index) for index in indices]
            for start in range(0, len(batch), piece_size):
                yield batch[start : start + piece_size], start + piece_size >= len(batch)

    decode = partial(_decode_piece, dataset, wanted)
    with closing(in_order(decode, pieces(), workers=workers, ahead=ahead + 2 * workers)) as decoded:
        batch = _Piece()
        for piece, is_last in decoded:
            batch.add(piece)
            if is_last:
                yield batch
                batch = _Piece()


def _decode_piece(
    dataset: ImageDataset, wanted: _NetworkInput, piece: tuple[list[int], bool]
) -> tuple[_Piece, bool]:
    indices, is_last = piece
    decoded = _Piece()
    for index in indices:
        try:
            _decode_one(dataset, wanted, index, decoded)
        except ImageError as error:
            decoded.failures[index] = str(error)
        except MemoryError:
            decoded.failures[index] = f"{_short_name(dataset, index)} does not fit into memory; scale it down"
    return decoded, is_last


def _decode_one(dataset: ImageDataset, wanted: _NetworkInput, index: int, decoded: _Piece) -> None:
    with dataset.open(index) as image:
        header = image.header
        if header.bits != wanted.bits:
            article = "an" if header.bits == 8 else "a"
            raise ImageError(
                f"{_short_name(dataset, index)} is {article} {header.bits}-bit image, but the model learned from "
                f"{wanted.bits}-bit images; convert it"
            )
        height, width, channels = wanted.shape(header.height, header.width)
        # at a common scale decoded whole, as an exported graph gets it; a square takes what libjpeg makes smaller
        pixels = image.decode(None if wanted.scale is not None else max(height, width))
    try:
        small = resize_image(pixels, (height, width), channels)
    except ImageError as error:
        raise ImageError(f"{_short_name(dataset, index)} cannot be used: {error}") from None
    if wanted.bits == 16:
        decoded.peak = max(decoded.peak, int(pixels.max()))
    decoded.indices.append(index)
    decoded.images.append(small)
    decoded.sizes.append((header.height, header.width))


def _patch(image: Pixels, size: int, place: np.random.Generator) -> Pixels:
    """A random patch; an image that is smaller is mirrored at its right and lower rim."""
    missing = [(0, max(0, size - side)) for side in image.shape[:2]]
    if missing != [(0, 0), (0, 0)]:
        image = cast(Pixels, np.pad(image, [*missing, (0, 0)], mode="symmetric"))
    top, left = (int(place.integers(side - size + 1)) for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def _short_name(dataset: ImageDataset, index: int) -> str:
    return PurePath(dataset.records[index].path).name
