"""What a model says of one image."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganomaly.data.strips import row_strips


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one image: score, p-value and verdict, or why the image could not be read.

    Attributes
    ----------
    index : int
        Position of the image in its dataset.
    path : str
        Path of the image, as its dataset names it.
    error : str or None
        Why there is no score; all that follows is then None or 0.
    score : float or None
        A(x), ≥ 0, larger is more anomalous.
    normalized_score : float or None
        A(x) on a scale from 0 to 1, 0.5 is the threshold; None without calibration.
    p_value : float or None
        Conformal p-value in (0, 1]; None without calibration.
    is_anomaly : bool or None
        The verdict, A(x) > φ; None without calibration.
    height, width : int
        Size of the user's image in pixels.
    image, reconstruction : ndarray or None
        `uint8[h, w, C]`, network input x and reconstruction x̂, where details were asked for.
    anomaly_map : ndarray or None
        `float32[h, w]` at the network's size, where details were asked for and the method has one.
    features : ndarray or None
        `float32[K]`, where features were asked for.
    product : str or None
        The product that the image belongs to, where the model has several; score and p-value are relative to it.
    """

    index: int
    path: str
    error: str | None = None
    score: float | None = None
    normalized_score: float | None = None
    p_value: float | None = None
    is_anomaly: bool | None = None
    height: int = 0
    width: int = 0
    image: NDArray[np.uint8] | None = None
    reconstruction: NDArray[np.uint8] | None = None
    anomaly_map: NDArray[np.float32] | None = None
    features: NDArray[np.float32] | None = None
    product: str | None = None

    def map_at_image_size(self) -> NDArray[np.float32] | None:
        """The anomaly map at the user's image size, `float32[height, width]`, by bilinear interpolation."""
        return None if self.anomaly_map is None else resize_map(self.anomaly_map, self.height, self.width)

    def map_strips(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """The anomaly map at the user's image size in strips: their rows, and `float32[rows, width]`."""
        if self.anomaly_map is None:
            return
        strips = list(row_strips(self.height, self.width))
        if len(strips) == 1:
            yield strips[0], resize_map(self.anomaly_map, self.height, self.width)
            return
        image = Image.fromarray(self.anomaly_map.astype(np.float32, copy=False))
        scale = image.height / self.height
        for rows in strips:
            box = (0, rows.start * scale, image.width, min(rows.stop * scale, image.height))
            strip = image.resize((self.width, rows.stop - rows.start), Image.Resampling.BILINEAR, box=box)
            yield rows, np.asarray(strip, dtype=np.float32)


def resize_map(anomaly_map: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize a map `float32[h, w]` to `float32[height, width]`, bilinearly."""
    resized = Image.fromarray(anomaly_map.astype(np.float32, copy=False)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    return np.asarray(resized, dtype=np.float32)
