"""Figures of a search for options: how it went, which options matter, and how the AUROC depends on them."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ganomaly.outputs.report.figures import ANOMALOUS, INK, MUTED, NORMAL, make_figure

MOST_DEPENDENCES = 6
_LOG_FROM = 8  # the axis of an option is logarithmic where its largest value is this many times the smallest


class SearchTrial(Protocol):
    """What the report takes of a trial."""

    @property
    def place(self) -> int:
        """Its number, from 0."""

    @property
    def values(self) -> Mapping[str, Any]:
        """The options that it tried."""

    @property
    def state(self) -> str:
        """'complete', 'pruned' or 'running'."""

    @property
    def value(self) -> float | None:
        """Its AUROC; of a pruned trial as far as it came."""

    @property
    def milliseconds(self) -> float | None:
        """To predict one image."""

    @property
    def why(self) -> str | None:
        """Why it ended early."""


def history_figure(trials: Sequence[SearchTrial]) -> Figure:
    """Draw the AUROC of each trial, and the best so far; the first is the preset."""
    figure, axes = make_figure(7.2, 3.2)
    complete = [(trial.place, trial.value) for trial in trials if trial.state == "complete"]
    pruned = [
        (trial.place, trial.value) for trial in trials if trial.state == "pruned" and trial.value is not None
    ]
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "x", color=MUTED, markersize=5, label="Ended early")
    if complete:
        places, values = (np.array(column, dtype=float) for column in zip(*complete, strict=True))
        axes.plot(places, values, "o", color=NORMAL, markersize=5, label="Complete")
        axes.step(places, np.maximum.accumulate(values), where="post", color=ANOMALOUS, label="Best so far")
        if places[0] == 0:
            axes.axhline(values[0], color=INK, linewidth=0.8, linestyle=(0, (3, 3)), label="Preset")
    axes.set_xlabel("Trial")
    axes.set_ylabel("AUROC")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if complete or pruned:
        figure.legend(loc="outside upper right", ncols=4, frameon=False, fontsize=9)
    return figure


def importance_figure(importances: Mapping[str, float]) -> Figure:
    """Draw how much of the differences between trials each option explains."""
    figure, axes = make_figure(7.2, 0.8 + 0.3 * len(importances))
    names = [name.replace("_", " ") for name in importances]
    shares = list(importances.values())
    axes.barh(names, shares, color=NORMAL, height=0.6)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    for row, share in enumerate(shares):
        axes.annotate(
            f"{100 * share:.0f} %",
            (share, row),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xlabel("Share of the differences between trials")
    axes.grid(visible=False, axis="y")
    return figure


def dependence_figure(trials: Sequence[SearchTrial], name: str) -> Figure:
    """Draw the AUROC of the complete trials over one option."""
    figure, axes = make_figure(3.4, 2.6)
    complete = [trial for trial in trials if trial.state == "complete"]
    aurocs = np.array([trial.value for trial in complete], dtype=float)
    options = [trial.values[name] for trial in complete]
    are_numbers = all(isinstance(option, int | float) for option in options)
    labels = sorted({str(option) for option in options})
    positions = np.array(options if are_numbers else [labels.index(str(option)) for option in options], float)
    axes.plot(positions, aurocs, "o", color=NORMAL, markersize=4, alpha=0.8)
    if not are_numbers:
        axes.set_xlim(-0.5, len(labels) - 0.5)
        axes.set_xticks(range(len(labels)), labels, rotation=20, ha="right")
    elif len(positions) and positions.min() > 0 and positions.max() / positions.min() >= _LOG_FROM:
        axes.set_xscale("log")
    axes.set_xlabel(name.replace("_", " "))
    axes.set_ylabel("AUROC")
    return figure
