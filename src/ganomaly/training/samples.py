"""The same few normal images, predicted again while training goes on, for who looks at reconstructions and maps."""

import time

import numpy as np
from numpy.typing import NDArray

from ganomaly.config import Device, Preprocessing
from ganomaly.data import ImageDataset, Subset
from ganomaly.methods import Method
from ganomaly.prediction.model import Model
from ganomaly.prediction.pytorch import predict_dataset
from ganomaly.training.observers import Observer, TrainingProgress

MOST_OF_THE_TIME = 0.05
"""Share of the training time that predictions at the end of epochs may take; what would take more is left out."""


class SampleImages:
    """Predicts a few calibration images at the end of epochs and of training, for an observer.

    They did not train, so what is seen of them is what new images will show. The predictions change nothing in
    training. A method whose score needs statistics has it at the end of training alone.

    Parameters
    ----------
    dataset : ImageDataset
        All images.
    calibration : ndarray
        `int64[n]`, those that calibrate; `observer.n_samples` of them are taken, evenly spread.
    preprocessing : Preprocessing
        From an image to the network input.
    device : {'auto', 'cpu', 'cuda'}
        Where to compute.
    observer : Observer
        Who gets the predictions, and the progress.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        calibration: NDArray[np.int64],
        preprocessing: Preprocessing,
        device: Device,
        observer: Observer,
    ) -> None:
        n = min(observer.n_samples, len(calibration))
        chosen = calibration[np.linspace(0, len(calibration) - 1, n).astype(int)]
        self._samples = Subset(dataset, chosen)
        self._preprocessing, self._device, self._observer = preprocessing, device, observer
        self._step = 0
        self._started = time.perf_counter()
        self._spent = self._last = 0.0

    def trained(self, progress: TrainingProgress) -> None:
        """Note the step, and pass the progress on."""
        self._step = progress.step
        self._observer.trained(progress)

    def epoch_ended(self, method: Method) -> None:
        """Predict the samples, if the method can already and there is time for it."""
        if not len(self._samples) or method.statistics_images:
            return
        started = time.perf_counter()
        if self._spent + self._last > MOST_OF_THE_TIME * (started - self._started) and self._last:
            return
        predictions = list(
            predict_dataset(method, self._preprocessing, self._samples, device=self._device, details=True)
        )
        self._last = time.perf_counter() - started
        self._spent += self._last
        self._observer.sampled(self._step, predictions, None)

    def training_ended(self, model: Model) -> None:
        """Predict the samples with the finished model."""
        if not len(self._samples):
            return
        predictions = list(model.predict(self._samples, device=self._device, details=True))
        self._observer.sampled(self._step, predictions, model.map_calibration)
