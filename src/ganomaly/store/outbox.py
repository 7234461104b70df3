"""Events that wait to be sent to webhooks: written with what they tell of, so that none is lost."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from ganomaly.store.database import insert_new
from ganomaly.store.schema import OutboxRow

REMEMBERED = timedelta(days=30)
"""So long a delivered event is remembered, so that what tells of it again does not send it again."""


def add_to_outbox(
    session: Session, urls: Iterable[str], model: str, key: str, payload: dict[str, Any]
) -> None:
    """Let an event be sent to each URL; an event that waits or was sent already stays as it is.

    Parameters
    ----------
    session : Session
        Of `Store.writing`; the event is committed with what it tells of.
    urls : iterable of str
        Of the webhooks.
    model : str
        Name of the model.
    key : str
        Tells events apart.
    payload : dict
        JSON to send.
    """
    now = datetime.now(UTC)
    rows = [
        {
            "model": model,
            "url": url,
            "key": key,
            "payload": payload,
            "created": now,
            "next_attempt": now,
            "attempts": 0,
        }
        for url in urls
    ]
    if rows:
        insert_new(session, OutboxRow, rows, ["url", "key"])


def due_events(session: Session, now: datetime) -> list[OutboxRow]:
    """The first event that waits for each model and URL, if its time has come; later ones wait for it.

    On PostgreSQL the rows are locked, and those that another server holds are left out, so that two servers do not
    send the same one at the same time.
    """
    first = (
        select(func.min(OutboxRow.id))
        .where(OutboxRow.delivered.is_(None))
        .group_by(OutboxRow.model, OutboxRow.url)
    )
    query = select(OutboxRow).where(OutboxRow.id.in_(first), OutboxRow.next_attempt <= now)
    if session.get_bind().dialect.name == "postgresql":
        query = query.with_for_update(skip_locked=True)
    return list(session.scalars(query.order_by(OutboxRow.id)))


def count_waiting(session: Session) -> int:
    """Events that were not delivered yet."""
    query = select(func.count()).select_from(OutboxRow).where(OutboxRow.delivered.is_(None))
    return session.scalar(query) or 0


def forget_delivered(session: Session, now: datetime) -> None:
    """Remove events that were delivered, or given up, some time ago."""
    session.execute(
        delete(OutboxRow).where(OutboxRow.delivered < now - REMEMBERED),
        execution_options={"synchronize_session": False},
    )
