import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import StepPatch
from PIL import Image

from ganomaly.errors import UsageError
from ganomaly.outputs.report.figures import (
    ANOMALOUS,
    NORMAL,
    GridImage,
    reconstruction_grid,
    roc_figure,
    save_figure,
    score_histogram,
)

SCORES = np.array([0.1, 0.2, 0.3, 0.35, 0.4, 0.9])
LABELS = np.array([False, False, False, True, False, True])
CALIBRATION = np.array([0.1, 0.15, 0.2, 0.25, 0.3])


def outlines(figure):
    """Bins of each group by its name, as (shares, edges); empty bins count 0."""
    [axes] = figure.axes
    steps = [patch for patch in axes.patches if isinstance(patch, StepPatch) and not patch.get_fill()]
    return {
        step.get_label(): (np.nan_to_num(step.get_data().values), step.get_data().edges) for step in steps
    }


def grid_image(*, anomalous, shape=(9, 9)):
    pixels = np.zeros(shape, np.uint8)
    panels = {"image": pixels, "reconstruction": pixels, "difference": pixels}
    return GridImage(panels, anomalous, "A(x) 0.1")


def test_the_roc_curve_goes_through_the_rates_of_every_threshold():
    [axes] = roc_figure(SCORES, LABELS, 0.875).axes
    points = {tuple(np.round(point, 6)) for point in axes.lines[1].get_xydata()}
    for threshold in (0.0, 0.4, 0.9):
        rates = (SCORES[~LABELS] > threshold).mean(), (SCORES[LABELS] > threshold).mean()
        assert tuple(np.round(rates, 6)) in points
    assert any("AUROC 0.875" in text.get_text() for text in axes.texts)


def test_a_roc_curve_of_one_class_is_refused():
    with pytest.raises(UsageError, match="both normal and anomalous"):
        roc_figure([0.1, 0.2], [True, True], 0.5)


@pytest.mark.parametrize("factor", [1, 100])  # a linear and a logarithmic axis
def test_the_histogram_counts_every_image_of_each_group_once(factor):
    scores = np.where(LABELS, factor * SCORES, SCORES)
    figure = score_histogram(CALIBRATION, scores, LABELS, threshold=0.32)
    assert figure.axes[0].get_xscale() == ("linear" if factor == 1 else "log")
    groups = outlines(figure)
    assert list(groups) == ["Calibration (normal)", "Normal", "Anomalous"]
    for shares, _ in groups.values():
        assert shares.sum() == pytest.approx(1)


def test_no_bin_of_the_histogram_lies_on_both_sides_of_the_threshold():
    _, edges = outlines(score_histogram(CALIBRATION, SCORES, LABELS, threshold=0.35))["Normal"]
    assert np.isclose(edges, 0.35).sum() == 1


def test_a_score_at_the_threshold_is_drawn_on_the_normal_side():
    shares, edges = outlines(score_histogram(CALIBRATION, SCORES, LABELS, threshold=0.35))["Anomalous"]
    assert shares[edges[1:] <= 0.35 + 1e-9].sum() == pytest.approx(1 / 2)  # 0.35 and 0.9 are anomalous
    assert edges[1:][shares > 0].min() == pytest.approx(0.35)


def test_the_threshold_is_drawn_where_it_is():
    [axes] = score_histogram(CALIBRATION, SCORES, LABELS, threshold=0.32).axes
    assert axes.lines[0].get_xdata()[0] == 0.32
    assert [text.get_text() for text in axes.texts] == ["φ = 0.32"]


@pytest.mark.parametrize(
    ("calibration", "scores", "threshold"),
    [([0.3], [0.3], 0.3), ([0.0], [0.0, 1e9], 0.0), ([1e-12], [1e-12, 1e6], 1e-3), ([0.1], [], 0.1)],
)
def test_the_histogram_takes_scores_of_any_size(calibration, scores, threshold, tmp_path):
    figure = score_histogram(calibration, scores, [False] * len(scores), threshold)
    save_figure(figure, tmp_path / "histogram.png")
    assert sum(shares.sum() for shares, _ in outlines(figure).values()) == pytest.approx(
        1 + (len(scores) > 0)
    )


@pytest.mark.parametrize(
    "wrong", [{"scores": [np.nan]}, {"threshold": np.inf}, {"calibration_scores": [np.inf]}]
)
def test_scores_that_are_not_finite_are_refused(wrong):
    given = {"calibration_scores": [0.1], "scores": [0.2], "is_anomalous": [False], "threshold": 0.1} | wrong
    with pytest.raises(UsageError, match="finite"):
        score_histogram(**given)


def test_normal_is_blue_and_anomalous_vermillion_everywhere():
    [axes] = score_histogram(CALIBRATION, SCORES, LABELS, 0.3).axes
    colours = {patch.get_label(): to_hex(patch.get_edgecolor()).upper() for patch in axes.patches}
    assert (colours["Normal"], colours["Anomalous"]) == (NORMAL, ANOMALOUS)
    grid = reconstruction_grid([grid_image(anomalous=True), grid_image(anomalous=False)])
    headings = {text.get_text(): text.get_color() for text in grid.texts if "A(x)" not in text.get_text()}
    assert headings == {"Normal": NORMAL, "Anomalous": ANOMALOUS}


@pytest.mark.parametrize(("n_normal", "n_anomalous"), [(1, 1), (3, 2), (0, 2), (2, 0)])
@pytest.mark.parametrize("shape", [(9, 9), (9, 20, 1), (20, 9, 3)])
def test_the_grid_shows_every_panel_of_every_image(n_normal, n_anomalous, shape):
    images = [grid_image(anomalous=n >= n_normal, shape=shape) for n in range(n_normal + n_anomalous)]
    figure = reconstruction_grid(images)
    assert sum(len(axes.images) for axes in figure.axes) == 3 * len(images)


def test_grids_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="at least one image"):
        reconstruction_grid([])
    other = GridImage({"image": np.zeros((9, 9), np.uint8)}, False, "")
    with pytest.raises(UsageError, match="same names"):
        reconstruction_grid([grid_image(anomalous=False), other])


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml"), ("a.pdf", b"%PDF")])
def test_a_figure_is_written_in_the_format_of_its_suffix(tmp_path, name, start):
    save_figure(roc_figure(SCORES, LABELS, 0.9), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_png_is_large_enough_for_a_paper(tmp_path):
    save_figure(roc_figure(SCORES, LABELS, 0.9), tmp_path / "roc.png")
    assert min(Image.open(tmp_path / "roc.png").size) > 600


def test_an_unknown_suffix_is_refused_in_words(tmp_path):
    with pytest.raises(UsageError, match=r"name it \.png, \.svg or \.pdf"):
        save_figure(roc_figure(SCORES, LABELS, 0.9), tmp_path / "roc.bmp")
    assert list(tmp_path.iterdir()) == []


def test_neither_pyplot_nor_torch_is_needed_for_figures_and_report():
    program = "import sys, ganomaly.outputs.report.figures, ganomaly.metrics; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = loaded.stdout.split()
    assert "matplotlib.figure" in modules
    assert "matplotlib.pyplot" not in modules
    assert "torch" not in modules
