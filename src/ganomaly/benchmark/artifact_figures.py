"""Figures of one method on one class, from the artifacts of its cell: scores, features, reconstructions.

Source: Akcay, Atapour-Abarghouei, Breckon, *GANomaly*, ACCV 2018, which shows the same three.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from matplotlib.figure import Figure

from ganomaly.benchmark.artifacts import ARTIFACTS, Artifacts, Embedding, Reconstruction, read_artifacts
from ganomaly.outputs.report.figures import (
    ANOMALOUS,
    MUTED,
    NORMAL,
    class_histogram,
    make_figure,
    save_figure,
    show_image,
)
from ganomaly.remote import Location

PANEL = 0.85  # inches
MAX_NAME_PART = 80  # characters of a method or a class in a file name, which may have some 250 in all
# name, colour, marker, is_anomalous
LABELS = (("Normal", NORMAL, "o", False), ("Anomalous", ANOMALOUS, "^", True))


def write_artifact_figures(rows: Sequence[Mapping[str, Any]], folder: Location) -> list[Location]:
    """Draw each method on each class, and return the files.

    Parameters
    ----------
    rows : sequence of mapping
        In the order of the grid; of each method and class the first seed with artifacts is drawn.
    folder : Path or RemoteFile
        The output folder, which holds the artifacts.

    Returns
    -------
    list of Path or RemoteFile
        `histogram_<method>_<class>.png`, `embedding_…` and `reconstructions_…`, those that can be drawn.
    """
    drawn: set[tuple[str, str]] = set()
    paths: list[Location] = []
    for row in rows:
        pair = row["method"], row["anomaly_class"]
        artifacts = None if pair in drawn or ARTIFACTS not in row else read_artifacts(folder / row[ARTIFACTS])
        if artifacts is None:
            continue
        drawn.add(pair)
        title = f"{row['method']}\nanomalous: {row['anomaly_class']}; seed {row['seed']}"
        for name, draw in _drawings(artifacts, title).items():
            paths.append(folder / f"{name}_{_in_file_name(pair[0])}_{_in_file_name(pair[1])}.png")
            save_figure(draw(), paths[-1])
    return paths


def histogram(artifacts: Artifacts, title: str) -> Figure:
    """The distributions of the scores of normal and of anomalous test images."""
    figure = class_histogram(artifacts.scores, artifacts.is_anomalous)
    figure.axes[0].set_title(title, loc="left", fontsize=9)
    return figure


def embedding(embedded: Embedding, title: str) -> Figure:
    """The t-SNE of the discriminator's features of normal and of anomalous test images."""
    figure, axes = make_figure(4.6, 4.4)
    for name, colour, marker, anomalous in LABELS:
        x, y = embedded.positions[embedded.is_anomalous == anomalous].T
        axes.scatter(
            x, y, s=14, c=colour, marker=marker, alpha=0.65, linewidths=0, label=f"{name} ({len(x):,})"
        )
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_xlabel("First t-SNE axis of the discriminator's features")
    axes.set_ylabel("Second t-SNE axis")
    # distances mean something, coordinates do not
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.grid(visible=False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def reconstructions(samples: Sequence[Reconstruction], title: str) -> Figure:
    """Normal test images over their reconstructions, and below them anomalous ones over theirs."""
    groups = [
        (name, colour, members)
        for name, colour, _, anomalous in LABELS
        if (members := [sample for sample in samples if sample.is_anomalous == anomalous])
    ]
    n_columns = max(len(members) for *_, members in groups)
    figure = Figure(
        figsize=(PANEL * n_columns + 1.1, (2 * PANEL + 0.35) * len(groups) + 0.45), layout="constrained"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    blocks = figure.subfigures(len(groups), 1, squeeze=False)[:, 0]
    for block, (name, colour, members) in zip(blocks, groups, strict=True):
        block.suptitle(name, x=0.01, ha="left", fontsize=11, color=colour, fontweight="bold")
        grid = block.subplots(2, n_columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for column, sample in enumerate(members):
            show_image(grid[0, column], sample.image)
            show_image(grid[1, column], sample.reconstruction)
        for axes, label in zip(grid[:, 0], ("image", "reconstruction"), strict=True):
            axes.text(
                *(-0.1, 0.5, label),
                transform=axes.transAxes,
                ha="right",
                va="center",
                fontsize=8,
                color=MUTED,
            )
    return figure


def _drawings(artifacts: Artifacts, title: str) -> dict[str, Callable[[], Figure]]:
    """The figures that can be drawn of these artifacts, by name."""
    drawings: dict[str, Callable[[], Figure]] = {"histogram": lambda: histogram(artifacts, title)}
    if (embedded := artifacts.embedding) is not None:
        drawings["embedding"] = lambda: embedding(embedded, title)
    if artifacts.reconstructions:
        drawings["reconstructions"] = lambda: reconstructions(artifacts.reconstructions, title)
    return drawings


def _in_file_name(text: str) -> str:
    """A method or class as part of a file name, each its own; unsafe characters as %XX."""
    name = quote(text, safe="[]=;,+ ")
    if len(name) <= MAX_NAME_PART:
        return name
    return f"{name[: MAX_NAME_PART - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
