"""What follows from headers, options and seed is decided before an image is decoded."""

import re
from contextlib import contextmanager

import numpy as np
import pytest

from ganomaly.config import FitOptions
from ganomaly.data import ImageArrays, inspect_images
from ganomaly.data.ignored_region import mask_to_text
from ganomaly.data.readers.encoded_image import EncodedImage
from ganomaly.errors import DataError, UsageError
from ganomaly.methods import find_preset
from ganomaly.training.plan import plan_method, plan_preprocessing, plan_training
from ganomaly.training.read_images import read_training_images


class HeadersOnly(ImageArrays):
    """Images that may be inspected and not decoded."""

    @contextmanager
    def open(self, index):
        with super().open(index) as image:
            yield Undecodable(image.header)


class Undecodable(EncodedImage):
    def __init__(self, header):
        self.header = header

    def decode(self, smallest_side=None):
        pytest.fail("a plan must not decode")


def gray(n: int, side: int, dtype=np.uint8) -> HeadersOnly:
    return HeadersOnly(np.zeros((n, side, side), dtype))


def plan(dataset, **options):
    return plan_training(dataset, inspect_images(dataset), FitOptions(**options))


def test_a_plan_needs_headers_alone():
    planned = plan(gray(100, 300), false_alarm_rate=0.05)
    assert planned.method.preset_name == "features"
    assert planned.preprocessing.scale == pytest.approx(256 / 300, abs=1e-3)
    assert len(planned.split.training) + len(planned.split.calibration) == 100
    assert len(planned.split.calibration) >= 19  # a rate of 0.05 needs as many


@pytest.mark.parametrize(("side", "preset"), [(28, "small"), (64, "small"), (65, "features")])
def test_the_preset_follows_from_the_size_of_the_images(side, preset):
    assert plan(gray(30, side)).method.preset_name == preset


def test_the_split_follows_from_the_seed():
    first, again, other = (plan(gray(50, 28), seed=seed).split.training for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_white_level_of_16_bit_images_is_measured_when_they_are_read():
    images = ImageArrays(np.full((20, 32, 32), 3000, np.uint16))
    inspection = inspect_images(images)
    planned = plan_preprocessing(find_preset("paper")[1], inspection, image_size=32, channels=1)
    assert planned.bits == 16
    _, preprocessing = read_training_images(images, inspection, planned)
    assert preprocessing.white_level == 4095  # of a camera with 12 bits


def test_too_few_images_and_wrong_sizes_are_said_by_the_plan():
    with pytest.raises(DataError, match="found 3 normal images"):
        plan(gray(3, 28))
    with pytest.raises(UsageError, match="image size 48"):
        plan(gray(30, 28), preset="paper", image_size=48)


def test_options_of_the_method_take_the_place_of_the_preset_s():
    planned = plan_method(FitOptions(preset="paper", method_options={"nz": "64"}))
    assert planned.options.nz == 64
    assert planned.options.ngf == planned.preset.options.ngf


def test_the_plan_says_how_much_of_each_image_is_ignored():
    mask = np.zeros((300, 300), dtype=np.uint8)
    mask[:75] = 255
    dataset = ImageArrays(np.zeros((20, 300, 300), np.uint8))
    planned = plan(dataset, preset="paper", ignored=mask_to_text(mask > 0))
    loader, preprocessing = read_training_images(dataset, planned.inspection, planned.preprocessing)
    (said,) = re.findall(r"([0-9.]+)% of each is ignored", planned.describe(loader, preprocessing))
    assert 25 <= float(said) < 30  # the mask, and its margin
    assert "ignored" not in plan(dataset, preset="paper").describe(loader, preprocessing)
