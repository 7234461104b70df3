"""What is forgotten, and what never is."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from ganomaly.store import Store
from ganomaly.store.retention import Retention, forget
from ganomaly.store.reviews import add_review, undo_review
from ganomaly.store.schema import PredictionRow
from store.conftest import add, row

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def with_image(store: Store, number: int, days_ago: float, content: bytes | None = None) -> dict:
    """A prediction of an image of 1,000 bytes that is stored."""
    made = row(
        number,
        created=NOW - timedelta(days=days_ago),
        has_image=True,
        has_map=True,
        n_bytes=1000,
        in_sample=False,
        **({} if content is None else {"digest": content.hex().zfill(64)}),
    )
    store.files.write(store.files.image(made["digest"], "image/png"), b"x" * 1000)
    store.files.write(store.files.anomaly_map(1, 1, made["digest"]), b"y" * 100)
    return made


def rows(store: Store) -> dict[int, PredictionRow]:
    with store.reading() as session:
        return {each.id: each for each in session.scalars(select(PredictionRow))}


def is_stored(store: Store, each: PredictionRow) -> bool:
    return store.files.image(each.digest, each.media_type).exists()


def test_old_images_go_and_their_rows_stay(store: Store) -> None:
    old, new = add(store, with_image(store, 1, 40), with_image(store, 2, 3))
    done = forget(store, Retention(image_days=30), now=NOW)
    assert (done.images, done.predictions, done.n_bytes) == (1, 0, 1100)
    found = rows(store)
    assert not found[old].has_image
    assert not found[old].has_map
    assert not is_stored(store, found[old])
    assert found[new].has_image
    assert is_stored(store, found[new])


def test_reviewed_images_are_never_forgotten(store: Store) -> None:
    numbers = add(store, *(with_image(store, i, 400) for i in range(3)))
    with store.writing() as session:
        add_review(session, numbers[1], "normal", "", "ann")
    forget(store, Retention(image_days=1, image_bytes=0, prediction_days=1), now=NOW)
    found = rows(store)
    assert list(found) == [numbers[1]]
    assert found[numbers[1]].has_image
    assert is_stored(store, found[numbers[1]])


def test_the_oldest_go_first_where_space_is_short(store: Store) -> None:
    numbers = add(store, *(with_image(store, i, 10 - i) for i in range(5)))
    done = forget(store, Retention(image_bytes=2500), now=NOW)
    assert done.images == 3
    assert [number for number, each in rows(store).items() if each.has_image] == numbers[3:]


def test_an_image_that_another_prediction_shares_stays(store: Store) -> None:
    old, new = add(store, with_image(store, 1, 40, b"same"), with_image(store, 2, 3, b"same"))
    forget(store, Retention(image_days=30), now=NOW)
    found = rows(store)
    assert not found[old].has_image
    assert is_stored(store, found[new])


def test_a_prediction_whose_reviews_were_taken_back_is_forgotten_whole(store: Store) -> None:
    (number,) = add(store, with_image(store, 1, 400))
    with store.writing() as session:
        add_review(session, number, "normal", "", "ann")
        session.flush()
        undo_review(session, number, "ann")
    assert forget(store, Retention(prediction_days=30), now=NOW).predictions == 1
    assert rows(store) == {}


def test_the_sample_waits_for_its_review(store: Store) -> None:
    (number,) = add(store, {**with_image(store, 1, 400), "in_sample": True})
    forget(store, Retention(image_days=1, image_bytes=0), now=NOW)
    assert rows(store)[number].has_image


def test_without_limits_nothing_is_forgotten(store: Store) -> None:
    add(store, with_image(store, 1, 4000))
    assert forget(store, Retention(), now=NOW).images == 0
