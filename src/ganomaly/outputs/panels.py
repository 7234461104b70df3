"""The panels of a prediction for people: image, reconstruction, their difference, overlay of the anomaly map."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganomaly.calibration import MapCalibration
from ganomaly.outputs.heat import overlay
from ganomaly.prediction import Prediction, resize_map

DIFFERENCE_GAIN = 2
"""Brightens differences: the small ones matter, and would be too dark to see."""

OVERLAY = "overlay"
"""Name of the panel with the overlay."""

Panels = Mapping[str, NDArray[np.uint8]]
"""Images by name, in the order to show them: `uint8[h, w]`, `[h, w, 1]` or `[h, w, 3]`."""


def panels(
    prediction: Prediction,
    map_calibration: MapCalibration | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> Panels:
    """Panels by name, at the size of the network input; none where the prediction has no details.

    Parameters
    ----------
    prediction : Prediction
        With details.
    map_calibration : MapCalibration, optional
        The scale of the map; without it there is no overlay.
    mask : ndarray, optional
        `bool[H, W]`, the labelled anomaly, outlined in the overlay.
    """
    image, x_hat = prediction.image, prediction.reconstruction
    if image is None:
        return {}
    by_name = {"image": image}
    if x_hat is not None:
        by_name["reconstruction"] = x_hat
        difference = np.abs(image.astype(np.int16) - x_hat).mean(axis=2)
        by_name[f"difference ×{DIFFERENCE_GAIN}"] = np.minimum(DIFFERENCE_GAIN * difference, 255).astype(
            np.uint8
        )
    if prediction.anomaly_map is not None and map_calibration is not None:
        height, width = image.shape[:2]
        if mask is not None:
            mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
        anomaly_map = resize_map(prediction.anomaly_map, height, width)
        by_name[OVERLAY] = overlay(image, anomaly_map, map_calibration, mask)
    return by_name
