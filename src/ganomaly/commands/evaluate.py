"""`ganomaly evaluate`."""

import json
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from ganomaly.commands.console import Console
from ganomaly.commands.reporting import list_failures, report_builder, report_row
from ganomaly.data import ImageDataset, ImageRecord, open_test_images
from ganomaly.errors import ImageError, OutputError
from ganomaly.evaluation import EvaluatedImages, evaluate_model
from ganomaly.files import check_writable, written_whole
from ganomaly.metrics import Evaluation
from ganomaly.outputs import score_row
from ganomaly.outputs.panels import panels
from ganomaly.outputs.report.figures import (
    GridImage,
    reconstruction_grid,
    roc_figure,
    save_figure,
    score_histogram,
)
from ganomaly.prediction import Prediction, Predictor, load_predictor

GRID_IMAGES_PER_CLASS = 8


def evaluate(
    console: Console,
    model_path: Path,
    data: str,
    *,
    json_path: Path | None,
    report: Path | None,
    figures: Path | None,
    batch_size: int,
    notice: str | None = None,
) -> bool:
    """Measure a model on labelled images; whether all could be read."""
    for path in (json_path, report):
        if path is not None:
            check_writable(path)
    model = load_predictor(model_path)
    dataset = open_test_images(data)
    builder = (
        None if report is None else report_builder(model, f"{model_path.name} on {dataset.name}", notice)
    )
    grid = _GridImages()

    def on_image(scored: Prediction, record: ImageRecord) -> None:
        count(scored.index + 1)
        row = score_row(record.path, scored.score, scored.error, model.calibration)
        if builder is not None:
            builder.add(
                report_row(row, record),
                lambda: panels(scored, model.map_calibration, _mask(dataset, scored.index, record)),
            )
        if figures is not None:
            grid.consider(scored, record)

    with console.counting(len(dataset), "eval_mode") as count:
        evaluated = evaluate_model(model, dataset, batch_size=batch_size, on_image=on_image)
    evaluation = evaluated.evaluation
    console.print_table(evaluation_table(evaluation, model, title=f"{model_path} on {dataset.name}"))
    if json_path is not None:
        with written_whole(json_path) as part:
            part.write_text(json.dumps(evaluation.to_json_dict(), indent=2) + "\n")
    if builder is not None and report is not None:
        builder.write(report, evaluation=evaluation)
    if figures is not None:
        _write_figures(figures, model, evaluated, grid)
    written = [str(path) for path in (json_path, report, figures) if path is not None]
    if written:
        console.say(f"wrote {', '.join(written)}")
    list_failures(console, evaluated.failures)
    return not evaluated.failures


def evaluation_table(evaluation: Evaluation, model: Predictor, title: str) -> Table:
    """Every figure of an evaluation, with the kinds of anomaly below."""
    calibration = model.calibration

    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("n", justify="right")
    table.add_row(
        "image AUROC", shown(evaluation.image_auroc), str(evaluation.n_normal + evaluation.n_anomalous)
    )
    table.add_row("image average precision", shown(evaluation.image_average_precision))
    table.add_row("image F1 at φ", shown(evaluation.image_f1))
    table.add_row("equal error rate", shown(evaluation.eer))
    table.add_row("false-alarm rate at 95 % detection", shown(evaluation.fpr_at_95_tpr))
    asked = f"false-alarm rate at φ (asked {calibration.false_alarm_rate:g}"
    asked += ")" if calibration.enough else f", φ stands for {calibration.attained_rate:.2g})"
    table.add_row(asked, shown(evaluation.false_alarm_rate), str(evaluation.n_normal))
    table.add_row("detection rate at φ", shown(evaluation.detection_rate), str(evaluation.n_anomalous))
    table.add_row("pixel AUROC", shown(evaluation.pixel_auroc))
    table.add_row("AUPRO to 30 %", shown(evaluation.aupro), end_section=True)
    for kind, figures in sorted(evaluation.per_kind.items()):
        table.add_row(f"image AUROC, {kind}", shown(figures.image_auroc), str(figures.n))
    return table


@dataclass
class _GridImages:
    """The first images of each class and kind, for the figure of reconstructions."""

    normal: list[GridImage] = field(default_factory=list)
    anomalous: dict[str, list[GridImage]] = field(default_factory=dict)

    def consider(self, scored: Prediction, record: ImageRecord) -> None:
        shown = panels(scored)
        if "reconstruction" not in shown:
            return
        kind = record.kind or "anomalous"
        images = self.anomalous.setdefault(kind, []) if record.is_anomalous else self.normal
        if len(images) < GRID_IMAGES_PER_CLASS:
            images.append(GridImage(shown, bool(record.is_anomalous), f"{kind}, A(x) = {scored.score:.3g}"))

    def chosen(self) -> list[GridImage]:
        """Normal images, and as many anomalous ones, taken in turn from the kinds."""
        turns = zip_longest(*self.anomalous.values())
        in_turn = [image for turn in turns for image in turn if image is not None]
        return self.normal + in_turn[:GRID_IMAGES_PER_CLASS]


def _write_figures(folder: Path, model: Predictor, evaluated: EvaluatedImages, grid: _GridImages) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {folder} for figures: {error.strerror or error}"
        ) from error
    scores, truth, calibration = evaluated.scores, evaluated.is_anomalous, model.calibration
    histogram = score_histogram(calibration.scores, scores, truth, calibration.threshold)
    save_figure(histogram, folder / "score_histogram.png")
    if evaluated.evaluation.image_auroc is not None:
        save_figure(roc_figure(scores, truth, evaluated.evaluation.image_auroc), folder / "roc.png")
    if grid.chosen():
        save_figure(reconstruction_grid(grid.chosen()), folder / "reconstructions.png")


def _mask(dataset: ImageDataset, index: int, record: ImageRecord) -> NDArray[np.bool_] | None:
    """The mask to outline; one that cannot be read is listed with the failures, and not outlined."""
    if not record.is_anomalous:
        return None
    try:
        return dataset.read_mask(index)
    except ImageError:
        return None
