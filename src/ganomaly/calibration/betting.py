"""Bets against uniform p-values: capital that grows when p-values stop being independent and uniform.

A *simple jumper* spreads its capital over accounts. Each bets with a function f ≥ 0 of the next p-value whose mean
is at most 1, and is multiplied by f(p); then a share J of the whole is spread evenly again, so that the capital can
follow a change. The sum is a martingale if the means are 1, and a supermartingale in any case. Source: Vovk, Petej,
Nouretdinov, Ahlberg, Carlsson, Gammerman, *Retrain or not retrain: conformal test martingales for change-point
detection*, COPA 2021, algorithm 1; several J side by side: Vovk, Petej, Gammerman, *Protected probabilistic
classification*, COPA 2021.

A jumper loses a little with every undisturbed image. So a part of the capital sleeps and wakes up bit by bit, the
slower the longer it has slept: at a change after t images, the logarithm of the capital has lost about ln t + 2 ln ln
t and no more, however large t is (the sleeper of Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random World*,
2nd edition 2022, algorithm 9.4, with a slower alarm clock).

The p-values are seen as two things, which are independent of each other: whether p ≤ κ, and where it is not,
q = (p − κ)/(1 − κ), again uniform. An account bets on either or both.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

EXTREME_SHARE = 0.05
"""κ: the share of the highest scores of which only the number counts."""
TOLERATED_SHARE = 0.02
"""a: share of anomalous images, unreviewed, that is not drift."""
EXTREME_RATE = EXTREME_SHARE + TOLERATED_SHARE * (1 - EXTREME_SHARE)
"""Highest probability of p ≤ κ without drift: normal images at κ, anomalous ones always."""
JUMP_RATES = np.array([1e-4, 1e-3, 1e-2, 1e-1])
AWAKE_AT_START = 0.5
SLEEP_SCALE = 100.0
"""Images after which about 0.6 of the capital still sleeps that slept at the start."""
CHUNK = 200
"""Steps between two scalings: capital grows at most by 15 a step, 15²⁰⁰ < 10²³⁶."""


class Account(NamedTuple):
    """What an account bets on: f = e(p ≤ κ) · (1 + slope · (q − ½) + curvature · cos 2πq).

    Attributes
    ----------
    cause : str
        What it means if this account has won.
    rate : float
        Of p ≤ κ; `EXTREME_RATE` is no bet, a higher one wins if more scores are extreme.
    slope : float
        Below 0 wins if the other scores rise, above 0 if they fall.
    curvature : float
        Above 0 wins if the other scores spread, below 0 if they become more alike.
    """

    cause: str
    rate: float = EXTREME_RATE
    slope: float = 0.0
    curvature: float = 0.0


ACCOUNTS = (
    Account("none"),
    Account("higher", slope=-1.8),
    Account("higher", slope=-1.0),
    Account("higher", rate=0.1, slope=-1.0),
    Account("higher", rate=0.15, slope=-1.0),
    Account("higher", rate=0.4, slope=-1.0),
    Account("higher", rate=0.4, slope=-1.8),
    Account("higher", rate=0.7, slope=-1.8),
    Account("lower", slope=1.0),
    Account("lower", slope=1.8),
    Account("shape", curvature=-0.8),
    Account("shape", curvature=0.8),
    Account("extremes", rate=0.15),
    Account("extremes", rate=0.4),
    Account("extremes", rate=0.7),
    Account("extremes", rate=0.97),
)
_CAUSES = np.array([account.cause for account in ACCOUNTS])
_RATES = np.array([account.rate for account in ACCOUNTS])
_SLOPES = np.array([account.slope for account in ACCOUNTS])
_CURVATURES = np.array([account.curvature for account in ACCOUNTS])
_SHAPE = (len(JUMP_RATES), len(ACCOUNTS))


def asleep(images: NDArray[np.int64]) -> NDArray[np.float64]:
    """The capital that still sleeps after so many images; it falls like 1 / ln t."""
    return np.asarray((1 - AWAKE_AT_START) / (1 + np.log1p(images / SLEEP_SCALE)), dtype=np.float64)


def betting_factors(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each account is multiplied by: `float64[n, 16 accounts]` for p-values `float64[n]`.

    The mean of each factor is at most 1 as long as p above κ is uniform and p ≤ κ has a probability of at most
    `EXTREME_RATE`, whatever came before.
    """
    extreme = (p_values <= EXTREME_SHARE)[:, None]
    q = ((p_values - EXTREME_SHARE) / (1 - EXTREME_SHARE))[:, None]
    others = 1 + _SLOPES * (q - 0.5) + _CURVATURES * np.cos(2 * math.pi * q)
    return np.where(extreme, _RATES / EXTREME_RATE, (1 - _RATES) / (1 - EXTREME_RATE) * others)


