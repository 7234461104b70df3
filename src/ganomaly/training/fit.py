"""From a folder of normal images to a model: look at the data, split, train, calibrate."""

import math
import platform
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ganomaly.calibration.conformal import images_needed
from ganomaly.config import (
    AUTO,
    CalibrationOptions,
    Device,
    MethodOptions,
    Precision,
    Preprocessing,
    TrainingOptions,
    length_in_words,
)
from ganomaly.data import (
    ImageDataset,
    ImageLoader,
    Inspection,
    Subset,
    TrainingSplit,
    agreed_channels,
    check_enough_images,
    inspect_images,
    open_training_images,
    split_normal_images,
    suggested_image_size,
)
from ganomaly.devices import choose_device, precision_warning
from ganomaly.errors import DataError, UsageError
from ganomaly.methods import Method, Preset, find_preset
from ganomaly.networks import check_image_size
from ganomaly.prediction.calibrate import calibrate
from ganomaly.prediction.model import Model
from ganomaly.prediction.pytorch import predict_dataset
from ganomaly.training.loop import TrainingProgress, TrainingResult, train
from ganomaly.version import __version__

SCALE_STEPS = 4096
"""Images are made smaller by a whole number of such parts, so that scoring and a graph get the same sides."""
SMALL_PRESET, LARGE_PRESET = "small", "patches"
SMALL_IMAGES = 64  # px of the shorter side; a patch of larger ones still shows parts of what they show


@dataclass(frozen=True)
class FitSettings:
    """What a person may choose; None takes the preset's value or what the data suggest."""

    preset: str = AUTO
    """`AUTO` chooses by the size of the images."""
    epochs: int | None = None
    image_size: int | None = None
    channels: int | None = None
    seed: int = 0
    device: Device = "auto"
    precision: Precision = "auto"
    false_alarm_rate: float = 0.01
    method_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the method that differ from the preset's."""


class Observer(Protocol):
    """Who is told how fitting goes."""

    def say(self, sentence: str) -> None:
        """Something chosen or found, in words."""

    def warn(self, sentence: str) -> None:
        """Something the user should know before trusting the result."""

    def decoded(self, done: int, total: int) -> None:
        """So many images have been decoded."""

    def trained(self, progress: TrainingProgress) -> None:
        """One more training step is done."""


class SilentObserver:
    """Tells nobody; what others derive from."""

    def say(self, sentence: str) -> None:
        """Ignore it."""

    def warn(self, sentence: str) -> None:
        """Ignore it."""

    def decoded(self, done: int, total: int) -> None:
        """Ignore it."""

    def trained(self, progress: TrainingProgress) -> None:
        """Ignore it."""


