"""Images are resized as Pillow would do it, with any channels and bit depth."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ganomaly.data.resizing import resize_image
from ganomaly.errors import ImageError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (41, 57, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [28, 32, 64])
def test_gray_and_rgb_equal_pillows_bilinear(size: int) -> None:
    for image in (RGB, RGB[..., :1]):
        unsized = Image.fromarray(image.squeeze())
        by_pillow = np.asarray(unsized.resize((size, size), Image.Resampling.BILINEAR)).reshape(
            size, size, -1
        )
        np.testing.assert_array_equal(resize_image(image, size, image.shape[2]), by_pillow)


def test_an_image_of_the_right_size_is_not_changed() -> None:
    image = RGB[:32, :32]
    np.testing.assert_array_equal(resize_image(image, 32, 3), image)


def test_gray_becomes_rgb_by_copying_and_rgb_gray_by_its_luma() -> None:
    gray = resize_image(RGB, 32, 1)
    luma = Image.fromarray(RGB).convert("L").resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(gray[..., 0], np.asarray(luma))
    copied = resize_image(RGB[..., :1], 32, 3)
    assert copied.shape == (32, 32, 3)
    assert (copied == copied[..., :1]).all()


def test_luma_of_16_bits_is_that_of_8_bits_on_a_finer_scale() -> None:
    luma8 = resize_image(RGB[:32, :32], 32, 1).astype(int)
    luma16 = resize_image(RGB[:32, :32].astype(np.uint16) * 257, 32, 1).astype(int)
    assert np.abs(luma16 - luma8 * 257).max() <= 257
    white = np.full((32, 32, 3), 65535, np.uint16)
    assert (resize_image(white, 32, 1) == 65535).all()


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    channels=st.integers(1, 4),
    size=st.sampled_from([32, 48]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 2**32 - 1),
)
def test_type_shape_and_range_stay(
    height: int, width: int, channels: int, size: int, dtype: type, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(
        0, np.iinfo(dtype).max + 1, (height, width, channels), dtype=dtype
    )
    resized = resize_image(image, size, channels)
    assert resized.dtype == dtype
    assert resized.shape == (size, size, channels)
    for channel in range(channels):
        assert image[..., channel].min() <= resized[..., channel].min()
        assert resized[..., channel].max() <= image[..., channel].max()


def test_16_bits_are_rounded_to_the_nearest_and_not_cut() -> None:
    image = RNG.integers(0, 65536, (41, 57), dtype=np.uint16)
    exact = Image.fromarray(image.astype(np.float32)).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.abs(resize_image(image[..., None], 32, 1)[..., 0] - np.asarray(exact, dtype=float)).max() <= 0.5


@pytest.mark.parametrize("channels", [2, 4])
def test_each_channel_is_resized_by_itself(channels: int) -> None:
    image = RNG.integers(0, 256, (50, 40, channels), dtype=np.uint8)
    image[..., -1] = 0  # as alpha this would make the others disappear
    resized = resize_image(image, 32, channels)
    for channel in range(channels):
        alone = resize_image(np.ascontiguousarray(image[..., channel : channel + 1]), 32, 1)
        assert np.abs(resized[..., channel : channel + 1].astype(int) - alone).max() <= 1


@pytest.mark.parametrize(("n_channels", "needed"), [(4, 3), (3, 4), (2, 1), (1, 2), (2, 3), (3, 2)])
def test_channels_that_cannot_be_converted_are_refused_with_both_numbers(
    n_channels: int, needed: int
) -> None:
    with pytest.raises(ImageError, match=f"{n_channels} channels where {needed} are needed"):
        resize_image(np.zeros((8, 8, n_channels), np.uint8), 32, needed)


def test_nothing_is_cropped_at_the_rim() -> None:
    image = np.zeros((40, 400, 1), np.uint8)
    image[:, :13] = 255
    assert resize_image(image, 32, 1)[:, 0].min() > 200


@pytest.mark.shared_data
def test_mnist_at_32_px_equals_pillows_bilinear(shared_data: Path) -> None:
    from ganomaly.data import open_training_images

    dataset = open_training_images(shared_data / "mnist")
    for index in (0, 12_345, 59_999):
        digit = dataset.read(index)
        assert digit.shape == (28, 28, 1)
        by_pillow = Image.fromarray(digit[..., 0]).resize((32, 32), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(resize_image(digit, 32, 1)[..., 0], np.asarray(by_pillow))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("channels", "channels_of_input"), [(1, 1), (3, 3), (3, 1), (1, 3), (4, 4)])
@pytest.mark.parametrize("size", [(16, 16), (60, 20), (150, 130)])
def test_a_large_image_is_resized_in_strips_to_the_same_numbers(
    dtype: type, channels: int, channels_of_input: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (60, 51, channels)).astype(dtype)
    whole = resize_image(image, size, channels_of_input)
    monkeypatch.setattr("ganomaly.data.strips.PIXELS", 51 * 7)
    np.testing.assert_array_equal(resize_image(image, size, channels_of_input), whole)
