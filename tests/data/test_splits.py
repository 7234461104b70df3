"""Each normal image trains or calibrates, by the seed alone, and enough are left to train on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganomaly.data.splits import TrainingSplit, split_normal_images
from ganomaly.errors import DataError


def split(n: int, *, share: float = 0.1, at_least: int = 1, seed: int = 0) -> TrainingSplit:
    return split_normal_images(np.arange(n), share=share, at_least=at_least, seed=seed)


@given(st.integers(10, 3000), st.integers(1, 999), st.integers(0, 5))
def test_each_image_is_on_one_side_and_two_thirds_train(n: int, at_least: int, seed: int) -> None:
    drawn = split(n, at_least=at_least, seed=seed)
    assert sorted([*drawn.training, *drawn.calibration]) == list(range(n))
    assert 1 <= len(drawn.calibration) <= n / 3
    if n >= 3 * at_least:
        assert len(drawn.calibration) >= max(at_least, n // 10)


def test_the_split_follows_from_the_seed() -> None:
    first, again, other = split(500, seed=7), split(500, seed=7), split(500, seed=8)
    assert (first.calibration == again.calibration).all()
    assert not np.array_equal(first.calibration, other.calibration)


def test_models_calibrated_earlier_can_be_split_again() -> None:
    assert split(30, at_least=4, seed=7).calibration.tolist() == [1, 8, 16, 23]
    assert split(13, at_least=4).calibration.tolist() == [1, 6, 7, 10]


def test_images_that_cannot_be_opened_are_on_neither_side() -> None:
    openable = np.setdiff1d(np.arange(40), [3, 17])
    drawn = split_normal_images(openable, share=0.1, at_least=1, seed=0)
    assert sorted([*drawn.training, *drawn.calibration]) == openable.tolist()
    assert len(drawn.calibration) == 4


@pytest.mark.parametrize("n", [0, 1, 9])
def test_fewer_than_ten_images_are_refused_with_their_number(n: int) -> None:
    with pytest.raises(DataError, match=f"found {n} normal image"):
        split(n)
