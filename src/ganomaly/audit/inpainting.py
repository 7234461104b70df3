"""Paint defects out of images: texture of the same image, put in along the cheapest seam.

In the manner of Hays and Efros, *Scene Completion Using Millions of Photographs*, SIGGRAPH 2007, with the image
itself as the source: match the surroundings, cut along a minimum cut, adapt the brightness by a membrane. What is
painted is a function of image, mask and seed, so an audit repeats.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ganomaly.audit.donors import find_donor
from ganomaly.audit.membrane import smooth_continuation
from ganomaly.audit.seam import pixels_of_patch
from ganomaly.data import Pixels
from ganomaly.errors import ImageError, UsageError

_SMALLEST_PART = 4  # pixels; a part of this size without a donor is filled smoothly
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.bool_)


@dataclass(frozen=True)
class Widths:
    """How wide the zones of a painting are, in pixels.

    Attributes
    ----------
    clearance : int
        Around the mask; painted too, since masks are drawn by hand.
    band : int
        Around that; where the seam runs.
    rim : int
        Around that; what a donor has to match.
    part : int
        Longest side of a part that is copied in one piece.
    search : int
        How far donors are searched for.
    """

    clearance: int
    band: int
    rim: int
    part: int
    search: int

    @classmethod
    def of(cls, height: int, width: int) -> "Widths":
        """Widths for an image of a height and width in pixels; a photograph twice as fine has them twice as wide."""
        side = float(np.sqrt(height * width))
        return cls(
            clearance=max(1, round(0.01 * side)),
            band=max(2, round(0.0125 * side)),
            rim=max(3, round(0.02 * side)),
            part=min(max(16, round(0.2 * side)), 128),
            search=min(max(16, round(0.5 * side)), 256),
        )


def painted_region(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels that `paint_out` may change: the mask and a margin of 2 % of the image's side around it."""
    widths = Widths.of(*mask.shape)
    return _grown(mask, widths.clearance + widths.band)


def paint_out(image: Pixels, mask: NDArray[np.bool_], *, seed: int | Sequence[int] = 0) -> Pixels:
    """Paint the masked part of an image over with texture of the same image.

    Parameters
    ----------
    image : ndarray
        `uint8` or `uint16` `[H, W, C]`.
    mask : ndarray
        `bool[H, W]`, the defect.
    seed : int or sequence of int
        Chooses among sources of texture that match equally well.

    Returns
    -------
    ndarray
        Of the image's type and shape; equal to `image` outside `painted_region`.

    Raises
    ------
    UsageError
        If the mask is of another size than the image.
    ImageError
        If the region to paint is the whole image, so that nothing is left to paint with.

    Examples
    --------
    >>> image = np.tile(np.array([[10], [90]], dtype=np.uint8), (20, 40)).reshape(40, 40, 1)
    >>> defective, mask = image.copy(), np.zeros((40, 40), dtype=bool)
    >>> mask[18:22, 18:22] = True
    >>> defective[mask] = 255
    >>> bool((paint_out(defective, mask) == image).all())
    True
    """
    if mask.shape != image.shape[:2]:
        raise UsageError(
            f"the mask is {mask.shape[1]}×{mask.shape[0]} px, but the image is {image.shape[1]}×{image.shape[0]} px"
        )
    region = painted_region(mask)
    if region.all():
        raise ImageError(
            "has a mask that, with its margin, covers the whole image; nothing is left to paint with"
        )
    painted = image.copy()
    if region.any():
        canvas = _Canvas(image, mask, region, np.random.default_rng(seed))
        for component in _connected(region):
            canvas.fill(component)
        original = image[~region]
        values = np.rint(canvas.values[region]).clip(original.min(), original.max())
        painted[region] = values.astype(image.dtype)
    return painted


