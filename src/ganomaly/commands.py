"""What the verbs of the command line do, once their arguments are read.

Each returns whether all images could be read.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from ganomaly import demo as demonstration
from ganomaly.benchmark import (
    BAGGAGE,
    ERROR,
    Budget,
    Protocol,
    ResultTable,
    RowFile,
    Source,
    grid,
    result_table,
    run_grid,
    split_methods,
    write_figures,
    write_tables,
)
from ganomaly.config import Precision
from ganomaly.data import ImageDataset, ImageRecord, open_images, open_test_images
from ganomaly.errors import ImageError, OutputError, TrainingError, UsageError
from ganomaly.evaluation import EvaluatedImages, evaluate_model
from ganomaly.files import check_writable, written_whole
from ganomaly.fitting import FitSettings, fit_model
from ganomaly.metrics import Evaluation
from ganomaly.model_file import Model, load_model, save_model
from ganomaly.outputs import (
    MapFolder,
    MapFormat,
    ScoreRow,
    as_8_bit,
    at_image_size,
    check_table_path,
    open_table,
    score_row,
)
from ganomaly.pictures import panels
from ganomaly.progress import Console
from ganomaly.report import ReportBuilder, ReportRow
from ganomaly.report.figures import GridImage, reconstruction_grid, roc_figure, save_figure, score_histogram
from ganomaly.scoring import ScoredImage, score_dataset

GRID_IMAGES_PER_CLASS = 8
MOST_LISTED_FAILURES = 20


def fit(console: Console, data: str, path: Path, settings: FitSettings, *, resume: bool) -> bool:
    """Train on normal images and write the model."""
    check_writable(path)
    checkpoint = path.with_name(path.name + ".checkpoint")
    with console.fitting() as display:
        result = fit_model(data, settings, observer=display, checkpoint=checkpoint, resume=resume)
    save_model(result.model, path)
    checkpoint.unlink(missing_ok=True)
    calibration, training = result.model.calibration, result.training
    provenance = result.model.provenance
    work = f"{provenance['steps']} steps" if provenance["steps"] else f"{provenance['epochs']} epochs"
    console.say(
        f"trained {work} in {training.seconds:.0f} s ({training.precision}); "
        f"threshold φ = {calibration.threshold:.4g} for a false-alarm rate of {calibration.attained_rate:.2g}, "
        f"from {len(calibration.scores)} calibration images; wrote {path}"
    )
    _list_failures(console, result.failures)
    return not result.failures


def score(
    console: Console,
    model_path: Path,
    images: Sequence[Path],
    out: Path,
    *,
    maps: Path | None,
    map_format: MapFormat = "png",
    report: Path | None,
    batch_size: int,
) -> bool:
    """Judge images, one row for each."""
    check_table_path(out)
    if report is not None:
        check_writable(report)
    model = load_model(model_path)
    dataset = open_images(images)
    map_folder = None if maps is None else _map_folder(maps, model, map_format)
    builder = (
        None
        if report is None
        else _report_builder(model, f"{len(dataset)} images judged by {model_path.name}")
    )
    failures: dict[str, str] = {}
    verdicts = 0
    pictures = maps is not None or report is not None
    scored_images = score_dataset(
        model.method, model.preprocessing, dataset, batch_size=batch_size, pictures=pictures
    )
    with open_table(out) as write, console.counting(len(dataset), "scoring") as count:
        for scored in scored_images:
            count(scored.index + 1)
            record = dataset.records[scored.index]
            row = score_row(record.path, scored.score, scored.error, model.calibration)
            write(row)
            verdicts += bool(row.is_anomaly)
            if row.error is not None:
                failures[row.path] = row.error
            if map_folder is not None and scored.anomaly_map is not None:
                pixels = as_8_bit(dataset.read(scored.index), model.preprocessing.white_level)
                map_folder.write(
                    record.path, at_image_size(scored.anomaly_map, scored.height, scored.width), pixels
                )
            if builder is not None:
                builder.add(_report_row(row, record), partial(panels, scored, model.map_calibration))
    if builder is not None and report is not None:
        builder.write(report)
    console.say(
        f"{len(dataset)} images: {verdicts} anomalous, {len(dataset) - verdicts - len(failures)} normal, "
        f"{len(failures)} unreadable; wrote {', '.join(str(p) for p in (out, maps, report) if p is not None)}"
    )
    _list_failures(console, failures)
    return not failures


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
    """Measure a model on labelled images."""
    for path in (json_path, report):
        if path is not None:
            check_writable(path)
    model = load_model(model_path)
    dataset = open_test_images(data)
    builder = (
        None if report is None else _report_builder(model, f"{model_path.name} on {dataset.name}", notice)
    )
    grid = _GridImages()

    def on_image(scored: ScoredImage, record: ImageRecord) -> None:
        count(scored.index + 1)
        row = score_row(record.path, scored.score, scored.error, model.calibration)
        if builder is not None:
            builder.add(
                _report_row(row, record),
                lambda: panels(scored, model.map_calibration, _mask(dataset, scored.index, record)),
            )
        if figures is not None:
            grid.consider(scored, record)

    with console.counting(len(dataset), "evaluating") as count:
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
    _list_failures(console, evaluated.failures)
    return not evaluated.failures


def demo(console: Console, out: Path) -> bool:
    """Run the whole job on simulated baggage."""
    console.say(demonstration.NOTICE)
    data, model_path = out / "baggage", out / "baggage.safetensors"
    with console.counting(demonstration.N_IMAGES, "simulating X-ray baggage") as count:
        demonstration.write_images(data, progress=count)
    all_read = fit(console, str(data), model_path, demonstration.SETTINGS, resume=True)
    return (
        evaluate(
            console,
            model_path,
            str(data),
            json_path=out / "evaluation.json",
            report=out / "report.html",
            figures=out / "figures",
            batch_size=64,
            notice=demonstration.NOTICE,
        )
        and all_read
    )


def benchmark(
    console: Console,
    name: str,
    data: Path | None,
    out: Path,
    *,
    methods: str,
    classes: str | None,
    seeds: str,
    protocol: Protocol,
    epochs: int | None,
    train_images: int | None,
    test_images: int | None,
    image_size: int | None,
    precision: Precision,
    jobs: int,
    json_path: Path | None,
) -> None:
    """Compare methods; a second call with the same options goes on where the first stopped."""
    if data is None and name != BAGGAGE:
        raise UsageError(f"say where the images of {name} are, with --data FOLDER")
    if json_path is not None:
        check_writable(json_path)
    specs = split_methods(methods)
    chosen = None if classes is None else [part.strip() for part in classes.split(",")]
    cells = grid(
        Source(name, data if data is not None else out),
        specs,
        chosen,
        _numbers(seeds),
        protocol=protocol,
        budget=Budget(epochs, train_images, test_images),
        image_size=image_size,
        precision=precision,
    )
    kept = RowFile(out)
    with console.counting(len(cells), "cells") as count:
        rows = run_grid(cells, kept, jobs=jobs, on_done=count)
    table = result_table(rows)
    console.print_table(_benchmark_table(table))
    written = write_tables(table, rows, out) + write_figures(table, rows, out)
    if json_path is not None:
        with written_whole(json_path) as part:
            part.write_text(json.dumps({"rows": [row for row in rows if ERROR not in row]}, indent=2) + "\n")
        written.append(json_path)
    console.say(f"wrote {', '.join(map(str, [kept.path, *written]))}")
    failed = [row for row in rows if ERROR in row]
    if failed:
        first = failed[0]
        raise TrainingError(
            f"{len(failed)} of {len(rows)} rows failed, the first {first['method']} on {first['anomaly_class']}, "
            f"seed {first['seed']}: {first[ERROR]}; the same command tries them again"
        )


def _benchmark_table(table: ResultTable) -> Table:
    shown = Table(title=table.title, title_justify="left")
    shown.add_column("method")
    for name in table.classes:
        shown.add_column(name, justify="right")
    for method in table.methods:
        shown.add_row(method, *(table.text(method, name) for name in table.classes))
    return shown


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers separated by commas, got {text!r}") from None


def evaluation_table(evaluation: Evaluation, model: Model, title: str) -> Table:
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
    asked = f"false-alarm rate at φ (asked {calibration.attained_rate:.2g})"
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

    def consider(self, scored: ScoredImage, record: ImageRecord) -> None:
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


def _write_figures(folder: Path, model: Model, evaluated: EvaluatedImages, grid: _GridImages) -> None:
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


def _map_folder(folder: Path, model: Model, map_format: MapFormat) -> MapFolder:
    if model.map_calibration is None:
        raise UsageError(f"the method {model.method.name} has no anomaly map; leave out --maps")
    return MapFolder(folder, model.map_calibration, map_format)


def _mask(dataset: ImageDataset, index: int, record: ImageRecord) -> NDArray[np.bool_] | None:
    """The mask to outline; one that cannot be read is listed with the failures, and not outlined."""
    if not record.is_anomalous:
        return None
    try:
        return dataset.read_mask(index)
    except ImageError:
        return None


def _report_builder(model: Model, title: str, notice: str | None = None) -> ReportBuilder:
    calibration = model.calibration
    return ReportBuilder(
        title=title,
        threshold=calibration.threshold,
        false_alarm_rate=calibration.false_alarm_rate,
        calibration_scores=calibration.scores,
        model_summary={name: str(value) for name, value in model_summary(model).items()},
        notice=notice,
    )


def model_summary(model: Model) -> dict[str, Any]:
    """What a person may want to know of a model, by name."""
    preprocessing = model.preprocessing
    return {
        "method": model.method.name,
        "preset": model.preset,
        "network input": (
            f"{preprocessing.image_size}×{preprocessing.image_size} px, {preprocessing.channels} channel(s), "
            f"{preprocessing.bits} bit"
        ),
        **model.method.options.model_dump(),
        **model.provenance,
    }


def _report_row(row: ScoreRow, record: ImageRecord) -> ReportRow:
    return ReportRow(**asdict(row), kind=record.kind, labelled_anomalous=record.is_anomalous)


def _list_failures(console: Console, failures: Mapping[str, str]) -> None:
    if not failures:
        return
    console.warn(f"{len(failures)} images could not be read:")
    for path, why in list(failures.items())[:MOST_LISTED_FAILURES]:
        console.say(f"  {path}: {why}")
    if len(failures) > MOST_LISTED_FAILURES:
        console.say(f"  … and {len(failures) - MOST_LISTED_FAILURES} more")
