"""From optical depth to the image on an operator's screen: detector, material estimate, pseudo-colour."""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ganomaly.data.baggage.canvas import Array

# μ(60 keV) / μ(110 keV) of carbon, nitrogen, oxygen, aluminium, silicon, calcium, iron, copper: the calibration curve
# that reads an atomic number off the ratio of the two logarithms (NIST SRD 126, approximate)
_CALIBRATION_RATIO = (1.190, 1.223, 1.268, 1.714, 1.847, 2.83, 3.766, 4.12)
_CALIBRATION_Z = (6.0, 7.0, 8.0, 13.0, 14.0, 20.0, 26.0, 29.0)

_FOCAL_SPOT_SIGMA = 0.48  # pixels
_PHOTONS = (24_000.0, 36_000.0)  # per pixel through air, low and high energy
_ELECTRONIC_NOISE = 9.0  # standard deviation, in photons
_GAIN_ERROR = 0.0035  # of one detector element, left after white calibration
_PULSE_ERROR = 0.0025  # of one scan line

# colour of a material class along brightness 0 (opaque) … 1 (air)
_BRIGHTNESS = (0.0, 0.10, 0.25, 0.45, 0.65, 0.82, 0.93, 1.0)
_ORGANIC = (
    (12, 8, 4), (62, 34, 6), (128, 68, 6), (204, 112, 12),
    (243, 158, 48), (252, 199, 118), (254, 230, 188), (255, 255, 255),
)  # fmt: skip
_MIXED = (
    (6, 12, 8), (10, 46, 22), (22, 88, 44), (44, 136, 66),
    (98, 178, 104), (162, 212, 156), (214, 236, 206), (255, 255, 255),
)  # fmt: skip
_METAL = (
    (2, 2, 10), (12, 20, 84), (20, 44, 146), (38, 80, 194),
    (86, 132, 222), (152, 186, 240), (206, 222, 250), (255, 255, 255),
)  # fmt: skip
_Z_OF_CLASSES = (8.2, 10.6, 15.5, 20.5)  # pure organic up to, pure mixed from … to, pure metal from
_LOWEST = np.float32(3e-4)  # transmission below which the detector sees its own noise
_DEPTH_LOST = (4.8, 6.4)  # optical depth over which the low energy fades into that noise
_THIN = 8e-4  # square of the optical depth at which a thin object's material is half believed
_Z_STEPS, _BRIGHTNESS_STEPS = 128, 256
_Z_RANGE = (6.0, 30.0)


def transmission(depth: Array) -> Array:
    """Return the noise-free share of the beam that arrives, in [0, 1].

    Parameters
    ----------
    depth : float32 [H, W]
        Optical depth Σ μ · thickness.
    """
    arriving = gaussian_filter(np.exp(-depth), _FOCAL_SPOT_SIGMA, mode="nearest", truncate=3.0)
    clipped: Array = np.clip(arriving, 0, 1)
    return clipped


def effective_atomic_number(ratio: Array) -> Array:
    """Estimate Z from the ratio of the two log-attenuations, by a calibration curve over pure elements.

    Parameters
    ----------
    ratio : float32 [H, W]
        ln(transmission at the low energy) / ln(transmission at the high energy).

    Returns
    -------
    float32 [H, W]
        Between 6 and 29.
    """
    return np.interp(ratio, _CALIBRATION_RATIO, _CALIBRATION_Z).astype(np.float32)


