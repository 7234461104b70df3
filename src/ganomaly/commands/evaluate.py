"""`ganomaly evaluate`."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from ganomaly.audit import AuditedImages
from ganomaly.audit.pairs import report_pairs
from ganomaly.commands.audit import audit as audit_model
from ganomaly.commands.console import Console
from ganomaly.commands.evaluation_notes import warn_of_evaluation
from ganomaly.commands.reporting import list_failures, report_builder, tell_of_data
from ganomaly.data import ImageDataset, ImageRecord, open_test_images, with_ignored_regions
from ganomaly.errors import ImageError, UsageError
from ganomaly.evaluation import evaluate_model
from ganomaly.files import written_whole
from ganomaly.metrics import Evaluation
from ganomaly.output_checks import FIGURES_JSON, REPORT, check_outputs
from ganomaly.outputs.panels import panels
from ganomaly.outputs.report import ReportAudit
from ganomaly.outputs.report.evaluation_figures import EvaluationFigures, check_figure_folder
from ganomaly.prediction import Prediction, Predictor, load_predictor
from ganomaly.remote import Location


def evaluate(
    console: Console,
    model_path: Location,
    data: str,
    *,
    json_path: Location | None,
    report: Location | None,
    figures: Path | None,
    audit: bool,
    batch_size: int,
    ignore: Path | None = None,
    notice: str | None = None,
) -> bool:
    """Measure a model on labelled images; return whether all could be read."""
    check_outputs({"--json": (json_path, FIGURES_JSON), "--report": (report, REPORT)})
    if figures is not None:
        check_figure_folder(figures)
    if ignore is not None and audit:
        raise UsageError("--audit paints defects out of whole images; leave out --ignore or --audit")
    model = load_predictor(model_path)
    dataset = open_test_images(data)
    if ignore is not None:
        dataset = with_ignored_regions(dataset, ignore)
    tell_of_data(console, model, dataset)
    builder = (
        None if report is None else report_builder(model, f"{model_path.name} on {dataset.name}", notice)
    )
    drawing = EvaluationFigures()
    scores: dict[int, float] = {}

    def on_prediction(prediction: Prediction, record: ImageRecord) -> None:
        count(prediction.index + 1)
        if prediction.score is not None:
            scores[prediction.index] = prediction.score
        if builder is not None:
            builder.add(
                prediction,
                lambda: panels(prediction, model.map_calibration, _mask(dataset, prediction.index, record)),
                kind=record.kind,
                labelled_anomalous=record.is_anomalous,
            )
        if figures is not None:
            drawing.add(prediction, record)

    with console.counting(len(dataset), "evaluating") as count:
        evaluated = evaluate_model(model, dataset, batch_size=batch_size, on_prediction=on_prediction)
    evaluation = evaluated.evaluation
    console.print_table(evaluation_table(evaluation, model, title=f"{model_path.name} on {dataset.name}"))
    warn_of_evaluation(console, evaluation, model.calibration)
    audited = audit_model(console, model, dataset, scores, batch_size=batch_size) if audit else None
    if json_path is not None:
        _write_json(json_path, evaluation, audited)
    if builder is not None and report is not None:
        pairs = None if audited is None else report_pairs(model, dataset, audited, batch_size=batch_size)
        report_audit = None if audited is None or pairs is None else ReportAudit(audited.audit, pairs)
        builder.write(report, evaluation=evaluation, audit=report_audit)
    if figures is not None:
        labels, auroc = evaluated.is_anomalous, evaluation.image_auroc
        drawing.write(figures, evaluated.scores, labels, auroc, model.calibration)
    _say_what_was_written(console, json_path, report, figures)
    list_failures(console, evaluated.failures)
    return not evaluated.failures


def _say_what_was_written(console: Console, *paths: Location | None) -> None:
    written = [str(path) for path in paths if path is not None]
    if written:
        console.say(f"wrote {', '.join(written)}")


def evaluation_table(evaluation: Evaluation, model: Predictor, title: str) -> Table:
    """Every metric of an evaluation, and AUROC and detection rate of each kind of anomaly."""
    calibration = model.calibration

    def text(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("n", justify="right")
    table.add_row(
        "image AUROC", text(evaluation.image_auroc), str(evaluation.n_normal + evaluation.n_anomalous)
    )
    table.add_row("image average precision", text(evaluation.image_average_precision))
    table.add_row("image F1 at φ", text(evaluation.image_f1))
    table.add_row("equal error rate", text(evaluation.eer))
    table.add_row("false-alarm rate at 95 % detection", text(evaluation.fpr_at_95_tpr))
    rate = f"false-alarm rate at φ (target {calibration.false_alarm_rate:g}"
    rate += ")" if calibration.enough else f", attained {calibration.attained_rate:.2g})"
    table.add_row(rate, text(evaluation.false_alarm_rate), str(evaluation.n_normal))
    table.add_row("detection rate at φ", text(evaluation.detection_rate), str(evaluation.n_anomalous))
    table.add_row("pixel AUROC", text(evaluation.pixel_auroc))
    table.add_row("AUPRO to 30 %", text(evaluation.aupro), end_section=True)
    for kind, figures in sorted(evaluation.per_kind.items()):
        table.add_row(f"image AUROC, {kind}", text(figures.image_auroc), str(figures.n))
    if evaluation.per_kind:
        table.add_section()
    for kind, figures in sorted(evaluation.per_kind.items()):
        table.add_row(f"detection rate at φ, {kind}", text(figures.detection_rate), str(figures.n))
    return table


def _write_json(path: Location, evaluation: Evaluation, audited: AuditedImages | None) -> None:
    figures = evaluation.to_json_dict()
    if audited is not None:
        figures["audit"] = audited.audit.to_json_dict()
    with written_whole(path) as part:
        part.write_text(json.dumps(figures, indent=2) + "\n")


def _mask(dataset: ImageDataset, index: int, record: ImageRecord) -> NDArray[np.bool_] | None:
    """The mask to outline; one that cannot be read is listed with the failures, and not outlined."""
    if not record.is_anomalous:
        return None
    try:
        return dataset.read_mask(index)
    except ImageError:
        return None
