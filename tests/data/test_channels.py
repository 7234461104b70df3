"""Gray images that were saved as RGB are gray; where images differ, the majority decides and it is said."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from ganomaly import GANomalyDetector
from ganomaly.data import (
    ChannelChoice,
    ImageDataset,
    choose_channels,
    inspect_images,
    open_images,
    open_training_images,
)
from ganomaly.data.colours import MAX_SAMPLE, MIN_SAMPLE, has_equal_channels
from ganomaly.data.readers.encoded_image import EncodedImage
from ganomaly.data.sources.dataset import StoredImage
from ganomaly.errors import DataError, UsageError
from images import SMALL, textures
from shell import ganomaly


def saved(
    folder: Path, *, gray: int = 0, gray_as_rgb: int = 0, colour: int = 0, suffix: str = ".png"
) -> Path:
    """A folder of so many images of each kind."""
    folder.mkdir(exist_ok=True)
    images = [Image.fromarray(image) for image in textures(gray + gray_as_rgb + colour)]
    images[gray:] = [image.convert("RGB") for image in images[gray:]]
    blue = Image.new("RGB", (32, 32), (20, 90, 200))
    images[gray + gray_as_rgb :] = [Image.blend(image, blue, 0.3) for image in images[gray + gray_as_rgb :]]
    for number, image in enumerate(images):
        image.save(folder / f"{number:03}{suffix}")
    return folder


def choice(data: Any, asked: int | None = None) -> ChannelChoice:
    return choose_channels(inspect_images(open_training_images(data)), asked)


# --- gray as RGB -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_gray_images_saved_as_rgb_are_gray_in_every_format(tmp_path: Path, suffix: str) -> None:
    folder = saved(tmp_path, gray_as_rgb=3, suffix=suffix)
    assert choice(folder) == ChannelChoice(1, "gray (3 saved as RGB)")


def test_lossy_webp_whose_channels_differ_by_one_level_is_gray(tmp_path: Path) -> None:
    for number, image in enumerate(textures(3, size=64)):
        Image.fromarray(image).convert("RGB").save(tmp_path / f"{number}.webp", quality=80)
    assert choice(tmp_path) == ChannelChoice(1, "gray (3 saved as RGB)")


def test_large_jpegs_are_seen_at_a_part_of_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.effect_noise((1600, 1200), 50).convert("RGB").save(tmp_path / "0.jpg")
    shapes = []

    def noted(pixels: NDArray[np.uint8]) -> bool:
        shapes.append(pixels.shape)
        return has_equal_channels(pixels)

    monkeypatch.setattr("ganomaly.data.colours.has_equal_channels", noted)
    assert choice(tmp_path).channels == 1
    assert shapes == [(150, 200, 3)]


def test_rgb_of_16_bits_with_equal_channels_is_gray(tmp_path: Path) -> None:
    for number, image in enumerate(textures(3).astype(np.uint16) * 16):
        tifffile.imwrite(tmp_path / f"{number}.tif", np.dstack([image] * 3), photometric="rgb")
    assert choice(tmp_path) == ChannelChoice(1, "gray (3 saved as RGB)")


def test_a_few_rgb_files_among_gray_ones_are_gray(tmp_path: Path) -> None:
    assert choice(saved(tmp_path, gray=40, gray_as_rgb=4)) == ChannelChoice(1, "gray (4 saved as RGB)")


def test_gray_is_gray_and_colour_is_colour(tmp_path: Path) -> None:
    assert choice(saved(tmp_path / "gray", gray=3)) == ChannelChoice(1, "gray")
    assert choice(saved(tmp_path / "colour", colour=3)) == ChannelChoice(3, "colour")


@given(arrays(np.uint8, (3, 4, 3)))
def test_an_image_is_gray_exactly_if_no_two_channels_differ_by_more_than_a_level(
    pixels: NDArray[np.uint8],
) -> None:
    assert has_equal_channels(pixels) == bool((np.ptp(pixels.astype(int), axis=2) <= 1).all())
    assert has_equal_channels(np.repeat(pixels[..., :1], 3, axis=2))


# --- the majority --------------------------------------------------------------------------------------------


def test_a_few_colour_images_become_gray_and_it_is_said(tmp_path: Path) -> None:
    folder = saved(tmp_path, gray=20, gray_as_rgb=5, colour=2)
    assert choice(folder) == ChannelChoice(1, "gray (5 saved as RGB, 2 colour images become gray)")


def test_gray_saved_as_rgb_counts_for_the_gray_side(tmp_path: Path) -> None:
    assert choice(saved(tmp_path, gray=2, gray_as_rgb=4, colour=5)).channels == 1


def test_a_few_gray_images_become_rgb_and_it_is_said(tmp_path: Path) -> None:
    folder = saved(tmp_path / "3", gray=3, gray_as_rgb=1, colour=20)
    assert choice(folder) == ChannelChoice(3, "colour (3 gray images become RGB)")
    folder = saved(tmp_path / "1", gray=1, colour=20)
    assert choice(folder) == ChannelChoice(3, "colour (1 gray image becomes RGB)")


def test_where_neither_is_the_majority_no_colour_is_lost(tmp_path: Path) -> None:
    assert choice(saved(tmp_path, gray=3, colour=3)).channels == 3


def test_what_is_asked_for_overrides_the_majority(tmp_path: Path) -> None:
    colour = saved(tmp_path / "colour", gray=1, gray_as_rgb=2, colour=7)
    assert choice(colour, 1) == ChannelChoice(1, "gray (2 saved as RGB, 7 colour images become gray)")
    assert choice(colour, 3) == ChannelChoice(3, "colour (1 gray image becomes RGB)")
    gray = saved(tmp_path / "gray", gray=4)
    assert choice(gray, 3) == ChannelChoice(3, "colour (4 gray images become RGB)")


@pytest.mark.parametrize("channels", [2, 4])
def test_channels_that_no_image_has_or_can_be_converted_to_are_wrong_usage(
    tmp_path: Path, channels: int
) -> None:
    folder = saved(tmp_path, gray=12, gray_as_rgb=1)
    with pytest.raises(UsageError, match=rf"{channels} channels asked for.*12 with 1 channel \(.*000\.png\)"):
        choice(folder, channels)


@pytest.mark.parametrize("asked", [None, 2])
def test_images_of_two_channels_alone_are_taken_as_they_are(asked: int | None) -> None:
    images = np.zeros((3, 8, 8, 2), np.uint8)
    assert choice(images, asked) == ChannelChoice(2, "2-channel")
    with pytest.raises(UsageError, match="3 with 2 channels"):
        choice(images, 1)


@pytest.mark.parametrize("channels", [2, 4])
def test_two_or_four_channels_among_others_are_refused_with_counts_and_examples(channels: int) -> None:
    images = [np.zeros((8, 8), np.uint8)] * 2 + [np.zeros((8, 8, channels), np.uint8)]
    with pytest.raises(
        DataError,
        match=rf"2 with 1 channel \(array\[0\]\), 1 with {channels} channels \(array\[2\]\).*of one kind",
    ):
        choice(images)
    assert choice(images, 1).channels == 1


# --- the sample ----------------------------------------------------------------------------------------------


class CountingDataset(ImageDataset):
    """Another dataset that notes which images were opened by `read`, that is, decoded."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.name, self.records = dataset.name, dataset.records
        self._dataset = dataset
        self.decoded: list[int] = []

    @contextmanager
    def open(self, index: int) -> Iterator[EncodedImage]:
        with self._dataset.open(index) as image:
            yield image

    def read(self, index: int, *, smallest_side: int | None = None) -> Any:
        self.decoded.append(index)
        return self._dataset.read(index, smallest_side=smallest_side)

    def stored(self, index: int) -> StoredImage:
        return self._dataset.stored(index)

    def content_digest(self, index: int) -> bytes:
        return self._dataset.content_digest(index)

    def identity(self, index: int) -> bytes:
        return self._dataset.identity(index)


