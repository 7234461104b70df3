"""Drift: are the images to come still exchangeable with the calibration set?

A conformal test martingale is the capital of somebody who bets against it, 1 at the start. As long as there is no
drift it reaches 1/α with probability α at most, *ever* (Ville's inequality), however many images come. So with an
alarm at 1/α, at most a share α of undisturbed stations alarm in all their life. Source: Vovk, Gammerman, Shafer,
*Algorithmic Learning in a Random World*, 2nd edition 2022, chapters 8 and 9; Vovk and others, *Retrain or not
retrain*, COPA 2021.

What "no drift" means; each line is enough:

1. The scores are exchangeable: those of the calibration set and of the stream could have come in any order.
2. Those of the normal images are, and the stream has anomalous images too that nobody has reviewed yet. Each of them
   scores above all normal images; each image is anomalous with a probability of at most a = 0.02, whatever came
   before; and at any time at most a share κ = 0.05 of all scores so far, calibration included, is anomalous.

Why 2 is enough: say that D of the t scores are anomalous, D ≤ κt. A normal image has p = (D + V)/t with V uniform on
[0, t − D]. So p above κ is uniform there, and p ≤ κ has probability (κt − D)/(t − D) ≤ κ. An anomalous image has
p ≤ D/t ≤ κ. The bets win on average only if p above κ is not uniform, or p ≤ κ is likelier than κ + a(1 − κ).
"""

import math
from collections.abc import Mapping
from copy import copy
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganomaly.calibration.betting import Capital
from ganomaly.calibration.conformal import ROUNDING, Calibration
from ganomaly.calibration.online_p_values import ScoreCounts, score_keys
from ganomaly.errors import UsageError

ALPHA = 0.01
STATE_VERSION = 1
_LARGEST_LOG = math.log(np.finfo(np.float64).max)


