"""Figures of a benchmark, as in the publication: AUROC per class, AUROC over an option, run time.

Source: Akcay, Atapour-Abarghouei, Breckon, *GANomaly*, ACCV 2018: figure 4, the figure of hyper-parameters after it,
and the table of run times.
"""

import math
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ganomaly.benchmark.artifact_figures import write_artifact_figures
from ganomaly.benchmark.cells import MethodSpec
from ganomaly.benchmark.problems import WHOLE_WEAPON
from ganomaly.benchmark.rows import ERROR
from ganomaly.benchmark.tables import MEAN, ResultTable
from ganomaly.outputs.report.figures import MUTED, quiet_figure, save_figure

# Okabe and Ito's colours, which every kind of colour vision tells apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = "osD^vP*X"
LEAST_SPAN = 0.2  # of an AUROC axis: a smaller one would make noise look like an effect
LETTERS_PER_INCH = 15  # of a title
_OPTION = re.compile(r"(?P<name>[\w-]+)\[(?P<options>.*)\]")


def write_figures(table: ResultTable, rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Draw what the rows are enough for, and return the files.

    `auroc.png` needs one row; `auroc_<option>.png` a method at two values of an option at least,
    of which its preset's may be one;
    `run_time.png` one row; those of `write_artifact_figures` what a cell has kept in the folder.
    """
    whole = [row for row in rows if ERROR not in row and row["auroc"] is not None]
    if not whole:
        return []
    figures = {"auroc": per_class(table), "run_time": run_times(whole)}
    figures |= {f"auroc_{name}": over_option(table, name) for name in _swept(table)}
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        save_figure(figure, paths[-1])
    return [*paths, *write_artifact_figures(whole, folder)]


def per_class(table: ResultTable) -> Figure:
    """AUROC of each method on each class: the mean over seeds, and a bar of one standard deviation."""
    names = list(table.classes)
    figure, axes = quiet_figure(max(4.2, 0.75 * len(names) + 2.2), 3.6)
    width = 0.7 / max(1, len(table.methods))
    for number, method in enumerate(table.methods):
        offset = (number - (len(table.methods) - 1) / 2) * width
        known = [
            (place, table.cells[method, name])
            for place, name in enumerate(names)
            if (method, name) in table.cells
        ]
        axes.errorbar(
            [place + offset for place, _ in known],
            [statistics.mean(values) for _, values in known],
            yerr=np.array([_whiskers(values) for _, values in known]).reshape(-1, 2).T,
            linestyle="none",
            marker=MARKERS[number % len(MARKERS)],
            color=COLOURS[number % len(COLOURS)],
            markersize=5,
            capsize=2,
            label=method,
        )
    axes.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
    shown = [name.replace("_", " ") for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=30 if max(map(len, names)) > 6 else 0)
    for apart in {MEAN, WHOLE_WEAPON} & set(names):
        axes.axvline(names.index(apart) - 0.5, color=MUTED, linewidth=0.8)
    axes.set_ylim(_auroc_range(table, table.methods))
    axes.set_ylabel("AUROC")
    axes.set_xlabel("Class that counts as anomalous")
    _legend(axes, "method")
    _say_budget(figure, axes, table)
    return figure


def over_option(table: ResultTable, option: str) -> Figure:
    """AUROC over the values of one option, equally far apart, a line for each class."""
    figure, axes = quiet_figure(4.6, 3.6)
    points = sorted((float(value), method) for method, value in _values(table, option).items())
    places = {value: place for place, value in enumerate(sorted({value for value, _ in points}))}
    for number, name in enumerate(table.classes):
        known = [
            (places[value], table.cells[method, name])
            for value, method in points
            if (method, name) in table.cells
        ]
        if not known:
            continue
        x = np.array([place for place, _ in known])
        mean = np.array([statistics.mean(values) for _, values in known])
        spread = np.array([statistics.stdev(values) if len(values) > 1 else 0 for _, values in known])
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(x, mean, marker=MARKERS[number % len(MARKERS)], color=colour, markersize=4, label=name)
        axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
    axes.set_xticks(range(len(places)), [f"{value:g}" for value in places])
    axes.set_ylim(_auroc_range(table, [method for _, method in points]))
    axes.set_xlabel(option.replace("_", " "))
    axes.set_ylabel("AUROC")
    _legend(axes, "anomalous")
    _say_budget(figure, axes, table)
    return figure


def _whiskers(values: Sequence[float]) -> tuple[float, float]:
    """A standard deviation below the mean and above it, no farther than an AUROC can be."""
    mean, spread = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    return min(spread, mean), min(spread, 1 - mean)


def run_times(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Milliseconds to score a batch of 64, the median over the rows of each method, on a logarithmic axis."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    medians = [
        statistics.median(row["score_ms_per_batch"] for row in rows if row["method"] == name)
        for name in methods
    ]
    figure, axes = quiet_figure(5.2, 0.42 * len(methods) + 1.2)
    # points, for the length of a bar means nothing on a logarithmic axis
    axes.scatter(medians, range(len(methods)), color=COLOURS[0], s=40, zorder=2)
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.set_xscale("log")
    axes.set_xlim(min(medians) / 3, max(medians) * 4)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if max(medians) < 100 * min(medians) else (1,)))
    axes.xaxis.set_major_formatter(lambda milliseconds, _: f"{milliseconds:,g}")
    axes.xaxis.set_minor_locator(NullLocator())
    for place, value in enumerate(medians):
        axes.text(value * 1.15, place, f"{value:,.1f} ms", va="center", fontsize=8)
    axes.set_xlabel("Milliseconds to score 64 images, logarithmic")
    return figure


def _swept(table: ResultTable) -> list[str]:
    """Options that some method was run at two values of, all else as in its preset."""
    names = {name for method in table.methods for name in _single_option(method)}
    return sorted(name for name in names if len(set(_values(table, name).values())) > 1)


def _values(table: ResultTable, option: str) -> dict[str, str]:
    """Methods that differ from their preset in this option alone, the preset itself, and its number in each."""
    found = {method: _single_option(method).get(option, "") for method in table.methods}
    found = {method: value for method, value in found.items() if _is_number(value)}
    for plain in {method.partition("[")[0] for method in found} & set(table.methods):
        *_, options = MethodSpec(plain).resolved()
        found[plain] = str(getattr(options, option))
    return found


def _single_option(method: str) -> dict[str, str]:
    match = _OPTION.fullmatch(method)
    pairs = [pair.split("=", 1) for pair in match["options"].split(";")] if match else []
    return {pairs[0][0]: pairs[0][1]} if len(pairs) == 1 else {}


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _auroc_range(table: ResultTable, methods: Sequence[str]) -> tuple[float, float]:
    """Limits of an AUROC axis: bands and some air, `LEAST_SPAN` at least, nothing that no AUROC can be."""
    low, high = 1.0, 0.0
    for (method, _), values in table.cells.items():
        if method in methods:
            mean, spread = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
            low, high = min(low, mean - spread), max(high, mean + spread)
    span = max(1.1 * (high - low), LEAST_SPAN)
    top = min(1.02, (low + high + span) / 2)
    return max(-0.01, min(top - span, low - 0.01)), top


def _legend(axes: Axes, title: str) -> None:
    legend = axes.legend(
        frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), title=title, alignment="left"
    )
    legend.get_title().set_fontsize(8)


def _say_budget(figure: Figure, axes: Axes, table: ResultTable) -> None:
    """Write above the axes what a reader must know to compare: data set, protocol and budget."""
    width = int(LETTERS_PER_INCH * figure.get_figwidth())
    axes.set_title(textwrap.fill(table.title, width), loc="left", fontsize=8, color=MUTED)
