"""`PyODDetector`: the detector where a detector of PyOD is expected."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from ganomaly.detector import GANomalyDetector
from ganomaly.errors import DataError, UsageError, package_needed

with package_needed("the adapter for PyOD", "pyod"):
    from pyod.models.base import BaseDetector


class PyODDetector(BaseDetector):  # type: ignore[misc]  # PyOD has no types: its base is Any
    """A detector of images by the conventions of PyOD: larger scores are more abnormal, labels are 0 and 1.

    Parameters
    ----------
    detector : GANomalyDetector, optional
        What is fitted: its preset and options; None takes ``GANomalyDetector()``. It stays unfitted itself.
    contamination : float or object of PyThresh, default=0.1
        The share of images above the threshold, in (0, 0.5]. It takes the place of the detector's `false_alarm_rate`.

    Attributes
    ----------
    detector_ : GANomalyDetector
        The fitted detector, which has maps, p-values and `save`.
    decision_scores_ : ndarray
        `float64[N]`, A(x) of the images given to `fit`.
    threshold_ : float
        φ. PyOD's own detectors take the quantile of all of `decision_scores_`; here it is that of the images that
        were held out from training, since scores of images trained on are too low. With an object of PyThresh, what
        that makes of `decision_scores_`.
    labels_ : ndarray
        `int64[N]`, 1 where `decision_scores_` is above `threshold_`.

    Raises
    ------
    ValueError
        If `contamination` is a number outside (0, 0.5].

    References
    ----------
    Zhao, Nasrullah, Li. *PyOD: A Python Toolbox for Scalable Outlier Detection.* JMLR 20(96), 2019.

    Examples
    --------
    >>> from ganomaly import GANomalyDetector
    >>> detector = PyODDetector(GANomalyDetector("features", seed=1), contamination=0.05)
    >>> detector.get_params()["detector__preset"]
    'features'
    """

    def __init__(self, detector: GANomalyDetector | None = None, contamination: Any = 0.1) -> None:
        super().__init__(contamination=contamination)
        self.detector = detector

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn from images, all or nearly all of them normal.

        Parameters
        ----------
        X : ndarray, list of paths, or folder
            `uint8` or `uint16` `[N, H, W(, C)]`, or what else `GANomalyDetector.fit` takes.
        y : ignored
            By PyOD's convention.

        Raises
        ------
        UsageError
            If X is a table of numbers, `[N, features]`.
        DataError
            If an image cannot be read: there is a score for each image that is given.
        GANomalyError
            As `GANomalyDetector.fit`.
        """
        _check_are_images(X)
        self._set_n_classes(y)
        fitted = clone(self.detector) if self.detector is not None else GANomalyDetector()
        is_number = isinstance(self.contamination, float | int)
        if is_number:
            fitted.set_params(false_alarm_rate=self.contamination)
        fitted.fit(X)
        scores = _scores_without_warnings(fitted, X)
        if np.isnan(scores).any():
            raise DataError(
                f"{np.isnan(scores).sum()} of the {len(scores)} images cannot be read, the first is number "
                f"{np.flatnonzero(np.isnan(scores))[0] + 1}; leave them out, since PyOD has a score for each"
            )
        self.detector_ = fitted
        self.decision_scores_: NDArray[np.float64] = scores
        self._process_decision_scores()
        if is_number:
            self.threshold_ = -fitted.offset_
            self.labels_ = (scores > self.threshold_).astype(np.int64)
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """A(x), `float64[N]`, larger is more abnormal; infinite, with a warning, for an image that cannot be read.

        Parameters
        ----------
        X
            Images, as for `fit`.

        Raises
        ------
        UsageError
            If X is a table of numbers.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        _check_are_images(X)
        fitted = getattr(self, "detector_", None) or GANomalyDetector()  # who raises that it has no model
        scores = fitted.anomaly_score(X)
        return np.where(np.isnan(scores), np.inf, scores)

    def predict_proba(self, X: Any, method: str = "linear", return_confidence: bool = False) -> Any:
        """Scores as probabilities, `float64[N, 2]`, as PyOD makes them of `decision_scores_`; a p-value is better.

        Parameters
        ----------
        X : ndarray or list
            Images, as for `fit`; no folder.
        method : {'linear', 'unify'}
            Minimum and maximum, or a normal distribution.
        return_confidence : bool
            Whether to return PyOD's confidence, `float64[N]`, too.
        """
        return super().predict_proba(_as_array(X), method, return_confidence)  # PyOD asks for X.shape


def _check_are_images(X: Any) -> None:
    if isinstance(X, np.ndarray) and X.ndim == 2:
        raise UsageError(
            f"X has the shape {X.shape}, a table of numbers; this detector takes images, uint8[N, H, W(, C)] or paths"
        )


def _as_array(X: Any) -> NDArray[Any]:
    """Images in an array of N, whatever their sizes."""
    if isinstance(X, np.ndarray):
        return X
    if isinstance(X, str | Path) or not isinstance(X, Sequence):
        raise UsageError("predict_proba takes an array or a list of images; list the images of the folder")
    images = np.empty(len(X), dtype=object)
    images[:] = list(X)
    return images


def _scores_without_warnings(detector: GANomalyDetector, X: Any) -> NDArray[np.float64]:
    """Scores of the images that were just fitted, whose failures were said then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return detector.anomaly_score(X)
