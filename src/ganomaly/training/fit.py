"""From normal images to a model: inspect, plan, read, train, calibrate."""

import hashlib
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganomaly.calibration import Calibration, MapCalibration, ProductCalibration
from ganomaly.config import CalibrationOptions, FitOptions, Preprocessing
from ganomaly.data import (
    ImageDataset,
    ImageLoader,
    ImagesWithIgnoredRegions,
    Subset,
    check_enough_images,
    inspect_images,
    open_training_images,
    with_ignored_regions,
)
from ganomaly.data.fingerprint import has_fingerprint, without_times
from ganomaly.data.products import product_indices
from ganomaly.data.sources.dataset import left_out_in_words
from ganomaly.data.sources.open import copy_training_images, one_remote
from ganomaly.data.sources.remote import LocalCopy
from ganomaly.devices import choose_device, precision_warning
from ganomaly.errors import DataError, UsageError
from ganomaly.methods import Method
from ganomaly.methods.products import ProductMethods
from ganomaly.prediction import Prediction
from ganomaly.prediction.calibrate import calibrate, joined_relative
from ganomaly.prediction.model import Model
from ganomaly.prediction.pytorch import predict_dataset
from ganomaly.remote import RemoteFile
from ganomaly.training.checkpoint import recorded_data
from ganomaly.training.loop import TrainingResult, train
from ganomaly.training.observers import Observer, SilentObserver, counted
from ganomaly.training.plan import (
    TrainingPlan,
    check_options,
    plan_split,
    plan_training,
    readable,
)
from ganomaly.training.processes import Place
from ganomaly.training.ranks import Ranks, join
from ganomaly.training.read_images import read_training_images
from ganomaly.training.samples import SampleImages
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
    products: Any = None,
    place: Place | None = None,
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
    products : 'folders' or sequence of str, optional
        Which product each image shows, as for `product_indices`, for a model of several products.
    place : Place, optional
        Where this process, the first, stands among those that train together; the others call `help_fit`.

    Raises
    ------
    UsageError, DataError, TrainingError
        In one sentence each, as early as it can be known.
    """
    observer = observer or SilentObserver()
    plan, regions, ranks = _planned(data, options, place, ignore, products)
    trained = _train(plan, regions, ranks, observer, options, checkpoint=checkpoint, resume=resume)
    loader, preprocessing, result = trained.loader, trained.preprocessing, trained.result
    for message in result.messages[-1:]:
        observer.warn(f"training recovered {len(result.messages)} times; last at {message}")

    failures = dict(loader.failures)
    method, calibration, map_calibration = _calibrated(
        plan,
        result,
        plan.dataset,
        preprocessing,
        options,
        failures,
        partial(observer.finishing, "calibration"),
    )
    shortfall = calibration.shortfall(plan.split.n_groups)
    if shortfall is not None:
        observer.warn(shortfall)
    provenance = _provenance(plan, trained, options, n_calibration=len(calibration.scores))
    if regions is not None:
        provenance["ignored_regions"] = True
    if place is not None:
        provenance["devices"] = place.number
    model = Model(method, plan.method.preset_name, preprocessing, calibration, provenance, map_calibration)
    trained.samples.training_ended(model)
    by_path = {plan.dataset.records[index].path: why for index, why in sorted(failures.items())}
    return FitResult(model, by_path, result)


def help_fit(
    data: Any, options: FitOptions, place: Place, *, ignore: Any = None, products: Any = None
) -> None:
    """Take part in the training of a first process, which calls `fit_model` with the same arguments.

    Raises
    ------
    UsageError, DataError, TrainingError
        In one sentence each.
    """
    plan, regions, ranks = _planned(data, options, place, ignore, products)
    _train(plan, regions, ranks, SilentObserver(), options, checkpoint=None, resume=False)


def _planned(
    data: Any, options: FitOptions, place: Place | None, ignore: Any, products: Any
) -> tuple[TrainingPlan, ImagesWithIgnoredRegions | None, Ranks]:
    """As `plan_fit`, and the processes that train together, once all are here.

    What is wrong with images on this machine is said before. Images of a store are copied once on each machine.
    """
    check_options(options)
    source = one_remote(data)
    if source is None:
        plan, regions = plan_fit(data, options, ignore=ignore, products=products)
        return plan, regions, join(place, choose_device(options.device))
    ranks = join(place, choose_device(options.device))
    plan, regions = plan_fit(_copy_of_machine(source, ranks), options, ignore=ignore, products=products)
    return plan, regions, ranks


def _copy_of_machine(source: RemoteFile, ranks: Ranks) -> LocalCopy:
    copies: list[LocalCopy] = []

    def copy(check: Callable[[], None]) -> bytes:
        copies.append(copy_training_images(source, check))
        return os.fsencode(copies[0].root)

    roots = [Path(os.fsdecode(root)) for root in ranks.from_each_machine(copy)]
    if copies:
        return copies[0]
    # names of temporary folders are random, so the one that is here is this machine's
    here = [root for root in roots if root.exists()]
    return LocalCopy(source, here[0]) if here else copy_training_images(source)


@dataclass(frozen=True)
class _Trained:
    loader: ImageLoader
    preprocessing: Preprocessing
    fingerprint: str
    result: TrainingResult
    samples: SampleImages


def _train(
    plan: TrainingPlan,
    regions: ImagesWithIgnoredRegions | None,
    ranks: Ranks,
    observer: Observer,
    options: FitOptions,
    *,
    checkpoint: Path | None,
    resume: bool,
) -> _Trained:
    """Read the images and train, alone or with others."""
    dataset, device = plan.dataset, choose_device(plan.training.device)
    loader, preprocessing = read_training_images(
        dataset,
        plan.inspection,
        plan.preprocessing,
        lambda done: observer.decoded(done, len(dataset)),
        training=plan.split.training,
        ranks=ranks,
    )
    _check_readable(plan, loader)
    own = loader.fingerprint(recorded_data(checkpoint) if resume else None) if ranks.is_first else ""
    fingerprint = ranks.from_first(own.encode()).decode()
    own = own or loader.fingerprint(fingerprint)
    ranks.check_same({"images": without_times(own)})
    observer.say(plan.describe(loader, preprocessing))
    left_out = left_out_in_words(dataset)
    if left_out is not None:
        observer.say(f"Note: {left_out}")
    if regions is not None:
        observer.say(regions.describe())
    slow = precision_warning(plan.training.precision, device)
    if slow is not None:
        observer.warn(slow)
    observer.started(_configuration(plan, loader, preprocessing, options))
    samples = SampleImages(dataset, plan.split.calibration, preprocessing, options.device, observer)
    result = train(
        plan.method.method_type,
        plan.method.options,
        preprocessing,
        loader,
        plan.split.training,
        plan.training,
        checkpoint=checkpoint,
        resume=resume,
        fingerprint=_fingerprint_of_run(fingerprint, regions, plan),
        on_progress=samples.trained,
        on_epoch=samples.epoch_ended,
        on_statistics=partial(observer.finishing, "statistics"),
        say=observer.say,
        products=plan.products_to_train(),
        ranks=ranks,
        n_predicted_after=len(plan.split.calibration),
    )
    ranks.leave()
    return _Trained(loader, preprocessing, fingerprint, result, samples)


def plan_fit(
    data: Any, options: FitOptions, *, ignore: Any = None, products: Any = None
) -> tuple[TrainingPlan, ImagesWithIgnoredRegions | None]:
    """Decide what `fit_model` will do with the same arguments, from headers alone.

    Returns
    -------
    plan : TrainingPlan
        Its dataset has the regions that are ignored.
    regions : ImagesWithIgnoredRegions or None
        The same dataset, where single images have such regions.

    Raises
    ------
    UsageError, DataError
        In one sentence each.
    """
    check_options(options)
    dataset = open_training_images(data)
    regions = None if ignore is None else with_ignored_regions(dataset, ignore)
    dataset = regions or dataset
    inspection = inspect_images(dataset)
    of_products = None if products is None else product_indices(dataset, products)
    return plan_training(dataset, inspection, options, of_products), regions


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
    if isinstance(model.calibration, ProductCalibration):
        raise UsageError("the calibration images of a model of several products cannot be told from its file")
    split = plan_split(inspect_images(dataset), options, model.provenance["seed"])
    return Subset(dataset, split.calibration)


def _fingerprint_of_run(
    fingerprint: str, regions: ImagesWithIgnoredRegions | None, plan: TrainingPlan
) -> str:
    """What tells this run from others: the images, what is ignored in them, and which product each shows."""
    if regions is not None:
        fingerprint += f":ignored {regions.fingerprint()}"
    if plan.products is not None:
        digest = hashlib.blake2b(digest_size=16)
        for name, indices in plan.products.items():
            digest.update(f"{name}\0".encode() + indices.tobytes())
        fingerprint += f":products {digest.hexdigest()}"
    return fingerprint


def _calibrated(
    plan: TrainingPlan,
    result: TrainingResult,
    dataset: ImageDataset,
    preprocessing: Preprocessing,
    options: FitOptions,
    failures: dict[int, str],
    on_image: Callable[[int, int], None],
) -> tuple[Method | ProductMethods, Calibration, MapCalibration | None]:
    """The trained method, of one product or several, with its calibration; failures are noted."""

    def calibrated(method: Method, indices: NDArray[np.int64]) -> tuple[Calibration, MapCalibration | None]:
        predictions = predict_dataset(
            method, preprocessing, Subset(dataset, indices), device=options.device, details=True
        )
        noted = _with_failures_noted(predictions, indices, failures)
        return calibrate(counted(noted, len(indices), on_image), options.false_alarm_rate)

    if plan.products is None:
        return result.method, *calibrated(result.method, plan.split.calibration)
    parts = {
        name: calibrated(result.of_products[name], np.intersect1d(indices, plan.split.calibration))
        for name, indices in plan.products.items()
    }
    calibration = ProductCalibration.of({name: part for name, (part, _) in parts.items()})
    maps = [part for _, part in parts.values() if part is not None]
    map_thresholds = [part.threshold for part in maps] or [1.0] * len(parts)
    method = ProductMethods(
        result.of_products, [part.threshold for part, _ in parts.values()], map_thresholds
    ).eval()
    return method, calibration, joined_relative(maps)


def _check_readable(plan: TrainingPlan, loader: ImageLoader) -> None:
    check_enough_images(len(loader.usable))
    if not readable(plan.split.calibration, loader):
        raise DataError(
            f"none of the {len(plan.split.calibration)} calibration images can be read; repair or remove them"
        )


def _with_failures_noted(
    predictions: Iterable[Prediction], indices: NDArray[np.int64], failures: dict[int, str]
) -> Iterator[Prediction]:
    """Pass predictions on; images of the calibration set that cannot be read are added to `failures`."""
    for prediction in predictions:
        if prediction.error is not None:
            failures[int(indices[prediction.index])] = prediction.error
        yield prediction


def _product_counts(plan: TrainingPlan, loader: ImageLoader) -> dict[str, dict[str, int]]:
    """How many images of each product train and calibrate."""
    parts = {"training_images": plan.split.training, "calibration_images": plan.split.calibration}
    return {
        name: {key: readable(np.intersect1d(indices, part), loader) for key, part in parts.items()}
        for name, indices in (plan.products or {}).items()
    }


def _configuration(
    plan: TrainingPlan, loader: ImageLoader, preprocessing: Preprocessing, options: FitOptions
) -> dict[str, Any]:
    """What is trained, and how, by names with dots; without masks, which are long."""
    parts = {
        "method_options": plan.method.options.model_dump(mode="json"),
        "preprocessing": preprocessing.model_dump(mode="json", exclude={"ignored"}),
        "training": plan.training.model_dump(mode="json", exclude={"checkpoint_seconds"}),
    }
    return {
        "ganomaly": __version__,
        "data": plan.dataset.name,
        "method": plan.method.method_type.name,
        "preset": plan.method.preset_name,
        "false_alarm_rate": options.false_alarm_rate,
        "training_images": readable(plan.split.training, loader),
        "calibration_images": readable(plan.split.calibration, loader),
        **{f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()},
    }


def _provenance(
    plan: TrainingPlan, trained: _Trained, options: FitOptions, *, n_calibration: int
) -> dict[str, Any]:
    training, loader, result = plan.training, trained.loader, trained.result
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
        **({} if options.value_range is None else {"value_range_asked": list(options.value_range)}),
        "epochs": training.epochs if training.steps is None else None,
        "steps": training.steps,
        "batch_size": training.batch_size,
        "training_images": readable(plan.split.training, loader),
        "calibration_images": n_calibration,
        **({} if plan.products is None else {"products": _product_counts(plan, loader)}),
        "patients": plan.split.n_groups,
        "training_seconds": round(result.seconds, 1),
        "recoveries": list(result.messages),
        "data_fingerprint": trained.fingerprint,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
