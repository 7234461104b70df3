"""From normal images to a model: inspect, plan, read, train, calibrate."""

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganomaly.config import CalibrationOptions, FitOptions
from ganomaly.data import (
    ImageDataset,
    ImageLoader,
    Subset,
    check_enough_images,
    inspect_images,
    open_training_images,
    with_ignored_regions,
)
from ganomaly.data.fingerprint import has_fingerprint
from ganomaly.devices import choose_device, precision_warning
from ganomaly.errors import DataError, UsageError
from ganomaly.prediction import Prediction
from ganomaly.prediction.calibrate import calibrate
from ganomaly.prediction.model import Model
from ganomaly.prediction.pytorch import predict_dataset
from ganomaly.training.checkpoint import recorded_data
from ganomaly.training.loop import TrainingResult, train
from ganomaly.training.observers import Observer, SilentObserver
from ganomaly.training.plan import (
    TrainingPlan,
    check_options,
    plan_split,
    plan_training,
    read_training_images,
    readable,
)
from ganomaly.version import __version__


@dataclass(frozen=True)
class FitResult:
    """A model, and the images that could not be read.

    Attributes
    ----------
    model : Model
        Trained and calibrated.
    failures : mapping of str to str
        Path of each image that could not be read, and why.
    training : TrainingResult
        How training went.
    """

    model: Model
    failures: Mapping[str, str]
    training: TrainingResult


def fit_model(
    data: Any,
    options: FitOptions,
    *,
    observer: Observer | None = None,
    checkpoint: Path | None = None,
    resume: bool = True,
    ignore: Any = None,
) -> FitResult:
    """Learn what normal images look like.

    Parameters
    ----------
    data
        A folder, a dataset folder in MVTec AD layout, parquet, a list of paths, or `uint8`/`uint16` images.
    options : FitOptions
        What the user chose.
    observer : Observer, optional
        Who is told how it goes.
    checkpoint : Path, optional
        Where the state of training is saved; the caller removes it once the model is saved.
    resume : bool
        Whether to go on from `checkpoint` if it exists.
    ignore : path, or sequence of ndarray or None, optional
        A mask for each image, as for `with_ignored_regions`; one for all images is an option.

    Raises
    ------
    UsageError, DataError, TrainingError
        In one sentence each, as early as it can be known.
    """
    observer = observer or SilentObserver()
    check_options(options)
    dataset = open_training_images(data)
    regions = None if ignore is None else with_ignored_regions(dataset, ignore)
    dataset = regions or dataset
    inspection = inspect_images(dataset)
    plan = plan_training(dataset, inspection, options)
    loader, preprocessing = read_training_images(
        dataset, inspection, plan.preprocessing, lambda done: observer.decoded(done, len(dataset))
    )
    _check_readable(plan, loader)
    fingerprint = loader.fingerprint(recorded_data(checkpoint) if resume else None)
    observer.say(plan.describe(loader, preprocessing))
    if regions is not None:
        observer.say(regions.describe())
    slow = precision_warning(plan.training.precision, choose_device(plan.training.device))
    if slow is not None:
        observer.warn(slow)
    result = train(
        plan.method.method_type,
        plan.method.options,
        preprocessing,
        loader,
        plan.split.training,
        plan.training,
        checkpoint=checkpoint,
        resume=resume,
        fingerprint=fingerprint if regions is None else f"{fingerprint}:ignored {regions.fingerprint()}",
        on_progress=observer.trained,
        say=observer.say,
    )
    for message in result.messages[-1:]:
        observer.warn(f"training recovered {len(result.messages)} times; last at {message}")

    failures = dict(loader.failures)
    predictions = predict_dataset(
        result.method,
        preprocessing,
        Subset(dataset, plan.split.calibration),
        device=options.device,
        details=True,
    )
    calibration, map_calibration = calibrate(
        _with_failures_noted(predictions, plan, failures), options.false_alarm_rate
    )
    shortfall = calibration.shortfall()
    if shortfall is not None:
        observer.warn(shortfall)
    provenance = _provenance(
        plan, loader, options, result, fingerprint, n_calibration=len(calibration.scores)
    )
    model = Model(
        result.method, plan.method.preset_name, preprocessing, calibration, provenance, map_calibration
    )
    by_path = {dataset.records[index].path: why for index, why in sorted(failures.items())}
    return FitResult(model, by_path, result)


def calibration_images(model: Model, data: Any) -> ImageDataset:
    """The normal images that were held out of training when a model was fitted.

    Parameters
    ----------
    model : Model
        The fitted model.
    data
        What it was fitted on, as for `fit_model`.

    Raises
    ------
    UsageError
        If these are other images.
    """
    dataset = open_training_images(data)
    if not has_fingerprint(dataset, str(model.provenance.get("data_fingerprint"))):
        raise UsageError(f"{dataset.name} does not hold the images that the model was fitted on; name those")
    options = CalibrationOptions.checked(false_alarm_rate=model.calibration.false_alarm_rate)
    split = plan_split(inspect_images(dataset), options, model.provenance["seed"])
    return Subset(dataset, split.calibration)


def _check_readable(plan: TrainingPlan, loader: ImageLoader) -> None:
    check_enough_images(len(loader.usable))
    if not readable(plan.split.calibration, loader):
        raise DataError(
            f"none of the {len(plan.split.calibration)} calibration images can be read; repair or remove them"
        )


def _with_failures_noted(
    predictions: Iterable[Prediction], plan: TrainingPlan, failures: dict[int, str]
) -> Iterator[Prediction]:
    """Pass predictions on; images of the calibration set that cannot be read are added to `failures`."""
    for prediction in predictions:
        if prediction.error is not None:
            failures[int(plan.split.calibration[prediction.index])] = prediction.error
        yield prediction


def _provenance(
    plan: TrainingPlan,
    loader: ImageLoader,
    options: FitOptions,
    result: TrainingResult,
    fingerprint: str,
    *,
    n_calibration: int,
) -> dict[str, Any]:
    training = plan.training
    return {
        "ganomaly": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "device": next(result.method.parameters()).device.type,
        "precision": result.precision,
        "seed": training.seed,
        "image_size_asked": options.image_size,
        "epochs": training.epochs if training.steps is None else None,
        "steps": training.steps,
        "batch_size": training.batch_size,
        "training_images": readable(plan.split.training, loader),
        "calibration_images": n_calibration,
        "training_seconds": round(result.seconds, 1),
        "recoveries": list(result.messages),
        "data_fingerprint": fingerprint,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
