"""One simulated bag, or one patch of it, through the scanner."""

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ganomaly.data.baggage.canvas import Array
from ganomaly.data.baggage.packing import THREAT_KINDS, PackedBag, hide_threat, pack_bag
from ganomaly.data.baggage.scanner import measured_image, transmission
from ganomaly.errors import UsageError

_HEIGHT, _WIDTH = 224, 320  # pixels of a typical bag
_PITCH = 2.0  # mm per pixel of a typical bag
_MIN_SIZE = 32  # pixels; below, no object can be recognised
_MAX_PATCH = 192  # pixels; above, a patch may stick out of the bag
_MARGIN = 8  # pixels around a patch that its blur and sharpening depend on
_MIN_COVER = 0.75  # share of a patch that must not be air


@dataclass(frozen=True)
class SimulatedBag:
    """A simulated dual-energy X-ray image. No part of it was measured.

    Attributes
    ----------
    image : uint8 [H, W, 3]
        Pseudo-colour as an operator sees it, with detector noise: orange organic, green mixed or light metal,
        blue metal, black impenetrable, white air.
    low_energy, high_energy : float32 [H, W]
        Noise-free transmission I / I₀ in [0, 1] at about 60 and about 110 keV, blurred by the focal spot.
    threat_mask : bool [H, W]
        Every pixel the threat attenuates; all False without a threat.
    threat : str or None
        One of `THREAT_KINDS`.
    without_threat : uint8 [H, W, 3] or None
        The same scan of the same bag without the threat; only of whole bags.
    """

    image: NDArray[np.uint8]
    low_energy: NDArray[np.float32]
    high_energy: NDArray[np.float32]
    threat_mask: NDArray[np.bool_]
    threat: str | None
    without_threat: NDArray[np.uint8] | None = None


def simulate_bag(
    seed: int, threat: str | None = None, *, height: int | None = None, width: int | None = None
) -> SimulatedBag:
    """Simulate a whole packed bag seen from above.

    Parameters
    ----------
    seed : int
        Fixes the whole image, ≥ 0. The same seed packs the same bag with and without a threat.
    threat : str, optional
        One of `THREAT_KINDS`, hidden at a random position among the other objects.
    height, width : int, optional
        Pixels, at least 32. Left out they vary from bag to bag around 224 × 320, at about 2 mm per pixel.

    Raises
    ------
    UsageError
        For an unknown threat, a negative seed or an image too small.

    Examples
    --------
    >>> bag = simulate_bag(7, "knife")
    >>> bag.image.dtype, bag.threat_mask.any().item()
    (dtype('uint8'), True)
    """
    _check(seed, threat)
    for name, pixels in (("height", height), ("width", width)):
        if pixels is not None and pixels < _MIN_SIZE:
            raise UsageError(f"{name} must be at least {_MIN_SIZE} pixels to show a bag, got {pixels}")
    bag_seed, threat_seed, scan_seed = np.random.SeedSequence(seed).spawn(3)
    bag = packed_bag(bag_seed, height, width)
    return scanned_bag(bag, threat, np.random.default_rng(threat_seed), np.random.default_rng(scan_seed))


def simulate_patch(seed: int, threat: str | None = None, *, size: int = 64) -> SimulatedBag:
    """Simulate one square window of a whole bag, at about 2 mm per pixel.

    Parameters
    ----------
    seed : int
        Fixes the whole image, ≥ 0.
    threat : str, optional
        One of `THREAT_KINDS`; the window then shows it, not quite centred.
    size : int
        Side in pixels, 32 to 192.

    Raises
    ------
    UsageError
        For an unknown threat, a negative seed or a size out of range.
    """
    _check(seed, threat)
    check_patch_size(size)
    bag_seed, *others = np.random.SeedSequence(seed).spawn(3)
    bag = packed_bag(bag_seed)
    threat_rng, scan_rng = map(np.random.default_rng, others)
    if threat is None:
        return normal_patches(bag, 1, size, scan_rng)[0]
    return threat_patch(bag, threat, size, threat_rng, scan_rng)


def packed_bag(
    seed: np.random.SeedSequence, height: int | None = None, width: int | None = None
) -> PackedBag:
    """Pack the bag of a seed for an image of the given size or a random one."""
    rng = np.random.default_rng(seed)
    typical_height, typical_width = _HEIGHT + int(rng.integers(-20, 21)), _WIDTH + int(rng.integers(-28, 29))
    pitch = _PITCH
    if height is not None or width is not None:
        height, width = height or typical_height, width or typical_width
        # the same bag at another resolution
        pitch *= math.sqrt(_HEIGHT * _WIDTH / (height * width))
    return pack_bag(height or typical_height, width or typical_width, pitch, rng)