class WarningObserver(SilentObserver):
    """Passes on, as a warning, what a user must know before trusting the result."""

    def warn(self, sentence: str) -> None:
        """Warn whoever called `GANomalyDetector.fit`."""
        warnings.warn(sentence, stacklevel=4)


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
    settings: FitSettings,
    *,
    observer: Observer | None = None,
    checkpoint: Path | None = None,
    resume: bool = True,
) -> FitResult:
    """Learn what normal images look like.

    Parameters
    ----------
    data
        A folder, a dataset folder in MVTec AD layout, parquet, a list of paths, or `uint8`/`uint16` images.
    settings : FitSettings
        What the user chose.
    observer : Observer, optional
        Who is told how it goes.
    checkpoint : Path, optional
        Where to keep the state of training; the caller removes it once the model is saved.
    resume : bool
        Whether to go on from `checkpoint` if it exists.

    Raises
    ------
    UsageError, DataError, TrainingError
        In one sentence each, as early as it can be known.
    """
    observer = observer or SilentObserver()
    calibration_options = CalibrationOptions.checked(false_alarm_rate=settings.false_alarm_rate)
    if settings.preset != AUTO:
        _settled(settings)  # what is wrong with the options is said before anything is read
    dataset = open_training_images(data)
    inspection = inspect_images(dataset)
    if settings.preset == AUTO:
        settings = replace(settings, preset=suggested_preset(inspection))
    method_type, preset, options = _settled(settings)
    preprocessing, images = _prepare(dataset, inspection, settings, preset, observer)
    training = _training_options(settings, preset, preprocessing.channels)
    check_enough_images(len(images.usable))
    split = _split(inspection, calibration_options, training.seed)
    if not _readable(split.calibration, images):
        raise DataError(
            f"none of the {len(split.calibration)} images that shall calibrate can be read; mend or remove them"
        )
    observer.say(_plan(dataset, inspection, preprocessing, images, split, settings, preset, training))
    slow = precision_warning(training.precision, choose_device(training.device))
    if slow is not None:
        observer.warn(slow)

    result = train(
        method_type,
        options,
        preprocessing,
        images,
        split.training,
        training,
        checkpoint=checkpoint,
        resume=resume,
        fingerprint=inspection.fingerprint,
        on_progress=observer.trained,
        say=observer.say,
    )
    for message in result.messages[-1:]:
        observer.warn(f"mended {len(result.messages)} times during training; last at {message}")
    predictions = list(
        predict_dataset(
            result.method,
            preprocessing,
            Subset(dataset, split.calibration),
            device=settings.device,
            details=True,
        )
    )
    calibration, map_calibration = calibrate(predictions, settings.false_alarm_rate)
    shortfall = calibration.shortfall()
    if shortfall is not None:
        observer.warn(shortfall)
    provenance = _provenance(inspection, images, split, settings, training, result)
    model = Model(result.method, settings.preset, preprocessing, calibration, provenance, map_calibration)
    failures = {dataset.records[index].path: why for index, why in sorted(images.failures.items())}
    return FitResult(model, failures, result)


def calibration_images(model: Model, data: Any) -> ImageDataset:
    """The normal images that were kept out of training when a model was fitted.

    Parameters
    ----------
    model : Model
        What was fitted.
    data
        What it was fitted on, as for `fit_model`.

    Raises
    ------
    UsageError
        If these are other images.
    """
    dataset = open_training_images(data)
    inspection = inspect_images(dataset)
    if inspection.fingerprint != model.provenance.get("data_fingerprint"):
        raise UsageError(f"{dataset.name} does not hold the images that the model learned from; name those")
    options = CalibrationOptions.checked(false_alarm_rate=model.calibration.false_alarm_rate)
    split = _split(inspection, options, model.provenance["seed"])
    return Subset(dataset, split.calibration)


def suggested_preset(inspection: Inspection) -> str:
    """The preset for images of this size: squeezed whole where they are small, in patches where they are large."""
    return SMALL_PRESET if inspection.median_shorter_side <= SMALL_IMAGES else LARGE_PRESET


