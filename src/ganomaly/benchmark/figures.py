"""Figures of a benchmark, as in the publication: AUROC per class, AUROC over an option, run time.

Source: Akcay, Atapour-Abarghouei, Breckon, *GANomaly*, ACCV 2018: figure 4, the figure of hyper-parameters after it,
and the table of run times.
"""

import math
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ganomaly.benchmark.artifact_figures import write_artifact_figures
from ganomaly.benchmark.method_spec import MethodSpec
from ganomaly.benchmark.rows import ERROR
from ganomaly.benchmark.tables import MEAN, ResultTable
from ganomaly.benchmark.tasks import WHOLE_WEAPON
from ganomaly.output_checks import FIGURE, check_replaceable
from ganomaly.outputs.report.figures import MUTED, make_figure, save_figure
from ganomaly.remote import Location, RemoteFile, list_files

# Okabe and Ito's colours, distinct for every kind of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = "osD^vP*X"
MIN_SPAN = 0.2  # of an AUROC axis: a smaller one would make noise look like an effect
CHARACTERS_PER_INCH = 15  # of a title
FIGURE_FILES = ("auroc*.png", "run_time.png", "histogram_*.png", "embedding_*.png", "reconstructions_*.png")
_OPTION = re.compile(r"(?P<name>[\w-]+)\[(?P<options>.*)\]")


def check_figure_files(folder: Location) -> None:
    """Raise `UsageError` if a file in the folder has the name of a figure, and this package did not write it."""
    for name in sorted(_file_names(folder)):
        if any(fnmatchcase(name, pattern) for pattern in FIGURE_FILES):
            check_replaceable(folder / name, FIGURE)


def _file_names(folder: Location) -> list[str]:
    """Names in a folder, without those in its subfolders; empty if it is missing."""
    if isinstance(folder, RemoteFile):
        return [stored.name for stored in list_files(folder) if "/" not in stored.name]
    return [path.name for path in folder.glob("*")]


def write_figures(table: ResultTable, rows: Sequence[Mapping[str, Any]], folder: Location) -> list[Location]:
    """Draw the figures that there are enough rows for, and return the files.

    `auroc.png` and `run_time.png` need one row; `auroc_<option>.png` needs a method at two or more values of an
    option, of which the preset's may be one; those of `write_artifact_figures` need artifacts in the folder.
    """
    complete = [row for row in rows if ERROR not in row and row["auroc"] is not None]
    if not complete:
        return []
    figures = {"auroc": per_class(table), "run_time": run_times(complete)}
    figures |= {f"auroc_{name}": over_option(table, name) for name in _swept_options(table)}
    paths: list[Location] = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        save_figure(figure, paths[-1])
    return [*paths, *write_artifact_figures(complete, folder)]


def per_class(table: ResultTable) -> Figure:
    """AUROC of each method on each class: the mean over seeds, and a bar of one standard deviation."""
    names = list(table.classes)
    figure, axes = make_figure(max(4.2, 0.75 * len(names) + 2.2), 3.6)
    width = 0.7 / max(1, len(table.methods))
    for number, method in enumerate(table.methods):
        offset = (number - (len(table.methods) - 1) / 2) * width
        points = [
            (x, table.cells[method, name]) for x, name in enumerate(names) if (method, name) in table.cells
        ]
        axes.errorbar(
            [x + offset for x, _ in points],
            [statistics.mean(values) for _, values in points],
            yerr=np.array([_whiskers(values) for _, values in points]).reshape(-1, 2).T,
            linestyle="none",
            marker=MARKERS[number % len(MARKERS)],
            color=COLOURS[number % len(COLOURS)],
            markersize=5,
            capsize=2,
            label=method,
        )
    axes.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
    tick_labels = [name.replace("_", " ") for name in names]
    axes.set_xticks(range(len(names)), tick_labels, rotation=30 if max(map(len, names)) > 6 else 0)
    for separate in {MEAN, WHOLE_WEAPON} & set(names):
        axes.axvline(names.index(separate) - 0.5, color=MUTED, linewidth=0.8)
    axes.set_ylim(_auroc_range(table, table.methods))
    axes.set_ylabel("AUROC")
    axes.set_xlabel("Class that counts as anomalous")
    _legend(axes, "method")
    _add_title(figure, axes, table)
    return figure


