"""What the drift monitors of a station remember, and what they have not read yet."""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from ganomaly.store.reviews import is_anomalous
from ganomaly.store.schema import NORMAL, REVIEW_ACTIONS, UNSURE, DriftRow, EventRow, PredictionRow

_AT_ONCE = 50_000


def drift_row(session: Session, model_id: int, version: int) -> DriftRow | None:
    """What is remembered of a version, None if nothing is yet."""
    return session.get(DriftRow, (model_id, version))


def scores_after(
    session: Session, model_id: int, version: int, after: int, before: datetime
) -> Iterator[list[tuple[int, float, bool]]]:
    """Predictions of a version in their order, some at a time: number, score, whether reviewed as anomalous.

    Parameters
    ----------
    session : Session
        Of the store.
    model_id, version : int
        Whose.
    after : int
        Only predictions with a greater number.
    before : datetime
        Only those from before: another server may still be writing one with a smaller number.
    """
    row = PredictionRow
    while True:
        query = (
            select(row.id, row.score, _is_reviewed_anomalous())
            .where(row.model_id == model_id, row.version == version, row.id > after, row.created < before)
            .order_by(row.id)
            .limit(_AT_ONCE)
        )
        some = [(number, score, bool(anomalous)) for number, score, anomalous in session.execute(query)]
        if not some:
            return
        yield some
        after = some[-1][0]


def last_review_event(session: Session) -> int:
    """Number of the last event that wrote a review, or took one back."""
    query = select(func.max(EventRow.id)).where(EventRow.action.in_(REVIEW_ACTIONS))
    return session.scalar(query) or 0


def past_has_changed(session: Session, event: int, up_to: int, model_id: int, version: int) -> bool:
    """Whether a review after an event made a prediction up to a number anomalous, or took that back."""
    row = EventRow
    events = session.execute(
        select(row.subject, row.details).where(row.id > event, row.action.in_(REVIEW_ACTIONS))
    )
    numbers = {
        int(subject.rpartition(" ")[2])
        for subject, details in events
        if is_anomalous(details.get("label")) != is_anomalous(details.get("before"))
    }
    prediction = PredictionRow
    query = select(prediction.id).where(
        prediction.id.in_(number for number in numbers if number <= up_to),
        prediction.model_id == model_id,
        prediction.version == version,
    )
    return session.scalar(query.limit(1)) is not None


def _is_reviewed_anomalous() -> ColumnElement[bool]:
    label = PredictionRow.label
    return label.is_not(None) & label.not_in([NORMAL, UNSURE])
