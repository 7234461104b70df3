"""Write predictions, and read them in pages."""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, func, literal_column, or_, select
from sqlalchemy.orm import Session

from ganomaly.errors import UsageError
from ganomaly.store.database import insert_new
from ganomaly.store.schema import RARE, ModelRow, PredictionRow

Order = Literal["newest", "oldest", "worst"]
MAX_LIMIT = 200
"""Predictions on a page at most."""

COUNTED = 1000
"""Counting stops here: counting a million rows takes longer than showing a page of them."""

DISORDER = 1000
"""By so much the numbers of two predictions of the same moment may differ: several servers write at once."""


@dataclass(frozen=True)
class Filter:
    """Which predictions to list.

    Attributes
    ----------
    model_id : int or None
        Of one model.
    is_anomaly : bool or None
        By verdict.
    reviewed : bool or None
        With a review that holds, or without.
    label : str or None
        By the label of that review.
    since, until : datetime or None
        By time: from this one on, before that one.
    max_p_value : float or None
        p-values up to this one.
    disagrees : bool or None
        Whether review and verdict differ.
    in_sample : bool or None
        Whether it was drawn for recalibration.
    name : str or None
        Of one part.
    among : frozenset of int or None
        Of one of these models.
    """

    model_id: int | None = None
    is_anomaly: bool | None = None
    reviewed: bool | None = None
    label: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    max_p_value: float | None = None
    disagrees: bool | None = None
    in_sample: bool | None = None
    name: str | None = None
    among: frozenset[int] | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same in SQL."""
        row = PredictionRow
        equal = {
            row.model_id: self.model_id,
            row.is_anomaly: self.is_anomaly,
            row.label: self.label,
            row.disagrees: self.disagrees,
            row.in_sample: self.in_sample,
            row.name: self.name,
        }
        found = [column == value for column, value in equal.items() if value is not None]
        if self.reviewed is not None:
            found.append(row.label.is_not(None) if self.reviewed else row.label.is_(None))
        if self.since is not None:
            found.append(row.created >= self.since)
        if self.until is not None:
            found.append(row.created < self.until)
        if self.max_p_value is not None:
            found.append(row.p_value <= self.max_p_value)
            if self.max_p_value <= RARE:
                found.append(row.p_value <= literal_column(str(RARE)))  # says that the index of these will do
        return found


@dataclass(frozen=True)
class Page:
    """Some predictions, and where the next page begins.

    Attributes
    ----------
    rows : list of PredictionRow
        In order.
    next_cursor : str or None
        None at the end.
    """

    rows: list[PredictionRow]
    next_cursor: str | None


def add_predictions(session: Session, rows: Sequence[dict[str, Any]]) -> list[PredictionRow]:
    """Insert predictions; where a model has one with the same key, that one stays.

    Parameters
    ----------
    session : Session
        Of `Store.writing`.
    rows : sequence of dict
        Columns of `PredictionRow` without `id`.

    Returns
    -------
    list of PredictionRow
        In the order of `rows`; the one that was there before where a key is known.
    """
    if not rows:
        return []
    insert_new(session, PredictionRow, rows, ["model_id", "key"])
    return find_by_keys(session, [(row["model_id"], row["key"]) for row in rows])


def find_by_keys(session: Session, keys: Sequence[tuple[int, str]]) -> list[PredictionRow]:
    """Predictions by model and key, in the order of the keys.

    Raises
    ------
    KeyError
        If there is none with one of the keys.
    """
    found: dict[tuple[int, str], PredictionRow] = {}
    for model_id in {model_id for model_id, _ in keys}:
        wanted = [key for model, key in keys if model == model_id]
        query = select(PredictionRow).where(PredictionRow.model_id == model_id, PredictionRow.key.in_(wanted))
        found |= {(row.model_id, row.key): row for row in session.scalars(query)}
    return [found[key] for key in keys]


def find_by_key(session: Session, model_id: int, key: str) -> PredictionRow | None:
    """The prediction with this key of this model, None if there is none."""
    query = select(PredictionRow).where(PredictionRow.model_id == model_id, PredictionRow.key == key)
    return session.scalars(query).one_or_none()


def list_predictions(
    session: Session, wanted: Filter, *, order: Order = "newest", limit: int = 50, cursor: str | None = None
) -> Page:
    """One page of predictions.

    Parameters
    ----------
    session : Session
        Of the store.
    wanted : Filter
        Which ones.
    order : {'newest', 'oldest', 'worst'}
        Newest first, oldest first, or highest normalized score first.
    limit : int
        At most so many, up to `MAX_LIMIT`.
    cursor : str, optional
        `next_cursor` of the page before, with the same filter and order.

    Raises
    ------
    UsageError
        If the cursor is not one of this order.
    """
    limit = min(max(limit, 1), MAX_LIMIT)
    row = PredictionRow
    query: Select[PredictionRow] = select(row).limit(limit + 1)
    if cursor is not None:
        query = query.where(_after(order, cursor))
    if order == "worst":
        query = query.order_by(row.normalized_score.desc(), row.id.desc())
    else:
        query = query.order_by(row.id.desc() if order == "newest" else row.id)
    rows: list[PredictionRow] = []
    for conditions in _for_each_model(session, wanted):
        rows += session.scalars(query.where(*conditions))
    rows.sort(
        key=lambda row: (row.normalized_score if order == "worst" else 0, row.id), reverse=order != "oldest"
    )
    next_cursor = cursor_after(order, rows[limit - 1]) if len(rows) > limit else None
    return Page(rows[:limit], next_cursor)


def count_predictions(session: Session, wanted: Filter, most: int = COUNTED) -> int:
    """How many there are, up to `most`."""
    count = 0
    for conditions in _for_each_model(session, wanted):
        some = select(PredictionRow.id).where(*conditions).limit(most - count).subquery()
        count += session.scalar(select(func.count()).select_from(some)) or 0
    return count


def _for_each_model(session: Session, wanted: Filter) -> list[list[ColumnElement[bool]]]:
    """Conditions for one model after the other, because the indexes begin with the model; none if nothing fits."""
    bounds = _numbers_of_time(session, wanted)
    if bounds is None:
        return []
    if wanted.model_id is not None:
        return [wanted.conditions() + bounds]
    models = session.scalars(select(ModelRow.id)) if wanted.among is None else sorted(wanted.among)
    return [replace(wanted, model_id=number).conditions() + bounds for number in models]


def _numbers_of_time(session: Session, wanted: Filter) -> list[ColumnElement[bool]] | None:
    """Between which numbers the predictions of a time are; None if there are none.

    Numbers are given in the order of time but for a few, and every list is in an order of numbers or can be searched
    by them.
    """
    row = PredictionRow
    bounds: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        query = select(row.id).where(row.created >= wanted.since).order_by(row.created)
        first = session.scalar(query.limit(1))
        if first is None:
            return None
        bounds.append(row.id >= first - DISORDER)
    if wanted.until is not None:
        query = select(row.id).where(row.created < wanted.until).order_by(row.created.desc())
        last = session.scalar(query.limit(1))
        if last is None:
            return None
        bounds.append(row.id <= last + DISORDER)
    return bounds


def count_of_version(
    session: Session, model_id: int, version: int, most: int = COUNTED, *, after: int = 0
) -> int:
    """How many predictions a version of a model made after that with a number, up to `most`."""
    row = PredictionRow
    query = select(row.id).where(row.model_id == model_id, row.version == version, row.id > after)
    some = query.limit(most).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def cursor_after(order: Order, row: PredictionRow) -> str:
    """Where a page begins whose first prediction is the one after this."""
    position = [order, row.normalized_score, row.id] if order == "worst" else [order, row.id]
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def _after(order: Order, cursor: str) -> ColumnElement[bool]:
    """Only what comes after the last row of the page before."""
    row = PredictionRow
    try:
        position = json.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
        if position[0] != order:
            raise ValueError
        if order != "worst":
            (number,) = position[1:]
            return row.id < int(number) if order == "newest" else row.id > int(number)
        score, number = float(position[1]), int(position[2])
        return and_(
            row.normalized_score <= score,  # follows from the rest, and tells the index where to begin
            or_(row.normalized_score < score, row.id < number),
        )
    except (ValueError, TypeError, IndexError, KeyError, binascii.Error, OverflowError, RecursionError):
        raise UsageError(
            f"{cursor[:80]!r} is not a cursor of this list; take next_cursor of the page before"
        ) from None
