"""Evaluate a model: predictions of labelled images to metrics."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ganomaly.calibration import Calibration
from ganomaly.config import BATCH_SIZE
from ganomaly.data import ImageDataset, ImageRecord
from ganomaly.errors import DataError, ImageError
from ganomaly.metrics import Evaluation, PixelTally, image_metrics
from ganomaly.outputs.notebook import evaluation_html
from ganomaly.prediction import Prediction, Predictor


@dataclass(frozen=True, eq=False)
class EvaluatedImages:
    """Metrics of a model on labelled images, and the scores they come from.

    Attributes
    ----------
    evaluation : Evaluation
        The metrics.
    scores : ndarray
        `float64[n]`, A(x) of the images that could be read.
    is_anomalous : ndarray
        `bool[n]`, their labels.
    failures : mapping of str to str
        Path of each image (or mask) that could not be read, and why.
    calibration : Calibration
        That of the model, with the threshold.
    """

    evaluation: Evaluation
    scores: NDArray[np.float64]
    is_anomalous: NDArray[np.bool_]
    failures: Mapping[str, str]
    calibration: Calibration

    def _repr_html_(self) -> str:
        """The figures in a row, and the scores, for notebooks."""
        figures = {name: value for name, value in asdict(self.evaluation).items() if name != "per_kind"}
        normal, anomalous = self.scores[~self.is_anomalous], self.scores[self.is_anomalous]
        return evaluation_html(figures, self.calibration, normal, anomalous)


def evaluate_model(
    model: Predictor,
    dataset: ImageDataset,
    *,
    batch_size: int = BATCH_SIZE,
    on_prediction: Callable[[Prediction, ImageRecord], None] = lambda prediction, record: None,
) -> EvaluatedImages:
    """Predict labelled images and compare with their labels and masks.

    Pixel metrics are computed at the images' own size, over normal images and those anomalous ones that have a mask.

    Parameters
    ----------
    model : Predictor
        The model to measure.
    dataset : ImageDataset
        Labelled images, as `open_test_images` gives them.
    batch_size : int
        Images per batch.
    on_prediction : callable
        Called with each prediction, with details, and the record of its image, in order.

    Raises
    ------
    DataError
        If no image can be read.
    """
    scores: list[float] = []
    labels: list[bool] = []
    kinds: list[str | None] = []
    failures: dict[str, str] = {}
    pixels = PixelTally()
    for prediction in model.predict(dataset, batch_size=batch_size, details=True):
        record = dataset.records[prediction.index]
        on_prediction(prediction, record)
        if prediction.score is None:
            failures[prediction.path] = prediction.error or "could not be read"
            continue
        scores.append(prediction.score)
        labels.append(bool(record.is_anomalous))
        kinds.append(record.kind)
        try:
            _add_pixels(pixels, prediction, record, dataset)
        except ImageError as error:
            failures[f"mask of {record.path}"] = str(error)
    if not scores:
        raise DataError(f"none of the {len(dataset)} images in {dataset.name} can be read; check the files")
    evaluation = image_metrics(scores, labels, model.calibration.threshold, kinds, pixels=pixels)
    return EvaluatedImages(evaluation, np.array(scores), np.array(labels), failures, model.calibration)


def _add_pixels(
    pixels: PixelTally, prediction: Prediction, record: ImageRecord, dataset: ImageDataset
) -> None:
    anomaly_map = prediction.map_at_image_size()
    if anomaly_map is None:
        return
    mask = dataset.read_mask(prediction.index) if record.is_anomalous else None
    if record.is_anomalous and mask is None:
        return  # which pixels are anomalous is not known
    pixels.add(anomaly_map, mask)