def counting(gray_as_rgb: int, colour: int) -> CountingDataset:
    images = np.zeros((gray_as_rgb + colour, 8, 8, 3), np.uint8)
    images[gray_as_rgb:, 2, 2] = (200, 0, 0)
    return CountingDataset(open_images(images))


def test_of_many_images_a_sample_is_decoded_and_it_is_said() -> None:
    dataset = counting(gray_as_rgb=2000, colour=0)
    chosen = choose_channels(inspect_images(dataset), None)
    assert len(dataset.decoded) == len(set(dataset.decoded)) == MAX_SAMPLE
    assert chosen == ChannelChoice(1, "gray (about 2,000 saved as RGB, from a sample of 300)")


def test_the_sample_is_representative_and_always_the_same() -> None:
    """Coloured images stand last, where a first few hundred would not see them."""
    first, again = counting(2000, 1000), counting(2000, 1000)
    colours = inspect_images(first).colours
    assert inspect_images(again).colours == colours
    assert sorted(first.decoded) == sorted(again.decoded)
    assert 1800 <= colours.n_gray <= 2200


def test_colour_images_are_recognised_by_the_first_dozens() -> None:
    dataset = counting(gray_as_rgb=0, colour=2000)
    assert choose_channels(inspect_images(dataset), None) == ChannelChoice(3, "colour")
    assert MIN_SAMPLE <= len(dataset.decoded) <= 2 * MIN_SAMPLE + 100  # threads are a little ahead


