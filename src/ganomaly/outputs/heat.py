"""Anomaly maps as people look at them: heat over the image, and the outline of a mask."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ganomaly.calibration.conformal import MapCalibration
from ganomaly.data import Pixels
from ganomaly.errors import package_needed

# of Matplotlib's inferno, from cold to hot; all others lie between two of them
COLOURS = """000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754 d04545 e35933 f1711f f98c0a fcaa0f f9c932
f2e865 fcffa4"""
HEAT_AT_THRESHOLD = 0.65
MOST_OPAQUE = 0.75  # the image stays visible under the greatest heat
OUTLINE = (0, 255, 255)  # cyan, which neither the heat nor an image in gray has


def overlay(
    image: NDArray[np.uint8],
    anomaly_map: NDArray[np.float32],
    calibration: MapCalibration,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Lay the heat of an anomaly map over its image.

    Places as normal images have them stay clear. At the map's threshold the heat has reached a part; above, it
    grows to the whole at the image's largest value, so that a strong defect stands out from its surroundings.

    Parameters
    ----------
    image : ndarray
        `uint8[H, W, C]`; of four channels the first three are shown, of two the first.
    anomaly_map : ndarray
        `float32[H, W]`.
    calibration : MapCalibration
        What is usual in a map, and what is not.
    mask : ndarray, optional
        `bool[H, W]`, the true anomaly; its outline is drawn.

    Returns
    -------
    ndarray
        `uint8[H, W, 3]`.
    """
    level = calibration.level(anomaly_map)
    above = np.maximum(level - 1, 0)
    largest = max(float(above.max()), 1.0)  # twice as far from the usual as the threshold
    heat = HEAT_AT_THRESHOLD * np.clip(level, 0, 1) + (1 - HEAT_AT_THRESHOLD) * above / largest
    colours = _colours()[np.rint(255 * heat).astype(np.uint8)]
    opacity = MOST_OPAQUE * heat[..., np.newaxis]
    shown = in_colour(image) * (1 - opacity) + colours * opacity
    picture: NDArray[np.uint8] = np.rint(shown).astype(np.uint8)
    if mask is not None and mask.any():
        with package_needed("the outline of a mask"):
            from scipy.ndimage import binary_dilation, binary_erosion

        width = max(1, min(mask.shape) // 256)
        rim = binary_dilation(mask, iterations=width) & ~binary_erosion(
            mask, iterations=width, border_value=1
        )
        picture[rim] = OUTLINE
    return picture


def in_colour(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image of 1 to 4 channels as RGB, `uint8[H, W, 3]`."""
    return image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)


def as_8_bit(pixels: Pixels, white_level: int) -> NDArray[np.uint8]:
    """Pixels of 8 or 16 bits as a screen shows them."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    levels: NDArray[np.uint8] = np.rint(np.minimum(pixels / white_level, 1) * 255).astype(np.uint8)
    return levels


@cache
def _colours() -> NDArray[np.float32]:
    """From cold to hot, `float32[256, 3]`."""
    known = np.array([list(bytes.fromhex(colour)) for colour in COLOURS.split()])
    place = np.linspace(0, len(known) - 1, 256)
    channels = [np.interp(place, np.arange(len(known)), channel) for channel in known.T]
    return np.stack(channels, axis=1).astype(np.float32)
