"""Names of files in stores; nothing here asks a store."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from ganomaly.errors import UsageError

SCHEMES = ("s3", "gs", "az", "hf", "https", "http")
READ_ONLY = ("hf", "https", "http")
_REMOTE = re.compile(rf"({'|'.join(SCHEMES)})://")


@dataclass(frozen=True, order=True)
class RemoteFile:
    """A file or a folder in a store, with what `Path` offers for names.

    As text it is its address without name, password and query, which may hold a key: messages and tables show it.

    Parameters
    ----------
    url : str
        Such as ``s3://bucket/parts/7.png``.

    Raises
    ------
    UsageError
        If a bucket or a host is missing.

    Examples
    --------
    >>> file = RemoteFile("https://user:secret@host/parts/7.png?signature=secret")
    >>> str(file), file.name, file.suffix
    ('https://host/parts/7.png', '7.png', '.png')
    >>> str(RemoteFile("s3://bucket/parts") / "good" / "7.png")
    's3://bucket/parts/good/7.png'
    """

    url: str

    def __post_init__(self) -> None:
        if not self.host:
            raise UsageError(f"{self} names no bucket or host; write it as s3://bucket/folder")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/{self.path}".rstrip("/")

    def __repr__(self) -> str:
        return f"RemoteFile({str(self)!r})"

    def __truediv__(self, name: Any) -> "RemoteFile":
        return self._at(PurePosixPath(self.path) / str(name).replace("\\", "/"))

    @property
    def scheme(self) -> str:
        """Such as `s3`."""
        return self.url.partition("://")[0]

    @property
    def host(self) -> str:
        """Bucket, container, host, or the first part of a hub's repository."""
        return self._after_scheme()[0].rpartition("@")[2]

    @property
    def path(self) -> str:
        """Key in the bucket, without a slash at either end."""
        return self._after_scheme()[1].strip("/")

    @property
    def name(self) -> str:
        """Last part of the path."""
        name = PurePosixPath(self.path).name
        return unquote(name) if self.is_web else name

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """Ending of the name, with the dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "RemoteFile":
        """The folder."""
        return self._at(PurePosixPath(self.path).parent)

    @property
    def is_web(self) -> bool:
        """Whether it is a file of a web server, which has no folders to list."""
        return self.scheme in ("https", "http")

    def with_name(self, name: str) -> "RemoteFile":
        """A file beside this one."""
        return self._at(PurePosixPath(self.path).with_name(name))

    def with_suffix(self, suffix: str) -> "RemoteFile":
        """The same name with another ending."""
        return self._at(PurePosixPath(self.path).with_suffix(suffix))

    def check_writable(self) -> None:
        """Raise `UsageError` if nothing can be written there."""
        if self.scheme in READ_ONLY:
            raise UsageError(
                f"cannot write {self}: {self.scheme}:// is for reading; name an s3:// path or a file"
            )
        if not self.path:
            raise UsageError(f"cannot write {self}: it is a bucket; name a file in it")

    def check_folder_writable(self) -> None:
        """Raise `UsageError` if no file can be written in this folder."""
        if self.scheme in READ_ONLY:
            raise UsageError(
                f"cannot write to {self}: {self.scheme}:// is for reading; name a folder in a bucket, or one on this "
                "machine"
            )

    def _at(self, path: PurePosixPath) -> "RemoteFile":
        host = self._after_scheme()[0]
        query = urlsplit(self.url).query if self.is_web else ""
        key = "" if str(path) == "." else str(path)
        return RemoteFile(f"{self.scheme}://{host}/{key}{f'?{query}' if query else ''}")

    def _after_scheme(self) -> tuple[str, str]:
        """Host with user and password, and the path without query."""
        rest = self.url.partition("://")[2]
        if self.is_web:
            rest = rest.partition("#")[0].partition("?")[0]
        host, _, path = rest.partition("/")
        return host, path


Location: TypeAlias = Path | RemoteFile
"""Where a file is: on this machine, or in a store."""


def is_remote(source: object) -> bool:
    """Whether a path, or its text, names something in a store."""
    return isinstance(source, RemoteFile) or (isinstance(source, str) and bool(_REMOTE.match(source)))


def location(source: str | Path | RemoteFile) -> Location:
    """The file that a text names.

    >>> location("s3://bucket/7.png"), location("parts/7.png").name
    (RemoteFile('s3://bucket/7.png'), '7.png')
    """
    if isinstance(source, RemoteFile):
        return source
    if isinstance(source, str) and _REMOTE.match(source):
        return RemoteFile(source)
    return Path(source)
