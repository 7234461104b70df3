"""Anomaly maps for people: as colours over the image, with the outline of a mask."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ganomaly.calibration import MapCalibration
from ganomaly.data import Pixels
from ganomaly.data.strips import row_strips
from ganomaly.errors import package_needed

# 17 of the 256 colours of Matplotlib's inferno, at equal distances; the rest is interpolated
COLOURS = """000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754 d04545 e35933 f1711f f98c0a fcaa0f f9c932
f2e865 fcffa4"""
HEAT_AT_THRESHOLD = 0.65
MAX_OPACITY = 0.75  # the image stays visible under the strongest colour
OUTLINE = (0, 255, 255)  # cyan, which neither the colours nor a gray image contain


def overlay(
    image: NDArray[np.uint8],
    anomaly_map: NDArray[np.float32],
    calibration: MapCalibration,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Draw an anomaly map as colours over its image.

    Pixels at the level of normal images stay clear. The colour scale reaches `HEAT_AT_THRESHOLD` at the map's
    threshold and 1 at the largest value of the map, so that a strong defect stands out from its surroundings.

    Parameters
    ----------
    image : ndarray
        `uint8[H, W, C]`; the first three of four channels are drawn, the first of two.
    anomaly_map : ndarray
        `float32[H, W]`.
    calibration : MapCalibration
        The scale of the map.
    mask : ndarray, optional
        `bool[H, W]`, the labelled anomaly; its outline is drawn.

    Returns
    -------
    ndarray
        `uint8[H, W, 3]`.
    """
    level = calibration.level(anomaly_map)
    blended = blended_with_heat(image, level, float(level.max()))
    if mask is not None and mask.any():
        with package_needed("the outline of a mask"):
            from scipy.ndimage import binary_dilation

        width = max(1, min(mask.shape) // 256)
        outside = binary_dilation(mask, iterations=width) & ~mask  # so that the defect stays visible
        blended[outside] = OUTLINE
    return blended


def blended_with_heat(
    image: NDArray[np.uint8], level: NDArray[np.float32], highest_level: float
) -> NDArray[np.uint8]:
    """Colours over an image or a part of it, `uint8[h, w, 3]`.

    Parameters
    ----------
    image : ndarray
        `uint8[h, w, C]`.
    level : ndarray
        `float32[h, w]`, its anomaly map on the scale of `MapCalibration.level`.
    highest_level : float
        The largest level in the whole image.
    """
    excess = np.maximum(level - 1, 0)
    largest = max(highest_level - 1, 1.0)  # a map that hardly exceeds the threshold does not get all colours
    heat = HEAT_AT_THRESHOLD * np.clip(level, 0, 1) + (1 - HEAT_AT_THRESHOLD) * excess / largest
    colours = _colour_table()[np.rint(255 * heat).astype(np.uint8)]
    opacity = MAX_OPACITY * heat[..., np.newaxis]
    blended: NDArray[np.uint8] = np.rint(to_rgb(image) * (1 - opacity) + colours * opacity).astype(np.uint8)
    return blended


def to_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image of 1 to 4 channels as RGB, `uint8[H, W, 3]`."""
    return image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)


def to_8_bit(pixels: Pixels, white_level: int) -> NDArray[np.uint8]:
    """Scale pixels of 16 bits to 8, with `white_level` as 255; pixels of 8 bits stay as they are."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    scaled = np.empty(pixels.shape, np.uint8)
    for rows in row_strips(*pixels.shape[:2]):
        scaled[rows] = np.rint(np.minimum(pixels[rows] / white_level, 1) * 255)
    return scaled


@cache
def _colour_table() -> NDArray[np.float32]:
    """RGB from low to high, `float32[256, 3]`."""
    colours = np.array([list(bytes.fromhex(colour)) for colour in COLOURS.split()])
    positions = np.linspace(0, len(colours) - 1, 256)
    channels = [np.interp(positions, np.arange(len(colours)), channel) for channel in colours.T]
    return np.stack(channels, axis=1).astype(np.float32)
