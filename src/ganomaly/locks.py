"""One process at a time per output: a lock that says who holds it and that a killed process never leaves behind."""

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ganomaly.errors import OutputError, UsageError
from ganomaly.files import make_folder
from ganomaly.remote import Location, RemoteFile, location

FOLDER_LOCK = ".ganomaly.lock"


@contextmanager
def locked_file(path: str | Location, command: str) -> Iterator[None]:
    """Hold the lock of an output file while the block runs.

    A store has no locks. The lock of a file in one is in the current folder, as the checkpoint of a model is, if that
    folder can be written. Of writers in different folders the last one wins.

    Parameters
    ----------
    path : str or Path
        The output; its lock is the hidden file `.<name>.lock` beside it, removed at the end. For a file in a store
        the name is that of `local_name`.
    command : str
        Who holds it, such as "ganomaly fit".

    Raises
    ------
    UsageError
        If a living process holds it; says which.
    OutputError
        If the lock cannot be made.
    """
    path = location(path)
    if isinstance(path, RemoteFile):
        folder, name = Path.cwd(), local_name(path)
        if not os.access(folder, os.W_OK):
            yield
            return
    else:
        path = Path(os.path.realpath(path))
        folder, name = path.parent, path.name
    with _locked(folder / f".{name}.lock", path, command):
        yield


def local_name(file: RemoteFile) -> str:
    """Name of a file on this machine that belongs to one in a store: its name, and a digest of its address.

    Examples
    --------
    >>> local_name(RemoteFile("s3://bucket/left/model.safetensors"))
    'model.safetensors-8edaa6a1'
    """
    digest = hashlib.blake2b(str(file).encode(errors="surrogateescape"), digest_size=4).hexdigest()
    return f"{file.name}-{digest}"


@contextmanager
def locked_folder(folder: str | Location, command: str) -> Iterator[None]:
    """Hold the lock of an output folder while the block runs; the folder is made if it is missing.

    The lock of a folder in a store is in the current folder, as that of a file in one. Raises as `locked_file` does.
    """
    folder = location(folder)
    if isinstance(folder, RemoteFile):
        with locked_file(folder, command):
            yield
        return
    make_folder(folder)
    with _locked(folder / FOLDER_LOCK, folder, command):
        yield


@contextmanager
def _locked(lock_path: Path, output: Location, command: str) -> Iterator[None]:
    lock = FileLock(lock_path)
    try:
        lock.acquire(timeout=0)  # the system releases it when its process ends, however it ends
    except Timeout:
        raise UsageError(
            f"{_owner(lock_path)} is writing {output}; wait until it has ended, or name another output"
        ) from None
    except OSError as error:
        raise OutputError(f"cannot lock {output}: {error.strerror or error}") from error
    try:
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        with suppress(OSError):  # it is locked all the same
            lock_path.write_text(
                f"{command}, process {os.getpid()} on {socket.gethostname()} since {started}"
            )
        yield
    finally:
        with suppress(OSError):
            lock_path.unlink()  # still locked: whoever waits for it sees that it is gone, and makes a new one
        lock.release()


def _owner(lock_path: Path) -> str:
    try:
        return lock_path.read_text(errors="replace")[:200] or "another process"
    except OSError:
        return "another process"
