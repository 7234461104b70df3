"""Processors and memory that this process may use, within the limits of a container."""

import os
from pathlib import Path

_DEFAULT_MEMORY = 2 * 2**30  # bytes, where the system does not say
_CGROUP = Path("/sys/fs/cgroup")


def usable_processors() -> int:
    """Number of processors that this process may run on; `GANOMALY_PROCESSORS` in the environment sets fewer."""
    limit = os.environ.get("GANOMALY_PROCESSORS", "")
    return min(_processors(), int(limit)) if limit.isdigit() and int(limit) > 0 else _processors()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory() -> int:
    """Bytes that are free now on the machine and in the container; 2 GiB where the system does not say."""
    free = _free_on_machine()
    in_container = _free_in_container()
    return free if in_container is None else max(0, min(free, in_container))


def total_memory() -> int | None:
    """Bytes that the machine and the container have at most; None where the system does not say."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None  # Windows
    try:
        return min(total, int((_CGROUP / "memory.max").read_text()))  # "max" where there is none
    except (OSError, ValueError):
        return total


def _free_on_machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass  # not Linux
    return _DEFAULT_MEMORY


def _free_in_container() -> int | None:
    """Limit of the control group less its use; None where there is no limit."""
    try:
        limit = int((_CGROUP / "memory.max").read_text())  # "max" where there is none
        used = int((_CGROUP / "memory.current").read_text())
        for line in (_CGROUP / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):  # cached files, which are dropped when memory is needed
                used -= int(line.split()[1])
    except (OSError, ValueError):
        return None
    return limit - used
