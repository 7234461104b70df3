"""One image after scoring, and what can judge images: a trained model, or one that was exported."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ganomaly.calibration.conformal import Calibration, MapCalibration
from ganomaly.config import Device, Preprocessing
from ganomaly.data import ImageDataset
from ganomaly.errors import TrainingError

BATCH_SIZE = 64
NO_NUMBER = "the model's score of this image is not a number"


@dataclass(frozen=True)
class Prediction:
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
        `uint8[h, w, C]` network input and its reconstruction, where details were asked for.
    anomaly_map : ndarray or None
        `float32[h, w]`, where details were asked for and the method has one.
    """

    index: int
    score: float | None
    error: str | None = None
    height: int = 0
    width: int = 0
    image: NDArray[np.uint8] | None = None
    reconstruction: NDArray[np.uint8] | None = None
    anomaly_map: NDArray[np.float32] | None = None


def some_with_a_number(images: Iterable[Prediction]) -> Iterator[Prediction]:
    """Pass images on; raise `TrainingError` if none of the first has a score that is a number, or none of all."""
    broken = TrainingError(
        "the model gives scores that are not a number: its weights are broken; train it again"
    )
    numbers = others = 0
    for image in images:
        numbers += image.score is not None
        others += image.error == NO_NUMBER
        if others >= BATCH_SIZE and not numbers:
            raise broken
        yield image
    if others and not numbers:
        raise broken


class Predictor(Protocol):
    """What scores images, and knows what its scores mean."""

    @property
    def method_name(self) -> str:
        """The method, by its name on the command line."""

    @property
    def method_options(self) -> Mapping[str, Any]:
        """The method's options."""

    @property
    def parameters(self) -> int | None:
        """How many numbers training moved; None where that is not told any more."""

    @property
    def preset(self) -> str:
        """The configuration it was made from."""

    @property
    def preprocessing(self) -> Preprocessing:
        """From a decoded image to the network input."""

    @property
    def calibration(self) -> Calibration:
        """From a score to a p-value and a verdict."""

    @property
    def map_calibration(self) -> MapCalibration | None:
        """What is usual in an anomaly map; None where there is none."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where it comes from."""

    def predict(
        self,
        dataset: ImageDataset,
        *,
        batch_size: int = BATCH_SIZE,
        device: Device = "auto",
        details: bool = False,
    ) -> Iterator[Prediction]:
        """Score all images of a dataset, in order; a broken one comes with its error.

        Parameters
        ----------
        dataset : ImageDataset
            The images.
        batch_size : int
            Images per step; changes memory and speed, not scores.
        device : {'auto', 'cpu', 'cuda'}
            Where to compute.
        details : bool
            Whether to compute reconstruction and anomaly map too.
        """
