"""`ganomaly score`: imports no PyTorch unless the model needs it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ganomaly.calibration import ProductCalibration
from ganomaly.commands.console import Console
from ganomaly.commands.reporting import images_in_words, list_failures, report_builder, tell_of_data
from ganomaly.config import MAP_FORMAT, MapFormat
from ganomaly.data import ImageDataset, open_images, with_ignored_regions
from ganomaly.errors import UsageError
from ganomaly.output_checks import REPORT, TABLE, check_outputs
from ganomaly.outputs import MapFolder, open_table
from ganomaly.outputs.maps import maps_root
from ganomaly.outputs.panels import panels
from ganomaly.prediction import Predictor, load_predictor
from ganomaly.remote import Location

MIN_IMAGES_FOR_DOUBT = 5  # all anomalous, before a wrong kind of image is suspected


def score(
    console: Console,
    model_path: Location,
    images: Sequence[Location],
    out: Location,
    *,
    maps: Location | None,
    map_format: MapFormat,
    report: Location | None,
    ignore: Path | None,
    batch_size: int,
) -> bool:
    """Predict images and write one row for each; return whether all could be read."""
    check_outputs({"--out": (out, TABLE), "--report": (report, REPORT)})
    if maps is None and map_format != MAP_FORMAT:
        raise UsageError(f"--map-format {map_format} is for --maps DIR; add it")
    model = load_predictor(model_path)
    details = maps is not None or report is not None
    dataset = open_images(images, keep_content=maps is not None)  # drawn on the image itself
    if ignore is not None:
        dataset = with_ignored_regions(dataset, ignore)
    tell_of_data(console, model, dataset)
    map_folder = None if maps is None else _map_folder(maps, model, map_format, images, dataset)
    builder = None if report is None else report_builder(model, f"{len(dataset)} images, {model_path.name}")
    failures: dict[str, str] = {}
    n_anomalous = 0
    products = isinstance(model.calibration, ProductCalibration)
    with open_table(out, products=products) as write_row, console.counting(len(dataset), "scoring") as count:
        predictions = model.predict(dataset, batch_size=batch_size, details=details, fixed_batches=True)
        if map_folder is not None:
            preprocessing = model.preprocessing
            predictions = map_folder.draw_all(
                predictions, dataset, preprocessing.white_level, preprocessing.value_range
            )
        for prediction in predictions:
            count(prediction.index + 1)
            write_row(prediction)
            n_anomalous += bool(prediction.is_anomaly)
            if prediction.error is not None:
                failures[prediction.path] = prediction.error
            if builder is not None:
                record = dataset.records[prediction.index]
                builder.add(
                    prediction,
                    partial(panels, prediction, model.map_calibration),
                    kind=record.kind,
                    labelled_anomalous=record.is_anomalous,
                )
    if builder is not None and report is not None:
        builder.write(report)
    n_read = len(dataset) - len(failures)
    console.say(
        f"{images_in_words(len(dataset))}: {n_anomalous} anomalous, {n_read - n_anomalous} normal, "
        f"{len(failures)} unreadable; wrote {', '.join(str(p) for p in (out, maps, report) if p is not None)}"
    )
    others = 0 if map_folder is None else map_folder.count_others()
    if others:
        console.warn(f"{maps} also holds maps of {images_in_words(others, 'other image')}, from before")
    if n_anomalous == n_read >= MIN_IMAGES_FOR_DOUBT:
        console.warn(
            "every image is anomalous; if you did not expect that, check that the images are of the same kind, size "
            "and colours as the training images"
        )
    list_failures(console, failures)
    return not failures


def _map_folder(
    folder: Location,
    model: Predictor,
    map_format: MapFormat,
    images: Sequence[Location],
    dataset: ImageDataset,
) -> MapFolder:
    if model.map_calibration is None:
        raise UsageError(f"the method {model.method_name} has no anomaly map; leave out --maps")
    root = maps_root(folder, (record.path for record in dataset.records), images)
    map_folder = MapFolder(folder, model.map_calibration, map_format, root)
    map_folder.check_replaceable(record.path for record in dataset.records)
    return map_folder
