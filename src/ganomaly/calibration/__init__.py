"""Conformal calibration: anomaly scores of normal images give p-values and a threshold."""

from ganomaly.calibration.conformal import ROUNDING, Calibration, MapCalibration, images_needed

__all__ = ["ROUNDING", "Calibration", "MapCalibration", "images_needed"]
