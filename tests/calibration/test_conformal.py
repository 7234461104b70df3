"""The threshold keeps the guarantee of conformal prediction, and a sentence says where it cannot."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom

from ganomaly.calibration import Calibration, images_needed
from ganomaly.errors import TrainingError

rates = st.floats(0.001, 0.5)
scores = arrays(np.float64, st.integers(2, 60), elements=st.floats(0, 1e6), unique=True)


@given(scores, rates, st.floats(0, 2e6))
def test_an_image_is_anomalous_exactly_if_its_p_value_is_at_most_the_rate(calibration_scores, rate, score):
    calibration = Calibration(calibration_scores, rate)
    p_value = float(calibration.p_value(score))
    assert bool(calibration.is_anomaly(score)) == (p_value <= calibration.attained_rate * (1 + 1e-9))


@given(scores, st.floats(0, 2e6))
def test_p_value_counts_the_calibration_scores_at_or_above_the_score(calibration_scores, score):
    expected = (1 + sum(s >= score for s in calibration_scores)) / (1 + len(calibration_scores))
    assert float(Calibration(calibration_scores, 0.1).p_value(score)) == expected


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_false_alarms_on_new_normal_images_keep_the_chosen_rate(rate):
    """Over many calibrations the mean rate is within [rate − 1/(n+1), rate], up to chance."""
    rng = np.random.default_rng(0)
    n, repeats, new = 199, 400, 500
    alarms = 0
    for _ in range(repeats):
        calibration = Calibration(rng.lognormal(size=n), rate)
        alarms += int(calibration.is_anomaly(rng.lognormal(size=new)).sum())
    total = repeats * new
    # alarms of one calibration are correlated: the spread is that of the calibration draw, Beta(k, n + 1 − k)
    spread = math.sqrt(rate * (1 - rate) / (n + 1) / repeats)
    assert rate - 1 / (n + 1) - 4 * spread <= alarms / total <= rate + 4 * spread


def test_false_alarms_of_a_single_calibration_are_within_the_binomial_band():
    rng = np.random.default_rng(1)
    calibration = Calibration(rng.gamma(2, size=2000), 0.05)
    alarms = int(calibration.is_anomaly(rng.gamma(2, size=400)).sum())
    assert binom.ppf(0.001, 400, 0.05) <= alarms <= binom.ppf(0.999, 400, 0.05)


@given(scores, rates, st.lists(st.floats(0, 1e9), min_size=2, max_size=20))
def test_normalized_score_is_monotone_and_between_0_and_1(calibration_scores, rate, new):
    normalized = Calibration(calibration_scores, rate).normalized_score(np.sort(new))
    assert ((normalized >= 0) & (normalized <= 1)).all()
    assert (np.diff(normalized) >= 0).all()


def test_normalized_score_is_a_tenth_at_the_median_and_a_half_at_the_threshold():
    calibration = Calibration(np.linspace(1, 2, 101), 0.05)
    assert calibration.normalized_score(1.5) == pytest.approx(0.1)
    assert calibration.normalized_score(calibration.threshold) == pytest.approx(0.5)


def test_normalized_score_does_not_depend_on_the_images_scored_with_it():
    calibration = Calibration(np.linspace(1, 2, 101), 0.05)
    alone, among_others = calibration.normalized_score([1.7]), calibration.normalized_score([1.7, 900.0, 0.0])
    assert alone[0] == among_others[0]


@given(rates)
def test_the_number_of_images_needed_is_the_smallest_that_attains_the_rate(rate):
    needed = images_needed(rate)
    assert Calibration(np.arange(needed) + 1.0, rate).enough
    assert 1 / (1 + needed) <= rate * (1 + 1e-6)
    assert needed == 1 or 1 / needed > rate * (1 - 1e-6)


def test_too_few_calibration_images_are_said_with_the_number_needed():
    sentence = Calibration(np.arange(30) + 1.0, 0.01).shortfall()
    assert sentence is not None
    assert "needs 99 calibration images" in sentence
    assert "provide 297 normal images or more" in sentence
    assert "only 30" in sentence
    assert Calibration(np.arange(99) + 1.0, 0.01).shortfall() is None


@pytest.mark.parametrize(
    ("broken", "word"),
    [([1.0, np.nan], "finite"), ([1.0, np.inf], "finite"), ([2.0, 2.0], "same score"), ([], "no")],
)
def test_scores_that_say_nothing_are_refused(broken, word):
    with pytest.raises(TrainingError, match=word):
        Calibration(np.array(broken), 0.1)