def framing(preset: Preset, inspection: Inspection, image_size: int | None) -> tuple[int, float | None]:
    """Side of the network's square, or of its patches, and the factor by which images are made smaller, if any.

    Parameters
    ----------
    preset : Preset
        Whether it takes squares or patches.
    inspection : Inspection
        How large the images are.
    image_size : int, optional
        What the user asked for; the data and the preset decide if left out.
    """
    if preset.patches is None:
        return image_size or suggested_image_size(inspection), None
    wanted = image_size or preset.patches.image_size
    patch_size = min(preset.patches.patch_size, max(32, wanted // 16 * 16))  # networks halve it four times
    scale = min(1.0, wanted / math.sqrt(inspection.median_height * inspection.median_width))
    return patch_size, max(1, round(scale * SCALE_STEPS)) / SCALE_STEPS


def _settled(settings: FitSettings) -> tuple[type[Method], Preset, MethodOptions]:
    """Method and options that the settings mean; `UsageError` if they, or those of training, are not allowed."""
    method_type, preset = find_preset(settings.preset)
    options = preset.options.checked(**{**preset.options.model_dump(), **settings.method_options})
    if settings.image_size is not None and preset.patches is None:
        check_image_size(settings.image_size)
    _training_options(settings, preset, channels=1)  # only checked; the channels are known later
    return method_type, preset, options


def _training_options(settings: FitSettings, preset: Preset, channels: int) -> TrainingOptions:
    return preset.training_for(
        channels,
        settings.epochs,
        seed=settings.seed,
        device=settings.device,
        precision=settings.precision,
    )


def _prepare(
    dataset: ImageDataset, inspection: Inspection, settings: FitSettings, preset: Preset, observer: Observer
) -> tuple[Preprocessing, ImageLoader]:
    """Choose size and channels of the network input, and decode."""
    image_size, scale = framing(preset, inspection, settings.image_size)
    channels = agreed_channels(inspection, settings.channels)
    images = ImageLoader(dataset, inspection, image_size=image_size, scale=scale, channels=channels)
    images.load(lambda done: observer.decoded(done, len(dataset)))
    return Preprocessing.checked(
        image_size=image_size, scale=scale, channels=channels, white_level=images.white_level
    ), images


def _split(inspection: Inspection, options: CalibrationOptions, seed: int) -> TrainingSplit:
    """Indices to train on and to calibrate with.

    They follow from the headers alone: how many images are decoded beforehand is a matter of free memory, and which
    ones train must not be. Images that turn out to be broken are left out where they are met.
    """
    return split_normal_images(
        inspection.openable,
        share=options.share,
        at_least=images_needed(options.false_alarm_rate),
        seed=seed,
    )


def _readable(indices: NDArray[np.int64], images: ImageLoader) -> int:
    return int(np.isin(indices, list(images.failures), invert=True).sum())


def _plan(
    dataset: ImageDataset,
    inspection: Inspection,
    preprocessing: Preprocessing,
    images: ImageLoader,
    split: TrainingSplit,
    settings: FitSettings,
    preset: Preset,
    training: TrainingOptions,
) -> str:
    """Say what was found and chosen, before the long work starts."""
    kind = {1: "gray", 3: "colour"}.get(preprocessing.channels, f"{preprocessing.channels}-channel")
    unreadable = f" ({len(images.failures)} more could not be read)" if images.failures else ""
    bits = f"{preprocessing.bits} bit"
    if preprocessing.bits == 16:
        bits += f" (values above {preprocessing.white_level} count as that)"
    train, calibrate = (_readable(part, images) for part in (split.training, split.calibration))
    return (
        f"{train + calibrate} normal images in {dataset.name}{unreadable}, "
        f"{kind}, {bits}, median size {inspection.median_width}×{inspection.median_height} px; "
        f"{train} train, {calibrate} calibrate the threshold. "
        f"Preset {settings.preset}: {preset.description}. {_framing(preprocessing, settings)}; "
        f"{length_in_words(training.epochs, training.steps)} of training."
    )


def _framing(preprocessing: Preprocessing, settings: FitSettings) -> str:
    """How images come before the network, in words."""
    size, scale = preprocessing.image_size, preprocessing.scale
    chosen = "as asked" if settings.image_size else "chosen from the data, --image-size changes it"
    if scale is None:
        return f"Network input {size}×{size} px ({chosen})"
    seen = "at their own size" if scale == 1 else f"at {scale:.0%} of their size"
    return f"Images are seen {seen} ({chosen}); training takes patches of {size}×{size} px"


def _provenance(
    inspection: Inspection,
    images: ImageLoader,
    split: TrainingSplit,
    settings: FitSettings,
    training: TrainingOptions,
    result: TrainingResult,
) -> dict[str, Any]:
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
        "image_size_asked": settings.image_size,
        "epochs": training.epochs if training.steps is None else None,
        "steps": training.steps,
        "batch_size": training.batch_size,
        "training_images": _readable(split.training, images),
        "calibration_images": _readable(split.calibration, images),
        "training_seconds": round(result.seconds, 1),
        "mended": list(result.messages),
        "data_fingerprint": inspection.fingerprint,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
