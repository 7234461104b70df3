"""Reviews: what holds, what was taken back, and who said it."""

import pytest

from ganomaly.errors import UsageError
from ganomaly.store import Store
from ganomaly.store.events import latest_events
from ganomaly.store.reviews import (
    UnknownPredictionError,
    add_review,
    checked_label,
    get_prediction,
    labels_of,
    reviews_of,
    undo_review,
)
from store.conftest import add, row


def test_the_last_review_holds_and_undo_brings_the_one_before_back(store: Store) -> None:
    (number,) = add(store, row(1, is_anomaly=True))
    states = []
    with store.writing() as session:
        for change in (
            lambda: add_review(session, number, "normal", "clean", "ann"),
            lambda: add_review(session, number, "scratch", "", "bob"),
            lambda: undo_review(session, number, "ann"),
            lambda: undo_review(session, number, "bob"),
        ):
            prediction = change()
            session.flush()
            states.append((prediction.label, prediction.disagrees))
    assert states == [("normal", True), ("scratch", False), ("normal", True), (None, False)]
    with store.reading() as session:
        reviews = reviews_of(session, number)
        assert [(each.label, each.reviewer, each.undone_by) for each in reviews] == [
            ("normal", "ann", "bob"),
            ("scratch", "bob", "ann"),
        ]
        actions = [
            event.action for event in latest_events(session) if event.subject == f"prediction {number}"
        ]
        assert actions == ["undo", "undo", "review", "review"]


def test_an_unsure_review_is_no_disagreement(store: Store) -> None:
    numbers = add(store, row(1, is_anomaly=True), row(2, is_anomaly=False))
    with store.writing() as session:
        assert not any(add_review(session, number, "unsure", "", "ann").disagrees for number in numbers)


def test_nothing_to_undo_is_a_sentence(store: Store) -> None:
    (number,) = add(store, row(1))
    with store.writing() as session, pytest.raises(UsageError, match="no review to take back"):
        undo_review(session, number, "ann")


@pytest.mark.parametrize(
    "label", ["", "  ", "good", "OK", "a" * 65, "../up", "a/b", ".hidden", "a\nb", "<b>", "a\0"]
)
def test_a_label_is_one_that_a_folder_can_have(label: str) -> None:
    with pytest.raises(UsageError, match="label"):
        checked_label(label)


def test_an_unknown_prediction_is_a_sentence(store: Store) -> None:
    with store.reading() as session:
        for number in (0, -1, 99, 2**63, 2**70):
            with pytest.raises(UnknownPredictionError, match="no prediction"):
                get_prediction(session, number)


def test_kinds_keep_the_order_in_which_they_were_first_named(store: Store) -> None:
    numbers = add(store, *(row(i) for i in range(6)))
    with store.writing() as session:
        for number, label in zip(
            numbers, ["dent", "scratch", "scratch", "normal", "normal", "unsure"], strict=True
        ):
            add_review(session, number, label, "", "ann")
        session.flush()
        assert labels_of(session, 1) == ["dent", "scratch"]
