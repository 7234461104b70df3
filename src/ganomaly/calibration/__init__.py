"""From anomaly scores of normal images to p-values, a threshold and verdicts."""

from ganomaly.calibration.conformal import ROUNDING, Calibration, MapCalibration, images_needed

__all__ = ["ROUNDING", "Calibration", "MapCalibration", "images_needed"]
