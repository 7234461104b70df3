"""Figures for papers and slides: ROC curve, histogram of scores, reconstructions beside the originals.

Each function returns a Matplotlib `Figure`. Pyplot and its global state are not used, so that figures can be drawn
in any thread and without a display.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_curve

from ganomaly.errors import UsageError
from ganomaly.files import written_whole
from ganomaly.output_checks import PNG_SOFTWARE
from ganomaly.outputs.panels import Panels
from ganomaly.remote import Location, location

# Okabe and Ito's blue and vermillion, distinct for every kind of colour vision
NORMAL = "#0072B2"
ANOMALOUS = "#D55E00"
CALIBRATION = "#77787C"
INK = "#1C1D1F"
MUTED = "#63656B"
GRID = "#E2E1DC"

FORMATS = ("png", "svg", "pdf")
PNG_DPI = 160
BINS = 60
LOG_FROM = 6  # the axis is logarithmic where the largest score is this many times the threshold
LOG_TICKS = (
    (30, (1, 2, 3, 4, 6)),
    (1e3, (1, 2, 5)),
    (np.inf, (1,)),
)  # digits to label, by high / low of the axis
MAX_BELOW_THRESHOLD = 1e4  # scores below the threshold by a larger factor are drawn at the left end
# inches of `reconstruction_grid`
PANEL, GAP, CAPTION, HEAD, MARGIN = 1.15, 0.06, 0.26, 0.5, 0.3


@dataclass(frozen=True)
class GridImage:
    """One image of `reconstruction_grid`.

    Attributes
    ----------
    panels : mapping of str to ndarray
        Name to `uint8[H, W]`, `[H, W, 1]` or `[H, W, 3]`; the same names for all images of a grid.
    is_anomalous : bool
        The label, which chooses the column.
    caption : str
        A few words or a number, such as its score.
    """

    panels: Panels
    is_anomalous: bool
    caption: str


def roc_figure(scores: ArrayLike, is_anomalous: ArrayLike, auroc: float) -> Figure:
    """Draw the ROC curve: detection rate over false-alarm rate.

    Parameters
    ----------
    scores, is_anomalous : array_like
        `float[N]` and `bool[N]`, with both classes.
    auroc : float
        Area under the curve, written into the figure.

    Raises
    ------
    UsageError
        If all images are of one class.
    """
    labels = np.asarray(is_anomalous, dtype=np.bool_)
    if not labels.any() or labels.all():
        raise UsageError("a ROC curve needs both normal and anomalous images")
    fpr, tpr, _ = roc_curve(labels, np.asarray(scores, dtype=np.float64))
    figure, axes = make_figure(4.2, 4.2)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
    axes.plot(fpr, tpr, color=ANOMALOUS, linewidth=2, clip_on=False, zorder=3)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xlabel("False-alarm rate (share of normal images)")
    axes.set_ylabel("Detection rate (share of anomalous images)")
    n_normal, n_anomalous = int((~labels).sum()), int(labels.sum())
    axes.text(0.97, 0.09, f"AUROC {auroc:.3f}", ha="right", color=INK, fontsize=12, fontweight="bold")
    axes.text(
        0.97, 0.035, f"{n_normal:,} normal, {n_anomalous:,} anomalous", ha="right", color=MUTED, fontsize=8
    )
    return figure


def score_histogram(
    calibration_scores: ArrayLike, scores: ArrayLike, is_anomalous: ArrayLike, threshold: float
) -> Figure:
    """Draw the distribution of the scores of each group, with the threshold φ as a line.

    Parameters
    ----------
    calibration_scores : array_like
        `float[n]`, A(x) of the calibration images.
    scores, is_anomalous : array_like
        `float[N]`, A(x), and `bool[N]`, the labels.
    threshold : float
        φ.

    Raises
    ------
    UsageError
        If a score or the threshold is not finite, or there is no score at all.
    """
    calibration = np.asarray(calibration_scores, dtype=np.float64)
    values = np.asarray(scores, dtype=np.float64)
    everything = np.concatenate([calibration, values, [threshold]])
    if len(everything) == 1 or not np.isfinite(everything).all():
        raise UsageError("a histogram needs scores, and they and the threshold must be finite numbers")
    figure, axes = make_figure(7.2, 3.4)
    edges = _bin_edges(everything, threshold, axes)
    _draw_group(axes, calibration, edges, "Calibration (normal)", CALIBRATION, filled=False)
    _draw_classes(axes, values, is_anomalous, edges)
    axes.axvline(threshold, color=INK, linewidth=1.4)
    axes.annotate(
        f"φ = {threshold:.4g}",
        (threshold, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -2),
        textcoords="offset points",
        va="top",
        color=INK,
    )
    _label_histogram_axes(figure, axes)
    return figure


def class_histogram(scores: ArrayLike, is_anomalous: ArrayLike) -> Figure:
    """Draw the distribution of the scores of normal and of anomalous images, where there is no threshold.

    Parameters
    ----------
    scores, is_anomalous : array_like
        `float[N]`, A(x), and `bool[N]`, the labels.

    Raises
    ------
    UsageError
        If a score is not finite, or there is none.
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) == 0 or not np.isfinite(values).all():
        raise UsageError("a histogram needs scores, and they must be finite numbers")
    figure, axes = make_figure(7.2, 3.4)
    edges = _bin_edges(values, float(np.median(values)), axes)
    _draw_classes(axes, values, is_anomalous, edges)
    _label_histogram_axes(figure, axes)
    return figure