def measured_image(low: Array, high: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the pseudo-colour image that the detector measures of two noise-free transmissions.

    The detector counts photons (Poisson) and adds electronic noise; elements along a column have a small gain error
    left after white calibration, and each scan line (an image column) has a pulse error.

    Parameters
    ----------
    low, high : float32 [H, W]
        Transmissions in [0, 1].
    rng : numpy.random.Generator
        Noise.

    Returns
    -------
    uint8 [H, W, 3]
    """
    height, width = low.shape
    pulse = 1 + _PULSE_ERROR * rng.standard_normal(width, np.float32)
    measured = []
    for clean, photons in zip((low, high), _PHOTONS, strict=True):
        gain = 1 + _GAIN_ERROR * rng.standard_normal((height, 1), np.float32)
        expected = clean * np.float32(photons)
        # a Poisson count this large is normal to within what eight bits can show
        spread = np.sqrt(expected + np.float32(_ELECTRONIC_NOISE**2))
        counts = expected + spread * rng.standard_normal(clean.shape, np.float32)
        measured.append(counts * gain * pulse / np.float32(photons))
    return pseudo_colour(measured[0], measured[1])


def pseudo_colour(low: Array, high: Array) -> NDArray[np.uint8]:
    """Colour two measured transmissions as airport operators see them.

    Orange is organic, green is mixed or light metal, blue is metal, black is what nothing passes; air is white.

    Parameters
    ----------
    low, high : float32 [H, W]
        Measured transmissions; noise may push them out of [0, 1].

    Returns
    -------
    uint8 [H, W, 3]
    """
    depth_low, depth_high = (-np.log(np.maximum(measured, _LOWEST)) for measured in (low, high))
    # weighted by its own depth the denser material wins at an edge: a thin wire stays metal
    product = gaussian_filter(depth_low * depth_high, 0.9, truncate=2.5)
    square = gaussian_filter(depth_high * depth_high, 0.9, truncate=2.5)
    # an object too thin to stand out from noise is taken as organic
    ratio = (product + np.float32(_THIN * _CALIBRATION_RATIO[1])) / (square + np.float32(_THIN))
    z = effective_atomic_number(ratio)
    # where the low energy is lost altogether only the high one still grows, and the ratio would fall back to organic
    dark = np.sqrt(gaussian_filter(depth_low * depth_low, 0.9, truncate=2.5))
    lost = np.clip((dark - _DEPTH_LOST[0]) / (_DEPTH_LOST[1] - _DEPTH_LOST[0]), 0, 1)
    z += lost * np.maximum(_CALIBRATION_Z[-2] - z, 0)

    brightness = np.clip(np.float32(0.35) * low + np.float32(0.65) * high, 0, 1) ** np.float32(0.62)
    # consoles sharpen edges; the amount is what makes wires stand out without halos
    brightness += np.float32(0.55) * (brightness - gaussian_filter(brightness, 1.2, truncate=2.5))

    row = np.clip((z - _Z_RANGE[0]) * ((_Z_STEPS - 1) / (_Z_RANGE[1] - _Z_RANGE[0])), 0, _Z_STEPS - 1)
    column = np.clip(brightness * (_BRIGHTNESS_STEPS - 1), 0, _BRIGHTNESS_STEPS - 1)
    colours: NDArray[np.uint8] = _colour_table()[(row + 0.5).astype(np.intp), (column + 0.5).astype(np.intp)]
    return colours


@cache
def _colour_table() -> NDArray[np.uint8]:
    """Return the colours by atomic number and brightness, uint8 [Z, brightness, 3]."""
    brightness = np.linspace(0, 1, _BRIGHTNESS_STEPS)
    organic, mixed, metal = (
        np.stack([np.interp(brightness, _BRIGHTNESS, channel) for channel in zip(*colours, strict=True)], -1)
        for colours in (_ORGANIC, _MIXED, _METAL)
    )
    z = np.linspace(*_Z_RANGE, _Z_STEPS)[:, None, None]
    a, b, c, d = _Z_OF_CLASSES
    to_mixed = 0.5 - 0.5 * np.cos(math.pi * np.clip((z - a) / (b - a), 0, 1))
    to_metal = 0.5 - 0.5 * np.cos(math.pi * np.clip((z - c) / (d - c), 0, 1))
    colours = (organic * (1 - to_mixed) + mixed * to_mixed) * (1 - to_metal) + metal * to_metal
    return np.round(colours).astype(np.uint8)
