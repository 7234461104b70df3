"""Conformal p-values of a stream of scores, each against all scores before it.

The p-value of the t-th score a_t is

    p_t = (#{i < t: a_i > a_t} + U_t · #{i ≤ t: a_i = a_t}) / t,    U_t uniform on [0, 1),

where the scores before it are those of the calibration set and of the stream so far. If all scores are exchangeable,
p_1, p_2, … are independent and uniform on [0, 1], exactly, for any distribution of the scores and with ties
(Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random World*, 2nd edition 2022, theorem 11.1; crepes names them
semi-online). P-values against a fixed calibration set are not: given the set, new ones are independent but
not uniform, and a bet on them wins in the end.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MANTISSA_BITS = 12
"""Scores that agree in this many bits count as equal: steps of 0.02 %, so that memory is bounded. The guarantee is
exact all the same: ties are broken at random, and rounded scores are exchangeable, as the rounding is fixed."""
CHUNK = 256
"""Scores that are compared with each other directly; what came before them is looked up in the counts."""
_FLOAT32_MANTISSA = 23


def score_keys(scores: ArrayLike) -> NDArray[np.int64]:
    """The scores as whole numbers in the same order, scores that count as equal having the same; ≥ 0.

    A float32 ≥ 0 and its bits, read as a whole number, have the same order; the last bits are cut.

    >>> score_keys([0.0, 1.0, 1.0001, 1.001, 2.0]).tolist()
    [0, 520192, 520192, 520196, 524288]
    """
    largest = np.finfo(np.float32).max
    rounded = np.clip(np.asarray(scores, dtype=np.float64), 0, largest).astype(np.float32) + np.float32(0)
    return np.asarray(rounded.view(np.uint32) >> (_FLOAT32_MANTISSA - MANTISSA_BITS), dtype=np.int64)


class ScoreCounts:
    """How often each score occurred: all that the next p-values depend on, in bounded memory.

    Parameters
    ----------
    keys : sequence of int
        Different, increasing, as `score_keys` makes them.
    counts : sequence of int
        How often each occurred, ≥ 1.
    """

    def __init__(self, keys: Sequence[int] | NDArray[np.int64] = (), counts: Any = ()) -> None:
        self.keys = np.asarray(keys, dtype=np.int64)
        self.counts = np.asarray(counts, dtype=np.int64)

    @property
    def total(self) -> int:
        """The number of scores so far."""
        return int(self.counts.sum())

    def add(self, keys: NDArray[np.int64]) -> None:
        """Count further scores."""
        new, counts = np.unique(keys, return_counts=True)
        position = np.searchsorted(self.keys, new)
        known = np.zeros(len(new), dtype=np.bool_)
        inside = position < len(self.keys)
        known[inside] = self.keys[position[inside]] == new[inside]
        self.counts[position[known]] += counts[known]
        if not known.all():
            self.keys = np.insert(self.keys, position[~known], new[~known])
            self.counts = np.insert(self.counts, position[~known], counts[~known])

    def p_values(self, keys: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[np.float64]:
        """P-value of each score in turn, against all that are counted and those before it here; then count them.

        Parameters
        ----------
        keys : ndarray
            `int64[n]`, in the order of the stream.
        uniforms : ndarray
            `float64[n]`, uniform on [0, 1), independent of everything else.
        """
        p_values = np.empty(len(keys))
        for start in range(0, len(keys), CHUNK):
            part = slice(start, start + CHUNK)
            p_values[part] = self._p_values(keys[part], uniforms[part])
            self.add(keys[part])
        return p_values

    def _p_values(self, keys: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[np.float64]:
        up_to = np.concatenate([[0], np.cumsum(self.counts)])  # scores with a smaller key than the i-th
        not_above = up_to[np.searchsorted(self.keys, keys, side="right")]
        below = up_to[np.searchsorted(self.keys, keys, side="left")]
        total = up_to[-1]
        before = np.tri(len(keys), k=-1, dtype=np.bool_)  # [later, earlier]
        greater = total - not_above + np.sum(before & (keys > keys[:, None]), axis=1)
        equal = not_above - below + np.sum(before & (keys == keys[:, None]), axis=1) + 1
        position = total + np.arange(1, len(keys) + 1)
        return np.asarray((greater + uniforms * equal) / position, dtype=np.float64)
