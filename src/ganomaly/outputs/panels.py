"""Pictures of a scored image for people: itself, its reconstruction, their difference, and where it is anomalous."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganomaly.calibration.conformal import MapCalibration
from ganomaly.outputs import at_image_size, overlay
from ganomaly.prediction import Prediction

DIFFERENCE_GAIN = 2
HEAT_MAP = "heat map"


def panels(
    scored: Prediction,
    map_calibration: MapCalibration | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> Mapping[str, NDArray[np.uint8]]:
    """Pictures by name, `uint8[h, w, C]` at the size of the network input.

    Parameters
    ----------
    scored : Prediction
        Scored with its pictures.
    map_calibration : MapCalibration, optional
        Without it there is no heat map.
    mask : ndarray, optional
        `bool[H, W]`, the true anomaly, outlined in the heat map.
    """
    found: dict[str, NDArray[np.uint8]] = {}
    if scored.image is None:
        return found
    found["image"] = scored.image
    if scored.reconstruction is not None:
        found["reconstruction"] = scored.reconstruction
        difference = np.abs(scored.image.astype(np.int16) - scored.reconstruction).mean(axis=2)
        # small differences are what matters, and the eye does not see them in the dark
        brighter = np.minimum(DIFFERENCE_GAIN * difference, 255)
        found[f"difference ×{DIFFERENCE_GAIN}"] = brighter.astype(np.uint8)
    if scored.anomaly_map is not None and map_calibration is not None:
        height, width = scored.image.shape[:2]
        small = None
        if mask is not None:
            small = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
        anomaly_map = at_image_size(scored.anomaly_map, height, width)
        found[HEAT_MAP] = overlay(scored.image, anomaly_map, map_calibration, small)
    return found
