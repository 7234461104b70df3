"""The evaluation of the authors' released code, to compare with; it leaks, and exists here only.

At the end of each epoch the test set is scored with batch norm in training mode, so that statistics of the test
images take part in every score; scores are scaled to [0, 1] by their minimum and maximum over the test set; the best
epoch by test AUROC is reported, with the threshold 0.2.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganomaly.config import Preprocessing
from ganomaly.data import ImageDataset, Subset, read_batches
from ganomaly.methods import Method
from ganomaly.methods.updates import frozen_statistics
from ganomaly.metrics import image_metrics
from ganomaly.tensors import network_input

BATCH_SIZE = 64
THRESHOLD = 0.2


class PublishedProtocol:
    """Evaluates on the test set after each epoch, and reports the best epoch.

    Parameters
    ----------
    test : ImageDataset
        The N test images.
    preprocessing : Preprocessing
        That of training.
    labels : mapping of str to ndarray
        For each class `float[N]`: 1 anomalous, 0 normal, NaN not part of its test set.
    seed : int
        Fixes the order of the test images, and so which share a batch.
    """

    def __init__(
        self,
        test: ImageDataset,
        preprocessing: Preprocessing,
        labels: Mapping[str, NDArray[np.float64]],
        seed: int,
    ) -> None:
        self._preprocessing, self._labels = preprocessing, labels
        self._order = np.random.default_rng([seed, len(test)]).permutation(len(test))
        self._shuffled = Subset(test, self._order)
        self._epoch = 0
        self._best: dict[str, dict[str, Any]] = {}

    def evaluate_epoch(self, method: Method) -> None:
        """Score the test set as the authors did, and update the metrics of each class that improved."""
        self._epoch += 1
        scores = self._scores(method)
        for name, labels in self._labels.items():
            used = np.isfinite(labels) & np.isfinite(scores)
            low, high = scores[used].min(), scores[used].max()
            scaled = (scores[used] - low) / max(high - low, np.finfo(np.float64).tiny)
            evaluation = image_metrics(scaled, labels[used] == 1, threshold=THRESHOLD)
            metrics = {
                "auroc": evaluation.image_auroc,
                "average_precision": evaluation.image_average_precision,
                "f1_at_0.2": evaluation.image_f1,
                "best_epoch": self._epoch,
            }
            if name not in self._best or (metrics["auroc"] or 0) > (self._best[name]["auroc"] or 0):
                self._best[name] = metrics

    def metrics(self, name: str) -> dict[str, Any]:
        """The metrics of a class at its best epoch."""
        return self._best[name]

    def _scores(self, method: Method) -> NDArray[np.float64]:
        """A(x) of the test images in training mode, `float64[N]`; NaN for an image that cannot be read."""
        device = next(method.parameters()).device
        scores = np.full(len(self._order), np.nan)
        was_training = method.training
        method.train()
        try:
            with torch.no_grad(), frozen_statistics(method):
                for batch in read_batches(self._shuffled, self._preprocessing, batch_size=BATCH_SIZE):
                    if len(batch.images):
                        x = network_input(batch.images, self._preprocessing.white_level, device)
                        scores[self._order[batch.indices]] = method.predict(x).score.double().cpu().numpy()
        finally:
            method.train(was_training)
        return scores
