"""API keys and the sessions of browsers; only digests of them are stored."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import get_args

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from ganomaly.errors import UsageError
from ganomaly.store.database import insert_new
from ganomaly.store.events import add_event
from ganomaly.store.schema import MAX_NAME, KeyRow, Role, SessionRow

ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may: send images; look and review; change models and keys."""

SESSION_TIME = timedelta(hours=12)
_PREFIX = "gan_"


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes
    ----------
    name : str
        Of the key.
    role : {'station', 'reviewer', 'admin'}
        What it may do.
    """

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether it has this role or a higher one."""
        return ROLES.index(self.role) >= ROLES.index(role)


def add_key(session: Session, name: str, role: Role, actor: str) -> str:
    """Make a key; what is returned is shown once and stored nowhere.

    Raises
    ------
    UsageError
        If the name is empty, too long or taken, or there is no such role.
    """
    name = name.strip()
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise UsageError(f"the name of a key has 1 to {MAX_NAME} printable characters")
    if role not in ROLES:
        raise UsageError(f"there is no role {role}; take one of {', '.join(ROLES)}")
    if session.scalar(select(KeyRow.id).where(KeyRow.name == name)) is not None:
        raise UsageError(f"there is or was a key with the name {name}; take another name")
    secret = _PREFIX + secrets.token_urlsafe(32)
    session.add(KeyRow(name=name, role=role, digest=_digest(secret), created=datetime.now(UTC)))
    add_event(session, actor, "add key", name, role=role)
    return secret


def set_key(session: Session, name: str, role: Role, secret: str) -> None:
    """Let a secret that somebody chose be a key; it takes the place of the one with this name.

    Raises
    ------
    UsageError
        If it is shorter than 20 characters.
    """
    if len(secret) < 20:
        raise UsageError("a key that you choose yourself needs 20 characters or more, and should be random")
    row = session.scalars(select(KeyRow).where(KeyRow.name == name)).one_or_none()
    if row is not None and row.digest == _digest(secret) and row.revoked is None:
        return
    if row is None:
        new = {"name": name, "role": role, "digest": _digest(secret), "created": datetime.now(UTC)}
        insert_new(session, KeyRow, [new], ["name"])
        row = session.scalars(select(KeyRow).where(KeyRow.name == name)).one()
    row.role, row.digest, row.revoked = role, _digest(secret), None
    add_event(session, name, "set key", name, role=role)


def revoke_key(session: Session, name: str, actor: str) -> None:
    """End a key and all its sessions.

    Raises
    ------
    UsageError
        If there is no such key.
    """
    row = session.scalars(select(KeyRow).where(KeyRow.name == name)).one_or_none()
    if row is None:
        raise UsageError(f"there is no key with the name {name}")
    row.revoked = row.revoked or datetime.now(UTC)
    session.execute(delete(SessionRow).where(SessionRow.key_id == row.id))
    add_event(session, actor, "revoke key", name)


def list_keys(session: Session) -> list[KeyRow]:
    """All keys, revoked ones too, by name."""
    return list(session.scalars(select(KeyRow).order_by(KeyRow.name)))


def has_keys(session: Session) -> bool:
    """Whether there is a key that is valid."""
    return session.scalar(select(KeyRow.id).where(KeyRow.revoked.is_(None)).limit(1)) is not None


def ever_had_keys(session: Session) -> bool:
    """Whether there is or was a key: once there was one, nobody is let in without."""
    return session.scalar(select(KeyRow.id).limit(1)) is not None


def caller_of_key(session: Session, secret: str) -> Caller | None:
    """Whose key this is; None if it is not valid."""
    row = _valid_key(session, secret)
    return None if row is None else Caller(row.name, row.role)


def begin_session(session: Session, secret: str) -> str | None:
    """Sign a browser in with a key; return the value of its cookie, None if the key is not valid."""
    row = _valid_key(session, secret)
    if row is None:
        return None
    now = datetime.now(UTC)
    session.execute(delete(SessionRow).where(SessionRow.expires < now))
    cookie = secrets.token_urlsafe(32)
    session.add(SessionRow(digest=_digest(cookie), key_id=row.id, expires=now + SESSION_TIME))
    add_event(session, row.name, "sign in", row.name)
    return cookie


def caller_of_session(session: Session, cookie: str) -> Caller | None:
    """Who signed in with this cookie; None if it is not valid any more."""
    row = session.scalars(
        select(KeyRow)
        .join(SessionRow, SessionRow.key_id == KeyRow.id)
        .where(
            SessionRow.digest == _digest(cookie),
            SessionRow.expires >= datetime.now(UTC),
            KeyRow.revoked.is_(None),
        )
    ).one_or_none()
    return None if row is None else Caller(row.name, row.role)


def end_session(session: Session, cookie: str) -> None:
    """Sign a browser out."""
    session.execute(delete(SessionRow).where(SessionRow.digest == _digest(cookie)))


def _valid_key(session: Session, secret: str) -> KeyRow | None:
    query = select(KeyRow).where(KeyRow.digest == _digest(secret), KeyRow.revoked.is_(None))
    return session.scalars(query).one_or_none()


def _digest(secret: str) -> str:
    """SHA-256 is enough: a key has 256 random bits, so that trying does not help."""
    return hashlib.sha256(secret.encode()).hexdigest()