def over_option(table: ResultTable, option: str) -> Figure:
    """AUROC over the values of one option, equally spaced, a line for each class."""
    figure, axes = make_figure(4.6, 3.6)
    runs = sorted((float(value), method) for method, value in _values(table, option).items())
    ticks = {value: x for x, value in enumerate(sorted({value for value, _ in runs}))}
    for number, name in enumerate(table.classes):
        points = [
            (ticks[value], table.cells[method, name])
            for value, method in runs
            if (method, name) in table.cells
        ]
        if not points:
            continue
        x = np.array([tick for tick, _ in points])
        mean = np.array([statistics.mean(values) for _, values in points])
        spread = np.array([statistics.stdev(values) if len(values) > 1 else 0 for _, values in points])
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(x, mean, marker=MARKERS[number % len(MARKERS)], color=colour, markersize=4, label=name)
        axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
    axes.set_xticks(range(len(ticks)), [f"{value:g}" for value in ticks])
    axes.set_ylim(_auroc_range(table, [method for _, method in runs]))
    axes.set_xlabel(option.replace("_", " "))
    axes.set_ylabel("AUROC")
    _legend(axes, "anomalous")
    _add_title(figure, axes, table)
    return figure


def _whiskers(values: Sequence[float]) -> tuple[float, float]:
    """A standard deviation below the mean and above it, within 0 and 1."""
    mean, spread = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    return min(spread, mean), min(spread, 1 - mean)


def run_times(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Milliseconds to score a batch of 64, the median over the rows of each method, on a logarithmic axis."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    medians = [
        statistics.median(row["score_ms_per_batch"] for row in rows if row["method"] == name)
        for name in methods
    ]
    figure, axes = make_figure(5.2, 0.42 * len(methods) + 1.2)
    # points: the length of a bar means nothing on a logarithmic axis
    axes.scatter(medians, range(len(methods)), color=COLOURS[0], s=40, zorder=2)
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.set_xscale("log")
    axes.set_xlim(min(medians) / 3, max(medians) * 4)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if max(medians) < 100 * min(medians) else (1,)))
    axes.xaxis.set_major_formatter(lambda milliseconds, _: f"{milliseconds:,g}")
    axes.xaxis.set_minor_locator(NullLocator())
    for y, value in enumerate(medians):
        axes.text(value * 1.15, y, f"{value:,.1f} ms", va="center", fontsize=8)
    axes.set_xlabel("Milliseconds to score 64 images, logarithmic")
    return figure


def _swept_options(table: ResultTable) -> list[str]:
    """Options that a method was run with at two or more values, all else as in its preset."""
    names = {name for method in table.methods for name in _single_option(method)}
    return sorted(name for name in names if len(set(_values(table, name).values())) > 1)


def _values(table: ResultTable, option: str) -> dict[str, str]:
    """The option's value in each method that differs from its preset in it alone, and in the preset itself."""
    values = {method: _single_option(method).get(option, "") for method in table.methods}
    values = {method: value for method, value in values.items() if _is_number(value)}
    for preset_method in {method.partition("[")[0] for method in values} & set(table.methods):
        values[preset_method] = str(getattr(MethodSpec(preset_method).resolve().options, option))
    return values


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
    """Limits of an AUROC axis: all bands and a margin, at least `MIN_SPAN`, and hardly beyond 0 and 1."""
    low, high = 1.0, 0.0
    for (method, _), values in table.cells.items():
        if method in methods:
            mean, spread = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
            low, high = min(low, mean - spread), max(high, mean + spread)
    span = max(1.1 * (high - low), MIN_SPAN)
    top = min(1.02, (low + high + span) / 2)
    return max(-0.01, min(top - span, low - 0.01)), top


def _legend(axes: Axes, title: str) -> None:
    legend = axes.legend(
        frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), title=title, alignment="left"
    )
    legend.get_title().set_fontsize(8)


def _add_title(figure: Figure, axes: Axes, table: ResultTable) -> None:
    """Write data set, protocol and budget above the axes, which a reader needs to compare."""
    width = int(CHARACTERS_PER_INCH * figure.get_figwidth())
    axes.set_title(textwrap.fill(table.title, width), loc="left", fontsize=8, color=MUTED)
