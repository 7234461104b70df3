"""Images reach training and scoring whole, in order, at the network's size, in bounded memory."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ganomaly.config import Preprocessing
from ganomaly.data import (
    ImageBatch,
    ImageDataset,
    ImageLoader,
    ImageRecord,
    Pixels,
    inspect_images,
    open_images,
    read_batches,
    resize_image,
)
from ganomaly.data.readers.encoded_image import EncodedImage, ImageHeader
from ganomaly.data.sources.dataset import StoredImage
from ganomaly.errors import DataError, ImageError

SIZE = 8


class CountingImages(ImageDataset):
    """Images full of their number; the broken ones cannot be decoded; notes which were decoded."""

    def __init__(self, n: int, broken: frozenset[int] = frozenset(), dtype: Any = np.uint8) -> None:
        self.name = "counting"
        self.records = [ImageRecord(f"folder/{number}.png") for number in range(n)]
        self.broken, self.dtype = broken, dtype
        self.decoded: list[int] = []

    @contextmanager
    def open(self, index: int) -> Iterator[EncodedImage]:
        yield _Numbered(self, index)

    def stored(self, index: int) -> StoredImage:
        return StoredImage(str(index), 1, 0)

    def content_digest(self, index: int) -> bytes:
        return str(index).encode()

    def identity(self, index: int) -> bytes:
        return str(index).encode()


class _Numbered(EncodedImage):
    def __init__(self, dataset: CountingImages, index: int) -> None:
        self.header = ImageHeader(10 + index % 7, 20, 1, 8 * np.dtype(dataset.dtype).itemsize)
        self._dataset, self._index = dataset, index

    def decode(self, smallest_side: int | None = None) -> Pixels:
        self._dataset.decoded.append(self._index)
        if self._index in self._dataset.broken:
            raise ImageError(f"{self._index}.png is broken")
        level = self._index % 251
        return np.full((self.header.height, self.header.width, 1), level, self._dataset.dtype)


def planned(dataset: ImageDataset, **options: Any) -> ImageLoader:
    """A loader that has not loaded."""
    return ImageLoader(
        dataset, inspect_images(dataset), **{"image_size": SIZE, "channels": 1, "workers": 3, **options}
    )


def loaded(
    dataset: ImageDataset,
    *,
    in_memory: bool = True,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> ImageLoader:
    loader = planned(dataset, memory_limit=None if in_memory else 0, **options)
    assert loader.in_memory == in_memory
    loader.load(progress)
    return loader


def levels(batch: Pixels) -> list[int]:
    assert (batch == batch[:, :1, :1]).all(), "an image is not whole"
    return batch[:, 0, 0, 0].tolist()


def decoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


# --- the plan ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [None, 0.5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_constructing_decodes_nothing(dtype: Any, scale: float | None) -> None:
    dataset = CountingImages(20, dtype=dtype)
    loader = planned(dataset, scale=scale)
    assert loader.in_memory
    assert loader.patches_per_image == (1 if scale is None else 2)
    assert loader.usable.tolist() == list(range(20))
    assert dataset.decoded == []


def test_before_loading_images_are_streamed() -> None:
    dataset = CountingImages(20)
    loader = planned(dataset)
    assert [levels(batch) for batch in loader.batches([np.array([3, 1])])] == [[3, 1]]
    assert sorted(dataset.decoded) == [1, 3]


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_white_level_of_16_bits_must_be_measured_first(in_memory: bool) -> None:
    loader = planned(CountingImages(3, dtype=np.uint16), memory_limit=None if in_memory else 0)
    with pytest.raises(RuntimeError, match=r"load\(\)"):
        _ = loader.white_level
    loader.load()
    assert loader.white_level == 1023


def test_the_white_level_of_8_bits_needs_no_pixels() -> None:
    assert planned(CountingImages(3)).white_level == 255


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("in_memory", [True, False])
def test_loading_twice_decodes_once(in_memory: bool, dtype: Any) -> None:
    dataset = CountingImages(20, dtype=dtype)
    loader = loaded(dataset, in_memory=in_memory)
    n_decoded = len(dataset.decoded)
    assert n_decoded == (20 if in_memory or dtype == np.uint16 else 0)
    loader.load()
    assert len(dataset.decoded) == n_decoded


# --- to train on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [True, False])
def test_batches_hold_the_images_of_their_indices_in_order(in_memory: bool) -> None:
    loader = loaded(CountingImages(200), in_memory=in_memory)
    index_batches = np.random.default_rng(0).permutation(200)[:198].reshape(-1, 33)
    batches = [levels(batch) for batch in loader.batches(iter(index_batches))]
    assert batches == index_batches.tolist()
    assert loader.usable.tolist() == list(range(200))
    assert loader.wait_seconds > 0


@settings(max_examples=30, deadline=None)
@given(
    index_batches=st.lists(st.lists(st.integers(0, 29), max_size=20), max_size=6),
    broken=st.frozensets(st.integers(0, 29), max_size=29),
    in_memory=st.booleans(),
)
def test_broken_images_are_left_out_and_nothing_else(
    index_batches: list[list[int]], broken: frozenset[int], in_memory: bool
) -> None:
    loader = loaded(CountingImages(30, broken), in_memory=in_memory)
    batches = [
        levels(batch) for batch in loader.batches(np.array(batch, dtype=np.int64) for batch in index_batches)
    ]
    expected = [[index for index in batch if index not in broken] for batch in index_batches]
    assert batches == [batch for batch in expected if batch]
    met = broken if in_memory else broken.intersection(chain.from_iterable(index_batches))
    assert loader.failures == {index: f"{index}.png is broken" for index in met}


def test_in_memory_the_broken_ones_are_left_out_before_training() -> None:
    loader = loaded(CountingImages(10, frozenset({3, 7})))
    assert loader.usable.tolist() == [0, 1, 2, 4, 5, 6, 8, 9]
    assert sorted(loader.failures) == [3, 7]


def test_in_memory_each_image_is_decoded_once_and_streamed_each_time() -> None:
    for in_memory, times in ((True, 1), (False, 3)):
        dataset = CountingImages(20)
        loader = loaded(dataset, in_memory=in_memory)
        for _ in range(3):
            list(loader.batches([np.arange(20)]))
        assert sorted(dataset.decoded) == sorted(list(range(20)) * times)


def test_streaming_and_memory_give_the_same_pixels(tmp_path: Path) -> None:
    for number in range(5):
        Image.effect_noise((300, 200), 80).save(tmp_path / f"{number}.jpg")
    dataset = open_images(tmp_path)
    from_memory, streamed = (
        np.concatenate(list(loaded(dataset, in_memory=in_memory, image_size=32).batches([np.arange(5)])))
        for in_memory in (True, False)
    )
    np.testing.assert_array_equal(from_memory, streamed)


def test_images_are_held_in_memory_exactly_if_they_fit_the_limit() -> None:
    needed = 10 * SIZE * SIZE * 3 * 2
    dataset = CountingImages(10, dtype=np.uint16)
    for limit, fits in ((needed, True), (needed - 1, False)):
        assert planned(dataset, channels=3, memory_limit=limit).in_memory == fits


def test_a_quarter_of_the_available_memory_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, fits in ((4 * 10 * SIZE * SIZE, True), (4 * 10 * SIZE * SIZE - 4, False)):
        monkeypatch.setattr("ganomaly.data.loader.available_memory", lambda available=available: available)
        assert planned(CountingImages(10)).in_memory == fits


def test_progress_counts_up_to_all_images() -> None:
    counts: list[int] = []
    loaded(CountingImages(300, frozenset({5})), progress=counts.append)
    assert counts == sorted(counts)
    assert counts[-1] == 300


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("peak", "white_level"),
    [(3, 1023), (1023, 1023), (1024, 4095), (4095, 4095), (4096, 16383), (16384, 65535), (65535, 65535)],
)
def test_the_white_level_of_16_bits_is_that_of_the_camera(
    in_memory: bool, peak: int, white_level: int
) -> None:
    images = np.zeros((20, 16, 16), np.uint16)
    images[13, 5, 5] = peak  # one pixel, which resizing would darken
    assert loaded(open_images(images), in_memory=in_memory).white_level == white_level


def test_the_white_level_of_8_bits_is_255_however_dark_the_images() -> None:
    assert loaded(open_images(np.zeros((3, 16, 16), np.uint8))).white_level == 255


def test_mixed_bits_are_refused() -> None:
    with pytest.raises(DataError, match="differ in their bits"):
        planned(open_images([np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint16)]))


def test_channels_that_cannot_be_converted_cost_the_image_only() -> None:
    images = [np.zeros((8, 8, channels), np.uint8) for channels in (1, 3, 4)]
    loader = loaded(open_images(images), channels=3)
    assert loader.usable.tolist() == [0, 1]
    assert "array[2] cannot be used: it has 4 channels where 3 are needed" in loader.failures[2]


# --- with a scale ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [True, False])
def test_with_a_scale_images_keep_their_aspect_ratio_and_patches_repeat(in_memory: bool) -> None:
    loader = loaded(CountingImages(20, frozenset({3})), in_memory=in_memory, scale=0.5, image_size=6)
    assert loader.patches_per_image == 2  # of 6×6 px, for images of about 6×10 px
    images = list(loader.batches([np.array([0, 3, 6])]))
    assert [image.shape for image in images] == [(1, 5, 10, 1), (1, 8, 10, 1)]
    index_batches = [np.array([0, 1, 1]), np.array([2, 3])]
    first, again, other = (
        [batch.tolist() for batch in loader.training_batches(index_batches, [[seed, 0], [seed, 1]])]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert np.shape(first[0]) == (3, 6, 6, 1)
    assert np.shape(first[1]) == (1, 6, 6, 1)
    assert np.shape(other[0]) == (3, 6, 6, 1)


def test_patches_are_drawn_at_every_position() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    loader = loaded(open_images(image), image_size=4, scale=1.0)
    corners = [
        int(patch[0, 0, 0, 0])
        for patch in loader.training_batches([np.array([0])] * 400, ([n] for n in range(400)))
    ]
    assert set(corners) == {row * 8 + column for row in range(5) for column in range(5)}


def test_images_of_any_size_come_one_by_one_and_few_wait() -> None:
    images = CountingImages(300, frozenset({0, 9}))
    preprocessing = Preprocessing(image_size=8, channels=1, scale=1.0)
    batches = read_batches(images, preprocessing, batch_size=16, workers=3)
    indices = []
    for number, batch in enumerate(batches):
        assert len(images.decoded) <= number + 1 + 2 * 3, "what waits takes memory"
        assert [tuple(size) for size in batch.sizes] == [image.shape[:2] for image in batch.images]
        indices.append([*batch.indices.tolist(), *batch.failures])
    assert indices == [[number] for number in range(300)]


def test_a_graph_gets_images_at_full_size_where_there_is_a_scale_and_squares_otherwise() -> None:
    images = CountingImages(2)
    for scale, shapes in ((0.5, [(1, 10, 20, 1), (1, 11, 20, 1)]), (None, [(2, SIZE, SIZE, 1)])):
        preprocessing = Preprocessing(image_size=SIZE, channels=1, scale=scale)
        batches = read_batches(images, preprocessing, batch_size=2, full_size=True)
        assert [batch.images.shape for batch in batches] == shapes


# --- to score --------------------------------------------------------------------------------------------


def batches_to_score(
    dataset: ImageDataset,
    batch_size: int,
    *,
    channels: int = 1,
    white_level: int = 255,
    workers: int | None = None,
) -> Any:
    preprocessing = Preprocessing(image_size=SIZE, channels=channels, white_level=white_level)
    return read_batches(dataset, preprocessing, batch_size=batch_size, workers=workers)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 60),
    batch_size=st.integers(1, 70),
    broken=st.frozensets(st.integers(0, 59)),
    workers=st.integers(1, 5),
)
def test_each_image_is_in_one_batch_in_order_decoded_or_as_a_failure(
    n: int, batch_size: int, broken: frozenset[int], workers: int
) -> None:
    dataset = CountingImages(n, broken)
    batches: list[ImageBatch] = list(batches_to_score(dataset, batch_size, workers=workers))
    assert len(batches) == -(-n // batch_size)
    for number, batch in enumerate(batches):
        expected = range(number * batch_size, min(n, (number + 1) * batch_size))
        assert sorted([*batch.indices.tolist(), *batch.failures]) == list(expected)
        assert batch.indices.tolist() == [index for index in expected if index not in broken]
        assert levels(batch.images) == batch.indices.tolist()
        assert batch.images.shape == (len(batch.indices), SIZE, SIZE, 1)
        assert batch.images.dtype == np.uint8
        assert batch.sizes.tolist() == [[10 + index % 7, 20] for index in batch.indices]


def test_memory_is_bounded_because_threads_are_only_a_little_ahead() -> None:
    dataset = CountingImages(5000)
    taken = 0
    for batch in batches_to_score(dataset, 10, workers=4):
        taken += len(batch.indices)
        assert len(dataset.decoded) - taken <= 300


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
def test_leaving_early_leaves_no_threads(error: type[BaseException] | None) -> None:
    batches = batches_to_score(CountingImages(5000), 10, workers=4)
    next(batches)
    assert decoding_threads()
    if error is None:
        batches.close()
    else:
        with pytest.raises(error):
            batches.throw(error)
    assert not decoding_threads()


def test_a_bug_in_a_thread_is_raised_and_leaves_no_threads() -> None:
    dataset = CountingImages(50)
    dataset.open = None  # type: ignore[method-assign,assignment]
    with pytest.raises(TypeError):
        list(batches_to_score(dataset, 10))
    assert not decoding_threads()


def test_an_image_with_other_bits_than_the_model_learned_from_is_a_failure() -> None:
    images = [np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint16)]
    (batch,) = batches_to_score(open_images(images), 4, white_level=1023)
    assert batch.failures == {
        0: "array[0] is an 8-bit image, but the model learned from 16-bit images; convert it"
    }
    (batch,) = batches_to_score(open_images(images), 4)
    assert "array[1] is a 16-bit image, but the model learned from 8-bit images" in batch.failures[1]


def test_memory_that_runs_out_costs_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*arguments: Any) -> Pixels:
        monkeypatch.setattr("ganomaly.data.batch_decoding.resize_image", resize_image)
        raise MemoryError

    monkeypatch.setattr("ganomaly.data.batch_decoding.resize_image", exhausted)
    (batch,) = batches_to_score(CountingImages(4), 4, workers=1)
    assert batch.failures == {0: "0.png does not fit into memory; scale it down"}
    assert batch.indices.tolist() == [1, 2, 3]


def test_the_size_of_a_photograph_is_its_own_even_if_it_was_decoded_smaller(tmp_path: Path) -> None:
    Image.new("RGB", (800, 600)).save(tmp_path / "photo.jpg")
    (batch,) = batches_to_score(open_images(tmp_path), 4, channels=3)
    assert batch.sizes.tolist() == [[600, 800]]
