"""Forget old images, by age and by size, and never those that a person looked at."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from ganomaly.store.database import Store
from ganomaly.store.events import add_event
from ganomaly.store.schema import PredictionRow, ReviewRow

_AT_ONCE = 500
"""Predictions that are forgotten in one transaction, so that others do not wait for long."""


@dataclass(frozen=True)
class Retention:
    """What is kept for how long; None keeps it for ever.

    Attributes
    ----------
    image_days : float or None
        Days for which images and maps without a review are kept.
    image_bytes : int or None
        Bytes that all images may take; the oldest without a review go first.
    prediction_days : float or None
        Days after which a prediction without a review is removed whole, with its image.
    """

    image_days: float | None = None
    image_bytes: int | None = None
    prediction_days: float | None = None


@dataclass(frozen=True)
class Forgotten:
    """What was removed.

    Attributes
    ----------
    images : int
        Predictions whose image and map are gone.
    predictions : int
        Predictions that are gone whole.
    n_bytes : int
        Bytes that this freed.
    """

    images: int
    predictions: int
    n_bytes: int


def forget(store: Store, retention: Retention, *, now: datetime | None = None) -> Forgotten:
    """Remove what is older or more than the retention allows.

    A row is changed before its files are removed, so that a process that is killed leaves a file too many, never a
    row whose image is missing.
    """
    now = now or datetime.now(UTC)
    images = predictions = freed = 0
    if retention.prediction_days is not None:
        before = now - timedelta(days=retention.prediction_days)
        while done := _forget_some(store, before, whole=True):
            predictions, freed = predictions + done[0], freed + done[1]
    if retention.image_days is not None:
        before = now - timedelta(days=retention.image_days)
        while done := _forget_some(store, before, whole=False):
            images, freed = images + done[0], freed + done[1]
    if retention.image_bytes is not None:
        with store.reading() as session:
            total = image_bytes(session)
        while total > retention.image_bytes and (
            done := _forget_some(store, now, whole=False, most=total - retention.image_bytes)
        ):
            images, freed, total = images + done[0], freed + done[1], total - done[2]
    if images or predictions:
        with store.writing() as session:
            add_event(session, "retention", "forget", "images", images=images, predictions=predictions)
    return Forgotten(images, predictions, freed)


def image_bytes(session: Session) -> int:
    """Bytes of all images that are stored, each counted once for each prediction that has it."""
    query = select(func.coalesce(func.sum(PredictionRow.n_bytes), 0)).where(PredictionRow.has_image)
    return int(session.scalar(query) or 0)


def _forget_some(
    store: Store, before: datetime, *, whole: bool, most: int | None = None
) -> tuple[int, int, int] | None:
    """Forget the oldest ones; how many, bytes freed on disk, bytes of their images. None where there are none."""
    row = PredictionRow
    # what the sample still needs is shown to a person first
    conditions = [row.label.is_(None), ~row.in_sample, row.created < before]
    if not whole:
        conditions.append(row.has_image | row.has_map)
    with store.writing() as session:
        found = list(
            session.scalars(
                select(row).where(*conditions).order_by(row.created).limit(_AT_ONCE).with_for_update()
            )
        )
        if most is not None:
            found = _oldest_that_suffice(found, most)
        if not found:
            return None
        numbers = [each.id for each in found]
        if whole:
            session.execute(
                delete(ReviewRow).where(ReviewRow.prediction_id.in_(numbers))
            )  # taken back, all of them
            change: Any = delete(row)
        else:
            change = update(row).values(has_image=False, has_map=False)
        # what was read is to stay as it was: by it the files are removed
        session.execute(
            change.where(row.id.in_(numbers), row.label.is_(None)),
            execution_options={"synchronize_session": False},
        )
    return len(found), _remove_files(store, found), sum(each.n_bytes for each in found if each.has_image)


def _oldest_that_suffice(found: list[PredictionRow], n_bytes: int) -> list[PredictionRow]:
    total = 0
    for number, each in enumerate(found):
        if total >= n_bytes:
            return found[:number]
        total += each.n_bytes if each.has_image else 0
    return found


def _remove_files(store: Store, forgotten: list[PredictionRow]) -> int:
    """Remove the files of predictions, unless another prediction has the same image."""
    freed = 0
    row = PredictionRow
    digests = {each.digest for each in forgotten}
    with store.reading() as session:
        query = select(row.digest, row.model_id, row.version, row.has_image, row.has_map)
        others = session.execute(query.where(row.digest.in_(digests), row.has_image | row.has_map)).all()
    images = {digest for digest, _, _, has_image, _ in others if has_image}
    maps = {(digest, model, version) for digest, model, version, _, has_map in others if has_map}
    for each in forgotten:
        if each.has_image and each.digest not in images:
            freed += store.files.remove(store.files.image(each.digest, each.media_type))
        if each.has_map and (each.digest, each.model_id, each.version) not in maps:
            freed += store.files.remove(store.files.anomaly_map(each.model_id, each.version, each.digest))
    return freed
