"""How long a trained method takes to score a batch."""

import time

import numpy as np
from numpy.typing import NDArray

from ganomaly.config import BATCH_SIZE, Preprocessing
from ganomaly.data import ImageLoader
from ganomaly.methods import Method
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.tensors import network_input

TIMED_BATCHES = 5
SLOW_MS = 2000.0
"""A method whose batch takes longer is timed while it scores the test images, since repeating it costs too much."""


def milliseconds_per_batch(
    method: Method, loader: ImageLoader, indices: NDArray[np.int64], preprocessing: Preprocessing
) -> float:
    """Median time to score a batch of 64, in milliseconds, without decoding.

    Parameters
    ----------
    method : Method
        Trained.
    loader : ImageLoader
        Gives the images.
    indices : ndarray
        `int[N]`, images to take; repeated where there are fewer than 64.
    preprocessing : Preprocessing
        That of training.
    """
    device = next(method.parameters()).device
    batch = np.resize(indices, BATCH_SIZE)
    parts = list(loader.batches(iter([batch])))  # with a scale, one image each
    times: list[float] = []
    with eval_mode(method):
        while len(times) < TIMED_BATCHES and not (times and times[0] > SLOW_MS):
            start = time.perf_counter()
            for pixels in parts:
                method.predict(network_input(pixels, preprocessing.white_level, device)).score.cpu()
            times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times))
