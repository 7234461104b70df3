"""Statistics of a trained method from whole training images, and how long such images take."""

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ganomaly.data import ImageLoader, Pixels
from ganomaly.devices import full_precision
from ganomaly.methods import Method
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.training.observers import counted

STATISTICS_BATCH = 256  # images per batch that `fit_statistics` gets
STATISTICS_COST = 1.5  # predictions that an image for statistics takes
_PREDICTED = 3  # images, to measure what a prediction takes
_LONG_PREDICTION = 2.0  # s; after one as long no other is measured

ToInput = Callable[[Pixels], tuple[torch.Tensor, torch.Tensor]]
"""From pixels to x, and where it is ignored, `bool[N, h, w]`."""


def fit_statistics(
    method: Method,
    images: ImageLoader,
    indices: NDArray[np.int64],
    *,
    seed: int,
    to_input: ToInput,
    on_images: Callable[[int, int], None],
) -> None:
    """Fit a method's statistics.

    Parameters
    ----------
    method : Method
        Trained; in eval mode afterwards.
    images : ImageLoader
        The images.
    indices : ndarray
        `int64[n]`, those of them to choose from, at most `Method.statistics_images`.
    seed : int
        Of the choice.
    to_input : callable
        Makes the network's input.
    on_images : callable
        Called with how many images have been read, and how many are to be.
    """
    n_images = method.statistics_images
    if n_images == 0:
        return
    some = _shuffled(indices, seed)[:n_images]
    batches = np.array_split(some, range(STATISTICS_BATCH, len(some), STATISTICS_BATCH))
    method.eval()
    n_readable = sum(int(index) not in images.failures for index in some)
    told = counted(images.batches(iter(batches)), n_readable, on_images, len)
    with torch.no_grad(), full_precision(next(method.parameters()).device):
        if images.has_ignored_regions:
            method.fit_statistics_outside(to_input(pixels) for pixels in told)
        else:
            method.fit_statistics(to_input(pixels)[0] for pixels in told)


def seconds_of_a_prediction(
    method: Method,
    images: ImageLoader,
    indices: NDArray[np.int64],
    *,
    seed: int,
    to_input: ToInput,
    at_once: int,
) -> float:
    """What a method takes to predict an image, `at_once` together: the median of a few; 0 if none can be read."""
    some = _shuffled(indices, seed)[: _PREDICTED * at_once]
    seconds = []
    with eval_mode(method):
        for pixels in images.batches(iter(np.array_split(some, range(at_once, len(some), at_once)))):
            x, _ = to_input(pixels)
            started = time.perf_counter()
            method.predict(x).score.tolist()  # waits for the device
            taken = time.perf_counter() - started
            seconds.append(taken / len(x))
            if taken > _LONG_PREDICTION:
                break
    return float(np.median(seconds)) if seconds else 0.0


def _shuffled(indices: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(indices)
