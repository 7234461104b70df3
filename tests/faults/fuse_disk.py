"""A disk through FUSE that mirrors a folder and has faults: run as `fuse_disk.py FOLDER MOUNT_POINT FAULT AT`.

Unlike the injected file layer it lies below the system: it also sees what is mapped into memory, read, and flushed
when a file is closed. The fault is one of

- `none`;
- `fail from`: the AT-th change, and each one after it, is an input/output error;
- `bad blocks`: reading what is behind the first AT bytes of a file is an input/output error;
- `slow`: each operation takes AT microseconds.
"""

import errno
import os
import sys
import time
from pathlib import Path
from typing import Any

from mfusepy import FUSE, Operations

STATUS = ("st_gid", "st_mode", "st_nlink", "st_size", "st_uid")
TIMES = ("st_atime", "st_ctime", "st_mtime")
SPACE = (
    "f_bavail",
    "f_bfree",
    "f_blocks",
    "f_bsize",
    "f_favail",
    "f_ffree",
    "f_files",
    "f_frsize",
    "f_namemax",
)


class FaultyDisk(Operations):
    """The files of a folder, with a fault."""

    use_ns = True

    def __init__(self, folder: str, fault: str, at: int) -> None:
        self._folder, self._fault, self._at = Path(folder), fault, at
        self._changes = 0

    def _changed(self) -> None:
        self._changes += 1
        self._wait()
        if self._fault == "fail from" and self._changes >= self._at:
            raise OSError(errno.EIO, "a fault")

    def _wait(self) -> None:
        if self._fault == "slow":
            time.sleep(self._at / 1e6)

    def _at_home(self, path: str) -> Path:
        return self._folder / path.removeprefix("/")

    # --- reading

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        status = os.lstat(self._at_home(path))
        times = {name: getattr(status, f"{name}_ns") for name in TIMES}
        return {name: getattr(status, name) for name in STATUS} | times

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *(entry.name for entry in self._at_home(path).iterdir())]

    def readlink(self, path: str) -> str:
        return str(self._at_home(path).readlink())

    def statfs(self, path: str) -> dict[str, int]:
        space = os.statvfs(self._at_home(path))
        return {name: getattr(space, name) for name in SPACE}

    def open(self, path: str, flags: int) -> int:
        return os.open(self._at_home(path), flags)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._wait()
        if self._fault == "bad blocks" and min(offset + size, os.fstat(fh).st_size) > self._at:
            raise OSError(errno.EIO, "a fault")
        return os.pread(fh, size, offset)

    # --- changing

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._changed()
        return os.open(self._at_home(path), os.O_RDWR | os.O_CREAT, mode)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._changed()
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self._changed()
        os.truncate(self._at_home(path), length)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._changed()
        os.fsync(fh)
        return 0

    def flush(self, path: str, fh: int) -> int:
        if self._fault == "fail from" and self._changes >= self._at:
            raise OSError(errno.EIO, "a fault")
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def rename(self, old: str, new: str) -> int:
        self._changed()
        self._at_home(old).rename(self._at_home(new))
        return 0

    def unlink(self, path: str) -> int:
        self._changed()
        self._at_home(path).unlink()
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._changed()
        self._at_home(path).mkdir(mode)
        return 0

    def rmdir(self, path: str) -> int:
        self._changed()
        self._at_home(path).rmdir()
        return 0

    def chmod(self, path: str, mode: int) -> int:
        self._changed()
        self._at_home(path).chmod(mode)
        return 0

    def utimens(self, path: str, times: Any = None) -> int:
        os.utime(self._at_home(path), ns=times)
        return 0


if __name__ == "__main__":
    folder, mount_point, fault, at = sys.argv[1:]
    FUSE(FaultyDisk(folder, fault, int(at)), mount_point, foreground=True, nothreads=True)
