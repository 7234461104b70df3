"""Files appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganomaly.errors import OutputError, UsageError


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which replaces `path` when the block ends without an exception.

    Parameters
    ----------
    path : str or Path
        Of the finished file. Its folder must exist. A link stays a link; its target is replaced.

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
    """
    check_writable(path)
    path = _without_link(Path(path))
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        _flush_to_disk(part)
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    finally:
        part.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Raise `UsageError` if a file cannot be written to `path`.

    Called before long work starts, so that an hour of training is not lost to a missing folder.
    """
    path = Path(path)
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
