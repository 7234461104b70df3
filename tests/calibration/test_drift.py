"""Stations without drift hardly ever alarm, others do; restarts, ties and reviews change nothing they should not."""

import json
import math

import numpy as np
import pytest
from crepes.martingales import SimpleJumper, semi_online_p_values
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, kstest

from ganomaly.calibration import ROUNDING, Calibration, DriftMonitor
from ganomaly.calibration.betting import (
    ACCOUNTS,
    AWAKE_AT_START,
    EXTREME_RATE,
    EXTREME_SHARE,
    JUMP_RATES,
    TOLERATED_SHARE,
    Capital,
    asleep,
    betting_factors,
)
from ganomaly.calibration.online_p_values import ScoreCounts, score_keys
from ganomaly.errors import UsageError

any_score = st.floats(0, 3.4e38)


def stream(seed: int, n: int = 1000) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(size=n)


def online_p_values(scores: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    return ScoreCounts().p_values(score_keys(scores), uniforms)


# p-values


@given(any_score, any_score)
def test_rounded_scores_keep_their_order(first, second):
    low, high = sorted([first, second])
    assert score_keys(low) <= score_keys(high)
    if high > low * 1.001 + 1e-37:
        assert score_keys(low) < score_keys(high)


@pytest.mark.parametrize("distinct", [7, 100_000])
def test_p_values_are_those_of_crepes(distinct):
    scores = np.random.default_rng(0).integers(1, distinct, size=1000) * 1.0
    rounded = score_keys(scores)
    expected = semi_online_p_values(rounded, seed=3)
    uniforms = np.random.RandomState(3).rand(1000)
    np.testing.assert_allclose(online_p_values(scores, uniforms), expected, rtol=1e-12)


def test_p_values_do_not_depend_on_how_many_scores_come_at_once():
    scores, uniforms = stream(0), np.random.default_rng(1).random(1000)
    counts, one_by_one = ScoreCounts(), []
    for score, uniform in zip(score_keys(scores), uniforms, strict=True):
        one_by_one.append(counts.p_values(np.array([score]), np.array([uniform]))[0])
    assert one_by_one == online_p_values(scores, uniforms).tolist()


@pytest.mark.parametrize("kind", ["continuous", "heavy tails", "three values", "all equal"])
def test_p_values_of_exchangeable_scores_are_independent_and_uniform(kind):
    rng = np.random.default_rng(4)
    scores = {
        "continuous": rng.gamma(2, size=20_000),
        "heavy tails": np.exp(10 * rng.standard_cauchy(size=20_000).clip(-8, 8)),
        "three values": rng.integers(0, 3, size=20_000) * 1.0,
        "all equal": np.ones(20_000),
    }[kind]
    p_values = online_p_values(scores, rng.random(20_000))
    assert kstest(p_values, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(p_values[:-1], p_values[1:])[0, 1]) < 4 / math.sqrt(20_000)


# bets


def test_no_bet_gains_on_uniform_p_values():
    p = (np.arange(1_000_000) + 0.5) / 1_000_000
    assert (betting_factors(p).mean(axis=0) <= 1 + 1e-9).all()


def test_no_bet_gains_on_as_many_extreme_scores_as_are_tolerated():
    uniform = (np.arange(100_000) + 0.5) / 100_000
    others = betting_factors(EXTREME_SHARE + (1 - EXTREME_SHARE) * uniform).mean(axis=0)
    for rate in (0, EXTREME_SHARE, EXTREME_SHARE + TOLERATED_SHARE * (1 - EXTREME_SHARE)):
        mean = rate * betting_factors(np.zeros(1))[0] + (1 - rate) * others
        assert (mean <= 1 + 1e-9).all()
    assert (betting_factors(np.linspace(0, 1, 1000)) >= 0).all()


class Bets:
    """Our bets in the form that crepes takes."""

    def apply(self, p_values):
        return betting_factors(p_values)


def test_capital_is_that_of_simple_jumpers_of_crepes_which_wake_up_one_after_the_other():
    p_values = np.random.default_rng(5).beta(0.7, 1, size=150)
    sleeping = asleep(np.arange(151))
    expected = sleeping[1:].copy()
    for rate in JUMP_RATES:
        for start, share in enumerate([AWAKE_AT_START, *-np.diff(sleeping)[:-1]]):
            jumper = SimpleJumper(rate, Bets()).apply(p_values[start:])
            expected[start:] += share / len(JUMP_RATES) * jumper
    expected += sleeping[:-1] - sleeping[1:]  # woke up after the last p-value, has not bet yet
    np.testing.assert_allclose(Capital().bet(p_values), np.log(expected), rtol=1e-9)


def test_capital_neither_overflows_nor_loses_its_digits():
    capital = Capital()
    logs = capital.bet(np.full(5000, 1e-9))
    highest = max(account.rate for account in ACCOUNTS) / EXTREME_RATE
    assert np.isfinite(logs).all()
    assert logs[-1] == pytest.approx(5000 * math.log(highest), rel=0.01)


# the monitor


@pytest.mark.parametrize("n_calibration", [5, 50])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_at_most_a_share_alpha_of_undisturbed_stations_ever_alarms(n_calibration, alpha):
    stations, images = 300, 600
    alarms = 0
    for seed in range(stations):
        scores = np.round(np.random.default_rng(seed).standard_t(2, size=n_calibration + images) ** 2, 1)
        monitor = DriftMonitor(scores[:n_calibration], alpha, seed)
        monitor.update(scores[n_calibration:])
        alarms += monitor.alarmed
    assert alarms <= binom.ppf(0.999, stations, alpha)


@pytest.mark.parametrize(
    ("change", "causes"),
    [
        (lambda scores: scores * 3, {"higher", "extremes"}),
        (lambda scores: scores / 3, {"lower"}),
        (lambda scores: scores**2.5, {"shape"}),
        (lambda scores: np.full_like(scores, 1.02), {"shape"}),
        (lambda scores: np.where(np.arange(len(scores)) % 4 == 0, 100, scores), {"extremes", "higher"}),
    ],
    ids=["higher", "lower", "spread", "frozen camera", "every fourth"],
)
def test_a_change_alarms_and_the_cause_is_named(change, causes):
    scores = stream(6, 1700)
    monitor = DriftMonitor(scores[:200])
    monitor.update(scores[200:1200])
    assert not monitor.alarmed
    monitor.update(change(scores[1200:]))
    assert monitor.alarm_cause in causes
    assert 1000 <= monitor.alarm_at < 1400


def test_the_alarm_is_where_the_martingale_first_reaches_one_in_alpha_and_stays():
    scores = np.concatenate([stream(7, 500), stream(8, 5000) * 4])
    monitor = DriftMonitor(scores[:200], 0.05)
    values = np.concatenate([monitor.update(part) for part in np.array_split(scores[200:], 13)])
    assert monitor.alarm_at == int(np.argmax(values >= math.log(20)))
    assert monitor.martingale == pytest.approx(math.exp(values[-1]))
    assert monitor.log_martingale == values[-1]


def test_one_by_one_or_at_once_and_interrupted_at_any_image_the_values_are_the_same():
    scores = np.concatenate([stream(9, 700), stream(10, 300) * 2])
    at_once = DriftMonitor(scores[:100], 0.05, seed=3)
    expected = at_once.update(scores[100:])
    monitor, values = DriftMonitor(scores[:100], 0.05, seed=3), []
    for part in np.split(scores[100:], [1, 2, 250, 251, 600, 601, 800]):
        values.extend(monitor.update(part))
        monitor = DriftMonitor.from_dict(json.loads(json.dumps(monitor.to_dict())))
    assert values == expected.tolist()
    assert monitor.to_dict() == at_once.to_dict()
    assert monitor.alarmed


def test_the_order_of_the_calibration_scores_does_not_matter():
    scores = stream(11)
    monitors = [DriftMonitor(scores[:200]), DriftMonitor(np.sort(scores[:200])[::-1])]
    first, second = (monitor.update(scores[200:]) for monitor in monitors)
    assert first.tolist() == second.tolist()


def test_seeds_order_equal_scores_differently():
    ties = np.round(stream(12))
    values = {DriftMonitor(ties[:200], seed=seed).update(ties[200:])[-1] for seed in (0, 1, 0)}
    assert len(values) == 2


def test_anomalies_that_were_reviewed_do_not_count():
    rng = np.random.default_rng(13)
    scores = stream(14, 2000)
    anomalous = rng.random(1800) < 0.2
    with_anomalies = np.where(anomalous, 50 + scores[200:], scores[200:])
    unreviewed, reviewed = DriftMonitor(scores[:200]), DriftMonitor(scores[:200])
    unreviewed.update(with_anomalies)
    values = reviewed.update(with_anomalies, left_out=anomalous)
    assert unreviewed.alarmed
    assert not reviewed.alarmed
    assert reviewed.images == 1800
    first = int(np.argmax(anomalous))
    assert values[first] == values[first - 1]


def test_a_review_changes_nothing_before_its_image():
    scores = stream(15)
    left_out = np.zeros(800, dtype=bool)
    left_out[500] = True
    before, after = (DriftMonitor(scores[:200]).update(scores[200:], mask) for mask in (None, left_out))
    assert before[:500].tolist() == after[:500].tolist()
    assert before[500:].tolist() != after[500:].tolist()


def test_a_few_anomalies_that_nobody_reviewed_are_not_drift():
    """Condition 2 of the module: within the tolerated share the alarm keeps its rate."""
    alarms, stations = 0, 200
    for seed in range(stations):
        rng = np.random.default_rng(seed)
        scores = rng.lognormal(size=1100)
        scores[100:][rng.random(1000) < 0.02] += 1e6
        monitor = DriftMonitor(scores[:100], 0.1, seed)
        monitor.update(scores[100:])
        alarms += monitor.alarmed
    assert alarms <= binom.ppf(0.999, stations, 0.1)


def test_scores_that_are_not_numbers_are_left_out():
    scores = stream(16)
    broken = scores[200:].copy()
    broken[[0, 300, 799]] = [math.nan, math.inf, math.nan]
    left_out = ~np.isfinite(broken)
    first = DriftMonitor(scores[:200]).update(broken)
    second = DriftMonitor(scores[:200]).update(scores[200:], left_out)
    assert first.tolist() == second.tolist()


def test_restart_forgets_the_bets_and_keeps_the_reference():
    scores = np.concatenate([stream(17, 300), stream(18, 300) * 5])
    monitor = DriftMonitor(scores[:200])
    monitor.update(scores[200:])
    assert monitor.alarmed
    monitor.restart()
    assert not monitor.alarmed
    assert monitor.martingale == 1
    assert monitor.images == 400
    monitor.update(np.random.default_rng(19).permutation(scores))
    assert not monitor.alarmed


def test_a_monitor_of_a_calibration_takes_the_margin_of_its_scores_off():
    scores = stream(20)
    calibration = Calibration(scores[:200] * (1 + ROUNDING), 0.01)
    first = DriftMonitor.from_calibration(calibration).update(scores[200:])
    assert first.tolist() == DriftMonitor(scores[:200]).update(scores[200:]).tolist()


def test_an_empty_update_changes_nothing():
    monitor = DriftMonitor(stream(21))
    state = monitor.to_dict()
    assert monitor.update([]).tolist() == []
    assert monitor.to_dict() == state


def test_memory_does_not_grow_with_the_stream():
    monitor = DriftMonitor(stream(22) ** 0.2)
    monitor.update(stream(23, 50_000) ** 0.2)
    size = len(json.dumps(monitor.to_dict()))
    monitor.update(stream(24, 50_000) ** 0.2)
    assert len(json.dumps(monitor.to_dict())) < 1.2 * size < 200_000


@pytest.mark.parametrize(
    ("scores", "alpha", "word"),
    [
        ([], 0.01, "calibrate"),
        ([1.0, math.nan], 0.01, "finite"),
        ([-1.0], 0.01, "≥ 0"),
        ([1.0], 1.0, "alpha"),
    ],
)
def test_what_cannot_be_monitored_is_refused_in_a_sentence(scores, alpha, word):
    with pytest.raises(UsageError, match=word):
        DriftMonitor(scores, alpha)


def test_a_state_of_another_version_is_refused():
    state = DriftMonitor([1.0, 2.0]).to_dict()
    with pytest.raises(UsageError, match="stored scores"):
        DriftMonitor.from_dict(state | {"version": 0})
