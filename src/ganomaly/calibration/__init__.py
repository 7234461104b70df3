"""Conformal calibration: anomaly scores of normal images give p-values, a threshold and an alarm of drift."""

from ganomaly.calibration.conformal import (
    ROUNDING,
    Calibration,
    MapCalibration,
    images_needed,
    more_needed,
)
from ganomaly.calibration.drift import DriftMonitor
from ganomaly.calibration.products import ProductCalibration

__all__ = [
    "ROUNDING",
    "Calibration",
    "DriftMonitor",
    "MapCalibration",
    "ProductCalibration",
    "images_needed",
    "more_needed",
]