def scanned_bag(
    bag: PackedBag, threat: str | None, threat_rng: np.random.Generator, scan_rng: np.random.Generator
) -> SimulatedBag:
    """Send a whole bag through the scanner, with or without a threat in it."""
    low, high, mask = _depths(bag, threat, threat_rng)
    if threat is None:
        return _scanned(low, high, mask, threat, scan_rng)
    same_noise = copy.deepcopy(scan_rng)
    without = _scanned(bag.canvas.low, bag.canvas.high, np.zeros_like(mask), None, same_noise)
    return replace(_scanned(low, high, mask, threat, scan_rng), without_threat=without.image)


def normal_patches(bag: PackedBag, count: int, size: int, rng: np.random.Generator) -> list[SimulatedBag]:
    """Cut up to `count` different windows out of a bag without a threat, leaving out those that show mostly air.

    The windows slide by half their size. If none is full enough, the fullest is returned.
    """
    low, high = bag.canvas.low, bag.canvas.high
    offset_y, offset_x = rng.integers(0, size // 2, 2)
    corners = [
        (top, left)
        for top in range(int(offset_y), low.shape[0] - size + 1, size // 2)
        for left in range(int(offset_x), low.shape[1] - size + 1, size // 2)
    ] or [(0, 0)]
    cover = [float((low[top : top + size, left : left + size] > 0.12).mean()) for top, left in corners]
    full = [corner for corner, share in zip(corners, cover, strict=True) if share >= _MIN_COVER]
    full = full or [corners[int(np.argmax(cover))]]
    chosen = rng.permutation(len(full))[:count]
    no_threat = np.zeros(low.shape, bool)
    return [_window(low, high, no_threat, None, full[i], size, rng) for i in chosen]


def threat_patch(
    bag: PackedBag,
    threat: str,
    size: int,
    threat_rng: np.random.Generator,
    scan_rng: np.random.Generator,
    *,
    jitter: float = 1 / 6,
) -> SimulatedBag:
    """Hide a threat in a bag and cut the window around it, jittered by up to a share of its size."""
    low, high, mask = _depths(bag, threat, threat_rng)
    middle = np.argwhere(mask).mean(0) + threat_rng.uniform(-size * jitter, size * jitter, 2)
    top, left = np.clip(np.round(middle - size / 2).astype(int), 0, np.array(mask.shape) - size)
    return _window(low, high, mask, threat, (int(top), int(left)), size, scan_rng)


def check_patch_size(size: int) -> None:
    """Raise `UsageError` unless a patch of `size` pixels can be cut."""
    if not _MIN_SIZE <= size <= _MAX_PATCH:
        raise UsageError(f"a patch is {_MIN_SIZE} to {_MAX_PATCH} pixels wide, got {size}")


def _check(seed: int, threat: str | None) -> None:
    if seed < 0:
        raise UsageError(f"a seed is a whole number from 0 up, got {seed}")
    if threat is not None and threat not in THREAT_KINDS:
        raise UsageError(f"unknown threat {threat!r}; known are {', '.join(THREAT_KINDS)}")


def _depths(
    bag: PackedBag, threat: str | None, rng: np.random.Generator
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return the optical depths of a bag with a threat in it, and where the threat adds to them."""
    low, high = bag.canvas.low, bag.canvas.high
    if threat is None:
        return low, high, np.zeros(low.shape, bool)
    hidden = hide_threat(bag, threat, rng)
    return low + hidden.low, high + hidden.high, hidden.low > 0


def _scanned(
    low: Array, high: Array, mask: NDArray[np.bool_], threat: str | None, rng: np.random.Generator
) -> SimulatedBag:
    low_energy, high_energy = transmission(low), transmission(high)
    return SimulatedBag(measured_image(low_energy, high_energy, rng), low_energy, high_energy, mask, threat)


def _window(
    low: Array,
    high: Array,
    mask: NDArray[np.bool_],
    threat: str | None,
    corner: tuple[int, int],
    size: int,
    rng: np.random.Generator,
) -> SimulatedBag:
    """Scan one window, with a margin so that its borders are those of the whole bag's image."""
    top, left = max(corner[0] - _MARGIN, 0), max(corner[1] - _MARGIN, 0)
    around = slice(top, corner[0] + size + _MARGIN), slice(left, corner[1] + size + _MARGIN)
    scan = _scanned(low[around], high[around], mask[around], threat, rng)
    inner = slice(corner[0] - top, corner[0] - top + size), slice(corner[1] - left, corner[1] - left + size)
    return SimulatedBag(
        scan.image[inner], scan.low_energy[inner], scan.high_energy[inner], scan.threat_mask[inner], threat
    )
