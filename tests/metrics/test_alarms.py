"""How likely chance alone gives as many false alarms."""

from math import prod

import numpy as np
import pytest

from ganomaly.metrics import chance_of_alarms


def test_five_of_25_above_the_largest_of_20_is_the_product_of_five_draws():
    # the five largest of 45 exchangeable scores are all of the 25
    expected = prod((25 - i) / (45 - i) for i in range(5))
    assert chance_of_alarms(5, 25, 0, 20) == pytest.approx(expected)


def test_it_is_the_share_of_exchangeable_draws_with_as_many():
    random = np.random.default_rng(0)
    scores = random.random((20_000, 60))
    calibration, test = scores[:, :40], scores[:, 40:]
    threshold = np.sort(calibration, axis=1)[:, -3]  # two are above it
    share = ((test > threshold[:, None]).sum(axis=1) >= 4).mean()
    assert chance_of_alarms(4, 20, 2, 40) == pytest.approx(share, abs=0.01)


def test_no_alarm_is_certain_to_be_reached():
    assert chance_of_alarms(0, 10, 0, 5) == 1.0
