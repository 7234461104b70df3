"""Files appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from ganomaly.errors import OutputError, UsageError
from ganomaly.remote.location import Location, RemoteFile, location

PART = ".part"
_HAS_LOCKS = find_spec("fcntl") is not None  # not on Windows, which does not rename or remove open files
_WRITERS = 4  # processes that may write one file at once and leave nothing behind when they are killed


@contextmanager
def written_whole(path: str | Location) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which replaces `path` when the block ends without an exception.

    What a killed process left of an earlier attempt is used again, so that no litter grows.

    Parameters
    ----------
    path : str, Path or RemoteFile
        Of the finished file. Its folder must exist. A link stays a link; its target is replaced. What is meant for a
        store is written here first, and copied there when the block ends.

    Yields
    ------
    Path
        An empty file to write to. After an exception it is removed and `path` is unchanged.

    Raises
    ------
    UsageError
        If the folder is missing or not writable, or the path exists and is not a file.
    OutputError
        If writing fails later, as on a full disk.
    StoreError
        If a store does not take it.
    """
    path = location(path)
    if isinstance(path, RemoteFile):
        with _uploaded(path) as part:
            yield part
        return
    check_writable(path)
    path = _without_link(path)
    try:
        handle, part = _open_part(path)
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    replaced = False
    try:
        yield part
        _flush_to_disk(part)
        part.chmod(0o666 & ~_umask())
        part.replace(path)
        replaced = True
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    finally:
        with suppress(OSError):
            if not replaced:  # else the name may be another process's by now
                part.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)
        _remove_abandoned_parts(path)


@contextmanager
def _uploaded(file: RemoteFile) -> Iterator[Path]:
    from ganomaly.remote.transfer import upload

    file.check_writable()
    with tempfile.TemporaryDirectory(prefix="ganomaly-") as folder:
        part = Path(folder) / file.name
        part.touch()
        try:
            yield part
        except OSError as error:
            raise OutputError(
                f"cannot write {part}: {error.strerror or error}; {file} is as it was"
            ) from error
        upload(part, file)


def remove_file(path: Location) -> None:
    """Remove a file that `written_whole` wrote, if it exists, and what killed processes left of it.

    Raises
    ------
    OutputError
        If it cannot be removed.
    """
    if isinstance(path, RemoteFile):
        from ganomaly.remote.transfer import remove

        remove(path)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove {path}: {error.strerror or error}") from error
    _remove_abandoned_parts(path)


def make_folder(folder: Location, purpose: str = "") -> None:
    """Make a folder and its parents where they are missing; a store has none to make, and may be for reading only.

    Parameters
    ----------
    folder : Path
        Which.
    purpose : str
        What it is for, such as " for figures"; a part of the message.

    Raises
    ------
    UsageError
        If it is in a store that is for reading only.
    OutputError
        If it cannot be made.
    """
    if isinstance(folder, RemoteFile):
        folder.check_folder_writable()
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}{purpose}: {error.strerror or error}") from error


def _remove_abandoned_parts(path: Path) -> None:
    """Remove the temporary files of an output that no living process writes."""
    if not _HAS_LOCKS:
        return
    for part in (part_name(path, number) for number in range(_WRITERS)):
        handle = _reopened(part) if part.exists() else None
        if handle is not None:
            with suppress(OSError):
                part.unlink()
            os.close(handle)


def part_name(path: Path, number: int = 0) -> Path:
    """Name of a temporary file of an output; a process takes the first number that no other one writes."""
    return path.with_name(f".{path.name}{f'.{number}' if number else ''}{PART}")


def _open_part(path: Path) -> tuple[int | None, Path]:
    """An empty temporary file, and the handle that locks it while this process lives, where the system has locks."""
    if not _HAS_LOCKS:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent)
        os.close(handle)
        return None, Path(name)
    for part in (part_name(path, number) for number in range(_WRITERS)):
        reopened = _reopened(part)
        if reopened is not None:
            return reopened, part
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent)
    return handle, Path(name)


def _reopened(part: Path) -> int | None:
    """Open a file that no living process writes, and empty it; None if one does."""
    import fcntl

    try:
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None  # a link, or somebody else's; the caller takes another name, or finds out why none works
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # the file may have been renamed to its final name between opening and locking
        if os.path.samestat(os.fstat(handle), part.stat(follow_symlinks=False)):
            os.ftruncate(handle, 0)
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


def check_writable(path: str | Location) -> None:
    """Raise `UsageError` if a file cannot be written to `path`; a store says only when it is written whether it can.

    Called before long work starts, so that an hour of training is not lost to a missing folder.
    """
    path = location(path)
    if isinstance(path, RemoteFile):
        path.check_writable()
        return
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise UsageError(f"cannot write {path}: it is a device or a pipe; name a file")
    folder = _without_link(path).parent
    if not folder.is_dir():
        raise UsageError(f"cannot write {path}: the folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write {path}: no permission to write in {folder}")


def _without_link(path: Path) -> Path:
    try:
        return path.resolve() if path.is_symlink() else path
    except RuntimeError:  # what Python 3.11 raises for a loop of links
        raise UsageError(f"cannot write {path}: it is a link to itself") from None


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _cannot_write(path: Path, error: OSError) -> str:
    return f"cannot write {path}: {error.strerror or error}; nothing was left half-written"
