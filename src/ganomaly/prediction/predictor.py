"""What every predictor offers: a trained model, or an exported graph."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from ganomaly.calibration import Calibration, MapCalibration
from ganomaly.config import BATCH_SIZE, DEVICE, Device, Preprocessing
from ganomaly.data import ImageDataset
from ganomaly.prediction.prediction import Prediction


class Predictor(Protocol):
    """Predicts images, and knows what its scores mean.

    `load_predictor` makes one from a path, in any process.
    """

    @property
    def method_name(self) -> str:
        """Name of the method on the command line."""

    @property
    def method_options(self) -> Mapping[str, Any]:
        """Options of the method."""

    @property
    def parameters(self) -> int | None:
        """Number of trained weights; None for an exported graph."""

    @property
    def preset(self) -> str:
        """Name of the preset it was trained with."""

    @property
    def preprocessing(self) -> Preprocessing:
        """From decoded images to network inputs."""

    @property
    def calibration(self) -> Calibration:
        """From scores to p-values and verdicts."""

    @property
    def map_calibration(self) -> MapCalibration | None:
        """The scale of anomaly maps; None where the method has none."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Versions, seed, data fingerprint and time of the training."""

    def predict(
        self,
        dataset: ImageDataset,
        *,
        batch_size: int = BATCH_SIZE,
        device: Device = DEVICE,
        details: bool = False,
        fixed_batches: bool = False,
    ) -> Iterator[Prediction]:
        """Predict all images of a dataset, in order; an image that cannot be read comes with its error.

        Parameters
        ----------
        dataset : ImageDataset
            The images.
        batch_size : int
            Images per batch; changes memory and speed, not scores.
        device : {'auto', 'cpu', 'cuda'}
            Where to compute.
        details : bool
            Whether to give image, reconstruction and anomaly map too.
        fixed_batches : bool
            Whether every batch is filled up to one size, by which an image has the same score bit for bit, whatever
            is predicted with it. A single small image takes longer then.

        Raises
        ------
        TrainingError
            If no score is a finite number: the weights are broken.
        """
