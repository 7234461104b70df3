"""Read, list and write files in stores, tried again with growing pauses; files appear whole or not at all."""

import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ganomaly.errors import GANomalyError, StoreError, StoreRefusalError, UsageError
from ganomaly.remote.location import Location, RemoteFile
from ganomaly.remote.stores import arrow_stores, fsspec_store_of, store_of

Result = TypeVar("Result")

TRIES = 4
"""Of a whole file or listing; the store's client has tried each request several times by then."""

FIRST_PAUSE = 0.5  # seconds; doubles with each try, and is drawn between half and all of it
_PART_BYTES = 2**20
_LASTING = re.compile(
    "ACCESS_DENIED|FORBIDDEN|INVALID_ACCESS_KEY|SIGNATURE|NO_SUCH_BUCKET|UNAUTHORIZED|EXPIRED_TOKEN|INVALID_TOKEN"
    "|AuthorizationFailure|AuthenticationFailed|PERMISSION_DENIED",
    re.IGNORECASE,
)
"""Errors that the next try would meet again."""

_CODE = re.compile(r"AWS Error ([A-Z_]+)|\b([45]\d\d)\b")


@dataclass(frozen=True)
class StoredFile:
    """What a store says of a file without reading it.

    Attributes
    ----------
    file : RemoteFile
        Which.
    name : str
        Path below the folder that was listed.
    size : int
        Bytes; −1 if not known.
    time : int
        When it was written, in nanoseconds; 0 if not known.
    """

    file: RemoteFile
    name: str
    size: int
    time: int


def read(file: RemoteFile) -> bytes:
    """Read a whole file.

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    StoreError
        If the store does not give it after several tries.
    """

    def attempt() -> bytes:
        by_fsspec = fsspec_store_of(file)
        if by_fsspec is not None:
            return bytes(by_fsspec[0].cat_file(by_fsspec[1]))
        store, path = store_of(file)
        with store.open_input_file(path) as stream:
            size, content = stream.size(), stream.read()
        if len(content) != size:
            raise OSError(f"{len(content)} of {size} bytes came")
        return bytes(content)

    return retried("read", file, attempt)


def stored_file(file: RemoteFile) -> StoredFile | None:
    """Size and time of a file; None if there is no file there. A web server is not asked.

    Raises
    ------
    StoreError
        If the store does not answer.
    """
    if file.is_web:
        return StoredFile(file, file.name, -1, 0)  # whoever reads it will see
    file_type = arrow_stores().FileType

    def attempt() -> StoredFile | None:
        store, path = store_of(file)
        found = store.get_file_info(path)
        return _stored(file, file.name, found) if found.type == file_type.File else None

    return retried("look at", file, attempt)


def check_folder(folder: RemoteFile) -> None:
    """Raise `UsageError` if a folder cannot be written, as far as a store says so beforehand.

    Raises
    ------
    UsageError
        If the store is for reading only, the bucket does not exist, or the folder is a file.
    StoreError
        If the store does not answer.
    """
    folder.check_folder_writable()
    file_type = arrow_stores().FileType

    def attempt() -> tuple[Any, Any]:
        store, path = store_of(folder)
        bucket = path.partition("/")[0]
        found, there = store.get_file_info([bucket, path])
        return found.type, there.type

    with suppress(StoreRefusalError):  # it may be written all the same
        bucket, there = retried("look at", folder, attempt)
        if bucket == file_type.NotFound:
            raise UsageError(f"cannot write to {folder}: there is no bucket {folder.host}; make it first")
        if there == file_type.File:
            raise UsageError(f"cannot write to {folder}: it is a file; name a folder")


def list_files(folder: RemoteFile) -> list[StoredFile]:
    """All files below a folder by name, without reading them; empty if there is no such folder.

    A store gives 1,000 names per request. Hidden files, and those in hidden folders, are left out.

    Raises
    ------
    StoreError
        If the store does not answer.
    """
    fs = arrow_stores()

    def attempt() -> list[StoredFile]:
        by_fsspec = fsspec_store_of(folder)
        if by_fsspec is not None:
            return _found_by_fsspec(folder, *by_fsspec)
        store, path = store_of(folder)
        found = store.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
        files = []
        for entry in found:
            name = entry.path[len(path) :].strip("/")
            if entry.type == fs.FileType.File and not _is_hidden(name):
                files.append(_stored(folder / name, name, entry))
        return files

    return sorted(retried("list", folder, attempt), key=lambda stored: stored.name)


