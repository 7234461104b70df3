"""The smooth continuation of values into an area: Laplace's equation on the pixel grid."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

_NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0))
_TINY = 1e-9  # keeps the system solvable where a pixel has no neighbour that counts


def membrane(
    values: NDArray[np.float64], inside: NDArray[np.bool_], given: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Continue given values smoothly into an area.

    Each pixel inside becomes the mean of its neighbours; neighbours that are neither inside nor given, and those
    beyond the edge of the image, do not count. Source: Pérez, Gangnet, Blake, *Poisson Image Editing*, SIGGRAPH 2003,
    eq. (2).

    Parameters
    ----------
    values : ndarray
        `float64[H, W, C]`.
    inside, given : ndarray
        `bool[H, W]`, disjoint: where values are computed, and where they are given.

    Returns
    -------
    ndarray
        `float64[H, W, C]`, equal to `values` where not `inside`.

    Examples
    --------
    >>> row = np.array([0.0, 9.0, 9.0, 3.0]).reshape(1, 4, 1)
    >>> inside = np.array([[False, True, True, False]])
    >>> membrane(row, inside, ~inside).ravel().round(6).tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    result = values.copy()
    n = int(inside.sum())
    if n == 0:
        return result
    height, width = inside.shape
    number = np.full(inside.shape, -1)
    number[inside] = np.arange(n)
    rows, columns = np.nonzero(inside)
    n_neighbours = np.full(n, _TINY)
    sums = np.zeros((n, values.shape[2]))
    links: list[NDArray[np.int64]] = []
    for down, right in _NEIGHBOURS:
        y, x = rows + down, columns + right
        in_image = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        y, x = y.clip(0, height - 1), x.clip(0, width - 1)
        linked = np.flatnonzero(in_image & inside[y, x])
        beside = np.flatnonzero(in_image & given[y, x])
        n_neighbours[linked] += 1
        n_neighbours[beside] += 1
        links.append(np.stack([linked, number[y[linked], x[linked]]]))
        sums[beside] += values[y[beside], x[beside]]
    first, second = np.concatenate(links, axis=1)
    system: Any = sparse.diags_array(n_neighbours) - sparse.coo_array(
        (np.ones(len(first)), (first, second)), shape=(n, n)
    )
    result[inside] = splu(sparse.csc_matrix(system)).solve(sums)
    return result


def smooth_continuation(
    values: NDArray[np.float64], inside: NDArray[np.bool_], given: NDArray[np.bool_], sigma: float
) -> NDArray[np.float64]:
    """Continue the low frequencies of given values into an area.

    Parameters
    ----------
    values, inside, given
        As for `membrane`, but `inside` and `given` may overlap: pixels in both are given.
    sigma : float
        Standard deviation in pixels of the Gaussian that removes high frequencies.

    Returns
    -------
    ndarray
        `float64[H, W, C]`; 0 where neither inside nor given.
    """
    weights = given.astype(np.float64)
    weighted = ndimage.gaussian_filter(values * weights[..., None], (sigma, sigma, 0), mode="constant")
    weights = ndimage.gaussian_filter(weights, sigma, mode="constant")
    low = np.where(given[..., None], weighted / np.maximum(weights, _TINY)[..., None], 0.0)
    return membrane(low, inside & ~given, given)