class _Canvas:
    """An image that is being painted, part by part; a part is `int[n, 2]`, rows and columns of its pixels."""

    def __init__(
        self,
        image: Pixels,
        mask: NDArray[np.bool_],
        region: NDArray[np.bool_],
        generator: np.random.Generator,
    ) -> None:
        self.values = image.astype(np.float64)
        self._region = region
        self._unfilled = region.copy()
        self._widths = Widths.of(*mask.shape)
        self._core = _grown(mask, self._widths.clearance)
        self._generator = generator

    def fill(self, component: NDArray[np.int64]) -> None:
        """Fill a connected component of the region, halving what no single donor covers."""
        parts = [component]
        while parts:
            # the part with the largest share of filled surroundings comes first
            part = parts.pop(int(np.argmax([self._filled_share(part) for part in parts])))
            longest = int(np.ptp(part, axis=0).max()) + 1
            if longest > self._widths.part or not self._filled(part, smoothly=longest <= _SMALLEST_PART):
                parts += _halves(part)

    def _filled(self, part: NDArray[np.int64], *, smoothly: bool) -> bool:
        """Fill a part from a donor, or smoothly if there is none; False if neither was possible."""
        widths = self._widths
        window = _box(part, widths.search + widths.rim, self._region.shape)
        values, unfilled = self.values[window], self._unfilled[window]
        inside = self._inside(part, window)
        rim = _grown(inside, widths.rim) & ~unfilled
        band = inside & ~self._core[window]
        given = rim | band  # pixels of the band are the image's own
        shift = find_donor(values, self._region[window], inside | rim, given, self._generator)
        if shift is None and not smoothly:
            return False
        donor = np.zeros_like(values)
        if shift is not None:
            rows, columns = np.nonzero(inside | rim)
            donor[rows, columns] = values[rows + shift[0], columns + shift[1]]
        difference = np.where(given[..., None], values - donor, 0.0)
        close = _box(part, widths.rim, self._region.shape, window)
        offset = smooth_continuation(
            difference[close], inside[close], given[close], sigma=float(max(1, widths.clearance))
        )
        # no seam towards parts that are yet to be filled
        free = band & ~_grown(unfilled & ~inside, 2)
        error = ((difference[close] - offset) ** 2).sum(axis=2)
        taken = pixels_of_patch(error, free[close], (inside & ~free)[close])
        values[close][taken] = (donor[close] + offset)[taken]
        unfilled[inside] = False
        return True

    def _inside(self, part: NDArray[np.int64], window: tuple[slice, slice]) -> NDArray[np.bool_]:
        inside = np.zeros(self._region[window].shape, dtype=np.bool_)
        inside[part[:, 0] - window[0].start, part[:, 1] - window[1].start] = True
        return inside

    def _filled_share(self, part: NDArray[np.int64]) -> float:
        """Share of the pixels around a part that need no filling, or no longer."""
        window = _box(part, 1, self._region.shape)
        inside = self._inside(part, window)
        around = ndimage.binary_dilation(inside, _EIGHT_NEIGHBOURS) & ~inside
        return float((around & ~self._unfilled[window]).sum() / max(int(around.sum()), 1))


def _grown(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The mask and all pixels within a distance of it."""
    if not mask.any():
        return mask.copy()
    grown: NDArray[np.bool_] = ndimage.distance_transform_edt(~mask) <= width
    return grown


def _connected(region: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """The connected components of a region, each as `int[n, 2]`."""
    labels, _ = cast(tuple[NDArray[np.int32], int], ndimage.label(region, _EIGHT_NEIGHBOURS))
    boxes: list[Any] = ndimage.find_objects(labels)
    for number, box in enumerate(boxes, start=1):
        yield np.argwhere(labels[box] == number) + [side.start for side in box]


def _halves(part: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Cut a part in the middle of its longer side; each connected piece is a part."""
    low, high = part.min(axis=0), part.max(axis=0)
    axis = int(np.argmax(high - low))
    middle = (low[axis] + high[axis]) // 2
    for half in (part[part[:, axis] <= middle], part[part[:, axis] > middle]):
        mask = np.zeros(high - low + 1, dtype=np.bool_)
        mask[tuple((half - low).T)] = True
        for piece in _connected(mask):
            yield piece + low


def _box(
    part: NDArray[np.int64],
    margin: int,
    shape: tuple[int, ...],
    window: tuple[slice, slice] | None = None,
) -> tuple[slice, slice]:
    """The bounding box of a part with a margin, within an image; relative to a window of it, if one is given."""
    low = (part.min(axis=0) - margin).clip(0)
    high = (part.max(axis=0) + 1 + margin).clip(max=shape)
    start = (0, 0) if window is None else (window[0].start, window[1].start)
    return slice(low[0] - start[0], high[0] - start[0]), slice(low[1] - start[1], high[1] - start[1])
