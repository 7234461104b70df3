"""Thumbnails for the report: encoded at once, and held only for the images that matter most."""

import base64
import heapq
import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganomaly.errors import UsageError
from ganomaly.outputs.panels import Panels

LONGER_SIDE = 128  # pixels
LOSSLESS_SIDE = 64  # pixels; up to here single pixels are visible, and lossless files are still small
QUICK = {"quality": 20, "method": 1}  # effort of lossless WebP: 3 % larger than the best, six times as fast
JPEG_QUALITY = 75  # JPEG is a seventh larger than WebP here, and five times as fast to write
SHARE_FOR_MISSES = 4  # one in this many images with thumbnails is reserved for likely misses


@dataclass(frozen=True)
class Thumbnail:
    """One encoded panel.

    Attributes
    ----------
    name : str
        Of the panel, such as "reconstruction".
    width, height : int
        In pixels, at most `LONGER_SIDE`.
    uri : str
        The file as a data URI.
    """

    name: str
    width: int
    height: int
    uri: str


def encode(name: str, panel: NDArray[np.uint8]) -> Thumbnail:
    """Shrink a panel to `LONGER_SIDE` and encode it, lossless if it is small.

    Parameters
    ----------
    name : str
        Of the panel.
    panel : ndarray
        `uint8[H, W]`, `[H, W, 1]` (gray) or `[H, W, 3]` (RGB).

    Raises
    ------
    UsageError
        For another shape or type.
    """
    gray = panel.ndim == 2 or (panel.ndim == 3 and panel.shape[2] == 1)
    colour = panel.ndim == 3 and panel.shape[2] == 3
    if panel.dtype != np.uint8 or not (gray or colour) or panel.size == 0:
        raise UsageError(
            f"the panel {name!r} is {panel.dtype} of shape {panel.shape}; "
            "the report takes uint8 of shape [H, W], [H, W, 1] or [H, W, 3]"
        )
    image = Image.fromarray(np.ascontiguousarray(panel.reshape(panel.shape[:2]) if gray else panel))
    image.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    file = io.BytesIO()
    if max(image.size) <= LOSSLESS_SIDE:
        media_type = "image/webp"
        image.save(file, "WEBP", lossless=True, **QUICK)
    else:
        media_type = "image/jpeg"
        image.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    base64_text = base64.b64encode(file.getvalue()).decode("ascii")
    return Thumbnail(name, image.width, image.height, f"data:{media_type};base64,{base64_text}")


@dataclass(order=True)
class _Entry:
    priority: float
    row: int
    thumbnails: list[Thumbnail] = field(compare=False)


class ThumbnailStore:
    """Thumbnails of a bounded number of images, however many images there are.

    It holds those of the highest scores and, up to a quarter, of labelled anomalous images with the lowest scores:
    the likely misses.

    Parameters
    ----------
    capacity : int
        Images with thumbnails, at least 1.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        # two heaps, each with the next one to drop at its root
        self._highest: list[_Entry] = []
        self._likely_misses: list[_Entry] = []

    def offer(
        self, row: int, score: float, labelled_anomalous: bool | None, panels: Callable[[], Panels] | Panels
    ) -> None:
        """Store the thumbnails of a row if its score qualifies; only then is `panels` called and encoded."""
        reserved = self._capacity // SHARE_FOR_MISSES if labelled_anomalous else 0
        likely_miss = reserved > 0 and _qualifies(-score, self._likely_misses, reserved)
        if not likely_miss and not _qualifies(score, self._highest, self._capacity_for_highest()):
            return
        by_name = panels() if callable(panels) else panels
        entry = _Entry(score, row, [encode(name, panel) for name, panel in by_name.items()])
        if likely_miss:
            self._add_likely_miss(entry, reserved)
        else:
            self._add_highest(entry)

    def by_row(self) -> dict[int, list[Thumbnail]]:
        """Return the thumbnails by row number, in ascending order."""
        entries = sorted([*self._highest, *self._likely_misses], key=lambda entry: entry.row)
        return {entry.row: entry.thumbnails for entry in entries}

    def _capacity_for_highest(self) -> int:
        return self._capacity - len(self._likely_misses)

    def _add_likely_miss(self, entry: _Entry, reserved: int) -> None:
        heapq.heappush(self._likely_misses, _Entry(-entry.priority, entry.row, entry.thumbnails))
        if len(self._likely_misses) > reserved:
            dropped = heapq.heappop(self._likely_misses)
            # it may still be among the highest scores
            self._add_highest(_Entry(-dropped.priority, dropped.row, dropped.thumbnails))
        elif len(self._highest) > self._capacity_for_highest():
            heapq.heappop(self._highest)

    def _add_highest(self, entry: _Entry) -> None:
        heapq.heappush(self._highest, entry)
        if len(self._highest) > self._capacity_for_highest():
            heapq.heappop(self._highest)


def _qualifies(priority: float, heap: list[_Entry], capacity: int) -> bool:
    return len(heap) < capacity or (capacity > 0 and priority > heap[0].priority)
