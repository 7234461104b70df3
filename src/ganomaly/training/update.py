"""More normal images for a model that is trained: some go into its memory banks, the others calibrate it.

Networks, whitening, local scales and reference statistics stay, so a larger bank can only bring features nearer, and
scores can only fall (`tests/methods/test_bank_updates.py` checks it for each method with banks). A calibration score
is then at least what its image would score now, so p-values are at least those of exchangeable scores: the
false-alarm rate is at most the one asked for. It is less by what the banks have learned; new calibration images make
up for a part of that, since they are predicted with the images of their own update in the banks.

The order of updates does not matter: which images go into the banks follows from their content alone, what an image
adds does not depend on the others, and each update calibrates with the banks of training and its own.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from ganomaly.calibration import Calibration, MapCalibration
from ganomaly.config import DEVICE, Device, Preprocessing
from ganomaly.data import ImageDataset, Subset, inspect_images, read_batches
from ganomaly.data.fingerprint import content_fingerprint, has_fingerprint
from ganomaly.data.ignored_region import split_region
from ganomaly.devices import choose_device
from ganomaly.errors import DataError, UsageError
from ganomaly.methods import Method
from ganomaly.methods.neighbours import banks_of
from ganomaly.methods.products import ProductMethods
from ganomaly.prediction import Prediction
from ganomaly.prediction.calibrate import calibrate
from ganomaly.prediction.model import Model
from ganomaly.prediction.pytorch import eval_mode, predict_dataset
from ganomaly.tensors import network_input

BANK_SHARE = 0.5
"""Of new images that go into the memory banks, where the method has any; the others calibrate."""


@dataclass(frozen=True)
class UpdateResult:
    """An updated model.

    Attributes
    ----------
    model : Model
        The same networks with more images in the memory banks and in the calibration; `version` in its provenance is
        one higher.
    added : int
        Images that calibrate in addition.
    in_banks : int
        Images whose features are in the memory banks in addition.
    banks_full : bool
        Whether the memory banks have no room for more images, so that all calibrate.
    failures : dict of str to str
        Path of each image that could not be read, and why.
    """

    model: Model
    added: int
    in_banks: int
    banks_full: bool
    failures: dict[str, str]


def update_model(
    model: Model,
    dataset: ImageDataset,
    *,
    on_prediction: Callable[[int], None] = lambda _: None,
    device: Device = DEVICE,
) -> UpdateResult:
    """Add normal images to the memory banks and the calibration of a model.

    Parameters
    ----------
    model : Model
        The trained model.
    dataset : ImageDataset
        Normal images that the model has not seen.
    on_prediction : callable
        Called with the number of images done so far.
    device : {'auto', 'cpu', 'cuda'}
        Where to compute.

    Raises
    ------
    UsageError
        If the model was fitted on these images, or updated with them before.
    DataError
        If none of them can be read.
    """
    _check_unseen(model, dataset)
    method = model.method
    if isinstance(method, ProductMethods):
        raise UsageError("a model of several products is not updated; fit it again with all normal images")
    in_banks, calibrating, banks_full = divided_for_update(method, dataset, _groups(model, dataset))
    failures: dict[str, str] = {}
    rows = _bank_rows(method, model.preprocessing, Subset(dataset, in_banks), device, failures, on_prediction)
    predictions = predict_dataset(
        _with_rows(_without_updates(method), rows),
        model.preprocessing,
        Subset(dataset, calibrating),
        device=device,
        details=True,
    )
    readable = _with_failures_noted(predictions, failures, lambda done: on_prediction(len(in_banks) + done))
    first = next(readable, None)
    if first is None and not rows:
        raise DataError(f"none of the images in {dataset.name} can be read; repair or replace them")
    calibration, map_calibration, n_calibrating = model.calibration, model.map_calibration, 0
    if first is not None:
        added, added_maps = calibrate(chain([first], readable), calibration.false_alarm_rate)
        n_calibrating = len(added.scores)
        scores = np.concatenate([calibration.scores, added.scores])
        calibration = Calibration(scores, calibration.false_alarm_rate)
        map_calibration = _joined(map_calibration, added_maps)
    updated = Model(
        _with_rows(method, rows),
        model.preset,
        model.preprocessing,
        calibration,
        _provenance(model, dataset, n_calibrating=n_calibrating, n_in_banks=len(rows)),
        map_calibration,
    )
    return UpdateResult(updated, n_calibrating, len(rows), banks_full, failures)


def _check_unseen(model: Model, dataset: ImageDataset) -> None:
    """Raise `UsageError` where the model was fitted on these images, or updated with them."""
    updates = model.provenance.get("updates", [])
    for recorded in (
        model.provenance.get("data_fingerprint"),
        *(entry["data_fingerprint"] for entry in updates),
    ):
        if recorded is not None and has_fingerprint(dataset, str(recorded)):
            raise UsageError(
                f"the model has seen the images in {dataset.name}, so their scores say nothing about new ones; name "
                "other normal images"
            )


def divided_for_update(
    method: Method, dataset: ImageDataset, groups: Mapping[int, int] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Which images of an update go into the banks, which calibrate, and whether the banks have no room.

    The images of a group, as of one patient, go with the one of the smallest number, which alone calibrates.
    """
    numbers = np.array([_number(dataset, index) for index in range(len(dataset))], dtype=np.uint64)
    firsts = _firsts(numbers, groups or {})
    numbers, is_first = numbers[firsts], firsts == np.arange(len(numbers))
    goes_into_banks = numbers < BANK_SHARE * 2**64
    banks = banks_of(method)
    n = int(goes_into_banks.sum())
    is_full = any(len(bank.added) + n * bank.rows_per_image > bank.max_added for bank in banks)
    if not banks or is_full:
        goes_into_banks[:] = False
    return np.flatnonzero(goes_into_banks), np.flatnonzero(~goes_into_banks & is_first), is_full


