"""Opening a store, and bringing its tables from one form to another."""

from pathlib import Path

import alembic.config
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, inspect, select, text

from ganomaly.errors import UsageError
from ganomaly.store import Store, StoreError, migrate_store, open_store
from ganomaly.store.database import MIGRATIONS
from ganomaly.store.keys import add_key
from ganomaly.store.predictions import add_predictions
from ganomaly.store.reviews import add_review
from ganomaly.store.schema import Base, PredictionRow
from store.conftest import add, row


def revisions() -> list[str]:
    """All revisions, oldest first."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


def fill(store: Store) -> None:
    (number, *_) = add(store, *(row(i) for i in range(50)))
    with store.writing() as session:
        add_review(session, number, "scratch", "", "test")
        add_key(session, "station 1", "station", "test")


def test_migrations_give_the_tables_that_the_code_expects(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_every_migration_runs_down_and_up_on_a_filled_store(store: Store) -> None:
    fill(store)
    for revision in [*revisions()[::-1][1:], "base"]:
        migrate_store(store, revision)
    assert set(inspect(store.engine).get_table_names()) <= {"alembic_version"}
    for revision in revisions():
        migrate_store(store, revision)
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(PredictionRow)) == 0


def test_migrating_again_changes_nothing(store: Store) -> None:
    fill(store)
    migrate_store(store)
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(PredictionRow)) == 50


def test_a_newer_store_is_refused_and_stays_as_it_is(store: Store) -> None:
    fill(store)
    with store.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer version"):
        migrate_store(store)
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(PredictionRow)) == 50


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://localhost/a", "SQLite or PostgreSQL, not mysql"),
        ("postgresql+psycopg://localhost/a", "needs --files"),
        ("sqlite:////no/such/folder/a.db", "does not exist"),
        ("://", "--store takes the URL of a database"),
    ],
)
def test_other_urls_are_refused_in_a_sentence(url: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        open_store(url, None if "psycopg" in url else tmp_path)


def test_a_store_that_cannot_be_reached_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        open_store("postgresql+psycopg://user@127.0.0.1:1/a?connect_timeout=2", tmp_path)


def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError):
        open_store(str(path))
    assert path.read_bytes() == b"no database" * 100


def test_what_raises_is_undone(store: Store) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        with store.writing() as session:
            add_predictions(session, [row(1)])
            raise StopError

    with pytest.raises(StopError):
        stop()
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(PredictionRow)) == 0
