"""Where predictions and reviews are kept: a database, and a folder of images beside it."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import alembic.script
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session

from ganomaly.database_url import parse_database_url
from ganomaly.errors import GANomalyError, UsageError
from ganomaly.files import make_folder
from ganomaly.store.schema import Base
from ganomaly.store.stored_files import StoredFiles

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 20
"""How long a write waits for another process that writes to the same SQLite file."""

_MIGRATION_LOCK = 7236485  # of PostgreSQL: two servers that start together migrate one after the other


class StoreError(GANomalyError):
    """The store cannot be reached, or has no space left."""


@dataclass(frozen=True)
class Store:
    """A database and the folder of its files.

    Attributes
    ----------
    engine : Engine
        Connections to the database.
    files : StoredFiles
        Images, maps and model files by their digest.
    """

    engine: Engine
    files: StoredFiles

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that changes nothing.

        Raises
        ------
        StoreError
            If the database cannot be reached.
        """
        with database_errors(), Session(self.engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that is committed where the block ends, and undone where it raises.

        Raises
        ------
        StoreError
            If the database cannot be reached, or has no space left.
        """
        engine = self.engine.execution_options(writes=True)
        with database_errors(), Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def insert_new(
    session: Session, table: type[Base], rows: Sequence[dict[str, Any]], unique: Sequence[str]
) -> None:
    """Insert rows, but for those whose unique columns have the values of one that is there.

    Another server may insert the same one at the same moment; this waits for it.
    """
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table).on_conflict_do_nothing(index_elements=unique)
    session.execute(statement, list(rows))


def open_store(
    url: str, folder: str | Path | None = None, *, migrate: bool = True, new: bool = True
) -> Store:
    """Open a store, and bring its tables to the newest form.

    Parameters
    ----------
    url : str
        `sqlite:///station.db`, `postgresql://user@host/database`, or a path of a SQLite file.
    folder : str or Path, optional
        For images, maps and models; beside the SQLite file if left out.
    migrate : bool
        Whether to bring the tables to their newest form.
    new : bool
        Whether a SQLite file that does not exist is made.

    Raises
    ------
    UsageError
        If the URL is not one of a database that is supported, or PostgreSQL is named without a folder.
    StoreError
        If the database cannot be reached, or is newer than this package.
    """
    if "://" not in url:
        url = f"sqlite:///{url}"
    parsed = parse_database_url("--store", url)
    backend = parsed.get_backend_name()
    if folder is None:
        if backend != "sqlite" or not parsed.database:
            raise UsageError("a store in PostgreSQL needs --files, a folder for the images")
        folder = Path(parsed.database).with_suffix(".files")
    if backend == "sqlite" and parsed.database:
        check_sqlite_path(Path(parsed.database), new=new)
    folder = Path(folder)
    make_folder(folder, " for images")
    try:
        engine = (
            _sqlite(url) if backend == "sqlite" else create_engine(parsed, pool_pre_ping=True, pool_size=10)
        )
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise UsageError(f"--store {parsed.drivername}: {error}; use postgresql://") from error
    store = Store(engine, StoredFiles(folder))
    if migrate:
        migrate_store(store)
    return store


def migrate_store(store: Store, revision: str = "head") -> None:
    """Bring the tables to a revision, the newest if none is named; an older one loses what it has no place for.

    Raises
    ------
    StoreError
        If the tables are newer than this package, or the database cannot be reached.
    """
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {
        script.revision for script in alembic.script.ScriptDirectory.from_config(config).walk_revisions()
    }
    with database_errors(), store.engine.execution_options(writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known:
            raise StoreError(
                f"the store was made by a newer version of ganomaly (revision {current}); use that one"
            )
        config.attributes["connection"] = connection
        if current is None or revision == "head" or _is_later(config, revision, current):
            alembic.command.upgrade(config, revision)
        else:
            alembic.command.downgrade(config, revision)


def _is_later(config: alembic.config.Config, revision: str, current: str) -> bool:
    """Whether a revision comes after the current one."""
    scripts = alembic.script.ScriptDirectory.from_config(config)
    return revision != "base" and current in {
        script.revision for script in scripts.iterate_revisions(revision, "base")
    }


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn the errors of a database into one sentence."""
    try:
        yield
    except OperationalError as error:
        raise StoreError(f"the store cannot be used: {_first_line(error)}") from error
    except DBAPIError as error:
        if type(error) is DatabaseError:  # of SQLite: a file that is no database, or a damaged one
            raise StoreError(f"the store cannot be used: {_first_line(error)}") from error
        if error.connection_invalidated:
            raise StoreError("the connection to the store was lost") from error
        raise


def _first_line(error: DBAPIError) -> str:
    return (str(error.orig).strip().splitlines() or ["no reason given"])[0][:200]


_pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_SECONDS * 1000}")
_first_connection = threading.Lock()


def check_sqlite_path(path: Path, *, new: bool) -> None:
    """Raise `UsageError` if there can be no SQLite file at a path, or there is none and it is not to be made."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"--store {path}: the folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--store {path}: no permission to write in {folder}")
    if not new and not path.is_file():
        raise UsageError(f"--store {path}: there is no such store; `ganomaly serve` makes one")


def _sqlite(url: str) -> Engine:
    engine = create_engine(url, pool_size=10)

    # the driver begins transactions late and without asking, so that two writers could meet in a deadlock
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        with _first_connection:
            for pragma in _pragmas:
                connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
