"""The graph resizes as scoring does, to the last bit where images have 8 bits, and to the same size."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganomaly.config import SCALE_STEPS
from ganomaly.data import ImageArrays, inspect_images, resize_image
from ganomaly.data.batch_decoding import scaled_side
from ganomaly.export.graph import as_fraction, filter_matrix, resized
from ganomaly.methods import find_preset
from ganomaly.training.plan import plan_preprocessing

SIDES = st.integers(1, 90)


def random_image(height: int, width: int, channels: int, dtype: type, seed: int) -> np.ndarray:
    most = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, most, (height, width, channels), dtype, endpoint=True)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([1, 3]), st.integers(0, 1000))
def test_8_bit_pixels_are_those_of_scoring(height, width, new_height, new_width, channels, seed):
    image = random_image(height, width, channels, np.uint8, seed)
    expected = resize_image(image, (new_height, new_width), channels)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    found = resized(x, new_height, new_width, rounded=True)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, expected)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 1000))
def test_16_bit_pixels_are_those_of_scoring(height, width, new_height, new_width, seed):
    image = random_image(height, width, 1, np.uint16, seed)
    expected = resize_image(image, (new_height, new_width), 1).astype(np.float64)
    x = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    found = resized(x, new_height, new_width)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=0.51)  # scoring rounds to whole numbers


def test_a_large_picture_is_made_small_exactly():
    image = random_image(900, 700, 1, np.uint8, 0)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    found = resized(x, 60, 50, rounded=True)[0, 0].numpy()
    np.testing.assert_array_equal(found, resize_image(image, (60, 50), 1)[..., 0])


@given(SIDES, SIDES)
def test_rows_of_a_filter_add_up_to_one(n_in, n_out):
    matrix = filter_matrix(n_in, n_out)
    assert matrix.shape == (n_out, n_in)
    np.testing.assert_allclose(matrix.sum(dim=1), 1, rtol=1e-5)


@given(st.integers(1, SCALE_STEPS), st.integers(1, 20_000))
def test_a_graph_makes_each_side_as_long_as_scoring_does(steps, side):
    scale = steps / SCALE_STEPS
    above, below = as_fraction(scale).as_integer_ratio()
    assert max(1, (2 * above * side + below) // (2 * below)) == scaled_side(side, scale)
    assert 2 * above * 20_000 + below < 2**31


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(32, 4096))
def test_images_of_every_size_give_a_model_that_can_be_exported(height, width, image_size):
    inspection = inspect_images(ImageArrays([np.zeros((1, 1), np.uint8)]))
    inspection = replace(inspection, sizes={(height, width): 1})
    preset = find_preset("patches")[1]
    scale = plan_preprocessing(preset, inspection, image_size=image_size, channels=1).scale
    assert scale is not None
    assert 0 < scale <= 1
    as_fraction(scale)
