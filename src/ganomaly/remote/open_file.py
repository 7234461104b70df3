"""Files of stores that are read by parts, each tried again until all of it came."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ganomaly.remote.location import Location, RemoteFile
from ganomaly.remote.stores import fsspec_store_of, store_of
from ganomaly.remote.transfer import retried


@contextmanager
def opened(source: Location) -> Iterator[Any]:
    """A file for pyarrow, read by parts: the path of a local one, an open file of a store.

    Raises
    ------
    FileNotFoundError
        If a file in a store does not exist.
    StoreError
        If the store does not give it, or a part of it, after several tries; in the block too.
    """
    if not isinstance(source, RemoteFile):
        yield source
        return
    with _StoreFile(source) as stream:
        yield stream


class _StoreFile(io.RawIOBase):
    """An open file of a store; each part is read until all of it came.

    So whoever decodes the content meets faults of the connection as `StoreError` alone, and other errors are of the
    content.

    Parameters
    ----------
    file : RemoteFile
        Which.

    Raises
    ------
    FileNotFoundError, StoreError
        As `retried`; so does `read`.
    """

    def __init__(self, file: RemoteFile) -> None:
        super().__init__()
        self._file = file
        self._stream: Any = None
        self._position = 0
        self._size: int = retried("read", file, self._measured)

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next part begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Choose where the next part begins; asks nothing of the store."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, or as many as there are."""
        start = self._position
        left = max(self._size - start, 0)
        wanted = left if size < 0 else min(size, left)

        def attempt() -> bytes:
            with self._connected() as stream:
                stream.seek(start)
                content = bytes(stream.read(wanted))
                if len(content) != wanted:
                    raise OSError(f"{len(content)} of {wanted} bytes came")
                return content

        content = retried("read", self._file, attempt) if wanted else b""
        self._position = start + len(content)
        return content

    def close(self) -> None:
        """Leave the store's file."""
        self._disconnect()
        super().close()

    def _measured(self) -> int:
        with self._connected() as stream:
            return int(stream.seek(0, io.SEEK_END))

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """The store's own file; after an error the next try opens it again."""
        try:
            if self._stream is None:
                by_fsspec = fsspec_store_of(self._file)
                if by_fsspec is not None:
                    self._stream = by_fsspec[0].open(by_fsspec[1], "rb")
                else:
                    store, path = store_of(self._file)
                    self._stream = store.open_input_file(path)
            yield self._stream
        except Exception:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(Exception):  # what was read is there, or is read again
                stream.close()
