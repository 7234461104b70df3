"""How connectors hand images over: a function, an idempotency key, and a pause that grows with each failure."""

import hashlib
import random
from collections.abc import Callable, Mapping
from typing import Any

Submit = Callable[[bytes, str, str], Mapping[str, Any]]
"""`submit(image, name, key)` takes an encoded image and returns its prediction, once that is stored.

The key is the same if the same image is submitted again, as after a crash, so that it is stored once. The function
raises `ImageError`, or returns an `error`, if the image cannot be used; any other exception means "later"."""


def submission_key(name: bytes, image: bytes) -> str:
    """The idempotency key of an image: 64 hexadecimal digits of its name and its content.

    >>> submission_key(b"a.png", b"content")[:8]
    '6d17a262'
    """
    digest = hashlib.sha256(image).digest()
    return hashlib.sha256(digest + name).hexdigest()


def pause(failures: int, first: float, longest: float) -> float:
    """Seconds to wait after so many failures in a row, ≥ 1: doubled each time, times a random number from ½ to 1."""
    return float(min(first * 2.0 ** min(failures - 1, 60), longest) * random.uniform(0.5, 1))
