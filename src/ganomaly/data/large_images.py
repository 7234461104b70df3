"""Large images: one at a time, and only if they fit in memory, since a system ends a process that takes too much."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ganomaly.data.resources import available_memory
from ganomaly.errors import ImageError

LARGE_PIXELS = 2**24
"""Height times width above which an image is large."""

_SMALL_BYTES = 2**26  # always there; asking the system takes as long as decoding a small image

# of the process, as its memory is
_one_at_a_time = threading.RLock()


@contextmanager
def one_large_image(height: int, width: int) -> Iterator[None]:
    """Wait until no other thread has a large image in memory; not for an image that is not large."""
    if height * width <= LARGE_PIXELS:
        yield
        return
    with _one_at_a_time:
        yield


def check_memory(n_bytes: float) -> None:
    """Raise `ImageError` if an image needs more bytes than are free."""
    if n_bytes <= _SMALL_BYTES:
        return
    free = available_memory()
    if n_bytes > free:
        raise ImageError(
            f"does not fit into memory: it takes {n_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} are free; scale it down"
        )
