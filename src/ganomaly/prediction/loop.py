"""The one scoring loop: images in, anomaly scores out, in order, in bounded memory.

Networks are in eval mode, so batch norm uses the statistics of training, and the score of an image does not
depend on its neighbours. Computation is fp32, whatever training was, so that verdicts repeat.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from ganomaly.config import Device, Preprocessing
from ganomaly.data import ImageBatch, ImageDataset, in_order, read_batches
from ganomaly.devices import choose_device, full_precision
from ganomaly.methods import BatchPrediction, Method
from ganomaly.prediction.prediction import BATCH_SIZE, NO_NUMBER, Prediction, some_with_a_number
from ganomaly.tensors import displayable, network_input

SIDE_BY_SIDE = 4
"""Batches of squares that are scored at the same time at most: a bound on memory."""


def predict_dataset(
    method: Method,
    preprocessing: Preprocessing,
    dataset: ImageDataset,
    *,
    batch_size: int = BATCH_SIZE,
    device: Device = "auto",
    details: bool = False,
) -> Iterator[Prediction]:
    """Score all images of a dataset.

    Parameters
    ----------
    method : Method
        A trained method; moved to the device.
    preprocessing : Preprocessing
        That of its training.
    dataset : ImageDataset
        The images.
    batch_size : int
        Images per step; changes memory and speed, not scores.
    device : {'auto', 'cpu', 'cuda'}
        Where to compute.
    details : bool
        Whether to compute reconstruction and anomaly map too.

    Yields
    ------
    Prediction
        One for each image, in the order of the dataset; a broken one with its `error`.
    """
    target = choose_device(device)
    batches = read_batches(
        dataset,
        image_size=preprocessing.image_size,
        channels=preprocessing.channels,
        batch_size=batch_size,
        dtype=np.uint8 if preprocessing.bits == 8 else np.uint16,
        scale=preprocessing.scale,
    )

    def score(batch: ImageBatch) -> list[Prediction]:
        scored = [Prediction(index, None, error) for index, error in batch.failures.items()]
        if len(batch.images):
            # inference mode is a thread's, not the process's
            with torch.inference_mode(), full_precision(target):
                x = network_input(batch.images, preprocessing.white_level, target)
                scored += _score_batch(method, x, batch, details)
        return sorted(scored, key=lambda image: image.index)

    # squares are small, and threads that share a batch wait for one another; whole images may be as large as memory
    n_batches = math.ceil(len(dataset) / batch_size)
    alone = target.type != "cpu" or preprocessing.scale is not None
    # inference mode is not for the caller, who may have other work between two images
    with _in_eval_mode(method.to(target)), closing(batches):
        scored = _side_by_side(score, batches, 1 if alone else min(n_batches, SIDE_BY_SIDE))
        yield from some_with_a_number(chain.from_iterable(scored))


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Run a block in eval mode, in fp32, without gradients; the mode is put back afterwards."""
    with _in_eval_mode(module), torch.inference_mode(), full_precision(next(module.parameters()).device):
        yield


@contextmanager
def _in_eval_mode(module: nn.Module) -> Iterator[None]:
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def _side_by_side(
    score: Callable[[ImageBatch], list[Prediction]], batches: Iterable[ImageBatch], at_most: int
) -> Iterator[list[Prediction]]:
    """Score some batches at the same time, with a part of PyTorch's threads each; in order.

    How many threads PyTorch takes is the process's: two scorings that overlap in time take turns in setting it.
    """
    threads = torch.get_num_threads()
    workers = min(threads, at_most)
    if workers <= 1:
        yield from map(score, batches)
        return
    begin = partial(torch.set_num_threads, math.ceil(threads / workers))
    try:
        with closing(in_order(score, batches, workers=workers, ahead=workers + 1, begin=begin)) as found:
            yield from found
    finally:
        torch.set_num_threads(threads)  # what a worker sets also counts for threads yet to come


def _score_batch(method: Method, x: Tensor, batch: ImageBatch, details: bool) -> Iterator[Prediction]:
    found = method.predict(x) if details else BatchPrediction(method.anomaly_score(x), None, None)
    scores = found.score.double().cpu().numpy()
    images = displayable(x) if details else None
    shown = None if found.reconstruction is None else displayable(found.reconstruction)
    places = None if found.anomaly_map is None else found.anomaly_map.float().cpu().numpy()
    for position, index in enumerate(batch.indices):
        if not np.isfinite(scores[position]):
            yield Prediction(int(index), None, NO_NUMBER)
            continue
        yield Prediction(
            int(index),
            float(scores[position]),
            height=int(batch.sizes[position, 0]),
            width=int(batch.sizes[position, 1]),
            image=None if images is None else images[position],
            reconstruction=None if shown is None else shown[position],
            anomaly_map=None if places is None else places[position],
        )
