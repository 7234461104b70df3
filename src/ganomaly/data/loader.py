"""From a dataset to batches for the networks: held in memory where they fit, else streamed from disk."""

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ganomaly.config import Preprocessing
from ganomaly.data.batch_decoding import (
    CHUNK,
    CHUNKS_AHEAD,
    DecodedImages,
    InputFormat,
    decode_batches,
)
from ganomaly.data.fingerprint import (
    HashedOnOpening,
    content_fingerprint,
    fingerprint_like,
    sample_fingerprint,
)
from ganomaly.data.inspect import Inspection, agreed_bits
from ganomaly.data.readers.encoded_image import Pixels
from ganomaly.data.readers.physical_values import ValueRange
from ganomaly.data.resources import available_memory
from ganomaly.data.sources.dataset import ImageDataset
from ganomaly.data.together import Peers, own_parts, random_patch, whole_batch

MEMORY_SHARE = 1 / 4
"""Images are held in memory if they need no more than this share of what is available."""

_WHITE_LEVELS = (1023, 4095, 16383, 65535)  # of cameras with 10, 12, 14 and 16 bits
_LOADING_CHUNK = 64  # images; larger than while streaming, since nobody waits for the first of them


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Consecutive images of a dataset, as the network takes them.

    Attributes
    ----------
    indices : ndarray
        `int64[n]`, indices of the images that could be decoded.
    images : ndarray
        `uint8` or `uint16` `[n, h, w, C]`; with one channel more where the dataset has regions that are ignored, see
        `ganomaly.data.ignored_region.with_region`. So have the batches of `ImageLoader`.
    sizes : ndarray
        `int64[n, 2]`, height and width before resizing, in pixels.
    failures : dict of int to str
        Index of each of the other images, and why it could not be decoded.
    """

    indices: NDArray[np.int64]
    images: Pixels
    sizes: NDArray[np.int64]
    failures: dict[int, str]


def read_batches(
    dataset: ImageDataset,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    full_size: bool = False,
    workers: int | None = None,
) -> Generator[ImageBatch, None, None]:
    """Decode a dataset once, in order and in bounded memory; threads are a few batches ahead.

    Parameters
    ----------
    dataset : ImageDataset
        The images.
    preprocessing : Preprocessing
        Size, channels and bit depth of the network input; an image of another bit depth is a failure.
    batch_size : int
        Images in a batch, failures included; the last one may be smaller. With a scale, each image is a batch.
    full_size : bool
        Whether to leave images at their own size where the preprocessing has a scale, for graphs that scale by
        themselves. Images that become squares are resized in any case.
    workers : int, optional
        Threads; as many as processors if left out.

    Yields
    ------
    ImageBatch
        Each image of the dataset is in one, decoded or as a failure.
    """
    input_format = InputFormat.of(
        preprocessing, full_size=full_size, with_regions=dataset.has_ignored_regions
    )
    chunks_ahead = CHUNKS_AHEAD
    if input_format.scale is not None:
        # images of different sizes cannot be stacked, and each may be large: one by one, and few of them wait
        batch_size, chunks_ahead = 1, 0
    n_images = len(dataset)
    index_batches = (
        range(start, min(start + batch_size, n_images)) for start in range(0, n_images, batch_size)
    )
    for decoded in decode_batches(
        dataset, index_batches, input_format, workers=workers, chunks_ahead=chunks_ahead
    ):
        yield _image_batch(decoded, input_format)


class ImageLoader:
    """The images of a dataset as training takes them; constructing it plans, `load` decodes.

    Parameters
    ----------
    dataset : ImageDataset
        The images.
    inspection : Inspection
        Of the same dataset, by `inspect_images`.
    image_size, channels : int
        What each image is resized to, as by `resize_image`.
    scale : float, optional
        Shrink each image by this factor instead; `image_size` is then the side of training patches.
    value_range : (float, float), optional
        What maps physical values to pixels, where the images have such.
    memory_limit : int, optional
        Bytes that the decoded images may take; a quarter of the memory available now if left out.
    sharers : int
        Processes on this machine that divide this quarter.
    workers : int, optional
        Threads; as many as processors if left out.

    Attributes
    ----------
    in_memory : bool
        Whether the decoded images fit within the limit, so that `load` holds them in memory. Otherwise, and before
        `load`, they are streamed from disk.
    usable : ndarray
        `int64[n]`, indices of the images that can be decoded; as far as `load` has not decoded them, of those
        whose headers can be read.
    failures : dict of int to str
        Index of each image that could not be decoded so far, and why.
    wait_seconds : float
        Total time for which the caller waited for batches.
    patches_per_image : int
        How many patches cover an image, on average; 1 without a scale.

    Raises
    ------
    DataError
        If some images have 8 bits per sample and some 16.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        inspection: Inspection,
        *,
        image_size: int,
        channels: int,
        scale: float | None = None,
        ignored: str | None = None,
        value_range: ValueRange | None = None,
        memory_limit: int | None = None,
        sharers: int = 1,
        workers: int | None = None,
    ) -> None:
        self._dataset = dataset
        self._hashed = HashedOnOpening(dataset)
        self._format = input_format = InputFormat(
            image_size,
            channels,
            agreed_bits(inspection),
            scale,
            ignored,
            dataset.has_ignored_regions,
            value_range,
        )
        self._workers = workers
        self.failures = dict(inspection.failures)
        self.usable = inspection.openable
        self.wait_seconds = 0.0
        shapes = [(input_format.shape(*size), n) for size, n in inspection.sizes.items()]
        mean_area = sum(n * height * width for (height, width, _), n in shapes) / sum(n for _, n in shapes)
        self.patches_per_image = 1 if scale is None else math.ceil(mean_area / image_size**2)
        limit = MEMORY_SHARE * available_memory() / sharers if memory_limit is None else memory_limit
        n_bytes = (
            len(dataset) * mean_area * input_format.shape(1, 1)[2] * np.dtype(input_format.dtype).itemsize
        )
        self.in_memory = n_bytes <= limit
        # set by `load`: squares are one array [N, S, S, C], which gives batches fast; else image by image
        self._loaded: Pixels | dict[int, Pixels] | None = None
        self._white_level = 255 if input_format.bits == 8 else None
        if value_range is not None:  # it becomes all of 16 bits
            self._white_level = _WHITE_LEVELS[-1]

    @classmethod
    def of(
        cls,
        dataset: ImageDataset,
        inspection: Inspection,
        preprocessing: Preprocessing,
        *,
        sharers: int = 1,
    ) -> "ImageLoader":
        """The loader that a preprocessing asks for."""
        return cls(
            dataset,
            inspection,
            image_size=preprocessing.image_size,
            channels=preprocessing.channels,
            scale=preprocessing.scale,
            ignored=preprocessing.ignored,
            value_range=preprocessing.value_range,
            sharers=sharers,
        )

    def load(self, progress: Callable[[int], None] | None = None) -> None:
        """Decode once what memory is to hold, and measure the white level of 16-bit images.

        Parameters
        ----------
        progress : callable, optional
            Called with the number of images decoded so far. Not called where nothing is to be decoded: 8-bit images
            that do not fit in memory, or a second call.
        """
        is_complete = self._loaded is not None or not self.in_memory
        if is_complete and self._white_level is not None:
            return
        input_format = self._format
        loaded: Pixels | dict[int, Pixels] = {}
        if self.in_memory and input_format.scale is None:
            loaded = np.zeros((len(self._dataset), *input_format.shape(1, 1)), input_format.dtype)
        brightest = n_decoded = 0
        index_batches = np.array_split(self.usable, range(_LOADING_CHUNK, len(self.usable), _LOADING_CHUNK))
        dataset = self._hashed if self.in_memory else self._dataset  # each file is read once
        for batch in self._decoded(index_batches, _LOADING_CHUNK, dataset):
            if self.in_memory:
                for index, image in zip(batch.indices, batch.images, strict=True):
                    loaded[index] = image
            self.failures |= batch.failures
            brightest = max(brightest, batch.brightest)
            n_decoded += len(batch.indices) + len(batch.failures)
            if progress is not None:
                progress(n_decoded)
        self.usable = np.setdiff1d(self.usable, list(self.failures))
        if self.in_memory:
            self._loaded = loaded
        if self._white_level is None:
            self._white_level = next(level for level in _WHITE_LEVELS if brightest <= level)

    def fingerprint(self, recorded: str | None = None) -> str:
        """What tells these images from others, after `load`; see `ganomaly.data.fingerprint`.

        Parameters
        ----------
        recorded : str, optional
            An earlier fingerprint, perhaps of other images, to compare with: that of these images is then of the
            same kind. Otherwise all content counts where memory holds the images, else that of a sample.
        """
        if recorded is not None:
            return fingerprint_like(recorded, self._hashed)
        return content_fingerprint(self._hashed) if self.in_memory else sample_fingerprint(self._dataset)

    @property
    def has_ignored_regions(self) -> bool:
        """Whether batches come with the regions of their images that are ignored."""
        return self._format.with_regions

    @property
    def white_level(self) -> int:
        """255 for 8 bits; for 16 bits the smallest of 1023, 4095, 16383 and 65535 that no pixel exceeds.

        Raises
        ------
        RuntimeError
            For 16-bit images before `load`.
        """
        if self._white_level is None:
            raise RuntimeError("the white level of 16-bit images is measured by load(); call it first")
        return self._white_level

    def batches(self, index_batches: Iterable[NDArray[np.int64]]) -> Iterator[Pixels]:
        """Yield the images of each batch of indices, in the order of the indices.

        Images that cannot be decoded are left out of their batch and noted in `failures`; a batch of such images
        alone is left out. With a scale, each image is a batch of its own.

        Parameters
        ----------
        index_batches : iterable of ndarray
            `int[n]` each, indices into the dataset. Where images are streamed, some batches are taken ahead.

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
        self,
        index_batches: Iterable[NDArray[np.int64]],
        seeds: Iterable[Sequence[int]],
        peers: Peers | None = None,
    ) -> Iterator[Pixels]:
        """Yield training batches: the images of each batch or, with a scale, one random patch of each image.

        Parameters
        ----------
        index_batches : iterable of ndarray
            As for `batches`; an index may come more than once.
        seeds : iterable of sequence of int
            One for each batch; it alone fixes the positions of the patches.
        peers : Peers, optional
            Processes that call this with the same arguments; where images are streamed, each decodes a part of every
            batch, and all get the whole batch.

        Yields
        ------
        ndarray
            `uint8` or `uint16` `[n, S, S, C]`.
        """
        seed = iter(seeds)
        if peers is not None and peers.number > 1 and self._loaded is None:
            yield from self._read_together(index_batches, seed, peers)
            return
        for images in self._timed(index_batches):
            generator = np.random.default_rng(next(seed))
            if isinstance(images, list):
                patches = [random_patch(image, self._format.image_size, generator) for image in images]
                yield cast(Pixels, np.stack(patches))
            else:
                yield images

    def _read_together(
        self, index_batches: Iterable[NDArray[np.int64]], seeds: Iterator[Sequence[int]], peers: Peers
    ) -> Iterator[Pixels]:
        with closing(self._decoded(own_parts(index_batches, peers))) as batches:
            while True:
                start = time.perf_counter()
                own = next(batches, None)
                if own is None:
                    return
                pixels, failures = whole_batch(own, self._format, next(seeds), peers)
                self.failures |= failures
                self.wait_seconds += time.perf_counter() - start
                if len(pixels):
                    yield pixels

    def _timed(self, index_batches: Iterable[NDArray[np.int64]]) -> Iterator[Pixels | list[Pixels]]:
        """Batches as one array or, with a scale, as a list; the time they take is added to `wait_seconds`."""
        loaded = self._loaded
        with closing(
            self._streamed(index_batches) if loaded is None else self._from_memory(loaded, index_batches)
        ) as batches:
            while True:
                start = time.perf_counter()
                batch = next(batches, None)
                self.wait_seconds += time.perf_counter() - start
                if batch is None:
                    return
                yield batch

    def _from_memory(
        self, loaded: Pixels | dict[int, Pixels], index_batches: Iterable[NDArray[np.int64]]
    ) -> Generator[Pixels | list[Pixels], None, None]:
        is_failure = np.zeros(len(self._dataset), dtype=bool)
        is_failure[list(self.failures)] = True
        for indices in index_batches:
            decoded = indices[~is_failure[indices]]
            if len(decoded):
                yield [loaded[i] for i in decoded] if isinstance(loaded, dict) else loaded[decoded]

    def _streamed(
        self, index_batches: Iterable[NDArray[np.int64]]
    ) -> Generator[Pixels | list[Pixels], None, None]:
        with closing(self._decoded(index_batches)) as batches:
            for batch in batches:
                self.failures |= batch.failures
                if batch.images:
                    yield batch.stacked() if self._format.scale is None else batch.images

    def _decoded(
        self,
        index_batches: Iterable[NDArray[np.int64]],
        chunk: int = CHUNK,
        dataset: ImageDataset | None = None,
    ) -> Generator[DecodedImages, None, None]:
        return decode_batches(
            dataset or self._dataset, index_batches, self._format, workers=self._workers, chunk=chunk
        )


def _image_batch(decoded: DecodedImages, input_format: InputFormat) -> ImageBatch:
    no_images = np.empty((0, *input_format.shape(1, 1)), input_format.dtype)
    return ImageBatch(
        np.array(decoded.indices, dtype=np.int64),
        decoded.stacked() if decoded.images else no_images,
        np.array(decoded.sizes, dtype=np.int64).reshape(-1, 2),
        decoded.failures,
    )
