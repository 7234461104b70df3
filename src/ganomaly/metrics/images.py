"""Image-level metrics: anomaly scores against labels.

Plain functions of arrays. Curves and areas are scikit-learn's; what is built on them is defined here.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from ganomaly.errors import UsageError
from ganomaly.metrics.pixels import PixelTally


@dataclass(frozen=True)
class KindEvaluation:
    """One kind of anomaly against all normal images.

    Attributes
    ----------
    image_auroc : float or None
        None without normal images.
    n : int
        Images of this kind.
    detection_rate : float or None
        Share of them with a score above φ.
    """

    image_auroc: float | None
    n: int
    detection_rate: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a model on labelled images; one that is undefined for these images is None.

    Attributes
    ----------
    image_auroc, image_average_precision : float or None
        Areas under the ROC and the precision-recall curve.
    image_f1 : float or None
        At the threshold φ.
    eer : float or None
        Equal error rate: where the false-alarm rate equals the miss rate.
    fpr_at_95_tpr : float or None
        False-alarm rate at a detection rate of 95 %.
    false_alarm_rate, detection_rate : float or None
        Share of the normal and of the anomalous images with a score above φ.
    pixel_auroc, aupro : float or None
        See `PixelTally`; None without masks.
    n_normal, n_anomalous : int
        Images that have a score.
    per_kind : dict of str to KindEvaluation
        In alphabetical order.
    """

    image_auroc: float | None
    image_average_precision: float | None
    image_f1: float | None
    eer: float | None
    fpr_at_95_tpr: float | None
    false_alarm_rate: float | None
    detection_rate: float | None
    pixel_auroc: float | None
    aupro: float | None
    n_normal: int
    n_anomalous: int
    per_kind: dict[str, KindEvaluation]

    def to_json_dict(self) -> dict[str, Any]:
        """Return the metrics under the names of `evaluate --json`, which has no detection rate of a kind."""
        kinds = {kind: {"image_auroc": of.image_auroc, "n": of.n} for kind, of in self.per_kind.items()}
        return asdict(self) | {"per_kind": kinds}


def image_metrics(
    scores: ArrayLike,
    is_anomalous: ArrayLike,
    threshold: float,
    kinds: Sequence[str | None] | None = None,
    *,
    pixels: PixelTally | None = None,
) -> Evaluation:
    """Compare scores with labels.

    Parameters
    ----------
    scores : array_like
        `float[N]`, A(x), finite; larger is more anomalous.
    is_anomalous : array_like
        `bool[N]`, the labels.
    threshold : float
        φ; an image is called anomalous if its score is above it.
    kinds : sequence of str or None, optional
        N names; the kind of anomaly of each anomalous image. Those of normal images are ignored.
    pixels : PixelTally, optional
        Maps and masks of the images, for `pixel_auroc` and `aupro`.

    Raises
    ------
    UsageError
        If lengths differ, or a score or the threshold is not finite.

    Examples
    --------
    >>> figures = image_metrics([0.1, 0.4, 0.35, 0.8], [False, False, True, True], threshold=0.37)
    >>> figures.image_auroc, figures.false_alarm_rate, figures.detection_rate
    (0.75, 0.5, 0.5)
    """
    scores, labels = _check(scores, is_anomalous)
    if not np.isfinite(threshold):
        raise UsageError(f"the threshold is {threshold}, but it must be a finite number")
    if kinds is not None and len(kinds) != len(scores):
        raise UsageError(f"{len(scores)} scores came with {len(kinds)} kinds; give one kind for each score")
    alarms = scores > threshold
    both = bool(labels.any() and not labels.all())
    return Evaluation(
        image_auroc=image_auroc(scores, labels),
        image_average_precision=float(average_precision_score(labels, scores)) if both else None,
        image_f1=float(f1_score(labels, alarms)) if both else None,
        eer=equal_error_rate(scores, labels),
        fpr_at_95_tpr=fpr_at_tpr(scores, labels, 0.95),
        false_alarm_rate=_share(alarms[~labels]),
        detection_rate=_share(alarms[labels]),
        pixel_auroc=None if pixels is None else pixels.auroc(),
        aupro=None if pixels is None else pixels.aupro(),
        n_normal=int((~labels).sum()),
        n_anomalous=int(labels.sum()),
        per_kind={} if kinds is None else _per_kind(scores, labels, alarms, kinds),
    )


def image_auroc(scores: ArrayLike, is_anomalous: ArrayLike) -> float | None:
    """Area under the ROC curve: the probability that an anomalous image scores above a normal one, ties count half.

    Parameters
    ----------
    scores, is_anomalous : array_like
        `float[N]` and `bool[N]`, as in `image_metrics`.

    Returns
    -------
    float or None
        In [0, 1]; None if all images are of one class.
    """
    scores, labels = _check(scores, is_anomalous)
    if not labels.any() or labels.all():
        return None
    return float(roc_auc_score(labels, scores))


def equal_error_rate(scores: ArrayLike, is_anomalous: ArrayLike) -> float | None:
    """The rate at which false-alarm rate and miss rate are equal, interpolated linearly on the ROC curve.

    Returns
    -------
    float or None
        In [0, 1]; None if all images are of one class.
    """
    scores, labels = _check(scores, is_anomalous)
    if not labels.any() or labels.all():
        return None
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    # false-alarm rate minus miss rate grows along the curve from −1 to 1
    return float(np.interp(0.0, fpr - (1 - tpr), fpr))


def fpr_at_tpr(scores: ArrayLike, is_anomalous: ArrayLike, tpr: float) -> float | None:
    """Lowest false-alarm rate of the thresholds with a detection rate of at least `tpr`.

    Returns
    -------
    float or None
        In [0, 1]; None if all images are of one class.
    """
    scores, labels = _check(scores, is_anomalous)
    if not labels.any() or labels.all():
        return None
    false_alarm_rates, detection_rates, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(false_alarm_rates[np.argmax(detection_rates >= tpr)])


def _per_kind(
    scores: NDArray[np.float64],
    labels: NDArray[np.bool_],
    alarms: NDArray[np.bool_],
    kinds: Sequence[str | None],
) -> dict[str, KindEvaluation]:
    names = sorted(
        {kind for kind, anomalous in zip(kinds, labels, strict=True) if anomalous and kind is not None}
    )
    per_kind = {}
    for name in names:
        is_kind = labels & np.array([kind == name for kind in kinds], dtype=np.bool_)
        subset = is_kind | ~labels
        per_kind[name] = KindEvaluation(
            image_auroc(scores[subset], labels[subset]), int(is_kind.sum()), _share(alarms[is_kind])
        )
    return per_kind


def _share(alarms: NDArray[np.bool_]) -> float | None:
    return float(alarms.mean()) if len(alarms) else None


def _check(scores: ArrayLike, is_anomalous: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return scores and labels as flat arrays, or raise `UsageError`."""
    values = np.asarray(scores, dtype=np.float64)
    labels = np.asarray(is_anomalous, dtype=np.bool_)
    if values.ndim != 1 or values.shape != labels.shape:
        raise UsageError(
            f"scores of shape {values.shape} came with labels of shape {labels.shape}; "
            "give one score and one label for each image"
        )
    n_not_finite = int((~np.isfinite(values)).sum())
    if n_not_finite:
        raise UsageError(
            f"{n_not_finite} of {len(values)} scores are NaN or infinite; leave out images that have no score, "
            "and score in fp32 if the model gives such numbers"
        )
    return values, labels
