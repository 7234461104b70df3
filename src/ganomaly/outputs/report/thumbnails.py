"""Small pictures for the report: encoded at once, and kept only for the images worth looking at."""

import base64
import heapq
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganomaly.errors import UsageError

LONGER_SIDE = 128  # pixels
LOSSLESS_SIDE = 64  # pixels; up to here every pixel is seen enlarged, and lossless is still small
QUICK = {"quality": 20, "method": 1}  # effort of lossless WebP: 3 % larger than the most and 6 times as fast
JPEG_QUALITY = 75  # JPEG is a seventh larger than WebP here, and five times as fast to write
SHARE_FOR_MISSES = 4  # one in so many pictures is set aside for anomalous images that score low

Panels = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Thumbnail:
    """One picture of a card.

    Attributes
    ----------
    name : str
        What it shows, such as "reconstruction".
    width, height : int
        In pixels, at most `LONGER_SIDE`.
    uri : str
        The file as a data URI.
    """

    name: str
    width: int
    height: int
    uri: str


def encode(name: str, picture: NDArray[np.uint8]) -> Thumbnail:
    """Shrink a picture to `LONGER_SIDE` and encode it, without loss if it is small.

    Parameters
    ----------
    name : str
        What it shows.
    picture : ndarray
        `uint8[H, W]`, `[H, W, 1]` (gray) or `[H, W, 3]` (RGB).

    Raises
    ------
    UsageError
        For another shape or type.
    """
    gray = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 1)
    colour = picture.ndim == 3 and picture.shape[2] == 3
    if picture.dtype != np.uint8 or not (gray or colour) or picture.size == 0:
        raise UsageError(
            f"the picture {name!r} is {picture.dtype} of shape {picture.shape}; "
            "the report takes uint8 of shape [H, W], [H, W, 1] or [H, W, 3]"
        )
    image = Image.fromarray(np.ascontiguousarray(picture.reshape(picture.shape[:2]) if gray else picture))
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
class _Kept:
    priority: float
    row: int
    thumbnails: list[Thumbnail] = field(compare=False)


class ThumbnailStore:
    """Thumbnails of the images worth looking at, however many images there are.

    They are kept of the highest scores and, up to a quarter, of images known to be anomalous that score lowest:
    those are the misses.

    Parameters
    ----------
    most : int
        Images to keep thumbnails for, at least 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # two heaps; at the root of each is what goes first
        self._highest: list[_Kept] = []
        self._lowest_anomalous: list[_Kept] = []

    def offer(
        self, row: int, score: float, labelled_anomalous: bool | None, panels: Callable[[], Panels] | Panels
    ) -> None:
        """Keep the thumbnails of a row if it is worth it; only then is `panels` called and encoded."""
        set_aside = self._most // SHARE_FOR_MISSES if labelled_anomalous else 0
        likely_miss = set_aside > 0 and _has_room(self._lowest_anomalous, set_aside, -score)
        if not likely_miss and not _has_room(self._highest, self._room_for_highest(), score):
            return
        shown = panels() if callable(panels) else panels
        kept = _Kept(score, row, [encode(name, picture) for name, picture in shown.items()])
        if likely_miss:
            self._keep_likely_miss(kept, set_aside)
        else:
            self._keep_high(kept)

    def by_row(self) -> dict[int, list[Thumbnail]]:
        """Return the thumbnails kept, by row number in ascending order."""
        kept = sorted([*self._highest, *self._lowest_anomalous], key=lambda each: each.row)
        return {each.row: each.thumbnails for each in kept}

    def _room_for_highest(self) -> int:
        return self._most - len(self._lowest_anomalous)

    def _keep_likely_miss(self, kept: _Kept, set_aside: int) -> None:
        heapq.heappush(self._lowest_anomalous, _Kept(-kept.priority, kept.row, kept.thumbnails))
        if len(self._lowest_anomalous) > set_aside:
            higher = heapq.heappop(self._lowest_anomalous)
            # it may still be among the highest scores
            self._keep_high(_Kept(-higher.priority, higher.row, higher.thumbnails))
        elif len(self._highest) > self._room_for_highest():
            heapq.heappop(self._highest)

    def _keep_high(self, kept: _Kept) -> None:
        heapq.heappush(self._highest, kept)
        if len(self._highest) > self._room_for_highest():
            heapq.heappop(self._highest)


def _has_room(heap: list[_Kept], most: int, priority: float) -> bool:
    return len(heap) < most or (most > 0 and priority > heap[0].priority)
