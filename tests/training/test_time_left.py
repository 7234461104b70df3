"""The time that is left counts what follows the steps, once it was measured."""

import pytest

from ganomaly.training import time_left
from ganomaly.training.time_left import TimeLeft


def test_what_follows_is_measured_once_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 2))  # a step takes 2 s
    monkeypatch.setattr(time_left.time, "perf_counter", lambda: next(clock))
    measured = []
    left = TimeLeft(0, 40, lambda: measured.append(1) or 30.0)
    assert [left.after(step) for step in range(1, 5)] == [78.0, 76.0 + 30, 74.0 + 30, 72.0 + 30]
    assert len(measured) == 1


def test_a_short_training_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(number / 10 for number in range(1000))
    monkeypatch.setattr(time_left.time, "perf_counter", lambda: next(clock))
    left = TimeLeft(0, 40, lambda: pytest.fail("measured"))
    assert left.after(1) == pytest.approx(3.9)
    assert left.after(20) > 0


def test_a_training_that_goes_on_has_the_pace_of_its_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(time_left.time, "perf_counter", lambda: next(clock))
    left = TimeLeft(30, 40, lambda: 0.0)
    assert [left.after(31), left.after(32)] == [9.0, 8.0]
