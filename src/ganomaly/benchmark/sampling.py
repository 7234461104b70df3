"""Random draws that a seed fixes: fewer training images, fewer test images, images for figures."""

import heapq
from collections.abc import Mapping
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")


def draw(indices: NDArray[np.int64], limit: int | None, seed: int) -> NDArray[np.int64]:
    """Draw at most `limit` of the indices `int[N]`, in their order; all of them if it is None."""
    if limit is None or limit >= len(indices):
        return indices
    return np.sort(np.random.default_rng([seed, len(indices)]).permutation(indices)[:limit])


def draw_stratified(
    labels: Mapping[str, NDArray[np.float64]], n_images: int, limit: int | None, seed: int
) -> NDArray[np.int64]:
    """Draw about `limit` of the test images, so that normal ones and each class keep their shares.

    Parameters
    ----------
    labels : mapping of str to ndarray
        For each class `float[N]`: 1 anomalous, 0 normal, NaN not part of its test set.
    n_images : int
        N, the number of test images.
    limit : int or None
        All of them if None. Each stratum keeps at least one image.
    seed : int
        Fixes the draw.
    """
    indices = np.arange(n_images)
    if limit is None or limit >= n_images:
        return indices
    by_class = np.nan_to_num(np.stack(list(labels.values())), nan=-1)
    strata = np.unique(by_class, axis=1, return_inverse=True)[1].ravel()
    share = limit / n_images
    draws = []
    for stratum in np.unique(strata):
        members = indices[strata == stratum]
        draws.append(draw(members, max(1, round(share * len(members))), seed))
    return np.sort(np.concatenate(draws))


class RandomSample(Generic[Item]):
    """A uniform sample of items that come one after the other; only the sample is held in memory.

    Members have ranks in one random permutation; of those that are offered, the first `size` are the sample.

    Parameters
    ----------
    members : ndarray
        `int[N]`, indices that may be offered.
    size : int
        Items in the sample at most.
    generator : numpy.random.Generator
        Gives the permutation.
    """

    def __init__(self, members: NDArray[np.int64], size: int, generator: np.random.Generator) -> None:
        self._rank = {int(index): rank for rank, index in enumerate(generator.permutation(members))}
        self._size = size
        self._heap: list[
            tuple[int, int, Item]
        ] = []  # negative rank, index, item: the last rank is the first out

    def offer(self, index: int, item: Item) -> None:
        """Take the item of a member into the sample, if its rank allows; ignore indices that are no members."""
        rank = self._rank.get(index)
        if rank is None:
            return
        push = heapq.heappush if len(self._heap) < self._size else heapq.heappushpop
        push(self._heap, (-rank, index, item))

    def items(self) -> list[Item]:
        """The sample, in the order of the indices."""
        return [item for _, _, item in sorted(self._heap, key=lambda entry: entry[1])]
