"""The audit trail: who did what, when."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from ganomaly.store.schema import MAX_NAME, OTHER_EVENTS, EventRow


def add_event(session: Session, actor: str, action: str, subject: str, **details: Any) -> None:
    """Add an event; it is committed with what it tells of."""
    session.add(
        EventRow(
            created=datetime.now(UTC),
            actor=actor[:MAX_NAME],
            action=action,
            subject=subject[:MAX_NAME],
            details=details,
        )
    )


def latest_events(
    session: Session, *, action: str | None = None, reviews: bool = True, most: int = 100
) -> list[EventRow]:
    """Events, newest first: all, those of one action, or all but reviews."""
    query = select(EventRow).order_by(EventRow.id.desc()).limit(most)
    if action is not None:
        query = query.where(EventRow.action == action)
    if not reviews:
        query = query.where(text(OTHER_EVENTS))
    return list(session.scalars(query))
