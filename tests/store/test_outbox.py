"""The outbox: at least once, in order for each model and URL."""

from datetime import UTC, datetime, timedelta

from ganomaly.store import Store
from ganomaly.store.outbox import REMEMBERED, add_to_outbox, count_waiting, due_events, forget_delivered
from ganomaly.store.schema import OutboxRow

URLS = ("http://a/", "http://b/")


def test_an_event_is_there_once_for_each_url(store: Store) -> None:
    with store.writing() as session:
        for _ in range(2):
            add_to_outbox(session, URLS, "parts", "anomaly 1", {"n": 1})
        assert count_waiting(session) == 2
        add_to_outbox(session, [], "parts", "anomaly 2", {})
        assert count_waiting(session) == 2


def test_a_later_event_waits_for_the_one_before_it(store: Store) -> None:
    now = datetime.now(UTC) + timedelta(seconds=1)
    with store.writing() as session:
        for number in range(3):
            add_to_outbox(session, URLS[:1], "parts", f"anomaly {number}", {"n": number})
        add_to_outbox(session, URLS[:1], "bolts", "anomaly 9", {"n": 9})
    with store.writing() as session:
        due = due_events(session, now)
        assert [each.payload["n"] for each in due] == [0, 9]
        due[0].next_attempt = now + timedelta(hours=1)  # it failed
        due[1].delivered = now
        session.flush()
        assert due_events(session, now) == []
        due[0].delivered = now
        session.flush()
        assert [each.payload["n"] for each in due_events(session, now)] == [1]


def test_a_delivered_event_is_remembered_for_a_time_and_one_that_waits_for_ever(store: Store) -> None:
    now = datetime.now(UTC)
    with store.writing() as session:
        for number in range(3):
            add_to_outbox(session, URLS[:1], f"model {number}", f"anomaly {number}", {"n": number})
        long_ago, lately, _ = due_events(session, now + timedelta(seconds=1))
        long_ago.delivered = now - REMEMBERED - timedelta(seconds=1)
        lately.delivered = now - REMEMBERED + timedelta(minutes=1)
        session.flush()
        forget_delivered(session, now)
        assert [row.key for row in session.query(OutboxRow).order_by(OutboxRow.id)] == [
            "anomaly 1",
            "anomaly 2",
        ]
