"""Where trials are kept: a database that several processes share and that outlives each of them."""

import os
import socket
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL, make_url
from sqlalchemy.exc import DBAPIError, NoSuchModuleError

from ganomaly.database_url import parse_database_url
from ganomaly.errors import GANomalyError, UsageError, package_needed

BUSY_SECONDS = 120
"""How long a process waits for another one that writes to the same SQLite file."""

_HEARTBEAT_SECONDS, _GRACE_SECONDS = 20, 180  # a trial without a sign of life for longer has died
_OWNER, _LOCK = "owner", ".ganomaly-tune-"
_OLD_SECONDS = 86_400
_PAUSES = (0.1, 0.3, 0.9)  # seconds, after attempts to open the storage


class StorageError(GANomalyError):
    """The storage of a search cannot be reached or used."""


def open_storage(url: str) -> RDBStorage:
    """Open the storage, and make its tables if they are missing.

    Parameters
    ----------
    url : str
        `sqlite:///search.db` or `postgresql://user@host/database`.

    Raises
    ------
    UsageError
        If it is no such URL, or its folder is missing.
    StorageError
        If the database cannot be reached.
    """
    parsed = _parsed(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    options: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS}}
    if not is_sqlite:
        options = {"pool_pre_ping": True}
    with warnings.catch_warnings(), storage_errors(parsed), package_needed("this storage", "tune"):
        warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats
        for pause in _PAUSES:
            # two processes that start together make the tables at the same moment, and one of them fails
            with suppress(DBAPIError, StorageInternalError):
                return _opened(parsed, options)
            time.sleep(pause)
        return _opened(parsed, options)


def _opened(url: URL, options: dict[str, Any]) -> RDBStorage:
    return RDBStorage(
        url.render_as_string(hide_password=False),
        engine_kwargs=options,
        heartbeat_interval=_HEARTBEAT_SECONDS,
        grace_period=_GRACE_SECONDS,
    )


@contextmanager
def storage_errors(url: URL | str) -> Iterator[None]:
    """Turn the errors of a database into one sentence, without its password."""
    try:
        yield
    except NoSuchModuleError as error:
        raise UsageError(f"--storage {_shown(url)}: {error}; use sqlite:/// or postgresql://") from error
    except (StorageInternalError, DBAPIError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        original = getattr(cause, "orig", None) or cause or error
        reason = (str(original).strip().splitlines() or ["no reason given"])[0][:200]
        raise StorageError(f"the storage {_shown(url)} cannot be used: {reason}") from error


class Liveness:
    """Says which running trials are dead: a killed process releases the lock of a file, and can say nothing else.

    Another machine does not see the file. Its trials end when they have shown no sign of life for some minutes.

    Parameters
    ----------
    folder : Path
        For the lock of this process.
    """

    def __init__(self, folder: Path) -> None:
        self._path = Path(os.path.realpath(folder)) / f"{_LOCK}{uuid.uuid4().hex[:12]}.lock"
        self._lock = FileLock(self._path)

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Hold the lock of this process while the block runs."""
        self._remove_old_locks()
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()
            with suppress(OSError):
                self._path.unlink()

    def sign(self, trial: optuna.Trial) -> None:
        """Note on a trial that this process runs it."""
        trial.set_user_attr(_OWNER, [socket.gethostname(), str(self._path)])

    def fail_dead_trials(self, study: optuna.Study) -> int:
        """Fail the running trials of processes of this machine that have ended; return how many there were."""
        dead = 0
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not self._is_dead(trial):
                continue
            with suppress(ValueError, RuntimeError):  # another process was quicker
                study.tell(trial.number, state=TrialState.FAIL)
                dead += 1
        return dead

    def _is_dead(self, trial: FrozenTrial) -> bool:
        if _OWNER not in trial.user_attrs:  # its process was killed before it could sign
            started = trial.datetime_start
            return started is not None and (datetime.now() - started).total_seconds() > _GRACE_SECONDS
        host, path = trial.user_attrs[_OWNER]
        return host == socket.gethostname() and path != str(self._path) and _is_released(Path(path))

    def _remove_old_locks(self) -> None:
        """Remove what processes left that were killed between two trials."""
        for path in self._path.parent.glob(f"{_LOCK}*.lock"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _OLD_SECONDS:
                    _is_released(path)


def _is_released(path: Path) -> bool:
    """Whether no process holds the lock of a file; the file is removed then."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError:  # its folder is gone, or is another machine's
        return not path.exists()
    lock.release()
    with suppress(OSError):
        path.unlink()
    return True


def _parsed(url: str) -> URL:
    parsed = parse_database_url("--storage", url)
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise UsageError("--storage names no file; write sqlite:///search.db")
        folder = Path(parsed.database).absolute().parent
        if not folder.is_dir():
            raise UsageError(f"--storage {url}: the folder {folder} does not exist; make it first")
    return parsed


def _shown(url: URL | str) -> str:
    return make_url(url).render_as_string(hide_password=True)
