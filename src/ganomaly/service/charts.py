"""Charts of the pages as SVG, in the style of the report; drawn here, so that they need no JavaScript."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 720, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 18, 24
MAX_BINS = 60


@dataclass(frozen=True)
class Chart:
    """What a template draws.

    Attributes
    ----------
    areas : sequence of (str, str)
        Class and path of each.
    lines : sequence of (str, float, float, float, float)
        Class and ends of each.
    labels : sequence of (float, float, str, str)
        Position, anchor and text of each.
    """

    areas: Sequence[tuple[str, str]]
    lines: Sequence[tuple[str, float, float, float, float]]
    labels: Sequence[tuple[float, float, str, str]]
    width: int = WIDTH
    height: int = HEIGHT


def score_histogram(groups: Sequence[tuple[str, NDArray[np.float64]]], threshold: float) -> Chart:
    """Scores of several groups on a logarithmic axis, each as shares of its own, and the threshold.

    Parameters
    ----------
    groups : sequence of (str, ndarray)
        Class and scores, `float64[n]`; empty ones are left out.
    threshold : float
        Of the model.
    """
    groups = [(name, scores) for name, scores in groups if len(scores)]
    everything = np.concatenate([[threshold], *(scores for _, scores in groups)])
    smallest = float(everything[everything > 0].min(initial=threshold)) if (everything > 0).any() else 1.0
    low, high = math.log(smallest), math.log(max(float(everything.max()), smallest))
    span = max(high - low, 1e-3)
    low, span = low - 0.03 * span, 1.06 * span

    def position(score: float) -> float:
        share = (math.log(max(score, smallest)) - low) / span
        return round(LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT), 1)

    edges = np.exp(np.linspace(low, low + span, MAX_BINS + 1))
    counts = [
        (name, np.histogram(np.clip(scores, edges[0], edges[-1]), edges)[0] / len(scores))
        for name, scores in groups
    ]
    # one image in a bin of its own would flatten all others
    tops = [float(shares.max()) for _, shares in counts]
    top = max(min(tops, default=1.0) * 3, sorted(tops)[len(tops) // 2] if tops else 1.0)
    areas = [(name, _steps(np.minimum(shares / top, 1.0))) for name, shares in counts]
    base = HEIGHT - BOTTOM
    at = position(threshold)
    lines = [("axis", LEFT, base, WIDTH - RIGHT, base), ("threshold-line", at, TOP - 4, at, base)]
    labels = [(at, TOP - 6, "middle", "φ")]
    for value in _ticks(math.exp(low), math.exp(low + span)):
        labels.append((position(value), HEIGHT - 6, "middle", f"{value:g}"))
    return Chart(areas, lines, labels)


def martingale_curve(points: Sequence[Sequence[float]], alpha: float) -> Chart:
    """Evidence of drift: log10 of the martingale against the number of images, and where it alarms.

    Parameters
    ----------
    points : sequence of (float, float)
        Number of images and log10.
    alpha : float
        It alarms at 1/α.
    """
    limit = -math.log10(alpha)
    last = max((point[0] for point in points), default=1)
    values = [point[1] for point in points]
    low, high = min([-1.0, *values]), max([limit * 1.25, *values])
    base = HEIGHT - BOTTOM

    def x(n: float) -> float:
        return round(LEFT + n / last * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(base - (value - low) / (high - low) * (base - TOP), 1)

    path = f"M{x(0)},{y(0)}" + "".join(f"L{x(n)},{y(value)}" for n, value in points)
    lines = [
        ("axis", LEFT, base, WIDTH - RIGHT, base),
        ("grid", LEFT, y(0), WIDTH - RIGHT, y(0)),
        ("alarm-line", LEFT, y(limit), WIDTH - RIGHT, y(limit)),
    ]
    labels = [
        (LEFT - 6, y(0) + 4, "end", "1"),
        (LEFT - 6, y(limit) + 4, "end", f"{1 / alpha:g}"),
        (LEFT, HEIGHT - 6, "start", "0"),
        (WIDTH - RIGHT, HEIGHT - 6, "end", f"{last:,.0f} images"),
    ]
    return Chart([("curve", path)], lines, labels)


def _steps(shares: NDArray[np.float64]) -> str:
    """One outline for each run of bins that are not empty."""
    base = HEIGHT - BOTTOM
    width = (WIDTH - LEFT - RIGHT) / len(shares)
    path = ""
    for bin_, share in enumerate(shares):
        if share == 0:
            continue
        left, right = round(LEFT + bin_ * width, 1), round(LEFT + (bin_ + 1) * width, 1)
        if bin_ == 0 or shares[bin_ - 1] == 0:
            path += f"M{left},{base}"
        path += f"V{round(base - share * (base - TOP), 1)}H{right}"
        if bin_ == len(shares) - 1 or shares[bin_ + 1] == 0:
            path += f"V{base}"
    return path


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between the ends, few enough for their labels."""
    digits = (1, 2, 5) if high / low < 1000 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in digits]
    return [tick for tick in ticks if low <= tick <= high]
