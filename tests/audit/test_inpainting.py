"""Painting defects out: only the region changes, the same each time, wherever the mask is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganomaly.audit import paint_out, painted_region
from ganomaly.errors import ImageError, UsageError


def texture(height=96, width=96, channels=1, dtype=np.uint8, seed=0):
    """Brushed metal: fine vertical lines, noise and uneven light."""
    rng = np.random.default_rng(seed)
    lines = rng.normal(0, 12, (1, width)) + rng.normal(0, 4, (height, width))
    light = np.linspace(90, 130, width) + np.linspace(0, 20, height)[:, None]
    image = np.repeat((light + lines)[..., None], channels, axis=2) * np.linspace(1, 0.8, channels)
    scale = 1 if dtype == np.uint8 else 16
    return np.clip(image * scale, 0, 255 * scale).astype(dtype)


def disk(height, width, row, column, radius):
    y, x = np.ogrid[:height, :width]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_outside_the_region_stay_and_the_defect_goes(channels, dtype):
    image = texture(channels=channels, dtype=dtype)
    mask = disk(96, 96, 50, 40, 8)
    image[mask] = np.iinfo(dtype).max
    painted = paint_out(image, mask)
    region = painted_region(mask)
    assert painted.dtype == dtype
    assert painted.shape == image.shape
    assert (painted[~region] == image[~region]).all()
    assert painted[mask].max() <= image[~region].max()  # also where 12 bits are stored in 16


@pytest.mark.parametrize("centre", [(0, 0), (0, 50), (95, 95), (48, 0), (48, 95), (4, 90)], ids=str)
def test_a_mask_at_the_edge_is_painted_too(centre):
    image = texture()
    mask = disk(96, 96, *centre, 9)
    defective = np.where(mask[..., None], np.uint8(255), image)
    painted = paint_out(defective, mask)
    difference = painted[mask].mean() - image[mask].mean()
    assert abs(difference) < 12


@given(
    height=st.integers(8, 70),
    width=st.integers(8, 70),
    channels=st.integers(1, 4),
    boxes=st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=3),
    seed=st.integers(0, 5),
)
@settings(max_examples=40)
def test_any_mask_of_any_image_is_painted_or_refused_in_words(height, width, channels, boxes, seed):
    image = texture(height, width, channels, seed=seed)
    mask = np.zeros((height, width), dtype=bool)
    for top, left, tall, wide in boxes:
        row, column = int(top * (height - 1)), int(left * (width - 1))
        mask[row : row + 1 + int(tall * height / 2), column : column + 1 + int(wide * width / 2)] = True
    region = painted_region(mask)
    if region.all():
        with pytest.raises(ImageError, match="covers the whole image"):
            paint_out(image, mask)
        return
    painted = paint_out(image, mask, seed=seed)
    assert (painted[~region] == image[~region]).all()
    assert painted.min() >= image[~region].min()
    assert painted.max() <= image.max()


def test_the_same_seed_paints_the_same():
    image, mask = texture(), disk(96, 96, 48, 48, 6)
    first = paint_out(image, mask, seed=(3, 1))
    assert (first == paint_out(image, mask, seed=(3, 1))).all()
    others = [paint_out(image, mask, seed=(3, number)) for number in range(2, 8)]
    assert any((first != other).any() for other in others)


def test_what_is_under_the_mask_does_not_matter():
    mask = disk(96, 96, 30, 60, 7)
    dark, bright = texture(), texture()
    dark[mask], bright[mask] = 0, 255
    assert (paint_out(dark, mask) == paint_out(bright, mask)).all()


def test_a_long_scratch_is_painted_in_parts():
    image = texture(200, 200)
    mask = np.zeros((200, 200), dtype=bool)
    mask[np.arange(200), np.arange(200)] = True
    defective = np.where(mask[..., None], np.uint8(255), image)
    painted = paint_out(defective, mask)
    assert painted[mask].max() < 200


def test_what_is_painted_is_as_rough_as_its_surroundings():
    ratios = []
    for seed in range(6):
        image, mask = texture(seed=seed), disk(96, 96, 48, 48, 12)
        painted = paint_out(image, mask).astype(float)[..., 0]
        roughness = np.abs(np.diff(painted, axis=1))[:, 1:]
        inside = mask[:, 2:]
        ratios.append(roughness[inside].mean() / roughness[~painted_region(mask)[:, 2:]].mean())
    assert 0.9 < np.mean(ratios) < 1.1


def test_an_empty_mask_changes_nothing():
    image = texture()
    assert (paint_out(image, np.zeros((96, 96), dtype=bool)) == image).all()


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(UsageError, match="96×90"):
        paint_out(texture(), np.zeros((90, 96), dtype=bool))
