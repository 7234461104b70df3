"""The drift monitor: how many undisturbed stations ever alarm, and after how many images does it see a change?

Prints the tables of docs/drift.md, and with `--figure` draws its figure. Each station has a calibration set, a stream
and a seed of its own. Alarms are counted at each α on the same martingales.

Run: python benchmarks/drift.py [--tiles tile_scores.json] [--figure docs/figures/drift.png]
     (tile_scores.json is written by tile_scores.py)
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from ganomaly.calibration import DriftMonitor
from ganomaly.outputs.report.figures import make_figure, save_figure
from machine import describe_machine

ALPHAS = (0.01, 0.05, 0.1)
Scores = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Scores]

DISTRIBUTIONS: dict[str, Draw] = {
    "heavy tails (Cauchy, absolute)": lambda rng, n: np.abs(rng.standard_cauchy(n)),
    "tied (5 values)": lambda rng, n: rng.binomial(4, 0.3, n).astype(float),
}
ANOMALY_RATE = 0.02


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stations", type=int, default=1000)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--tiles", type=Path, help="scores that tile_scores.py wrote")
    parser.add_argument("--figure", type=Path, help="PNG or SVG to draw")
    arguments = parser.parse_args()
    print(describe_machine(), flush=True)
    speed()
    stations, images = arguments.stations, arguments.images
    print("\n| undisturbed | calibration images |" + "".join(f" α = {alpha} |" for alpha in ALPHAS))
    print("| --- |" + " --- |" * (1 + len(ALPHAS)))
    for name, draw in DISTRIBUTIONS.items():
        for n in (20, 50, 200):
            report(name, n, [highest(seed, n, images, draw) for seed in range(stations)])
    for n in (20, 50, 200):
        peaks = [highest(seed, n, images, lognormal, ANOMALY_RATE) for seed in range(stations)]
        report("2 % anomalies, unreviewed", n, peaks)
    for n in (20, 50, 200):
        report(
            "2 % anomalies, reviewed later", n, [reviewed(seed, n, images) for seed in range(stations // 5)]
        )
    shifts(max(stations // 10, 10))
    if arguments.tiles:
        scores = {name: np.array(group) for name, group in json.loads(arguments.tiles.read_text()).items()}
        long_streams(scores)
        tiles(scores)
    if arguments.figure:
        draw_figure(arguments.figure)


def lognormal(rng: np.random.Generator, n: int) -> Scores:
    """Scores whose logarithm is standard normal."""
    return rng.lognormal(size=n)


def speed() -> None:
    """Time of a million scores at once, and of single ones after them."""
    scores = lognormal(np.random.default_rng(0), 1_000_200)
    start = time.perf_counter()
    monitor = DriftMonitor(scores[:200])
    monitor.update(scores[200:])
    at_once = time.perf_counter() - start
    start = time.perf_counter()
    for score in scores[:1000]:
        monitor.update(score)
    single = time.perf_counter() - start
    size = len(json.dumps(monitor.to_dict())) / 1000
    print(f"1,000,000 scores {at_once:.1f} s; one score {single:.2f} ms; state {size:.0f} kB", flush=True)


def highest(seed: int, n: int, images: int, draw: Draw, anomalies: float = 0.0) -> float:
    """The highest logarithm of the martingale that one undisturbed station ever has."""
    rng = np.random.default_rng([seed, n])
    scores = draw(rng, n + images)
    scores[n:] += 1e6 * (rng.random(images) < anomalies)
    return float(DriftMonitor(scores[:n], seed=seed).update(scores[n:]).max())


def reviewed(seed: int, n: int, images: int, every: int = 250) -> float:
    """The same, with all anomalies reviewed every 250 images and the monitor built anew: the highest value ever."""
    rng = np.random.default_rng([seed, n])
    scores = lognormal(rng, n + images)
    anomalous = rng.random(images) < ANOMALY_RATE
    scores[n:] += 1e6 * anomalous
    peak = -math.inf
    for end in range(every, images + 1, every):
        monitor = DriftMonitor(scores[:n], seed=seed)
        values = monitor.update(scores[n : n + end - every], anomalous[: end - every])
        new = monitor.update(scores[n + end - every : n + end])
        peak = max(peak, values.max(initial=peak), new.max())
    return float(peak)


def report(name: str, n: int, peaks: list[float]) -> None:
    """One row: the share of stations that ever alarmed, and the highest share that chance explains."""
    cells = []
    for alpha in ALPHAS:
        share = float(np.mean(np.array(peaks) >= -math.log(alpha)))
        limit = binom.ppf(0.975, len(peaks), alpha) / len(peaks)
        cells.append(f"{share:.3f} (≤ {limit:.3f})")
    print(f"| {name}, {len(peaks)} stations | {n} | " + " | ".join(cells) + " |", flush=True)


def shifts(stations: int) -> None:
    """Median delay in images for shifts of log A, in its standard deviations, at α = 0.01."""
    sizes = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)
    print("\n| calibration images | images before the change |" + "".join(f" {size} σ |" for size in sizes))
    print("| --- |" + " --- |" * (1 + len(sizes)))
    for n, before in ((20, 100), (200, 100), (200, 1000), (200, 10_000), (200, 100_000)):
        found: list[list[float]] = [[] for _ in sizes]
        for seed in range(stations if before < 100_000 else stations // 5):
            rng = np.random.default_rng([seed, n, before])
            scores = lognormal(rng, n + before)
            monitor = DriftMonitor(scores[:n], seed=seed)
            monitor.update(scores[n:])
            state = monitor.to_dict() | {"alarm_at": None}
            changed = lognormal(rng, 3000)
            for column, size in zip(found, sizes, strict=True):
                column.append(delay(state, changed * math.exp(size)))
        print(f"| {n} | {before:,} | " + " | ".join(map(cell, found)) + " |", flush=True)


def delay(state: dict[str, object], changed: Scores) -> float:
    """Number of changed images up to the alarm; infinite if there is none."""
    monitor = DriftMonitor.from_dict(state)
    before = monitor.images
    monitor.update(changed)
    return math.inf if monitor.alarm_at is None else monitor.alarm_at - before + 1


def cell(delays: list[float]) -> str:
    """Median delay, and the share that alarmed where not all did."""
    share = float(np.mean(np.isfinite(delays)))
    median = float(np.median(delays))
    text = f"{median:.0f}" if math.isfinite(median) else "–"
    return text if share == 1 else f"{text} ({share:.0%})"


def tiles(scores: dict[str, Scores], repeats: int = 200) -> None:
    """Delay on magnetic tiles: n for calibration, 100 undisturbed, then disturbed ones; drawn anew each time."""
    normal = scores.pop("undisturbed")
    defects = scores.pop("defects")
    groups = {"undisturbed": normal, "undisturbed, 2 % defects": normal, **scores}
    print(
        "\n| magnetic tiles | median log A, in σ | alarms, 50 to calibrate | 200 to calibrate | median delay | 200 |"
    )
    print("| --- |" + " --- |" * 5)
    spread = float(np.std(np.log(normal)))
    for name, group in groups.items():
        shift = float(np.median(np.log(group)) - np.median(np.log(normal))) / spread
        alarms, medians = [], []
        for n in (50, 200):
            found = []
            for seed in range(repeats):
                rng = np.random.default_rng(seed)
                order = rng.permutation(len(normal))
                rest = rng.permutation(len(group)) if name == "other lot" else order[n + 100 :]
                later = group[rest[:200]].copy()
                if "defects" in name:
                    anomalous = rng.random(len(later)) < ANOMALY_RATE
                    later[anomalous] = rng.choice(defects, anomalous.sum())
                monitor = DriftMonitor(normal[order[:n]], seed=seed)
                monitor.update(normal[order[n : n + 100]])
                monitor.update(later)
                found.append(math.inf if monitor.alarm_at is None else monitor.alarm_at - 99)
            alarms.append(f"{np.isfinite(found).mean():.0%}")
            middle = np.median(found)
            medians.append(f"{middle:.0f}" if np.isfinite(middle) else "–")
        print(f"| {name} | {shift:+.2f} | " + " | ".join(alarms + medians) + " |", flush=True)


def long_streams(scores: dict[str, Scores], stations: int = 50, changed: int = 10_000) -> None:
    """Delay on magnetic tiles in streams longer than there are tiles: their scores are drawn again and again."""
    print(f"\n| scores of tiles, up to {changed:,} after the change | 1,000 images before it | 10,000 |")
    print("| --- | --- | --- |")
    normal = scores["undisturbed"]
    for name, group in scores.items():
        found: list[list[float]] = [[], []]
        for column, before in zip(found, (1000, 10_000), strict=True):
            for seed in range(stations):
                rng = np.random.default_rng([seed, before])
                monitor = DriftMonitor(rng.choice(normal, 200), seed=seed)
                monitor.update(rng.choice(normal, before))
                state = monitor.to_dict() | {"alarm_at": None}
                column.append(delay(state, rng.choice(group, changed)))
        print(f"| {name} | " + " | ".join(map(cell, found)) + " |", flush=True)


def draw_figure(path: Path) -> None:
    """Martingales of twenty stations, half of which change after 1,000 images."""
    figure, axes = make_figure(7, 3.4)
    for seed in range(20):
        rng = np.random.default_rng([seed, 1])
        scores = lognormal(rng, 1700)
        if seed % 2:
            scores[1200:] *= math.e
        values = DriftMonitor(scores[:200], seed=seed).update(scores[200:]) / math.log(10)
        label = ("undisturbed", "log A rises by σ after 1,000 images")[seed] if seed < 2 else None
        axes.plot(values.clip(max=8), color=("#0072B2", "#D55E00")[seed % 2], linewidth=1, label=label)
    axes.axhline(2, color="#000000", linewidth=1, linestyle="--", label="alarm, α = 0.01")
    axes.set_xlabel("images")
    axes.set_ylabel("martingale, log₁₀")
    axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
