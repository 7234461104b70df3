"""What the authors' released code did, to compare with; it leaks, and exists here only.

At the end of each epoch the test set is scored with batch norm in training mode, so that statistics of the test
images take part in every score; scores are scaled to [0, 1] by their least and greatest over the test set; the best
epoch by test AUROC is reported, and verdicts are taken at 0.2.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganomaly.config import Preprocessing
from ganomaly.data import ImageDataset, Subset, read_batches
from ganomaly.methods import Method
from ganomaly.methods.updates import statistics_kept
from ganomaly.metrics import image_metrics
from ganomaly.tensors import network_input

BATCH_SIZE = 64
THRESHOLD = 0.2


class PublishedProtocol:
    """Looks at the test set after each epoch, and keeps the best look.

    Parameters
    ----------
    test : ImageDataset
        The test images.
    chosen : ndarray
        `int[n]`, those of them that are used.
    preprocessing : Preprocessing
        That of training.
    classes : mapping of str to ndarray
        `float[n]` for each class: 1 anomalous, 0 normal, NaN left out.
    seed : int
        Fixes the order of the test images, and so which share a batch.
    """

    def __init__(
        self,
        test: ImageDataset,
        chosen: NDArray[np.int64],
        preprocessing: Preprocessing,
        classes: Mapping[str, NDArray[np.float64]],
        seed: int,
    ) -> None:
        self._test, self._preprocessing, self._classes = test, preprocessing, classes
        self._order = np.random.default_rng([seed, len(chosen)]).permutation(len(chosen))
        self._chosen = chosen
        self._epoch = 0
        self._best: dict[str, dict[str, Any]] = {}

    def look(self, method: Method) -> None:
        """Score the test set as the authors did, and keep the figures of each class if they are its best."""
        self._epoch += 1
        scores = self._scores(method)
        for name, truth in self._classes.items():
            plays = np.isfinite(truth) & np.isfinite(scores)
            least, greatest = scores[plays].min(), scores[plays].max()
            scaled = (scores[plays] - least) / max(greatest - least, np.finfo(np.float64).tiny)
            found = image_metrics(scaled, truth[plays] == 1, threshold=THRESHOLD)
            figures = {
                "auroc": found.image_auroc,
                "average_precision": found.image_average_precision,
                "f1_at_0.2": found.image_f1,
                "best_epoch": self._epoch,
            }
            if name not in self._best or (figures["auroc"] or 0) > (self._best[name]["auroc"] or 0):
                self._best[name] = figures

    def figures(self, name: str) -> dict[str, Any]:
        """The best look at a class."""
        return self._best[name]

    def _scores(self, method: Method) -> NDArray[np.float64]:
        device = next(method.parameters()).device
        scores = np.full(len(self._chosen), np.nan)
        was_training = method.training
        method.train()
        try:
            with torch.no_grad(), statistics_kept(method):
                test = Subset(self._test, self._chosen[self._order])
                batches = read_batches(test, self._preprocessing, batch_size=BATCH_SIZE)
                for batch in batches:
                    if len(batch.images):
                        x = network_input(batch.images, self._preprocessing.white_level, device)
                        found = method.predict(x).score.double().cpu().numpy()
                        scores[self._order[batch.indices]] = found
        finally:
            method.train(was_training)
        return scores
