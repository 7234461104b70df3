"""The synthetic defects of a search."""

import numpy as np
import pytest

from ganomaly.data import open_images, open_training_images
from ganomaly.data.evaluation_defects import DEFECTS, DefectiveImages, with_defect
from images import textures, write_images

each_kind = pytest.mark.parametrize("kind", DEFECTS)


@each_kind
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_defect_is_seen_and_leaves_most_of_the_image_alone(kind, dtype):
    image = textures(1, size=128)[0][..., None].astype(dtype) * (1 if dtype == np.uint8 else 16)
    contrast = float(image.std())
    for seed in range(4):
        drawn = with_defect(image, kind, (seed,))
        change = np.abs(drawn.astype(float) - image)
        assert (drawn.dtype, drawn.shape) == (image.dtype, image.shape)
        assert change.max() > 0.3 * contrast
        assert (change > 0.1 * contrast).mean() < 0.2


@each_kind
def test_a_defect_follows_from_image_and_seed(kind):
    image = textures(1, size=64)[0][..., None]
    assert np.array_equal(with_defect(image, kind, (1, 2)), with_defect(image, kind, (1, 2)))
    assert not np.array_equal(with_defect(image, kind, (1, 2)), with_defect(image, kind, (1, 3)))


def test_with_and_without_its_defect_an_image_differs_in_nothing_else(tmp_path):
    # a JPEG, which decodes at a part of its size where only a small image is needed
    folder = write_images(tmp_path / "images", textures(1, size=256), suffix=".jpg")
    images = DefectiveImages(open_images(str(folder)), [0, 0], [None, "porous"], seed=0)
    clean, defective = (images.read(index, smallest_side=16) for index in range(2))
    assert clean.shape == defective.shape == (256, 256, 1)
    assert 0 < (clean != defective).mean() < 0.2


def test_defective_images_are_labelled_by_their_defect():
    images = DefectiveImages(open_training_images(textures(12)), [3, 3], [None, "dented"], seed=0)
    assert [(record.kind, record.is_anomalous) for record in images.records] == [
        (None, False),
        ("dented", True),
    ]
