"""What people say of predictions: written, and taken back."""

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from ganomaly.errors import UsageError
from ganomaly.store.events import add_event
from ganomaly.store.schema import MAX_LABEL, MAX_NOTE, NORMAL, UNSURE, PredictionRow, ReviewRow


class UnknownPredictionError(UsageError):
    """There is no prediction with this number."""


def get_prediction(session: Session, prediction_id: int, *, lock: bool = False) -> PredictionRow:
    """A prediction by its number.

    Raises
    ------
    UnknownPredictionError
        If there is none.
    """
    row = None
    if 0 < prediction_id < 2**63:
        row = session.get(PredictionRow, prediction_id, with_for_update=lock)
    if row is None:
        raise UnknownPredictionError(f"there is no prediction {prediction_id}")
    return row


def add_review(session: Session, prediction_id: int, label: str, note: str, reviewer: str) -> PredictionRow:
    """Write a review, which replaces the one that held before.

    Parameters
    ----------
    session : Session
        Of `Store.writing`.
    prediction_id : int
        Of the prediction.
    label : str
        "normal", "unsure", or a kind of defect.
    note : str
        Whatever the reviewer wants to add.
    reviewer : str
        Who says it.

    Raises
    ------
    UnknownPredictionError
        If there is no such prediction.
    UsageError
        If the label is empty, too long, or cannot be the name of a folder.
    """
    label, note = checked_label(label), note.strip()[:MAX_NOTE]
    prediction = get_prediction(session, prediction_id, lock=True)
    session.add(
        ReviewRow(
            prediction_id=prediction.id, label=label, note=note, reviewer=reviewer, created=datetime.now(UTC)
        )
    )
    before = prediction.label
    _apply(prediction, label)
    add_event(session, reviewer, "review", f"prediction {prediction.id}", label=label, before=before)
    return prediction


def undo_review(session: Session, prediction_id: int, reviewer: str) -> PredictionRow:
    """Take the review that holds back; the one before it holds again.

    Raises
    ------
    UnknownPredictionError
        If there is no such prediction.
    UsageError
        If it has no review.
    """
    prediction = get_prediction(session, prediction_id, lock=True)
    held = [review for review in reviews_of(session, prediction_id) if review.undone is None]
    if not held:
        raise UsageError(f"prediction {prediction_id} has no review to take back")
    held[-1].undone, held[-1].undone_by = datetime.now(UTC), reviewer
    label = held[-2].label if len(held) > 1 else None
    _apply(prediction, label)
    add_event(session, reviewer, "undo", f"prediction {prediction.id}", label=label, before=held[-1].label)
    return prediction


def reviews_of(session: Session, prediction_id: int) -> list[ReviewRow]:
    """All reviews of a prediction, oldest first, with those that were taken back."""
    query = select(ReviewRow).where(ReviewRow.prediction_id == prediction_id).order_by(ReviewRow.id)
    return list(session.scalars(query))


def labels_of(session: Session, model_id: int, most: int = 30) -> list[str]:
    """Kinds of defects that reviews of a model name, in the order in which they were first named."""
    row = PredictionRow
    named = select(row.label).where(
        row.model_id == model_id, row.label.is_not(None), row.label.not_in([NORMAL, UNSURE])
    )
    known = set(session.scalars(named.distinct()))
    first = select(ReviewRow.label).group_by(ReviewRow.label).order_by(func.min(ReviewRow.id))
    return [label for label in session.scalars(first) if label in known][:most]


def checked_label(label: str) -> str:
    """A label without spaces around it.

    Raises
    ------
    UsageError
        If it is empty or too long, or has characters that cannot be in the name of a folder: reviewed images are
        written to one for each label.
    """
    label = label.strip()
    if label.casefold() in (NORMAL, UNSURE):
        return label.casefold()
    if label.casefold() in ("good", "ok"):  # a folder of normal images in MVTec AD layout
        raise UsageError(f"the label {label!r} is no kind of defect; an image without one is {NORMAL!r}")
    if not label or len(label) > MAX_LABEL:
        raise UsageError(f"a label has 1 to {MAX_LABEL} characters: normal, unsure, or the kind of defect")
    if label.startswith(".") or not all(letter.isalnum() or letter in " _-." for letter in label):
        raise UsageError("a label has letters, digits, spaces, dots, - and _ only, and no dot in front")
    return label


def is_decided() -> ColumnElement[bool]:
    """Whether the review of a prediction says that its image is normal or anomalous, in SQL."""
    label = PredictionRow.label
    return label.is_not(None) & (label != UNSURE)


def is_anomalous(label: str | None) -> bool:
    """Whether a label says that an image is anomalous."""
    return label not in (None, NORMAL, UNSURE)


def _apply(prediction: PredictionRow, label: str | None) -> None:
    prediction.label = label
    is_known = label is not None and label != UNSURE
    prediction.disagrees = is_known and prediction.is_anomaly != (label != NORMAL)
