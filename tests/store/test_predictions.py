"""Predictions: written once, and read in pages."""

import pytest
from sqlalchemy import func, select

from ganomaly.errors import UsageError
from ganomaly.store import Store
from ganomaly.store.predictions import (
    Filter,
    Order,
    add_predictions,
    count_predictions,
    list_predictions,
)
from ganomaly.store.reviews import add_review
from ganomaly.store.schema import PredictionRow
from store.conftest import add, row

ORDERS: tuple[Order, ...] = ("newest", "oldest", "worst")


def test_a_known_key_keeps_its_first_prediction(store: Store) -> None:
    first = add(store, row(1, score=0.5))
    again = add(store, row(2), row(1, score=0.9))
    assert again[1] == first[0]
    with store.reading() as session:
        assert session.get_one(PredictionRow, first[0]).score == 0.5
        assert session.scalar(select(func.count()).select_from(PredictionRow)) == 2


def test_one_key_twice_in_one_group_is_one_row(store: Store) -> None:
    numbers = add(store, row(1, name="a"), row(1, name="b"))
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("order", ORDERS)
def test_pages_list_every_prediction_once_and_in_order(store: Store, order: Order) -> None:
    # many share a score
    add(store, *(row(i, normalized_score=i % 4 / 4) for i in range(53)))
    seen: list[PredictionRow] = []
    cursor = None
    with store.reading() as session:
        while True:
            page = list_predictions(session, Filter(), order=order, limit=10, cursor=cursor)
            seen += page.rows
            cursor = page.next_cursor
            if cursor is None:
                break
    assert len(seen) == len({each.id for each in seen}) == 53
    keys = {
        "newest": [-each.id for each in seen],
        "oldest": [each.id for each in seen],
        "worst": [(-each.normalized_score, -each.id) for each in seen],
    }[order]
    assert keys == sorted(keys)


def test_a_cursor_that_is_none_is_refused_in_a_sentence(store: Store) -> None:
    with store.reading() as session:
        for order in ORDERS:
            for cursor in ("", "x", "bm8", "W10", "é", "W251bGxd", "A" * 400):
                with pytest.raises(UsageError, match="not a cursor"):
                    list_predictions(session, Filter(), order=order, cursor=cursor)


def test_a_cursor_of_another_order_is_refused(store: Store) -> None:
    add(store, *(row(i) for i in range(5)))
    with store.reading() as session:
        cursor = list_predictions(session, Filter(), order="worst", limit=2).next_cursor
        with pytest.raises(UsageError, match="not a cursor"):
            list_predictions(session, Filter(), order="newest", cursor=cursor)


def test_filters_agree_with_the_same_done_by_hand(store: Store) -> None:
    numbers = add(store, *(row(i) for i in range(40)))
    with store.writing() as session:
        add_review(session, numbers[0], "normal", "", "test")
        add_review(session, numbers[1], "scratch", "", "test")
    with store.reading() as session:
        everything = list_predictions(session, Filter(), limit=200).rows
        wanted = {
            Filter(is_anomaly=True): lambda p: p.is_anomaly,
            Filter(reviewed=False): lambda p: p.label is None,
            Filter(reviewed=True): lambda p: p.label is not None,
            Filter(label="scratch"): lambda p: p.label == "scratch",
            Filter(max_p_value=0.3): lambda p: p.p_value <= 0.3,
            Filter(in_sample=True): lambda p: p.in_sample,
            Filter(disagrees=True): lambda p: p.disagrees,
            Filter(name="part 3"): lambda p: p.name == "part 3",
            Filter(since=everything[0].created): lambda p: p.created >= everything[0].created,
            Filter(model_id=2): lambda p: False,
            Filter(among=frozenset()): lambda p: False,
            Filter(among=frozenset({1, 7})): lambda p: True,
            Filter(is_anomaly=True, reviewed=False, in_sample=True): lambda p: (
                p.is_anomaly and p.label is None and p.in_sample
            ),
        }
        for each, by_hand in wanted.items():
            expected = {p.id for p in everything if by_hand(p)}
            assert {p.id for p in list_predictions(session, each, limit=200).rows} == expected
            assert count_predictions(session, each) == len(expected)


def test_counting_stops(store: Store) -> None:
    add(store, *(row(i) for i in range(30)))
    with store.reading() as session:
        assert count_predictions(session, Filter(), most=10) == 10


def test_adding_nothing_is_nothing(store: Store) -> None:
    with store.writing() as session:
        assert add_predictions(session, []) == []