def _found_by_fsspec(folder: RemoteFile, store: Any, path: str) -> list[StoredFile]:
    try:
        found = store.find(path, detail=True, refresh=True)
    except FileNotFoundError:
        return []
    # the store's own paths may say more, as the revision of a hub
    names = {
        name[len(path) :].strip("/"): entry for name, entry in found.items() if name.startswith(f"{path}/")
    }
    return [
        StoredFile(folder / name, name, int(entry["size"] or 0), 0)
        for name, entry in names.items()
        if entry["type"] == "file" and not _is_hidden(name)
    ]


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def download(file: RemoteFile, target: Path) -> None:
    """Copy a file to this machine by parts.

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    StoreError
        If the store does not give it after several tries.
    """

    def attempt() -> None:
        by_fsspec = fsspec_store_of(file)
        if by_fsspec is not None:
            target.write_bytes(by_fsspec[0].cat_file(by_fsspec[1]))
            return
        store, path = store_of(file)
        with store.open_input_file(path) as stream, target.open("wb") as copy:
            missing = stream.size()
            while missing > 0 and (part := stream.read(min(_PART_BYTES, missing))):
                copy.write(part)
                missing -= len(part)
        if missing:
            raise OSError(f"{missing} bytes did not come")

    retried("read", file, attempt)


def upload(source: Path, file: RemoteFile) -> None:
    """Copy a file to a store, where it appears when all of it is there.

    Raises
    ------
    UsageError
        If nothing can be written there.
    StoreError
        If the store does not take it after several tries.
    """
    file.check_writable()

    def attempt() -> None:
        store, path = store_of(file)
        with source.open("rb") as content:
            stream = store.open_output_stream(path)
            while part := content.read(_PART_BYTES):
                stream.write(part)
            # not in a `with` block, whose end would complete the upload after an exception too
            stream.close()

    retried("write", file, attempt)


def remove(file: RemoteFile) -> None:
    """Remove a file, if it exists.

    Raises
    ------
    StoreError
        If the store does not remove it.
    """

    def attempt() -> None:
        store, path = store_of(file)
        with suppress(FileNotFoundError):
            store.delete_file(path)

    retried("remove", file, attempt)


@contextmanager
def local_copy(source: Location, *also: str) -> Iterator[Path]:
    """A file on this machine: the file itself, or a copy of one in a store that goes when the block ends.

    Parameters
    ----------
    source : Path or RemoteFile
        The file.
    also : str
        Endings of files beside it that are copied too where they exist, as `.bin`.

    Raises
    ------
    FileNotFoundError
        If it is in a store and does not exist.
    StoreError
        If the store does not give it. Errors of the block name the store's file in place of the copy.
    """
    if not isinstance(source, RemoteFile):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="ganomaly-") as folder:
        copy = Path(folder) / source.name
        download(source, copy)
        for suffix in also:
            beside = source.with_suffix(suffix)
            if stored_file(beside) is not None:
                download(beside, copy.with_suffix(suffix))
        with named_as(copy, source):
            yield copy


@contextmanager
def named_as(local: Path, source: RemoteFile) -> Iterator[None]:
    """Errors of the block name what is in the store, not the copy of it."""
    try:
        yield
    except GANomalyError as error:
        words = str(error).replace(str(local), str(source))
        if words == str(error):
            raise
        raise type(error)(words) from error


def retried(action: str, file: RemoteFile, attempt: Callable[[], Result]) -> Result:
    """Try something until it works, `TRIES` times at most.

    Parameters
    ----------
    action : str
        It, in words for the message, such as "read".
    file : RemoteFile
        To which file or folder.
    attempt : callable
        Does it; an `OSError` other than a missing file or permission is tried again.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    StoreError
        After the last try.

    Notes
    -----
    Messages of the store's client are not repeated: they may hold an address with a key.
    """
    for number in range(1, TRIES + 1):
        try:
            return attempt()
        except FileNotFoundError:
            raise FileNotFoundError(str(file)) from None
        except Exception as error:
            if not _is_of_a_store(error):
                raise
            if isinstance(error, PermissionError) or _LASTING.search(str(error)):
                raise StoreRefusalError(
                    f"cannot {action} {file}: {_told(error)}; check credentials and rights"
                ) from None
            if number == TRIES:
                raise StoreError(
                    f"cannot {action} {file}: {_told(error)}, {number} times; check the address and the network"
                ) from None
        pause = FIRST_PAUSE * 2 ** (number - 1)
        time.sleep(random.uniform(pause / 2, pause))
    raise AssertionError("the last try returns or raises")


def _is_of_a_store(error: Exception) -> bool:
    """Whether an error comes from the connection; each client has its own."""
    return isinstance(error, OSError | TimeoutError) or type(error).__module__.partition(".")[0] in (
        "aiohttp",
        "httpx",
        "huggingface_hub",
        "pyarrow",
    )


def _told(error: Exception) -> str:
    code = _CODE.search(str(error))
    return f"the store says {code[1] or code[2]}" if code else f"no answer ({type(error).__name__})"


def _stored(file: RemoteFile, name: str, found: Any) -> StoredFile:
    size = -1 if found.size is None else int(found.size)
    return StoredFile(file, name, size, int(found.mtime_ns or 0))


def check_disk(folder: Path, needed: int, what: str) -> None:
    """Raise `StoreError` if a folder's disk has no room for so many bytes."""
    statistics = os.statvfs(folder) if hasattr(os, "statvfs") else None
    if statistics is not None and needed > statistics.f_bavail * statistics.f_frsize:
        raise StoreError(
            f"{what} takes {needed / 1e9:.1f} GB and {folder} has no room for it; name a larger disk in TMPDIR"
        )
