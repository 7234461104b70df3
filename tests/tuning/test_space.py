"""What is searched, and what options follow."""

import pytest

from ganomaly.config import FitOptions
from ganomaly.data import ImageArrays, inspect_images
from ganomaly.networks.backbones import default_levels
from ganomaly.training.plan import plan_method
from ganomaly.tuning import SearchSpace
from images import textures


def space_of(size: int, **options) -> SearchSpace:
    return SearchSpace.of(
        FitOptions(**options), inspect_images(ImageArrays(textures(1, size=size)[..., None]))
    )


def test_the_preset_is_the_first_trial():
    for size in (32, 300):
        space = space_of(size)
        inspection = inspect_images(ImageArrays(textures(1, size=size)[..., None]))
        first, preset = (
            plan_method(options, inspection) for options in (space.options(space.start), FitOptions())
        )
        assert first == preset


def test_what_the_user_chose_is_not_searched():
    space = space_of(300, image_size=200, method_options={"nz": "48", "levels": "block4"})
    assert not {"image_size", "nz", "levels"} & set(space.distributions)
    options = space.options(space.start)
    assert (options.image_size, options.method_options["nz"]) == (200, "48")
    assert options.method_options["levels"] == "block4"


def test_levels_are_those_of_the_backbone():
    space = space_of(300)
    options = space.options({**space.start, "levels": "without the deepest"})
    assert options.method_options["levels"] == ",".join(default_levels("efficientnet-lite0")[:-1])
    plan_method(options)


@pytest.mark.parametrize(
    ("size", "preset", "sizes"),
    [
        (32, "paper", None),
        (64, "paper", (32, 64)),
        (150, "patches", None),  # all of them leave images of 150 px as they are
        (220, "patches", (192, 256)),
        (300, "patches", (192, 256, 384)),
        (1000, "patches", (192, 256, 384)),
    ],
)
def test_image_sizes_are_those_that_make_a_difference(size, preset, sizes):
    distributions = space_of(size, preset=preset).distributions
    assert getattr(distributions.get("image_size"), "choices", None) == sizes
