"""Predictions of a trained method, computed by PyTorch.

Networks are in eval mode, so batch norm uses the statistics of training, and the score of an image does not depend on
its batch. Computation is fp32, whatever training was, so that verdicts repeat.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ganomaly.calibration import Calibration
from ganomaly.config import BATCH_SIZE, DEVICE, Device, Preprocessing
from ganomaly.data import ImageDataset, Pixels
from ganomaly.data.ignored_region import mask_at_size, mask_of, split_region
from ganomaly.data.large_images import LARGE_PIXELS
from ganomaly.data.resources import available_memory
from ganomaly.devices import choose_device, full_precision
from ganomaly.methods import Method
from ganomaly.methods.products import ProductMethods
from ganomaly.prediction.loop import BatchOutputs, Concurrency, run_prediction_loop
from ganomaly.prediction.prediction import Prediction
from ganomaly.tensors import displayable, network_input

MAX_CONCURRENT_BATCHES = 4
"""Batches of square images that are computed at the same time at most; bounds memory."""


BYTES_PER_PIXEL = 24
BYTES_PER_SAMPLE = 24
"""Memory that whole images take, in tiles: for each pixel of the network input, and for each channel of it."""


def predict_dataset(
    method: Method | ProductMethods,
    preprocessing: Preprocessing,
    dataset: ImageDataset,
    calibration: Calibration | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    device: Device = DEVICE,
    details: bool = False,
    fixed_batches: bool = False,
    features: Callable[[Tensor], Tensor | None] | None = None,
) -> Iterator[Prediction]:
    """Predict all images of a dataset with a trained method, in order.

    Parameters
    ----------
    method : Method or ProductMethods
        A trained method; moved to the device.
    preprocessing : Preprocessing
        That of its training.
    dataset : ImageDataset
        The images.
    calibration : Calibration, optional
        Gives p-value and verdict; without it a prediction has neither.
    batch_size : int
        Images per batch; changes memory and speed, not scores.
    device : {'auto', 'cpu', 'cuda'}
        Where to compute.
    details : bool
        Whether to give image, reconstruction and anomaly map too.
    fixed_batches : bool
        Whether every batch is filled up to one size.
    features : callable, optional
        From `float[N, C, H, W]` to `float[N, K]` or None; what a prediction carries as its features.

    Yields
    ------
    Prediction
        One for each image; one that could not be read has its `error`.

    Raises
    ------
    TrainingError
        If no score is a finite number.
    """
    target = choose_device(device)

    def compute(pixels: Pixels) -> BatchOutputs:
        if preprocessing.scale is not None and target.type == "cpu":
            _check_memory(pixels)
        # inference mode belongs to a thread, not to the process
        with torch.inference_mode(), full_precision(target), _memory_errors():
            pixels, region = split_region(pixels, preprocessing.channels)
            x = network_input(pixels, preprocessing.white_level, target)
            own = None if region is None else torch.from_numpy(region).to(target)
            return _outputs(method, x, details, features, own, preprocessing.ignored)

    # whole images may be large, and share a GPU badly: one at a time; squares are small, and threads that share a
    # batch wait for each other: several batches at a time
    one_at_a_time = target.type != "cpu" or preprocessing.scale is not None
    n_batches = 1 if one_at_a_time else math.ceil(len(dataset) / batch_size)
    # no inference mode here: the caller may do other work between two predictions
    with _in_eval_mode(_moved_to(method, target)), _divided_threads(n_batches) as concurrency:
        yield from run_prediction_loop(
            compute,
            dataset,
            preprocessing,
            calibration,
            batch_size=batch_size,
            fixed_batches=fixed_batches,
            concurrency=concurrency,
        )


def _check_memory(pixels: Pixels) -> None:
    """Raise `MemoryError` where a system would end the process instead."""
    n_pixels, channels = pixels[..., 0].size, pixels.shape[-1]
    n_bytes = n_pixels * (BYTES_PER_PIXEL + channels * BYTES_PER_SAMPLE)
    if n_pixels > LARGE_PIXELS and n_bytes > available_memory():
        raise MemoryError


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn PyTorch's errors of memory into Python's."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise MemoryError from error
        raise


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Run a block in eval mode, in fp32, without gradients; the mode is put back afterwards."""
    with _in_eval_mode(module), torch.inference_mode(), full_precision(next(module.parameters()).device):
        yield


def _moved_to(module: nn.Module, target: torch.device) -> nn.Module:
    """Move a module unless it is there: asking each of hundreds of tensors takes a while."""
    return module if next(module.parameters()).device == target else module.to(target)


@contextmanager
def _in_eval_mode(module: nn.Module) -> Iterator[None]:
    if not module.training:  # then nothing in it is, since the whole of it was switched
        yield
        return
    module.eval()
    try:
        yield
    finally:
        module.train()


@contextmanager
def _divided_threads(n_batches: int) -> Iterator[Concurrency]:
    """Divide PyTorch's threads among batches that are computed at the same time.

    The number of threads belongs to the process: two loops that overlap in time take turns in setting it.
    """
    threads = torch.get_num_threads()
    workers = min(threads, n_batches, MAX_CONCURRENT_BATCHES)
    if workers <= 1:
        yield Concurrency()
        return
    try:
        yield Concurrency(workers, partial(torch.set_num_threads, math.ceil(threads / workers)))
    finally:
        torch.set_num_threads(threads)  # what a worker sets also counts for threads yet to come


def _outputs(
    method: Method | ProductMethods,
    x: Tensor,
    details: bool,
    features: Callable[[Tensor], Tensor | None] | None,
    own_region: Tensor | None,
    ignored: str | None,
) -> BatchOutputs:
    prediction = method.predict(x) if own_region is None else method.predict_outside(x, own_region)
    scores = prediction.score.double().cpu().numpy()
    rows = None if features is None else features(x)
    embedded = None if rows is None else rows.float().cpu().numpy()
    products = None if prediction.product is None else prediction.product.cpu().numpy()
    if not details:
        return BatchOutputs(scores, features=embedded, products=products)
    maps, x_hat = prediction.anomaly_map, prediction.reconstruction
    if maps is not None and ignored is not None:
        region = mask_at_size(mask_of(ignored), *maps.shape[1:])
        maps = maps.masked_fill(torch.from_numpy(region).to(maps.device), 0)
    return BatchOutputs(
        scores,
        images=displayable(x),
        reconstructions=None if x_hat is None else displayable(x_hat),
        anomaly_maps=None if maps is None else maps.float().cpu().numpy().astype(np.float32, copy=False),
        features=embedded,
        products=products,
    )
