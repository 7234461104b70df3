"""Drift of a station: read from the store, explained by reviews, and the same after a restart."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from databases import postgresql, store_url
from ganomaly.calibration import Calibration
from ganomaly.service.drift_watch import MAX_POINTS, watch_drift
from ganomaly.store import Store, open_store
from ganomaly.store.events import latest_events
from ganomaly.store.outbox import count_waiting
from ganomaly.store.reviews import add_review, undo_review
from ganomaly.store.schema import DriftRow
from ganomaly.store.versions import NewVersion, add_version, register_model
from store.conftest import add, row

__all__ = ["postgresql", "store_url"]

URLS = ("http://127.0.0.1:9/",)
GENERATOR = np.random.default_rng(5)
NORMAL = GENERATOR.gamma(9, size=600)
SHIFTED = GENERATOR.gamma(9, size=200) * 1.5


@pytest.fixture
def store(store_url: str, tmp_path: Path):
    opened = open_store(store_url, tmp_path / "files")
    with opened.writing() as session:
        calibration = Calibration(GENERATOR.gamma(9, size=200), 0.05)
        add_version(
            session, register_model(session, "parts"), NewVersion("0.onnx", calibration, "file", "test")
        )
    yield opened
    opened.close()


def predict(store: Store, scores, start: int = 0, minutes_ago: float = 10) -> list[int]:
    made = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    return add(store, *(row(start + i, score=float(score), created=made) for i, score in enumerate(scores)))


def watch(store: Store) -> DriftRow:
    return watch_drift(store, 1, 1, alpha=0.01, webhooks=URLS)


def test_a_stream_that_has_not_changed_does_not_alarm_and_one_that_has_does(store: Store) -> None:
    predict(store, NORMAL)
    assert watch(store).alarm is None
    numbers = predict(store, SHIFTED, start=1000)
    found = watch(store)
    assert found.alarm is not None
    assert found.alarm_prediction in numbers
    assert found.alarm_cause == "higher"
    with store.reading() as session:
        assert [event.action for event in latest_events(session)].count("drift alarm") == 1
        assert count_waiting(session) == 1
    watch(store)
    with store.reading() as session:
        assert count_waiting(session) == 1


def test_reading_some_at_a_time_is_reading_all_at_once(store: Store) -> None:
    for start in range(0, 600, 37):
        predict(store, NORMAL[start : start + 37], start=start)
        watch(store)
    some = watch(store)
    with store.writing() as session:
        session.delete(session.get_one(DriftRow, (1, 1)))
    once = watch(store)
    assert once.last_prediction == some.last_prediction
    assert once.state == some.state
    assert max(len(some.points), len(once.points)) <= MAX_POINTS
    assert some.points[-1] == once.points[-1]


def test_anomalies_that_reviews_explain_are_no_drift(store: Store) -> None:
    scores = NORMAL[:400].copy()
    odd = np.arange(100, 400, 4)
    scores[odd] = 60 + GENERATOR.gamma(9, size=len(odd))  # a quarter of the parts is broken
    numbers = predict(store, scores)
    assert watch(store).alarm is not None
    with store.writing() as session:
        for position in odd:
            add_review(session, numbers[position], "broken", "", "ann")
    explained = watch(store)
    assert explained.alarm is None
    with store.reading() as session:
        assert latest_events(session)[0].action == "drift explained by reviews"
    with store.writing() as session:
        for position in odd:
            undo_review(session, numbers[position], "ann")
    assert watch(store).alarm is not None


def test_the_newest_predictions_wait_for_those_that_another_server_writes(store: Store) -> None:
    predict(store, NORMAL[:10], minutes_ago=0)
    assert watch(store).last_prediction == 0


def test_a_review_waits_where_reading_anew_is_too_much_now(store: Store) -> None:
    scores = NORMAL[:200].copy()
    scores[100:] += 30
    numbers = predict(store, scores)
    assert watch(store).alarm is not None
    with store.writing() as session:
        for number in numbers[100:]:
            add_review(session, number, "broken", "", "ann")
    predict(store, NORMAL[200:230], start=500)
    waiting = watch_drift(store, 1, 1, alpha=0.01, may_rebuild=False)
    assert waiting.alarm is not None
    assert waiting.last_prediction > numbers[-1]
    assert watch(store).alarm is None


def test_a_review_as_normal_changes_nothing_that_is_remembered(store: Store) -> None:
    numbers = predict(store, NORMAL[:50])
    before = watch(store)
    with store.writing() as session:
        add_review(session, numbers[3], "normal", "", "ann")
    assert watch(store).changed == before.changed
