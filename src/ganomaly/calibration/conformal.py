"""From scores of normal images to p-values and a threshold that means something.

Split conformal prediction: the calibration images are normal, were kept out of training, and are exchangeable
with the normal images to come. Then the p-value of a new normal image is at most r with probability at most r,
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
# relative; the same image scores differently by less in other batches, on other processors and in graphs
ROUNDING = 2e-5


def images_needed(false_alarm_rate: float) -> int:
    """Number of calibration images that a false-alarm rate needs.

    The smallest p-value with n images is 1 / (1 + n), so that n ≥ 1/r − 1.

    >>> images_needed(0.01), images_needed(0.05)
    (99, 19)
    """
    return max(1, math.ceil(1 / false_alarm_rate - 1 - 1e-9))


def conformal_threshold(scores: NDArray[np.float64], false_alarm_rate: float) -> float:
    """What at most the asked share of new normal scores exceeds, or the lowest share that n scores can give.

    Parameters
    ----------
    scores : ndarray
        `float64[n]` of normal images, n ≥ 1.
    false_alarm_rate : float
        In (0, 1).
    """
    n = len(scores)
    # the k-th largest score: at most k − 1 calibration scores reach one above it
    k = max(1, math.floor(false_alarm_rate * (1 + n) + 1e-9))
    return float(np.sort(scores)[max(n - k, 0)])


@dataclass(frozen=True, eq=False)
class MapCalibration:
    """What the anomaly maps of normal images kept out of training look like, for drawing maps.

    Attributes
    ----------
    medians, maxima : ndarray
        `float64[n]`, of the map of each calibration image.
    false_alarm_rate : float
        The rate the user asked for.
    """

    medians: NDArray[np.float64]
    maxima: NDArray[np.float64]
    false_alarm_rate: float

    @property
    def usual(self) -> float:
        """The value in the middle of a normal image."""
        return float(np.median(self.medians))

    @property
    def threshold(self) -> float:
        """What the map of a new normal image exceeds somewhere with the asked rate only."""
        return conformal_threshold(self.maxima, self.false_alarm_rate)

    def level(self, anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
        """A map on the scale on which `usual` is 0 and `threshold` is 1; of the shape of the map, not cut off."""
        span = self.threshold - self.usual
        return np.asarray((anomaly_map - self.usual) / (span if span > 0 else 1.0), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Scores of normal images kept out of training, and what follows from them.

    Parameters
    ----------
    scores : ndarray
        `float64[n]`, A(x) of the calibration images; kept sorted.
    false_alarm_rate : float
        The rate the user asked for.

    Raises
    ------
    TrainingError
        If a score is not a finite number ≥ 0, or all of two or more are the same: then no score tells
        images apart.
    """

    scores: NDArray[np.float64]
    false_alarm_rate: float

    def __post_init__(self) -> None:
        scores = np.sort(np.asarray(self.scores, dtype=np.float64).ravel())
        if len(scores) == 0:
            raise TrainingError(
                "there are no calibration scores, so no threshold; calibrate on normal images"
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
        """Whether there are as many calibration images as the asked false-alarm rate needs."""
        return len(self.scores) >= images_needed(self.false_alarm_rate)

    @property
    def attained_rate(self) -> float:
        """The false-alarm rate the threshold stands for: the asked one, or the lowest that n images give."""
        return max(self.false_alarm_rate, 1 / (1 + len(self.scores)))

    @property
    def threshold(self) -> float:
        """φ: an image is anomalous if A(x) > φ, which is the same as p-value ≤ `attained_rate`."""
        return conformal_threshold(self.scores, self.false_alarm_rate)

    def p_value(self, anomaly_score: ArrayLike) -> NDArray[np.float64]:
        """p = (1 + #calibration scores ≥ A) / (1 + #calibration), in (0, 1]; of the shape of the input."""
        n = len(self.scores)
        reached = n - np.searchsorted(self.scores, np.asarray(anomaly_score, dtype=np.float64), side="left")
        return np.asarray((1 + reached) / (1 + n), dtype=np.float64)

    def is_anomaly(self, anomaly_score: ArrayLike) -> NDArray[np.bool_]:
        """Whether A(x) > φ; of the shape of the input."""
        return np.asarray(np.asarray(anomaly_score, dtype=np.float64) > self.threshold)

    def normalized_score(self, anomaly_score: ArrayLike) -> NDArray[np.float64]:
        """A(x) on a scale from 0 to 1 for people: 0.1 is the median normal image, 0.5 the threshold.

        A logistic curve in log A(x), monotone, and fixed by the calibration images alone.
        """
        score = np.asarray(anomaly_score, dtype=np.float64)
        tiny = np.finfo(np.float64).tiny
        log_threshold = math.log(max(self.threshold, tiny))
        log_median = math.log(max(float(np.median(self.scores)), tiny))
        target = math.log(1 / MEDIAN_NORMALIZED_SCORE - 1)
        steepness = target / max(log_threshold - log_median, tiny)
        steepness = min(max(steepness, STEEPNESS_LIMITS[0]), STEEPNESS_LIMITS[1])
        with np.errstate(divide="ignore", over="ignore"):
            return np.asarray(1 / (1 + np.exp(-steepness * (np.log(score) - log_threshold))))

    def shortfall(self) -> str | None:
        """One sentence if there are too few calibration images for the asked rate, else None."""
        if self.enough:
            return None
        needed = images_needed(self.false_alarm_rate)
        return (
            f"a false-alarm rate of {self.false_alarm_rate:g} needs {needed} calibration images, but only "
            f"{len(self.scores)} could be kept out of training; the threshold "
            f"stands for a rate of {self.attained_rate:.2g} instead; have {math.ceil(needed / LARGEST_SHARE)} "
            "normal images or more, of which a third is kept out at most, or ask for a higher rate"
        )
