"""Pixel-level metrics: anomaly maps against masks, in memory that does not grow with the images."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from sklearn.metrics import auc, roc_curve

from ganomaly.errors import UsageError

MAX_VALUES = 2**20  # distinct map values that are counted exactly; with more, close values are merged
MERGE_PIXELS = 2**21  # pixels collected before they are sorted into the histogram
EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.int64)  # regions touch at corners too, as in MVTec's own code


def pixel_auroc(
    maps: Iterable[NDArray[np.floating]], masks: Iterable[NDArray[np.generic] | None]
) -> float | None:
    """Area under the ROC curve over all pixels of all images; see `PixelTally`.

    Parameters
    ----------
    maps : iterable of ndarray
        `float[H, W]`, one anomaly map for each image; sizes may differ. Taken one at a time.
    masks : iterable of ndarray or None
        `[H, W]`, not zero where the pixel is anomalous; None where the whole image is normal.
    """
    return _tally(maps, masks).auroc()


def aupro(
    maps: Iterable[NDArray[np.floating]],
    masks: Iterable[NDArray[np.generic] | None],
    fpr_limit: float = 0.3,
) -> float | None:
    """Area under the per-region overlap curve up to `fpr_limit`; see `PixelTally.aupro`.

    Parameters
    ----------
    maps, masks : iterable of ndarray
        As in `pixel_auroc`.
    fpr_limit : float
        In (0, 1].
    """
    return _tally(maps, masks).aupro(fpr_limit)


class PixelTally:
    """Counts of map values at normal and at anomalous pixels, added image by image.

    Memory does not grow with the number of images: up to about a million distinct float32 values are counted exactly;
    with more, values with the same leading bits are merged (about 16 significant bits remain, which changes the areas
    by less than 1e-4). A large image with a mask takes 5 bytes for each of its pixels.

    Examples
    --------
    >>> tally = PixelTally()
    >>> tally.add(np.array([[0.1, 0.9]]), np.array([[0, 255]]))
    >>> tally.add(np.array([[0.2, 0.3], [0.2, 0.1]]), None)
    >>> tally.auroc(), tally.aupro()
    (1.0, 1.0)
    """

    def __init__(self) -> None:
        """Start with no pixels."""
        self._normal = _Histogram()
        self._anomalous = _Histogram()
        self._regions = _Histogram()  # anomalous pixels again, each with weight 1 / (pixels of its region)

    def add(self, anomaly_map: NDArray[np.floating], mask: NDArray[np.generic] | None) -> None:
        """Count the pixels of one image.

        Parameters
        ----------
        anomaly_map : ndarray
            `float[H, W]`, finite.
        mask : ndarray or None
            `[H, W]`, not zero where the pixel is anomalous; None where the whole image is normal.

        Raises
        ------
        UsageError
            If the sizes differ or the map holds a number that is not finite.
        """
        if anomaly_map.ndim != 2:
            raise UsageError(f"an anomaly map has shape {anomaly_map.shape}, but it must be [H, W]")
        if not all(np.isfinite(_float32(anomaly_map[rows])).all() for rows in _strips(anomaly_map)):
            raise UsageError("an anomaly map holds NaN or infinity; score the image again in fp32")
        if mask is None:
            for rows in _strips(anomaly_map):
                self._normal.add(_float32(anomaly_map[rows]).ravel())
            return
        if mask.shape != anomaly_map.shape:
            raise UsageError(
                f"a mask of {mask.shape} pixels came with a map of {anomaly_map.shape}; sizes must agree"
            )
        regions, n_regions = label(mask != 0, structure=EIGHT_NEIGHBOURS)
        pixels = np.zeros(n_regions + 1, np.int64)  # of each region
        for rows in _strips(regions):
            pixels += np.bincount(regions[rows].ravel(), minlength=n_regions + 1)
        # each region has a total weight of 1, so that small defects count as much as large ones
        weight = 1 / np.maximum(pixels, 1)
        for rows in _strips(regions):
            values, anomalous = _float32(anomaly_map[rows]), regions[rows] > 0
            self._normal.add(values[~anomalous])
            self._anomalous.add(values[anomalous])
            self._regions.add(values[anomalous], weight[regions[rows][anomalous]])

    def auroc(self) -> float | None:
        """Area under the ROC curve over all pixels, or None if they are all of one class."""
        curve = self._curve(self._anomalous)
        return None if curve is None else float(auc(*curve))

    def aupro(self, fpr_limit: float = 0.3) -> float | None:
        """Area under the per-region overlap (PRO) over the false-alarm rate of normal pixels.

        PRO at a threshold is the share of a region's pixels above it, averaged over all connected regions
        of the masks. The area is taken from 0 to `fpr_limit` and divided by it (Bergmann et al.,
        *Uninformed Students*, CVPR 2020).

        Parameters
        ----------
        fpr_limit : float
            In (0, 1].

        Returns
        -------
        float or None
            In [0, 1]; None without anomalous or without normal pixels.

        Raises
        ------
        UsageError
            If `fpr_limit` is outside (0, 1].
        """
        if not 0 < fpr_limit <= 1:
            raise UsageError(f"fpr_limit is {fpr_limit}, but it must be above 0 and at most 1")
        curve = self._curve(self._regions)
        if curve is None:
            return None
        fpr, pro = curve
        inside = fpr <= fpr_limit
        fpr_inside = np.append(fpr[inside], fpr_limit)
        pro_inside = np.append(pro[inside], _value_at(fpr_limit, fpr, pro))
        return float(auc(fpr_inside, pro_inside) / fpr_limit)

    def _curve(self, anomalous: "_Histogram") -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Share of the normal pixels above each value, and share of the anomalous weight above it."""
        precision = min(self._normal.precision(), anomalous.precision())
        normal_values, normal_weights = self._normal.table(precision)
        anomalous_values, anomalous_weights = anomalous.table(precision)
        if len(normal_values) == 0 or len(anomalous_values) == 0:
            return None
        fpr, tpr, _ = roc_curve(
            np.repeat([False, True], [len(normal_values), len(anomalous_values)]),
            np.concatenate([normal_values, anomalous_values]),
            sample_weight=np.concatenate([normal_weights, anomalous_weights]),
            drop_intermediate=False,
        )
        return fpr, tpr