class Capital:
    """The capital, 1 at the start: half of it in accounts, half asleep.

    Attributes
    ----------
    accounts : ndarray
        `float64[4 jump rates, 16 accounts]`, in units of 2^exponent.
    exponent : int
        So that the capital may grow without end.
    images : int
        Number of p-values so far.
    """

    def __init__(self) -> None:
        self.accounts = np.full(_SHAPE, AWAKE_AT_START / math.prod(_SHAPE))
        self.exponent = 0
        self.images = 0

    @property
    def log(self) -> float:
        """Natural logarithm of the capital."""
        return float(self._log(self.accounts[None], np.array([self.images]))[0])

    def bet(self, p_values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bet on each p-value in turn; the logarithm of the capital after each, `float64[n]`.

        All at once or one by one gives the same, bit for bit.
        """
        parts = range(0, len(p_values), CHUNK)
        return np.concatenate([np.empty(0), *(self._bet(p_values[start : start + CHUNK]) for start in parts)])

    def _bet(self, p_values: NDArray[np.float64]) -> NDArray[np.float64]:
        images = self.images + np.arange(len(p_values) + 1)
        woken = -np.diff(asleep(images)) * self._unit / math.prod(_SHAPE)
        history = np.empty((len(p_values), *_SHAPE))
        accounts = self.accounts
        factors = betting_factors(p_values)
        for step, awake in enumerate(woken.tolist()):
            accounts = np.multiply(accounts, factors[step], out=history[step])
            jumping = np.add.reduce(accounts, axis=1, keepdims=True) * _TO_EACH
            accounts *= _STAYING
            accounts += jumping
            accounts += awake
        self.images = int(images[-1])
        logs = self._log(history, images[1:])
        self.accounts = accounts
        self._rescale()
        return logs

    @property
    def _unit(self) -> float:
        return float(np.ldexp(1.0, -self.exponent))

    def _log(self, accounts: NDArray[np.float64], images: NDArray[np.int64]) -> NDArray[np.float64]:
        total = accounts.reshape(len(accounts), -1).sum(axis=1) + asleep(images) * self._unit
        return np.asarray(np.log(total) + self.exponent * math.log(2), dtype=np.float64)

    def _rescale(self) -> None:
        """Bring the largest account to 1 or below; a power of two changes no digit."""
        exponent = max(int(np.frexp(self.accounts.max())[1]), -self.exponent)
        self.accounts = np.ldexp(self.accounts, -exponent)
        self.exponent += exponent

    def cause(self) -> str:
        """Which bets have won: `higher`, `lower`, `shape` or `extremes`."""
        capital = self.accounts.sum(axis=0)
        return max(
            ("higher", "lower", "shape", "extremes"), key=lambda cause: capital[cause == _CAUSES].sum()
        )

    def to_dict(self) -> dict[str, Any]:
        """The state, of numbers and lists."""
        return {"accounts": self.accounts.tolist(), "exponent": self.exponent, "images": self.images}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """The capital that `to_dict` described."""
        capital = cls()
        capital.accounts = np.array(state["accounts"], dtype=np.float64).reshape(_SHAPE)
        capital.exponent = int(state["exponent"])
        capital.images = int(state["images"])
        return capital


_STAYING = 1 - JUMP_RATES[:, None]
_TO_EACH = JUMP_RATES[:, None] / len(ACCOUNTS)