def test_among_gray_images_every_coloured_one_is_counted() -> None:
    colour = np.zeros((8, 8, 3), np.uint8)
    colour[2, 2] = (200, 0, 0)
    images = [np.zeros((8, 8), np.uint8)] * 60 + [colour] * (MIN_SAMPLE + 16)
    assert choice(images) == ChannelChoice(1, "gray (40 colour images become gray)")


def test_of_large_images_fewer_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganomaly.data.colours._MAX_PIXELS", 30 * 64)
    assert inspect_images(counting(2000, 0)).colours.n_sampled == 31


def test_images_that_cannot_be_decoded_are_left_out_of_the_sample(tmp_path: Path) -> None:
    folder = saved(tmp_path, gray_as_rgb=4)
    for name in ("000.png", "002.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-300])
    colours = inspect_images(open_training_images(folder)).colours
    assert (colours.n_sampled, colours.n_gray_sampled, colours.n_gray) == (2, 2, 4)


# --- fitting -------------------------------------------------------------------------------------------------


def fitted(folder: Path, **options: Any) -> GANomalyDetector:
    return GANomalyDetector(
        "paper", epochs=2, precision="fp32", false_alarm_rate=0.2, method_options=SMALL, **options
    ).fit(folder)


def test_a_gray_dataset_saved_as_rgb_gives_the_same_model_as_gray_files(tmp_path: Path) -> None:
    gray = fitted(saved(tmp_path / "gray", gray=40))
    as_rgb = fitted(saved(tmp_path / "rgb", gray=30, gray_as_rgb=10))
    assert as_rgb.model_.preprocessing == gray.model_.preprocessing
    assert as_rgb.model_.preprocessing.channels == 1
    np.testing.assert_array_equal(as_rgb.model_.calibration.scores, gray.model_.calibration.scores)
    # and scores gray images the same, however they were saved
    np.testing.assert_array_equal(gray.anomaly_score(tmp_path / "rgb"), gray.anomaly_score(tmp_path / "gray"))


def test_colour_overrides_what_the_majority_is(tmp_path: Path) -> None:
    assert fitted(saved(tmp_path, gray=12), channels=3).model_.preprocessing.channels == 3


def test_the_plan_says_what_was_converted(tmp_path: Path) -> None:
    folder = saved(tmp_path / "images", gray=20, gray_as_rgb=3, colour=1)
    done = ganomaly("fit", folder, "--model", tmp_path / "m.safetensors", "--preset", "paper", "--epochs", 1)
    assert done.returncode == 0, done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    assert "gray (3 saved as RGB, 1 colour image becomes gray), 8 bit" in said


def test_two_channels_asked_of_gray_images_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no image has the 2 channels asked for"):
        fitted(saved(tmp_path, gray=12), channels=2)
