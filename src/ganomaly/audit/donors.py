"""Where in an image another part can be copied from: the shift under which the surroundings match best."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

CONTRAST_WEIGHT = 0.3
"""How much a difference in texture contrast counts beside the correlation of the surroundings."""

LEVEL_WEIGHT = 0.1
"""How much a difference in level counts, as a share of the variance of the image."""

_CONTRAST_SIGMA = 2.0  # pixels; texture is what is finer
_MAX_CHOICES = 3  # donors that the seed chooses from,
_CHOICE_MARGIN = 0.02  # as long as they match nearly as well as the best
_APART = 3  # pixels between two of them


def find_donor(
    values: NDArray[np.float64],
    excluded: NDArray[np.bool_],
    support: NDArray[np.bool_],
    compared: NDArray[np.bool_],
    generator: np.random.Generator,
) -> tuple[int, int] | None:
    """Find the shift to an area that continues the surroundings of a part of an image.

    The cost of a shift is 1 − ρ + 0.3 · ln²(e′/e) + 0.1 · (m′ − m)²/σ². ρ correlates the surroundings with the
    shifted ones, each without its mean, m and m′; e and e′ are the mean squares of the texture of the compared pixels
    and of the donor; σ² is the variance of all values. Without the second term a smooth donor would match any texture
    better than an unlike texture does, and what is painted would be too smooth. The third keeps donors from being
    lightened or darkened much.

    Parameters
    ----------
    values : ndarray
        `float64[H, W, C]`, the image or a window of it.
    excluded : ndarray
        `bool[H, W]`, pixels that no donor may contain: defects, and what has been painted.
    support : ndarray
        `bool[H, W]`, the part to fill with its surroundings; a donor has this shape.
    compared : ndarray
        `bool[H, W]`, the pixels of `support` that are compared.
    generator : Generator
        Chooses among donors that match nearly equally well.

    Returns
    -------
    (int, int) or None
        Rows and columns from the part to its donor; None if there is none without excluded pixels.
    """
    rows, columns = (np.flatnonzero(support.any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    is_donor = _sums(excluded.astype(np.float64), support[box]) < 0.5
    if not is_donor.any():
        return None
    cost = _surroundings_cost(values, excluded, box, compared[box])
    cost += CONTRAST_WEIGHT * _log_contrast_ratio(values, excluded, box, support[box], compared[box]) ** 2
    choices: list[tuple[int, int]] = []
    cost[~is_donor] = np.inf
    lowest = float(cost.min())
    while len(choices) < _MAX_CHOICES and cost.min() <= lowest + _CHOICE_MARGIN:
        row, column = np.unravel_index(int(np.argmin(cost)), cost.shape)
        choices.append((int(row - rows[0]), int(column - columns[0])))
        cost[max(0, row - _APART) : row + _APART + 1, max(0, column - _APART) : column + _APART + 1] = np.inf
    return choices[int(generator.integers(len(choices)))]


def _surroundings_cost(
    values: NDArray[np.float64],
    excluded: NDArray[np.bool_],
    box: tuple[slice, slice],
    compared: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """1 − ρ + 0.1 · (m′ − m)²/σ² of the compared pixels of a box with those of the box at each position."""
    n = max(int(compared.sum()), 1)
    shape = np.subtract(values.shape[:2], compared.shape) + 1
    covariance, variance, level = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    own_variance = 0.0
    for channel in np.moveaxis(values, 2, 0):
        own = channel[box]
        mean = float(own[compared].mean()) if compared.any() else 0.0
        centred = channel - mean  # keeps the squares small, and with them rounding errors
        own_centred = np.where(compared, own - mean, 0.0)
        mean_difference = _sums(centred, compared) / n
        covariance += _sums(centred, own_centred) / n
        variance += _sums(centred**2, compared) / n - mean_difference**2
        level += mean_difference**2
        own_variance += float((own_centred**2).sum()) / n
    total_variance = float(values[~excluded].var(axis=0).sum()) + 1e-12
    floor = 1e-6 * total_variance
    correlation = covariance / np.sqrt(np.maximum(variance, floor) * max(own_variance, floor))
    cost: NDArray[np.float64] = 1 - correlation + LEVEL_WEIGHT * level / total_variance
    return cost


def _log_contrast_ratio(
    values: NDArray[np.float64],
    excluded: NDArray[np.bool_],
    box: tuple[slice, slice],
    support: NDArray[np.bool_],
    compared: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """ln(e′/e) at each position of the box; 0 where no compared pixel says what e is."""
    weights = (~excluded).astype(np.float64)
    blurred = ndimage.gaussian_filter(values * weights[..., None], (_CONTRAST_SIGMA, _CONTRAST_SIGMA, 0))
    blurred /= np.maximum(ndimage.gaussian_filter(weights, _CONTRAST_SIGMA), 1e-3)[..., None]
    texture = (((values - blurred) ** 2).sum(axis=2)) * weights
    contrasts = _sums(texture, support) / int(support.sum())
    original = compared & ~excluded[box]
    if not original.any():
        return np.zeros_like(contrasts)
    floor = 0.005 * float(texture.sum()) / max(float(weights.sum()), 1.0) + 1e-12
    contrast = float(texture[box][original].mean())
    ratio = (np.maximum(contrasts, 0.0) + floor) / (contrast + floor)
    log_ratio: NDArray[np.float64] = np.log(ratio)
    return log_ratio


def _sums(
    values: NDArray[np.float64], kernel: NDArray[np.bool_] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sums of values times kernel at each position of the kernel wholly inside."""
    sums: NDArray[np.float64] = signal.oaconvolve(values, kernel[::-1, ::-1].astype(np.float64), mode="valid")
    return sums
