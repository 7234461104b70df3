"""The graph resizes images as scoring does, to the same size, and bit for bit where images have 8 bits."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganomaly.config import SCALE_STEPS
from ganomaly.data import ImageArrays, inspect_images, resize_image
from ganomaly.data.batch_decoding import scaled_side
from ganomaly.export.graph import as_fraction, filter_matrix, resize
from ganomaly.methods import find_preset
from ganomaly.training.plan import plan_preprocessing

SIDES = st.integers(1, 90)


def random_image(height: int, width: int, channels: int, dtype: type, seed: int) -> np.ndarray:
    white = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, white, (height, width, channels), dtype, endpoint=True)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([1, 3]), st.integers(0, 1000))
def test_8_bit_images_are_resized_as_by_scoring(height, width, new_height, new_width, channels, seed):
    image = random_image(height, width, channels, np.uint8, seed)
    expected = resize_image(image, (new_height, new_width), channels)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    resized = resize(x, new_height, new_width, exact=True)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(resized, expected)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 1000))
def test_16_bit_images_are_resized_as_by_scoring(height, width, new_height, new_width, seed):
    image = random_image(height, width, 1, np.uint16, seed)
    expected = resize_image(image, (new_height, new_width), 1).astype(np.float64)
    x = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    resized = resize(x, new_height, new_width)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(resized, expected, atol=0.51)  # scoring rounds to whole numbers


def test_a_large_image_is_scaled_down_exactly():
    image = random_image(900, 700, 1, np.uint8, 0)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    resized = resize(x, 60, 50, exact=True)[0, 0].numpy()
    np.testing.assert_array_equal(resized, resize_image(image, (60, 50), 1)[..., 0])


@given(SIDES, SIDES)
def test_rows_of_a_filter_add_up_to_one(n_in, n_out):
    matrix = filter_matrix(n_in, n_out)
    assert matrix.shape == (n_out, n_in)
    np.testing.assert_allclose(matrix.sum(dim=1), 1, rtol=1e-5)


@given(st.integers(1, SCALE_STEPS), st.integers(1, 20_000))
def test_a_graph_scales_each_side_as_scoring_does(steps, side):
    scale = steps / SCALE_STEPS
    numerator, denominator = as_fraction(scale).as_integer_ratio()
    scaled = (2 * numerator * side + denominator) // (2 * denominator)
    assert max(1, scaled) == scaled_side(side, scale)
    assert 2 * numerator * 20_000 + denominator < 2**31


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(32, 4096))
def test_the_scale_for_images_of_any_size_can_be_exported(height, width, image_size):
    inspection = inspect_images(ImageArrays([np.zeros((1, 1), np.uint8)]))
    inspection = replace(inspection, sizes={(height, width): 1})
    preset = find_preset("patches")[1]
    scale = plan_preprocessing(preset, inspection, image_size=image_size, channels=1).scale
    assert scale is not None
    assert 0 < scale <= 1
    as_fraction(scale)
