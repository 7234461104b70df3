"""Defects made from normal patches can be seen where they are said to be, and repeat."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganomaly.methods import synthetic_defects
from ganomaly.methods.synthetic_defects import LEAST_AREA, UNTOUCHED, local_contrast, with_defects


def patches(channels: int = 1, size: int = 48) -> torch.Tensor:
    return torch.randn(8, channels, size, size, generator=torch.Generator().manual_seed(0)).mul(0.1)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), channels=st.integers(1, 4), size=st.sampled_from([32, 48, 96]))
def test_defects_are_drawn_in_any_patch(seed: int, channels: int, size: int) -> None:
    x = patches(channels, size)
    altered, changed, importance = with_defects(x, 0.1, np.random.default_rng(seed))
    assert altered.shape == x.shape
    assert changed.shape == importance.shape == (8, 1, size, size)
    assert torch.isfinite(altered).all()
    assert altered.abs().max() <= 1
    assert set(changed.unique().tolist()) <= {0.0, 1.0}


def test_the_same_seed_draws_the_same_defects() -> None:
    one, again, other = (with_defects(patches(), 0.1, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one[0], again[0])
    assert torch.equal(one[1], again[1])
    assert not torch.equal(one[0], other[0])


def test_a_change_is_where_it_is_said_to_be() -> None:
    x = patches()
    for seed in range(5):
        altered, changed, _ = with_defects(x, 0.1, np.random.default_rng(seed))
        difference = (altered - x).abs()
        assert difference[changed == 0].mean() < 0.02
        assert difference[changed == 1].mean() > 0.08


@pytest.mark.parametrize(("side", "importance"), [(3, 48 / LEAST_AREA**0.5), (8, 6.0), (24, 2.0)])
def test_a_defect_counts_by_the_root_of_its_area(
    monkeypatch: pytest.MonkeyPatch, side: int, importance: float
) -> None:
    shape = torch.zeros(48, 48)
    shape[10 : 10 + side, 12 : 12 + side] = 1
    monkeypatch.setattr(synthetic_defects, "_draw_shape", lambda size, random: (shape, False))
    monkeypatch.setattr(synthetic_defects, "_draw_content", lambda x, position, *others: x[position] + 0.5)
    found = with_defects(patches(size=48), 0.1, np.random.default_rng(0))
    assert found.importance[found.changed == 0].unique().tolist() == [1]
    assert found.importance[found.changed == 1].unique().tolist() == pytest.approx([importance])


def test_some_patches_stay_as_they_are_and_most_do_not() -> None:
    untouched = [
        float(
            (with_defects(patches(), 0.1, np.random.default_rng(seed))[1].amax(dim=(1, 2, 3)) == 0)
            .float()
            .mean()
        )
        for seed in range(20)
    ]
    # those that are left alone, and those whose defects cannot be seen
    assert UNTOUCHED < np.mean(untouched) < 0.4


def test_the_input_is_left_alone() -> None:
    x = patches()
    with_defects(x, 0.1, np.random.default_rng(0))
    assert torch.equal(x, patches())


def test_contrast_is_local() -> None:
    slope = torch.linspace(-1, 1, 200).expand(1, 1, 200, 200)
    assert local_contrast(slope) < 0.06
    assert abs(local_contrast(torch.randn(4, 1, 64, 64) * 0.2) - 0.2) < 0.02
