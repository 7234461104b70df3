"""The audit trail: who did what, when."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ganomaly.store.schema import MAX_NAME, EventRow


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


def latest_events(session: Session, *, action: str | None = None, most: int = 100) -> list[EventRow]:
    """Events, newest first."""
    query = select(EventRow).order_by(EventRow.id.desc()).limit(most)
    return list(session.scalars(query if action is None else query.where(EventRow.action == action)))
