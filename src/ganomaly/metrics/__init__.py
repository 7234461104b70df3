"""Metrics of anomaly scores and anomaly maps against labels and masks."""

from ganomaly.metrics.images import (
    Evaluation,
    KindEvaluation,
    equal_error_rate,
    fpr_at_tpr,
    image_auroc,
    image_metrics,
)
from ganomaly.metrics.pixels import PixelTally, aupro, pixel_auroc

__all__ = [
    "Evaluation",
    "KindEvaluation",
    "PixelTally",
    "aupro",
    "equal_error_rate",
    "fpr_at_tpr",
    "image_auroc",
    "image_metrics",
    "pixel_auroc",
]
