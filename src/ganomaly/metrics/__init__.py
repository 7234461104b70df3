"""Metrics of anomaly scores and anomaly maps against labels and masks."""

from ganomaly.metrics.alarms import chance_of_alarms
from ganomaly.metrics.audit import Audit, KindAudit, audit_metrics
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
    "Audit",
    "Evaluation",
    "KindAudit",
    "KindEvaluation",
    "PixelTally",
    "audit_metrics",
    "aupro",
    "chance_of_alarms",
    "equal_error_rate",
    "fpr_at_tpr",
    "image_auroc",
    "image_metrics",
    "pixel_auroc",
]