class _Histogram:
    """How many pixels have each float32 value, exact up to `MAX_VALUES` distinct ones."""

    def __init__(self) -> None:
        self._bits = 32  # leading bits of a value that count
        self._keys = np.empty(0, np.uint32)
        self._weights = np.empty(0, np.float64)
        self._pending: list[tuple[NDArray[np.uint32], NDArray[np.float64] | None]] = []
        self._n_pending = 0

    def add(self, values: NDArray[np.float32], weights: NDArray[np.float64] | None = None) -> None:
        """Add `float32[n]` values, each once or with its weight from `float64[n]`."""
        self._pending.append((_ordered_bits(values), weights))
        self._n_pending += len(values)
        if self._n_pending >= MERGE_PIXELS:
            self._merge()

    def precision(self) -> int:
        """Leading bits, at most 32, in which values are distinguished."""
        self._merge()
        return self._bits

    def table(self, precision: int) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
        """Return numbers in the order of the values, cut to `precision` bits, and their weights."""
        return self._keys >> np.uint32(self._bits - precision), self._weights

    def _merge(self) -> None:
        if not self._pending:
            return
        keys = np.concatenate([keys for keys, _ in self._pending]) >> np.uint32(32 - self._bits)
        weights = [weights for _, weights in self._pending if weights is not None]
        unique, sums = _summed(keys, np.concatenate(weights) if weights else None)
        self._pending.clear()
        self._n_pending = 0
        self._keys, self._weights = _summed(
            np.concatenate([self._keys, unique]), np.concatenate([self._weights, sums])
        )
        while len(self._keys) > MAX_VALUES:
            self._bits -= 1
            self._keys, self._weights = _summed(self._keys >> np.uint32(1), self._weights)


def _strips(image: NDArray[np.generic]) -> Iterator[slice]:
    """Slices of rows: what is computed of each takes little memory, also where the image is very large."""
    height, width = image.shape
    step = max(1, MERGE_PIXELS // max(1, width))
    return (slice(first, first + step) for first in range(0, height, step))


def _float32(values: NDArray[np.floating]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is too large becomes infinity, which is refused
        return np.asarray(values, dtype=np.float32)


def _ordered_bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Map float32 to uint32 so that the order stays: leading bits are sign, exponent, then precision."""
    bits = (values + np.float32(0)).view(np.uint32)  # adding 0 turns −0 into 0
    negative = bits >> np.uint32(31) == 1
    return np.where(negative, ~bits, bits | np.uint32(0x80000000))


def _summed(
    keys: NDArray[np.uint32], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """Return the distinct keys, sorted, and the sum of the weights of each; without weights its count."""
    if weights is None:
        unique, counts = np.unique(keys, return_counts=True)
        return unique, np.asarray(counts, dtype=np.float64)
    unique, position = np.unique(keys, return_inverse=True)
    return unique, np.asarray(np.bincount(position, weights), dtype=np.float64)


def _tally(maps: Iterable[NDArray[np.floating]], masks: Iterable[NDArray[np.generic] | None]) -> PixelTally:
    tally = PixelTally()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        tally.add(anomaly_map, mask)
    return tally


def _value_at(limit: float, fpr: NDArray[np.float64], pro: NDArray[np.float64]) -> float:
    """Height of a curve at `limit`; its highest point there where it rises vertically."""
    after = int(np.searchsorted(fpr, limit, side="right"))
    return float(np.interp(limit, fpr[after - 1 : after + 1], pro[after - 1 : after + 1]))
