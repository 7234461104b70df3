"""The clean protocol: the trained method predicts the test images once, by the one prediction loop, in eval mode.

Nothing about the test images reaches the model or a score.
"""

import time
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ganomaly.benchmark.collect_artifacts import ArtifactCollector
from ganomaly.benchmark.embedding import pooled_features
from ganomaly.config import BATCH_SIZE, Preprocessing
from ganomaly.data import ImageDataset
from ganomaly.methods import Method
from ganomaly.metrics import image_metrics
from ganomaly.prediction.pytorch import predict_dataset


class CleanScores(NamedTuple):
    """A(x) of the test images.

    Attributes
    ----------
    scores : ndarray
        `float64[N]`; NaN for an image that could not be read.
    milliseconds : float
        Mean time from one whole batch to the next. Fast methods compute several batches at the same time, so it is
        the time of a batch for slow methods only.
    """

    scores: NDArray[np.float64]
    milliseconds: float


def score_test_images(
    method: Method,
    preprocessing: Preprocessing,
    test: ImageDataset,
    collector: ArtifactCollector | None = None,
) -> CleanScores:
    """Predict the test images once.

    Parameters
    ----------
    method : Method
        Trained.
    preprocessing : Preprocessing
        That of its training.
    test : ImageDataset
        The N test images.
    collector : ArtifactCollector, optional
        Takes from each prediction what figures need.
    """
    scores = np.full(len(test), np.nan)
    start = end = time.perf_counter()
    n_batches = 0
    predictions = predict_dataset(
        method,
        preprocessing,
        test,
        details=collector is not None,
        features=None if collector is None else partial(pooled_features, method),
    )
    for prediction in predictions:
        if prediction.score is not None:
            scores[prediction.index] = prediction.score
        if collector is not None:
            collector.add(prediction)
        if (prediction.index + 1) % BATCH_SIZE == 0:
            end = time.perf_counter()
            n_batches += 1
    return CleanScores(scores, 1000 * (end - start) / max(1, n_batches))


def clean_metrics(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> dict[str, Any]:
    """AUROC and average precision of one class.

    Parameters
    ----------
    scores : ndarray
        `float64[N]`, A(x); NaN for an image that could not be read.
    labels : ndarray
        `float[N]`: 1 anomalous, 0 normal, NaN not part of the class's test set.
    """
    used = np.isfinite(labels) & np.isfinite(scores)
    metrics = image_metrics(scores[used], labels[used] == 1, threshold=float(np.median(scores[used])))
    return {"auroc": metrics.image_auroc, "average_precision": metrics.image_average_precision}