class DriftMonitor:
    """Say when a stream of images is no longer exchangeable with the calibration set.

    Parameters
    ----------
    calibration_scores : array-like
        A(x) of the calibration images as the model computed them, at least one; not those of `Calibration`, which
        are raised a little (`from_calibration` takes those).
    alpha : float, default=0.01
        The share of stations without drift that may ever alarm, in (0, 1).
    seed : int, default=0
        Fixes how equal scores are ordered. Same seed, same scores: same values, bit for bit on a machine.

    Attributes
    ----------
    images : int
        Number of images of the stream so far, those left out included.
    alarm_at : int or None
        Index in the stream, from 0, of the image at which the martingale reached 1/α; it stays when it falls again.
    alarm_cause : {'higher', 'lower', 'shape', 'extremes'} or None
        A hint: which bets had won most by then. `higher`, `lower`: the scores have risen or fallen. `shape`: they
        have spread or become more alike. `extremes`: more images score high and the others as before; a review tells
        whether these are defects.

    Raises
    ------
    UsageError
        If there are no calibration scores, or one is not a finite number ≥ 0, or `alpha` is not in (0, 1).

    Notes
    -----
    The reference is all that came before, so the monitor adapts: after a change that nobody acted on for long, the
    changed images are the reference. `alarm_at` stays.

    An image takes a fraction of a millisecond, and a million at once some seconds. So a review may change the past:
    build the monitor anew from the stored scores, with that image left out.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.random.default_rng(0).gamma(9.0, size=1200)
    >>> monitor = DriftMonitor(scores[:200], alpha=0.01)
    >>> log_martingale = monitor.update(scores[200:])
    >>> monitor.alarmed
    False
    >>> log_martingale = monitor.update(np.random.default_rng(1).gamma(9.0, size=100) * 1.3)
    >>> monitor.alarmed, monitor.alarm_cause, 1000 <= monitor.alarm_at < 1100
    (True, 'higher', True)
    """

    def __init__(self, calibration_scores: ArrayLike, alpha: float = ALPHA, seed: int = 0) -> None:
        scores = np.asarray(calibration_scores, dtype=np.float64).ravel()
        if not 0 < alpha < 1:
            raise UsageError(f"alpha is {alpha}, but must be between 0 and 1; 0.01 is usual")
        if len(scores) == 0 or not np.isfinite(scores).all() or scores.min() < 0:
            raise UsageError(
                "the drift monitor needs calibration scores, all finite numbers ≥ 0; calibrate with normal images"
            )
        self.alpha = float(alpha)
        self.seed = int(seed)
        self.images = 0
        self.alarm_at: int | None = None
        self.alarm_cause: str | None = None
        self._counts = ScoreCounts()
        self._counts.add(score_keys(scores))
        self._capital = Capital()

    @classmethod
    def from_calibration(cls, calibration: Calibration, alpha: float = ALPHA, seed: int = 0) -> Self:
        """A monitor for a model with this calibration."""
        return cls(calibration.scores / (1 + ROUNDING), alpha, seed)

    def update(self, scores: ArrayLike, left_out: ArrayLike | None = None) -> NDArray[np.float64]:
        """Take the next images of the stream.

        Parameters
        ----------
        scores : array-like
            A(x) of one image or of n, in the order of the stream. Those that are not finite are left out.
        left_out : array-like, optional
            `bool[n]`, images that a person reviewed as anomalous: they are not in the sequence. Images reviewed as
            normal stay. Left out or not, an image uses up one random number, so that the others keep theirs.

        Returns
        -------
        ndarray
            `float64[n]`, natural logarithm of the martingale after each image.
        """
        scores = np.asarray(scores, dtype=np.float64).ravel()
        used = np.isfinite(scores)
        if left_out is not None:
            used &= ~np.asarray(left_out, dtype=np.bool_).ravel()
        random = np.random.Generator(np.random.PCG64(self.seed).advance(self.images))
        uniforms = random.random(len(scores))
        p_values = self._counts.p_values(score_keys(scores[used]), uniforms[used])
        values = np.concatenate([[self.log_martingale], self._bet(p_values, np.flatnonzero(used))])
        self.images += len(scores)
        return np.asarray(
            values[np.cumsum(used)]
        )  # an image that is left out has the value of the one before it

    def _bet(self, p_values: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Bet up to the alarm, note it, and go on; `index` is that of each p-value among the new images."""
        limit = -math.log(self.alpha)
        start = copy(self._capital)
        values = self._capital.bet(p_values)
        if self.alarm_at is None and len(values) and values.max() >= limit:
            first = int(np.argmax(values >= limit))
            start.bet(p_values[: first + 1])
            self.alarm_at, self.alarm_cause = self.images + int(index[first]), start.cause()
        return values

    @property
    def log_martingale(self) -> float:
        """Natural logarithm of the martingale; 0 at the start, an alarm from −ln α on."""
        return self._capital.log

    @property
    def martingale(self) -> float:
        """The capital of the bets against exchangeability; 1 at the start, an alarm from 1/α on."""
        return math.exp(min(self.log_martingale, _LARGEST_LOG))

    @property
    def alarmed(self) -> bool:
        """Whether the martingale ever reached 1/α, since the start or the last `restart`."""
        return self.alarm_at is not None

    def restart(self) -> None:
        """Bet anew, after an alarm was acknowledged; the reference of earlier scores stays.

        Without drift, each restart is followed by another alarm with probability α at most, whatever came before: a
        share α of stations ever has a false alarm, a share α² two. If the images have changed for good, calibrate the
        model again instead and make a new monitor.
        """
        self._capital = Capital()
        self.alarm_at = self.alarm_cause = None

    def to_dict(self) -> dict[str, Any]:
        """The state, of numbers, texts and lists that JSON can hold; 10 to 400 kB, however long the stream."""
        return {
            "version": STATE_VERSION,
            "alpha": self.alpha,
            "seed": self.seed,
            "images": self.images,
            "alarm_at": self.alarm_at,
            "alarm_cause": self.alarm_cause,
            "score_keys": self._counts.keys.tolist(),
            "score_counts": self._counts.counts.tolist(),
            "capital": self._capital.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """The monitor that `to_dict` described; it goes on as if it had never been away.

        Raises
        ------
        UsageError
            If it is no state of a monitor, or one of another version.
        """
        if state.get("version") != STATE_VERSION:
            raise UsageError(
                "this is not the state of a drift monitor of this version of ganomaly; build the monitor anew from "
                "the stored scores"
            )
        monitor = cls([0.0], state["alpha"], state["seed"])
        monitor.images = int(state["images"])
        monitor.alarm_at, monitor.alarm_cause = state["alarm_at"], state["alarm_cause"]
        monitor._counts = ScoreCounts(state["score_keys"], state["score_counts"])
        monitor._capital = Capital.from_dict(state["capital"])
        return monitor
