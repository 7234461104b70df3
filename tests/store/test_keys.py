"""Keys and sessions."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from ganomaly.errors import UsageError
from ganomaly.store import Store
from ganomaly.store.keys import (
    ROLES,
    Caller,
    add_key,
    begin_session,
    caller_of_key,
    caller_of_session,
    end_session,
    has_keys,
    list_keys,
    revoke_key,
    set_key,
)
from ganomaly.store.schema import KeyRow, SessionRow


def test_a_key_is_stored_as_a_digest_only(store: Store) -> None:
    with store.writing() as session:
        secret = add_key(session, "camera 1", "station", "test")
    with store.reading() as session:
        (stored,) = session.scalars(select(KeyRow))
        assert secret not in str(vars(stored))
        assert caller_of_key(session, secret) == Caller("camera 1", "station")
        assert caller_of_key(session, secret + "x") is None


def test_each_role_may_what_those_before_it_may() -> None:
    for position, role in enumerate(ROLES):
        assert [Caller("a", role).may(other) for other in ROLES] == [i <= position for i in range(len(ROLES))]


def test_a_revoked_key_ends_with_its_sessions(store: Store) -> None:
    with store.writing() as session:
        secret = add_key(session, "ann", "reviewer", "test")
        cookie = begin_session(session, secret)
        assert cookie is not None
        session.flush()
        assert caller_of_session(session, cookie) == Caller("ann", "reviewer")
        revoke_key(session, "ann", "test")
        session.flush()
        assert caller_of_key(session, secret) is None
        assert caller_of_session(session, cookie) is None
        assert begin_session(session, secret) is None
        assert not has_keys(session)
        assert [row.name for row in list_keys(session)] == ["ann"]


def test_sessions_end_by_time_and_by_signing_out(store: Store) -> None:
    with store.writing() as session:
        secret = add_key(session, "ann", "reviewer", "test")
        first, second = begin_session(session, secret), begin_session(session, secret)
        assert first is not None
        assert second is not None
        end_session(session, first)
        assert caller_of_session(session, first) is None
        assert caller_of_session(session, second) is not None
        session.execute(update(SessionRow).values(expires=datetime.now(UTC) - timedelta(seconds=1)))
        assert caller_of_session(session, second) is None


def test_a_name_of_a_key_is_printable(store: Store) -> None:
    with store.writing() as session:
        for name in ("", " ", "a" * 256, "a\nb"):
            with pytest.raises(UsageError, match="name of a key"):
                add_key(session, name, "station", "test")


def test_a_name_is_given_once_even_after_it_was_revoked(store: Store) -> None:
    with store.writing() as session:
        add_key(session, "ann", "reviewer", "test")
        revoke_key(session, "ann", "test")
        with pytest.raises(UsageError, match="there is or was"):
            add_key(session, "ann", "admin", "test")


def test_a_key_from_the_environment_replaces_the_one_before(store: Store) -> None:
    with store.writing() as session:
        set_key(session, "environment", "admin", "a" * 20)
        set_key(session, "environment", "admin", "b" * 20)
        session.flush()
        assert caller_of_key(session, "a" * 20) is None
        assert caller_of_key(session, "b" * 20) == Caller("environment", "admin")
        with pytest.raises(UsageError, match="20 characters"):
            set_key(session, "environment", "admin", "short")
