"""Synthetic defects are visible where the mask says, weighted by their area, and repeat with the seed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganomaly.methods import synthetic_defects
from ganomaly.methods.synthetic_defects import DEFECT_FREE_SHARE, MIN_AREA, local_contrast, with_defects


def patches(channels: int = 1, size: int = 48) -> torch.Tensor:
    return torch.randn(8, channels, size, size, generator=torch.Generator().manual_seed(0)).mul(0.1)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), channels=st.integers(1, 4), size=st.sampled_from([32, 48, 96]))
def test_defects_are_drawn_in_any_patch(seed: int, channels: int, size: int) -> None:
    x = patches(channels, size)
    defective, mask, weight = with_defects(x, 0.1, np.random.default_rng(seed))
    assert defective.shape == x.shape
    assert mask.shape == weight.shape == (8, 1, size, size)
    assert torch.isfinite(defective).all()
    assert defective.abs().max() <= 1
    assert set(mask.unique().tolist()) <= {0.0, 1.0}


def test_the_same_seed_draws_the_same_defects() -> None:
    one, again, other = (with_defects(patches(), 0.1, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one[0], again[0])
    assert torch.equal(one[1], again[1])
    assert not torch.equal(one[0], other[0])


def test_the_mask_is_where_the_patch_changed() -> None:
    x = patches()
    for seed in range(5):
        defective, mask, _ = with_defects(x, 0.1, np.random.default_rng(seed))
        difference = (defective - x).abs()
        assert difference[mask == 0].mean() < 0.02
        assert difference[mask == 1].mean() > 0.08


@pytest.mark.parametrize(("side", "weight"), [(3, 48 / MIN_AREA**0.5), (8, 6.0), (24, 2.0)])
def test_a_defect_is_weighted_by_the_root_of_its_area(
    monkeypatch: pytest.MonkeyPatch, side: int, weight: float
) -> None:
    shape = torch.zeros(48, 48)
    shape[10 : 10 + side, 12 : 12 + side] = 1
    monkeypatch.setattr(synthetic_defects, "_draw_shape", lambda size, random: (shape, False))
    monkeypatch.setattr(synthetic_defects, "_draw_content", lambda x, index, *others: x[index] + 0.5)
    defects = with_defects(patches(size=48), 0.1, np.random.default_rng(0))
    assert defects.weight[defects.mask == 0].unique().tolist() == [1]
    assert defects.weight[defects.mask == 1].unique().tolist() == pytest.approx([weight])


def test_a_small_share_of_the_patches_has_no_visible_defect() -> None:
    shares = [
        float(
            (with_defects(patches(), 0.1, np.random.default_rng(seed))[1].amax(dim=(1, 2, 3)) == 0)
            .float()
            .mean()
        )
        for seed in range(20)
    ]
    # patches without a defect, and those whose defects are not visible
    assert DEFECT_FREE_SHARE < np.mean(shares) < 0.4


def test_the_input_does_not_change() -> None:
    x = patches()
    with_defects(x, 0.1, np.random.default_rng(0))
    assert torch.equal(x, patches())


def test_contrast_is_local() -> None:
    slope = torch.linspace(-1, 1, 200).expand(1, 1, 200, 200)
    assert local_contrast(slope) < 0.06
    assert abs(local_contrast(torch.randn(4, 1, 64, 64) * 0.2) - 0.2) < 0.02
