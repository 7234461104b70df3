"""More calibration images for a model that is trained: new normal images, without training."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain

import numpy as np

from ganomaly.calibration import Calibration, MapCalibration
from ganomaly.config import DEVICE, Device
from ganomaly.data import ImageDataset
from ganomaly.data.fingerprint import content_fingerprint, has_fingerprint
from ganomaly.errors import DataError, UsageError
from ganomaly.prediction import Prediction
from ganomaly.prediction.calibrate import calibrate
from ganomaly.prediction.model import Model


@dataclass(frozen=True)
class UpdateResult:
    """An updated model.

    Attributes
    ----------
    model : Model
        The same networks with more calibration images; `version` in its provenance is one higher.
    added : int
        Images that calibrate in addition.
    failures : dict of str to str
        Path of each image that could not be read, and why.
    """

    model: Model
    added: int
    failures: dict[str, str]


def update_model(
    model: Model,
    dataset: ImageDataset,
    *,
    on_prediction: Callable[[int], None] = lambda _: None,
    device: Device = DEVICE,
) -> UpdateResult:
    """Add normal images to the calibration of a model.

    Weights, memory banks and statistics stay, so that old and new calibration images have scores of the same
    function, and the false-alarm rate keeps its guarantee. The order of several updates does not matter.

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
    updates = list(model.provenance.get("updates", []))
    for recorded in (
        model.provenance.get("data_fingerprint"),
        *(entry["data_fingerprint"] for entry in updates),
    ):
        if recorded is not None and has_fingerprint(dataset, str(recorded)):
            raise UsageError(
                f"the model has seen the images in {dataset.name}, so their scores say nothing about new ones; name "
                "other normal images"
            )
    failures: dict[str, str] = {}
    predictions = model.predict(dataset, device=device, details=True)
    readable = _with_failures_noted(predictions, failures, on_prediction)
    first = next(readable, None)
    if first is None:
        raise DataError(f"none of the images in {dataset.name} can be read; repair or replace them")
    added, added_maps = calibrate(chain([first], readable), model.calibration.false_alarm_rate)
    calibration = Calibration(
        np.concatenate([model.calibration.scores, added.scores]), model.calibration.false_alarm_rate
    )
    updates.append(
        {
            "images": len(added.scores),
            "data_fingerprint": content_fingerprint(dataset),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    provenance = {**model.provenance, "version": 1 + len(updates), "updates": updates}
    updated = replace(
        model,
        calibration=calibration,
        map_calibration=_joined(model.map_calibration, added_maps),
        provenance=provenance,
    )
    return UpdateResult(updated, len(added.scores), failures)


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
