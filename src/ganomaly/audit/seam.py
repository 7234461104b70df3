"""The cheapest border between a patch and the image that it is put into: a minimum cut."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

_IMAGE, _PATCH, _FIRST_FREE = 0, 1, 2  # nodes of the graph
_MEAN_CAPACITY, _MAX_CAPACITY = 1000, 1_000_000  # the solver takes whole numbers


def pixels_of_patch(
    difference: NDArray[np.float64], free: NDArray[np.bool_], patch: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Choose which of the free pixels come from the patch, so that the border crosses the smallest differences.

    Source: Kwatra, Schödl, Essa, Turk, Bobick, *Graphcut Textures*, SIGGRAPH 2003, eq. (1).

    Parameters
    ----------
    difference : ndarray
        `float64[H, W]`, ≥ 0, between patch and image.
    free, patch : ndarray
        `bool[H, W]`, disjoint: pixels that may come from either, and those that come from the patch. All others
        are the image's.

    Returns
    -------
    ndarray
        `bool[H, W]`, `patch` and the free pixels chosen.
    """
    n_free = int(free.sum())
    if n_free == 0 or not patch.any():
        return patch | free
    node = np.where(patch, _PATCH, _IMAGE)
    node[free] = _FIRST_FREE + np.arange(n_free)
    scale = _MEAN_CAPACITY / max(float(difference[free].mean()), 1e-12)
    ends: list[NDArray[np.int64]] = []
    capacities: list[NDArray[np.int64]] = []
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        pair = np.stack([node[one].ravel(), node[other].ravel()])
        cost = np.rint(scale * (difference[one] + difference[other])).ravel()
        linked = (pair[0] != pair[1]) & (pair >= _FIRST_FREE).any(axis=0)
        ends += [pair[:, linked], pair[::-1, linked]]
        capacities += [1 + np.minimum(cost[linked], _MAX_CAPACITY).astype(np.int64)] * 2
    start, end = np.concatenate(ends, axis=1)
    size = _FIRST_FREE + n_free
    graph = sparse.csr_matrix((np.concatenate(capacities).astype(np.int32), (start, end)), shape=(size, size))
    residual = graph - maximum_flow(graph, _PATCH, _IMAGE).flow
    residual.eliminate_zeros()  # saturated edges separate the two sides
    on_patch_side = np.zeros(size, dtype=np.bool_)
    on_patch_side[breadth_first_order(residual, _PATCH, return_predecessors=False)] = True
    chosen = patch.copy()
    chosen[free] = on_patch_side[node[free]]
    return chosen
