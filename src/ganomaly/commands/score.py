"""`ganomaly score`: imports no PyTorch unless the model needs it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ganomaly.commands.console import Console
from ganomaly.commands.reporting import list_failures, report_builder, report_row
from ganomaly.data import ImageDataset, open_images
from ganomaly.errors import UsageError
from ganomaly.files import check_writable
from ganomaly.outputs import (
    ImageFolders,
    MapFolder,
    MapFormat,
    as_8_bit,
    at_image_size,
    check_table_path,
    open_table,
    score_row,
)
from ganomaly.outputs.panels import panels
from ganomaly.prediction import Predictor, load_predictor

FEWEST_TO_WONDER = 5  # images that are all anomalous


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
    """Predictor images, one row for each; whether all could be read."""
    check_table_path(out)
    if report is not None:
        check_writable(report)
    model = load_predictor(model_path)
    dataset = open_images(images)
    map_folder = None if maps is None else _map_folder(maps, model, map_format, images, dataset)
    builder = (
        None
        if report is None
        else report_builder(model, f"{len(dataset)} images judged by {model_path.name}")
    )
    failures: dict[str, str] = {}
    verdicts = 0
    details = maps is not None or report is not None
    scored_images = model.predict(dataset, batch_size=batch_size, details=details)
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
                builder.add(report_row(row, record), partial(panels, scored, model.map_calibration))
    if builder is not None and report is not None:
        builder.write(report)
    console.say(
        f"{len(dataset)} images: {verdicts} anomalous, {len(dataset) - verdicts - len(failures)} normal, "
        f"{len(failures)} unreadable; wrote {', '.join(str(p) for p in (out, maps, report) if p is not None)}"
    )
    if verdicts == len(dataset) - len(failures) >= FEWEST_TO_WONDER:
        console.warn(
            "every image is anomalous; if that surprises you, see whether they are of the kind, the size and the "
            "colours that the model learned from"
        )
    list_failures(console, failures)
    return not failures


def _map_folder(
    folder: Path, model: Predictor, map_format: MapFormat, images: Sequence[Path], dataset: ImageDataset
) -> MapFolder:
    if model.map_calibration is None:
        raise UsageError(f"the method {model.method_name} has no anomaly map; leave out --maps")
    folders = ImageFolders(record.path for record in dataset.records)
    if folders.would_hold_maps(folder):
        raise UsageError(f"maps in {folder} would lie among the images; name another folder")
    place = folder.resolve()
    for path in images:
        if path.is_dir() and place.is_relative_to(path.resolve()):
            raise UsageError(
                f"maps in {folder} would count as images of {path} next time; name another folder"
            )
    return MapFolder(folder, model.map_calibration, map_format, folders.root)
