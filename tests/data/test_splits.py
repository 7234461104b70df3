"""Each normal image trains or calibrates, by the seed alone, and enough are left to train on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganomaly.data.splits import TrainingSplit, joined_split, split_normal_images
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


# --- groups ----------------------------------------------------------------------------------------------


@given(st.integers(3, 60), st.integers(1, 8), st.integers(1, 30), st.integers(0, 5))
def test_no_patient_is_on_both_sides_and_each_calibrates_once(
    n_patients: int, most_images: int, at_least: int, seed: int
) -> None:
    sizes = np.random.default_rng(seed).integers(1, most_images + 1, n_patients)
    patients = np.repeat(np.arange(n_patients), sizes)
    if len(patients) < 10:
        return
    groups = dict(enumerate(patients.tolist()))
    drawn = split_normal_images(
        np.arange(len(patients)), share=0.1, at_least=at_least, seed=seed, groups=groups
    )
    training, calibration = patients[drawn.training], patients[drawn.calibration]
    assert not set(training) & set(calibration)
    assert set(training) | set(calibration) == set(patients.tolist())
    assert len(set(calibration)) == len(calibration)
    assert 1 <= len(set(calibration)) <= n_patients / 3
    if n_patients >= 3 * at_least:
        assert len(calibration) >= at_least


def test_groups_of_one_image_change_nothing() -> None:
    grouped = split_normal_images(
        np.arange(50), share=0.1, at_least=4, seed=3, groups={index: index for index in range(50)}
    )
    assert grouped.calibration.tolist() == split(50, at_least=4, seed=3).calibration.tolist()
    assert grouped.n_groups is None


def test_a_patient_who_calibrates_one_product_trains_none() -> None:
    patients = np.tile(np.repeat(np.arange(12), 2), 2)  # each shows both products
    groups = dict(enumerate(patients.tolist()))
    parts = [
        split_normal_images(np.arange(first, first + 24), share=0.1, at_least=4, seed=seed, groups=groups)
        for seed, first in enumerate((0, 24))
    ]
    joined = joined_split(parts, groups)
    assert set(patients[parts[0].training]) & set(patients[parts[1].calibration])
    assert not set(patients[joined.training]) & set(patients[joined.calibration])
    assert len(joined.calibration) == 8
    assert joined.n_groups == 12


def test_two_patients_are_refused() -> None:
    groups = {index: index % 2 for index in range(20)}
    with pytest.raises(DataError, match="all images are of 2 patients, but at least 3 are needed"):
        split_normal_images(np.arange(20), share=0.1, at_least=1, seed=0, groups=groups)


def false_alarm_rate(*, by_patient: bool) -> float:
    """Share of images of new patients whose p-value is at most 0.1.

    The score of an image is mostly that of its patient. A network gives less to patients that it trained on.
    """
    rng = np.random.default_rng(0)
    n_patients, n_images, rate = 60, 20, 0.1
    patients = np.repeat(np.arange(n_patients), n_images)
    groups = dict(enumerate(patients.tolist())) if by_patient else None
    alarms = []
    for seed in range(400):
        levels = rng.normal(size=n_patients)
        drawn = split_normal_images(
            np.arange(len(patients)), share=rate, at_least=19, seed=seed, groups=groups
        )
        levels[np.unique(patients[drawn.training])] -= 1
        calibration = levels[patients[drawn.calibration]] + 0.2 * rng.normal(size=len(drawn.calibration))
        new = rng.normal(size=200) + 0.2 * rng.normal(size=200)
        p_values = (1 + (calibration >= new[:, None]).sum(axis=1)) / (1 + len(calibration))
        alarms.append((p_values <= rate).mean())
    return float(np.mean(alarms))


def test_new_patients_are_called_anomalous_at_the_rate_that_was_chosen() -> None:
    assert false_alarm_rate(by_patient=True) == pytest.approx(0.1, abs=0.015)
    assert (
        false_alarm_rate(by_patient=False) > 0.2
    )  # of images that are drawn one by one: the guarantee is lost