def reconstruction_grid(images: Sequence[GridImage]) -> Figure:
    """Draw the panels of images side by side, normal images on the left, anomalous ones on the right.

    Parameters
    ----------
    images : sequence of GridImage
        In the order to show them, from top to bottom.

    Raises
    ------
    UsageError
        Without images, or if their panels have different names.
    """
    if not images:
        raise UsageError("a grid needs at least one image")
    names = list(images[0].panels)
    if any(list(image.panels) != names for image in images):
        raise UsageError("the images of a grid must have panels of the same names in the same order")
    columns = [
        (title, colour, [image for image in images if image.is_anomalous == anomalous])
        for title, colour, anomalous in (("Normal", NORMAL, False), ("Anomalous", ANOMALOUS, True))
    ]
    columns = [column for column in columns if column[2]]
    n_rows = max(len(members) for *_, members in columns)
    block = (PANEL + GAP) * len(names)
    width = block * len(columns) + MARGIN
    height = HEAD + (PANEL + CAPTION) * n_rows
    figure = Figure(figsize=(width, height))
    for number, (title, colour, members) in enumerate(columns):
        left = MARGIN / 2 + number * (block + MARGIN / 2)
        heading = figure.text(left / width, 1 - 0.08 / height, title, color=colour, fontsize=11, va="top")
        heading.set_fontweight("bold")
        for row, image in enumerate(members):
            bottom = height - HEAD - PANEL - row * (PANEL + CAPTION)
            for position, name in enumerate(names):
                x = left + position * (PANEL + GAP)
                axes = figure.add_axes((x / width, bottom / height, PANEL / width, PANEL / height))
                show_image(axes, image.panels[name])
                if row == 0:
                    axes.set_title(name, fontsize=8, color=MUTED, pad=3)
            figure.text(
                left / width, (bottom - 0.04) / height, image.caption, fontsize=8, color=INK, va="top"
            )
    return figure


def save_figure(figure: Figure, path: str | Location) -> None:
    """Write a figure as PNG, SVG or PDF, by the suffix of `path`, whole or not at all.

    Raises
    ------
    UsageError
        For another suffix, or a folder that cannot be written to.
    OutputError, StoreError
        If writing fails.
    """
    path = location(path)
    file_format = path.suffix.lower().removeprefix(".")
    if file_format not in FORMATS:
        raise UsageError(f"cannot tell the format of {path}; name it .png, .svg or .pdf")
    with written_whole(path) as part:
        software = {"Software": PNG_SOFTWARE} if file_format == "png" else None
        figure.savefig(part, format=file_format, dpi=PNG_DPI, metadata=software)


def make_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure of this size in inches, with thin gray axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=9)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def show_image(axes: Axes, image: NDArray[np.uint8]) -> None:
    """Show `uint8[H, W]`, `[H, W, 1]` or `[H, W, 3]` pixel by pixel, without axes."""
    gray = image.ndim == 2 or image.shape[2] == 1
    axes.imshow(
        image.reshape(image.shape[:2]) if gray else image,
        cmap="gray" if gray else None,
        vmin=0,
        vmax=255,
        interpolation="nearest",
        aspect="equal",
    )
    axes.set_anchor("N")
    axes.set_axis_off()


def _label_histogram_axes(figure: Figure, axes: Axes) -> None:
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axes.set_xlabel("Anomaly score A(x)")
    axes.set_ylabel("Share of each group")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=9)


def _bin_edges(values: NDArray[np.float64], threshold: float, axes: Axes) -> NDArray[np.float64]:
    """Choose a linear or a logarithmic axis, and equal bins with one edge at the threshold."""
    low, high = float(values.min()), float(values.max())
    if low <= 0 or high / threshold <= LOG_FROM:
        return _equal_bins(low, high, threshold)
    low = max(low, threshold / MAX_BELOW_THRESHOLD)
    digits = next(digits for limit, digits in LOG_TICKS if high / low < limit)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=digits, numticks=20))
    axes.xaxis.set_major_formatter(lambda score, _: f"{score:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    return np.exp(_equal_bins(np.log(low), np.log(high), np.log(threshold)))


def _equal_bins(low: float, high: float, threshold: float) -> NDArray[np.float64]:
    width = (high - low) / BINS or 1.0
    first, last = np.floor((low - threshold) / width), np.ceil((high - threshold) / width)
    # a score at the threshold is normal and belongs left of it; the last bin has both its edges
    return threshold + width * np.arange(first - 1, last + 1)


def _draw_classes(
    axes: Axes, scores: NDArray[np.float64], is_anomalous: ArrayLike, edges: NDArray[np.float64]
) -> None:
    labels = np.asarray(is_anomalous, dtype=np.bool_)
    _draw_group(axes, scores[~labels], edges, "Normal", NORMAL)
    _draw_group(axes, scores[labels], edges, "Anomalous", ANOMALOUS)


def _draw_group(
    axes: Axes,
    scores: NDArray[np.float64],
    edges: NDArray[np.float64],
    name: str,
    colour: str,
    *,
    filled: bool = True,
) -> None:
    """Draw the histogram of one group as shares; a group without scores is left out."""
    if len(scores) == 0:
        return
    # bins are open on the left, like "anomalous if A(x) > φ"
    bins = np.searchsorted(edges, np.clip(scores, edges[0], edges[-1]), side="left") - 1
    counts = np.bincount(np.maximum(bins, 0), minlength=len(edges) - 1)
    # empty bins are gaps rather than a line along the axis
    shares = np.where(counts > 0, counts / len(scores), np.nan)
    if filled:
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.22)
    style = "-" if filled else (0, (3, 2))
    axes.stairs(shares, edges, color=colour, linewidth=1.5, linestyle=style, label=name)
