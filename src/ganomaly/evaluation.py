"""How good a model is on labelled images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganomaly.config import BATCH_SIZE
from ganomaly.data import ImageDataset, ImageRecord
from ganomaly.errors import DataError, ImageError
from ganomaly.metrics import Evaluation, PixelTally, image_metrics
from ganomaly.outputs.maps import at_image_size
from ganomaly.prediction import Prediction, Predictor


@dataclass(frozen=True, eq=False)
class EvaluatedImages:
    """Figures of a model on labelled images, and the scores they come from.

    Attributes
    ----------
    evaluation : Evaluation
        Every figure of the contract.
    scores : ndarray
        `float64[n]`, A(x) of the images that could be read.
    is_anomalous : ndarray
        `bool[n]`, the truth about them.
    failures : mapping of str to str
        Path of each image (or mask) that could not be read, and why.
    """

    evaluation: Evaluation
    scores: NDArray[np.float64]
    is_anomalous: NDArray[np.bool_]
    failures: Mapping[str, str]


def evaluate_model(
    model: Predictor,
    dataset: ImageDataset,
    *,
    batch_size: int = BATCH_SIZE,
    on_image: Callable[[Prediction, ImageRecord], None] = lambda scored, record: None,
) -> EvaluatedImages:
    """Score labelled images and compare with their labels and masks.

    Pixel figures are computed at the images' own size, over normal images and those anomalous ones that have
    a mask.

    Parameters
    ----------
    model : Model
        What to measure.
    dataset : ImageDataset
        Labelled images, as `open_test_images` gives them.
    batch_size : int
        Images per step.
    on_image : callable
        Called with each image after scoring, in order.

    Raises
    ------
    DataError
        If no image can be read.
    """
    scores: list[float] = []
    truth: list[bool] = []
    kinds: list[str | None] = []
    failures: dict[str, str] = {}
    pixels = PixelTally()
    for scored in model.predict(dataset, batch_size=batch_size, details=True):
        record = dataset.records[scored.index]
        on_image(scored, record)
        if scored.score is None:
            failures[record.path] = scored.error or "could not be read"
            continue
        scores.append(scored.score)
        truth.append(bool(record.is_anomalous))
        kinds.append(record.kind)
        try:
            _count_pixels(pixels, scored, record, dataset)
        except ImageError as error:
            failures[f"mask of {record.path}"] = str(error)
    if not scores:
        raise DataError(f"none of the {len(dataset)} images in {dataset.name} can be read; check the files")
    evaluation = image_metrics(scores, truth, model.calibration.threshold, kinds, pixels=pixels)
    return EvaluatedImages(evaluation, np.array(scores), np.array(truth), failures)


def _count_pixels(pixels: PixelTally, scored: Prediction, record: ImageRecord, dataset: ImageDataset) -> None:
    if scored.anomaly_map is None:
        return
    mask = dataset.read_mask(scored.index) if record.is_anomalous else None
    if record.is_anomalous and mask is None:
        return  # nobody said which pixels are anomalous
    pixels.add(at_image_size(scored.anomaly_map, scored.height, scored.width), mask)
