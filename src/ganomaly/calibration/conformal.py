"""From scores of normal images to p-values and a threshold with a guaranteed false-alarm rate.

Split conformal prediction: the calibration images are normal, were held out of training, and are exchangeable
with new normal images. Then the p-value of a new normal image is at most r with probability at most r,
for every r, at any number of calibration images (Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random
World*, 2005; for anomaly detection Bates et al., *Testing for outliers with conformal p-values*, 2023).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganomaly.data.splits import LARGEST_SHARE
from ganomaly.errors import TrainingError

MEDIAN_NORMALIZED_SCORE = 0.1  # normalized score of the median normal image; the threshold is at 0.5
STEEPNESS_LIMITS = (0.5, 50.0)
ROUNDING = 2e-5
"""Relative; bounds how much the score of an image differs between batches, processors and exported graphs."""


def more_needed(needed: int, unit: str) -> str:
    """What gives so many calibration images or patients, in words."""
    n = math.ceil(needed / LARGEST_SHARE)
    what = f"{n} normal images" if unit == "images" else f"images of {n} {unit}"
    return f"provide {what} or more (at most a third calibrates), or choose a higher rate"


def images_needed(false_alarm_rate: float) -> int:
    """Number of calibration images that a false-alarm rate needs.

    The smallest p-value with n images is 1 / (1 + n), so that n ≥ 1/r − 1.

    >>> images_needed(0.01), images_needed(0.05)
    (99, 19)
    """
    return max(1, math.ceil(1 / false_alarm_rate - 1 - 1e-9))


def conformal_threshold(scores: NDArray[np.float64], false_alarm_rate: float) -> float:
    """The threshold that new normal scores exceed at the chosen rate, or at the lowest rate that n scores allow.

    Parameters
    ----------
    scores : ndarray
        `float64[n]` of normal images, n ≥ 1.
    false_alarm_rate : float
        In (0, 1).
    """
    n = len(scores)
    # the k-th largest score: at most k − 1 calibration scores are above it
    k = max(1, math.floor(false_alarm_rate * (1 + n) + 1e-9))
    return float(np.sort(scores)[max(n - k, 0)])


@dataclass(frozen=True, eq=False)
class MapCalibration:
    """The scale of anomaly maps, from the maps of the calibration images; for drawing maps.

    Attributes
    ----------
    medians, maxima : ndarray
        `float64[n]`, of the map of each calibration image.
    false_alarm_rate : float
        The rate that the user chose.
    """

    medians: NDArray[np.float64]
    maxima: NDArray[np.float64]
    false_alarm_rate: float

    @property
    def median(self) -> float:
        """The typical value in the map of a normal image: the median of the medians."""
        return _median(self.medians)

    @property
    def threshold(self) -> float:
        """The map's threshold: the largest value of a new normal map exceeds it at the chosen false-alarm rate."""
        return conformal_threshold(self.maxima, self.false_alarm_rate)

    def level(self, anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale a map so that `median` is 0 and `threshold` is 1; of the shape of the map, not clipped."""
        span = self.threshold - self.median
        return np.asarray((anomaly_map - self.median) / (span if span > 0 else 1.0), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Scores of the calibration images, and the threshold and p-values that follow from them.

    Parameters
    ----------
    scores : ndarray
        `float64[n]`, A(x) of the calibration images; stored sorted.
    false_alarm_rate : float
        The rate that the user chose.

    Raises
    ------
    TrainingError
        If a score is not a finite number ≥ 0, or two or more are all the same: the score then says nothing.
    """

    scores: NDArray[np.float64]
    false_alarm_rate: float

    def __post_init__(self) -> None:
        scores = np.sort(np.asarray(self.scores, dtype=np.float64).ravel())
        if len(scores) == 0:
            raise TrainingError(
                "there are no calibration scores, so no threshold; calibrate with normal images"
            )
        if not np.isfinite(scores).all() or scores[0] < 0:
            raise TrainingError(
                "the scores of the calibration images are not all finite numbers ≥ 0: training has diverged; "
                "train again with another seed or with --precision fp32"
            )
        if len(scores) > 1 and scores[0] == scores[-1]:
            raise TrainingError(
                f"all {len(scores)} calibration images have the same score {scores[0]:g}: the model has "
                "collapsed or the images are copies of each other; check the images, or train with another seed"
            )
        object.__setattr__(self, "scores", scores)

    @property
    def enough(self) -> bool:
        """Whether there are as many calibration images as the chosen false-alarm rate needs."""
        return len(self.scores) >= images_needed(self.false_alarm_rate)

    @property
    def attained_rate(self) -> float:
        """The false-alarm rate of the threshold: the chosen one, or the lowest that n images allow."""
        return max(self.false_alarm_rate, 1 / (1 + len(self.scores)))

    @property
    def threshold(self) -> float:
        """φ: an image is anomalous if A(x) > φ, which is the same as p-value ≤ `attained_rate`."""
        return conformal_threshold(self.scores, self.false_alarm_rate)

    def p_value(self, anomaly_score: ArrayLike) -> NDArray[np.float64]:
        """p = (1 + #calibration scores ≥ A) / (1 + #calibration), in (0, 1]; of the shape of the input."""
        n = len(self.scores)
        below = np.searchsorted(self.scores, np.asarray(anomaly_score, dtype=np.float64), side="left")
        return np.asarray((1 + n - below) / (1 + n), dtype=np.float64)

    def is_anomaly(self, anomaly_score: ArrayLike) -> NDArray[np.bool_]:
        """Whether A(x) > φ; of the shape of the input."""
        return np.asarray(np.asarray(anomaly_score, dtype=np.float64) > self.threshold)

    def normalized_score(self, anomaly_score: ArrayLike) -> NDArray[np.float64]:
        """A(x) on a scale from 0 to 1: 0.1 is the median normal image, 0.5 the threshold.

        A logistic function of log A(x), monotone, and determined by the calibration images alone.
        """
        score = np.asarray(anomaly_score, dtype=np.float64)
        tiny = np.finfo(np.float64).tiny
        log_threshold = math.log(max(self.threshold, tiny))
        log_median = math.log(max(_median(self.scores), tiny))
        logit = math.log(1 / MEDIAN_NORMALIZED_SCORE - 1)
        steepness = logit / max(log_threshold - log_median, tiny)
        steepness = min(max(steepness, STEEPNESS_LIMITS[0]), STEEPNESS_LIMITS[1])
        with np.errstate(divide="ignore", over="ignore"):
            return np.asarray(1 / (1 + np.exp(-steepness * (np.log(score) - log_threshold))))

    def shortfall(self, n_groups: int | None = None) -> str | None:
        """One sentence if there are too few calibration images for the chosen rate, else None.

        Parameters
        ----------
        n_groups : int, optional
            How many patients the images are of, where each calibrates with one image.
        """
        if self.enough:
            return None
        needed, n = images_needed(self.false_alarm_rate), len(self.scores)
        unit = "images" if n_groups is None else "patients"
        return (
            f"a false-alarm rate of {self.false_alarm_rate:g} needs {needed} calibration {unit}, but only {n} "
            f"{'is' if n == 1 else 'are'} available; the threshold has a rate of {self.attained_rate:.2g} instead; "
            f"{more_needed(needed, unit)}"
        )


def _median(values: NDArray[np.float64]) -> float:
    """That of `numpy.median`, which imports masked arrays at its first call: .04 s of the first verdict."""
    middle = len(values) // 2
    ordered = np.sort(values)
    return float(ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)
