"""Pipes, devices and sockets, which may hold images as little as folders do, and of which reading may never end."""

import stat
from pathlib import Path

_KINDS = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


def special_kind(path: Path) -> str | None:
    """What a path leads to, "pipe", "socket" or "device"; None if it is a file or a folder, or cannot be asked."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return _KINDS.get(stat.S_IFMT(mode))
