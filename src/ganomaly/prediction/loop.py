"""The one prediction loop: images in, predictions out, in order, in bounded memory.

Every prediction of the package is made here: those of trained models and of exported graphs, those that calibrate a
model at the end of `fit`, and those of a benchmark's clean protocol. The verdict is made here and nowhere else.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import PurePath
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ganomaly.calibration import Calibration, ProductCalibration
from ganomaly.config import BATCH_SIZE, Preprocessing
from ganomaly.data import ImageBatch, ImageDataset, Pixels, in_order, read_batches
from ganomaly.errors import TrainingError
from ganomaly.prediction.prediction import Prediction

FIXED_PIXELS = BATCH_SIZE * 32 * 32
"""Pixels of a batch of fixed size: few, because a single image is computed as such a batch too."""

NOT_FINITE = "the model's score of this image is not a number"


@dataclass(frozen=True, eq=False)
class BatchOutputs:
    """What a network gives for a batch of N images, in memory.

    Attributes
    ----------
    scores : ndarray
        `float64[N]`, A(x).
    images, reconstructions : ndarray or None
        `uint8[N, h, w, C]`.
    anomaly_maps : ndarray or None
        `float32[N, h, w]`.
    features : ndarray or None
        `float32[N, K]`.
    products : ndarray or None
        `int64[N]`, number of the product of each, where the model has several.
    """

    scores: NDArray[np.float64]
    images: NDArray[np.uint8] | None = None
    reconstructions: NDArray[np.uint8] | None = None
    anomaly_maps: NDArray[np.float32] | None = None
    features: NDArray[np.float32] | None = None
    products: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Concurrency:
    """How many batches are computed at the same time.

    Attributes
    ----------
    workers : int
        Threads, each with a batch of its own.
    begin : callable, optional
        Called in each thread first.
    """

    workers: int = 1
    begin: Callable[[], None] | None = None


def run_prediction_loop(
    compute: Callable[[Pixels], BatchOutputs],
    dataset: ImageDataset,
    preprocessing: Preprocessing,
    calibration: Calibration | None,
    *,
    batch_size: int = BATCH_SIZE,
    full_size: bool = False,
    fixed_batches: bool = False,
    concurrency: Concurrency = Concurrency(),
) -> Iterator[Prediction]:
    """Predict all images of a dataset, in order.

    Parameters
    ----------
    compute : callable
        From pixels `[N, h, w, C]` to their outputs; called from several threads where `concurrency` says so.
    dataset : ImageDataset
        The images.
    preprocessing : Preprocessing
        That of the model's training.
    calibration : Calibration or None
        Gives p-value and verdict; None where there is none yet.
    batch_size : int
        Images per batch; changes memory and speed, not scores.
    full_size : bool
        Whether images that are scaled by a common factor are left at full size, for a graph that scales them itself.
    fixed_batches : bool
        Whether every batch is filled up to one size, by which an image has the same score bit for bit, whatever is
        predicted with it: networks round differently for batches of different sizes.
    concurrency : Concurrency
        How many batches are computed at the same time.

    Yields
    ------
    Prediction
        One for each image; one that could not be read has its `error`.

    Raises
    ------
    TrainingError
        If no score is a finite number.
    """

    if fixed_batches and preprocessing.scale is None:  # else images are computed one by one anyway
        batch_size = min(batch_size, fixed_batch_size(preprocessing))
        compute = partial(_filled_up, compute, batch_size)

    def predict(batch: ImageBatch) -> list[Prediction]:
        predictions = [
            Prediction(index, dataset.records[index].path, error) for index, error in batch.failures.items()
        ]
        for part, outputs in _computed(compute, batch):
            if outputs is None:
                index = int(part.indices[0])
                predictions.append(Prediction(index, dataset.records[index].path, _no_memory(dataset, part)))
                continue
            for position in range(len(part.indices)):
                predictions.append(_prediction(outputs, position, part, dataset, calibration))
        return sorted(predictions, key=lambda prediction: prediction.index)

    batches = read_batches(dataset, preprocessing, batch_size=batch_size, full_size=full_size)
    with closing(batches):
        yield from _check_finite(chain.from_iterable(_in_threads(predict, batches, concurrency)))


def fixed_batch_size(preprocessing: Preprocessing) -> int:
    """Images of a batch of fixed size, from 1 to `BATCH_SIZE`, fewer the larger they are."""
    return min(max(FIXED_PIXELS // preprocessing.image_size**2, 1), BATCH_SIZE)


def _filled_up(compute: Callable[[Pixels], BatchOutputs], size: int, images: Pixels) -> BatchOutputs:
    """Compute n images as a batch of `size`, by repeating the last one; outputs of the n images."""
    n = len(images)
    outputs = compute(cast(Pixels, np.concatenate([images, np.repeat(images[-1:], size - n, axis=0)])))
    first: Any = {name: None if values is None else values[:n] for name, values in vars(outputs).items()}
    return replace(outputs, **first)


def _computed(
    compute: Callable[[Pixels], BatchOutputs], batch: ImageBatch
) -> Iterator[tuple[ImageBatch, BatchOutputs | None]]:
    """The outputs of a batch; image by image if it does not fit in memory, and None for an image that does not."""
    n = len(batch.indices)
    if n == 0:
        return
    try:
        outputs = compute(batch.images)
    except MemoryError:
        if n == 1:
            yield batch, None
            return
    else:
        yield batch, outputs
        return
    for position in range(n):
        one = slice(position, position + 1)
        yield from _computed(compute, ImageBatch(batch.indices[one], batch.images[one], batch.sizes[one], {}))


def _no_memory(dataset: ImageDataset, batch: ImageBatch) -> str:
    name = PurePath(dataset.records[int(batch.indices[0])].path).name
    height, width = batch.images.shape[1:3]
    return f"{name} does not fit into memory: the network would take {width}×{height} px of it; scale it down"


def _in_threads(
    predict: Callable[[ImageBatch], list[Prediction]], batches: Iterable[ImageBatch], concurrency: Concurrency
) -> Iterator[list[Prediction]]:
    workers = concurrency.workers
    if workers <= 1:
        yield from map(predict, batches)
        return
    with closing(
        in_order(predict, batches, workers=workers, ahead=workers + 1, begin=concurrency.begin)
    ) as predictions:
        yield from predictions


def _prediction(
    outputs: BatchOutputs,
    position: int,
    batch: ImageBatch,
    dataset: ImageDataset,
    calibration: Calibration | None,
) -> Prediction:
    index = int(batch.indices[position])
    path = dataset.records[index].path
    score = float(outputs.scores[position])
    if not np.isfinite(score):
        return Prediction(index, path, NOT_FINITE)
    product, of_product = None, calibration
    if isinstance(calibration, ProductCalibration) and outputs.products is not None:
        product, of_product = list(calibration.products.items())[outputs.products[position]]
    images, reconstructions, maps = outputs.images, outputs.reconstructions, outputs.anomaly_maps
    return Prediction(
        index,
        path,
        score=score,
        normalized_score=None if calibration is None else float(calibration.normalized_score(score)),
        p_value=None if of_product is None else float(of_product.p_value(score)),
        is_anomaly=None if calibration is None else bool(calibration.is_anomaly(score)),
        height=int(batch.sizes[position, 0]),
        width=int(batch.sizes[position, 1]),
        image=None if images is None else images[position],
        reconstruction=None if reconstructions is None else reconstructions[position],
        anomaly_map=None if maps is None else maps[position],
        features=None if outputs.features is None else outputs.features[position],
        product=product,
    )


def _check_finite(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """Pass predictions on; raise if none of the first has a finite score, or none of all."""
    broken = TrainingError(
        "the model gives scores that are not a number: its weights are broken; train it again"
    )
    finite = not_finite = 0
    for prediction in predictions:
        finite += prediction.score is not None
        not_finite += prediction.error == NOT_FINITE
        if not_finite >= BATCH_SIZE and not finite:
            raise broken
        yield prediction
    if not_finite and not finite:
        raise broken