def _firsts(numbers: NDArray[np.uint64], groups: Mapping[int, int]) -> NDArray[np.int64]:
    """For each image the one of its group that has the smallest number; itself without a group."""
    first: dict[int, int] = {}
    for index, group in groups.items():
        if group not in first or numbers[index] < numbers[first[group]]:
            first[group] = index
    firsts = [first[groups[index]] if index in groups else index for index in range(len(numbers))]
    return np.array(firsts, dtype=np.int64)


def _groups(model: Model, dataset: ImageDataset) -> Mapping[int, int]:
    """Groups of the new images, where those of training had some; others need not be opened for it."""
    if model.preprocessing.value_range is None and not model.provenance.get("patients"):
        return {}
    return inspect_images(dataset).groups


def _number(dataset: ImageDataset, index: int) -> int:
    """A number of 64 bits that follows from the content of an image alone."""
    digest = hashlib.blake2b(dataset.content_digest(index), digest_size=8, person=b"memory bank")
    return int.from_bytes(digest.digest(), "little")


def _bank_rows(
    method: Method,
    preprocessing: Preprocessing,
    dataset: ImageDataset,
    device: Device,
    failures: dict[str, str],
    on_prediction: Callable[[int], None],
) -> list[list[Tensor]]:
    """What each readable image adds to each memory bank."""
    target, rows = choose_device(device), []
    method.to(target)
    # one by one, so that what an image adds does not depend on the others
    for batch in read_batches(dataset, preprocessing, batch_size=1):
        failures |= {dataset.records[index].path: error for index, error in batch.failures.items()}
        for index, image in zip(batch.indices, batch.images, strict=True):
            pixels, region = split_region(image[np.newaxis], preprocessing.channels)
            ignored = None if region is None else torch.from_numpy(region[0]).to(target)
            generator = Generator().manual_seed(_number(dataset, int(index)) % 2**63)
            x = network_input(pixels, preprocessing.white_level, target)
            with eval_mode(method):
                rows.append(method.bank_rows(x, generator, ignored))
            on_prediction(int(index) + 1)
    return rows


def _without_updates(method: Method) -> Method:
    """A copy with the memory banks of training."""
    copied = deepcopy(method)
    for bank in banks_of(copied):
        bank.set_added(bank.added[:0])
    return copied


def _with_rows(method: Method, rows: Sequence[Sequence[Tensor]]) -> Method:
    """The method if there are no rows; else a copy with the rows of each image in its memory banks."""
    if not rows:
        return method
    copied = deepcopy(method)
    for bank, bank_rows in zip(banks_of(copied), zip(*rows, strict=True), strict=True):
        bank.add(torch.cat(bank_rows))
    return copied


def _provenance(
    model: Model, dataset: ImageDataset, *, n_calibrating: int, n_in_banks: int
) -> dict[str, Any]:
    entry = {
        "images": n_calibrating,
        "bank_images": n_in_banks,
        "data_fingerprint": content_fingerprint(dataset),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    updates = sorted(
        [*model.provenance.get("updates", []), entry], key=lambda update: str(update["data_fingerprint"])
    )
    return {**model.provenance, "version": 1 + len(updates), "updates": updates}


def _joined(first: MapCalibration | None, second: MapCalibration | None) -> MapCalibration | None:
    if first is None or second is None:
        return first
    medians, maxima = (
        np.concatenate(parts) for parts in ((first.medians, second.medians), (first.maxima, second.maxima))
    )
    order = np.lexsort((medians, maxima))
    return MapCalibration(medians[order], maxima[order], first.false_alarm_rate)


def _with_failures_noted(
    predictions: Iterable[Prediction], failures: dict[str, str], on_prediction: Callable[[int], None]
) -> Iterator[Prediction]:
    for prediction in predictions:
        on_prediction(prediction.index + 1)
        if prediction.error is not None:
            failures[prediction.path] = prediction.error
        else:
            yield prediction
