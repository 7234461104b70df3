"""How much memory this process has taken."""

from pathlib import Path


def peak_memory() -> int:
    """The most memory that this process has held at once, in bytes.

    `ru_maxrss` is no measure of it: a process inherits the figure of the one that started it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell how much memory a process has taken")
