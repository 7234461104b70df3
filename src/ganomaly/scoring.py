"""The one scoring loop: images in, anomaly scores out, in order, in bounded memory.

Networks are in eval mode, so batch norm uses the statistics of training, and the score of an image does not
depend on its neighbours. Computation is fp32, whatever training was, so that verdicts repeat.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ganomaly.config import Device, Preprocessing
from ganomaly.data import DecodedBatch, ImageDataset, decode_ahead
from ganomaly.devices import choose_device
from ganomaly.errors import TrainingError
from ganomaly.methods import Findings, Method
from ganomaly.tensors import displayable, network_input

BATCH_SIZE = 64


@dataclass(frozen=True)
class ScoredImage:
    """One image after scoring.

    Attributes
    ----------
    index : int
        Its position in the dataset.
    score : float or None
        A(x); None if the image could not be read.
    error : str or None
        Why it could not be read.
    height, width : int
        Size of the user's image in pixels; 0 if it could not be read.
    image, reconstruction : ndarray or None
        `uint8[h, w, C]` network input and its reconstruction, where pictures were asked for.
    anomaly_map : ndarray or None
        `float32[h, w]`, where pictures were asked for and the method has one.
    """

    index: int
    score: float | None
    error: str | None = None
    height: int = 0
    width: int = 0
    image: NDArray[np.uint8] | None = None
    reconstruction: NDArray[np.uint8] | None = None
    anomaly_map: NDArray[np.float32] | None = None


def score_dataset(
    method: Method,
    preprocessing: Preprocessing,
    dataset: ImageDataset,
    *,
    batch_size: int = BATCH_SIZE,
    device: Device = "auto",
    pictures: bool = False,
) -> Iterator[ScoredImage]:
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
    pictures : bool
        Whether to compute reconstruction and anomaly map too.

    Yields
    ------
    ScoredImage
        One for each image, in the order of the dataset; a broken one with its `error`.
    """
    target = choose_device(device)
    with evaluating(method.to(target)):
        for batch in decode_ahead(
            dataset,
            image_size=preprocessing.image_size,
            channels=preprocessing.channels,
            batch_size=batch_size,
            dtype=np.uint8 if preprocessing.bits == 8 else np.uint16,
            scale=preprocessing.scale,
        ):
            scored = [ScoredImage(index, None, error) for index, error in batch.failures.items()]
            if len(batch.images):
                x = network_input(batch.images, preprocessing.white_level, target)
                scored += _score_batch(method, x, batch, pictures)
            yield from sorted(scored, key=lambda image: image.index)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run a block in eval mode without gradients; the mode is put back afterwards."""
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        module.train(was_training)


def _score_batch(method: Method, x: Tensor, batch: DecodedBatch, pictures: bool) -> Iterator[ScoredImage]:
    found = method.examine(x) if pictures else Findings(method.anomaly_score(x), None, None)
    scores = found.score.double().cpu().numpy()
    if not np.isfinite(scores).all():
        raise TrainingError(
            "the model gives a score that is not a number: its weights are broken; train it again"
        )
    images = displayable(x) if pictures else None
    shown = None if found.reconstruction is None else displayable(found.reconstruction)
    places = None if found.anomaly_map is None else found.anomaly_map.float().cpu().numpy()
    for position, index in enumerate(batch.indices):
        yield ScoredImage(
            int(index),
            float(scores[position]),
            height=int(batch.sizes[position, 0]),
            width=int(batch.sizes[position, 1]),
            image=None if images is None else images[position],
            reconstruction=None if shown is None else shown[position],
            anomaly_map=None if places is None else places[position],
        )
