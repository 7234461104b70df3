"""Runs a cell: train once, then evaluate each of its classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganomaly.benchmark.artifacts import ARTIFACTS, artifact_file, write_artifacts
from ganomaly.benchmark.cells import Cell
from ganomaly.benchmark.clean import clean_metrics, score_test_images
from ganomaly.benchmark.collect_artifacts import ArtifactCollector
from ganomaly.benchmark.published import PublishedProtocol
from ganomaly.benchmark.sampling import draw, draw_stratified
from ganomaly.benchmark.speed import SLOW_MS, milliseconds_per_batch
from ganomaly.config import Preprocessing, TrainingOptions
from ganomaly.data import ImageDataset, ImageLoader, Subset, choose_channels, inspect_images
from ganomaly.files import remove_file
from ganomaly.methods import Method, Preset
from ganomaly.remote import Location
from ganomaly.training.checkpoint import recorded_data
from ganomaly.training.loop import TrainingResult, train
from ganomaly.training.plan import plan_preprocessing
from ganomaly.training.read_images import read_training_images
from ganomaly.version import __version__

Rows = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class CellImages:
    """The images of a cell, within its budget.

    Attributes
    ----------
    loader : ImageLoader
        Gives training batches.
    train : ndarray
        `int[n]`, the training images that are used.
    preprocessing : Preprocessing
        The network input.
    test : ImageDataset
        The N test images that are used.
    labels : mapping of str to ndarray
        For each class `float[N]`: 1 anomalous, 0 normal, NaN not part of its test set.
    """

    loader: ImageLoader
    train: NDArray[np.int64]
    preprocessing: Preprocessing
    test: ImageDataset
    labels: Mapping[str, NDArray[np.float64]]


def run_cell(cell: Cell, checkpoint: Path | None = None, out: Location | None = None) -> Rows:
    """Train once and evaluate each class.

    Parameters
    ----------
    cell : Cell
        What to run.
    checkpoint : Path, optional
        File for the state of training, so that a killed run resumes; removed at the end. Only the clean protocol
        uses it.
    out : Path or RemoteFile, optional
        Folder of the rows, to which the clean protocol adds a file of artifacts for each row.

    Returns
    -------
    list of dict
        A row for each class: the columns that the contract of `benchmark --json` names, and more.
    """
    method_type, preset, options = cell.method.resolve()
    images = _load_images(cell, preset)
    training = preset.training_for(
        images.preprocessing.channels, cell.budget.epochs, seed=cell.seed, precision=cell.precision
    )
    published = None
    if cell.protocol == "published":
        published = PublishedProtocol(images.test, images.preprocessing, images.labels, cell.seed)
        checkpoint = None  # a checkpoint does not hold the metrics of earlier epochs
    result = train(
        method_type,
        options,
        images.preprocessing,
        images.loader,
        images.train,
        training,
        checkpoint=checkpoint,
        fingerprint=images.loader.fingerprint(recorded_data(checkpoint)),
        on_epoch=_do_nothing if published is None else published.evaluate_epoch,
    )
    columns = _shared_columns(cell, training, images, result)
    if published is None:
        rows = _clean_rows(cell, columns, images, result, out)
        if checkpoint is not None:
            remove_file(checkpoint)  # after the artifacts, which a store may not take
        return rows
    columns["score_ms_per_batch"] = _milliseconds_per_batch(result.method, images)
    return [
        {"anomaly_class": name, **columns, **published.metrics(name), **_counts(labels)}
        for name, labels in images.labels.items()
    ]


def _load_images(cell: Cell, preset: Preset) -> CellImages:
    """Plan from the headers as `fit` does, then decode the training images."""
    task = cell.dataset.task(cell.classes, cell.seed)
    inspection = inspect_images(task.train)
    channels = choose_channels(inspection, None).channels
    planned = plan_preprocessing(preset, inspection, image_size=cell.image_size, channels=channels)
    loader, preprocessing = read_training_images(task.train, inspection, planned)
    test = draw_stratified(task.labels, len(task.test), cell.budget.test_images, cell.seed)
    return CellImages(
        loader,
        draw(inspection.openable, cell.budget.train_images, cell.seed),
        preprocessing,
        Subset(task.test, test),
        {name: labels[test] for name, labels in task.labels.items()},
    )


def _clean_rows(
    cell: Cell, columns: Mapping[str, Any], images: CellImages, result: TrainingResult, out: Location | None
) -> Rows:
    """Score the test images once, evaluate each class, and write its artifacts."""
    collector = None if out is None else ArtifactCollector(images.labels, cell.seed)
    scores, milliseconds = score_test_images(result.method, images.preprocessing, images.test, collector)
    if milliseconds <= SLOW_MS:
        milliseconds = _milliseconds_per_batch(result.method, images)
    rows: Rows = [
        {
            "anomaly_class": name,
            **columns,
            "score_ms_per_batch": round(milliseconds, 2),
            **clean_metrics(scores, labels),
            **_counts(labels),
        }
        for name, labels in images.labels.items()
    ]
    if collector is not None and out is not None:
        artifacts = collector.artifacts(scores)
        for row in rows:
            name = row["anomaly_class"]
            row[ARTIFACTS] = artifact_file((*cell.key(name), result.precision))
            write_artifacts(artifacts[name], out / row[ARTIFACTS])
    return rows


def _shared_columns(
    cell: Cell, training: TrainingOptions, images: CellImages, result: TrainingResult
) -> dict[str, Any]:
    """The columns that all rows of a cell share."""
    return {
        **cell.identity(),
        "epochs": training.epochs if training.steps is None else None,
        "steps": training.steps,
        "image_size": images.preprocessing.image_size,
        "precision": result.precision,
        "train_seconds": round(result.seconds, 2),
        "n_train": len(images.train),
        "threads": torch.get_num_threads(),
        "device": next(result.method.parameters()).device.type,
        "ganomaly": __version__,
        "torch": torch.__version__,
    }


def _counts(labels: NDArray[np.float64]) -> dict[str, int]:
    return {"n_normal": int((labels == 0).sum()), "n_anomalous": int((labels == 1).sum())}


def _milliseconds_per_batch(method: Method, images: CellImages) -> float:
    return round(milliseconds_per_batch(method, images.loader, images.train, images.preprocessing), 2)


def _do_nothing(method: Method) -> None:
    """The clean protocol does not look at the test set before training is done."""
