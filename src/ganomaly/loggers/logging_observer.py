"""An observer of training that tells loggers too."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganomaly.calibration import MapCalibration
from ganomaly.loggers.background import BackgroundLogger
from ganomaly.loggers.base import TrainingLogger
from ganomaly.outputs.heat import to_rgb
from ganomaly.outputs.panels import panels
from ganomaly.prediction import Prediction
from ganomaly.remote import Location
from ganomaly.training.fit import FitResult
from ganomaly.training.observers import Observer, TrainingProgress

SAMPLES = 4
"""Fixed images that loggers show."""

LONGER_SIDE = 512  # pixels of a panel


class LoggingObserver:
    """Passes everything on to another observer, and what is worth keeping to loggers.

    Parameters
    ----------
    observer : Observer
        The other one; it gets the loggers' warnings too.
    loggers : sequence of TrainingLogger
        Each gets a thread of its own.
    """

    def __init__(self, observer: Observer, loggers: Sequence[TrainingLogger]) -> None:
        self._observer = observer
        self._loggers = [BackgroundLogger(logger, observer.warn) for logger in loggers]
        self._logged_step = 0

    @property
    def n_samples(self) -> int:
        """As many as loggers show, and at least those of the other observer."""
        return max(SAMPLES if self._loggers else 0, self._observer.n_samples)

    def started(self, configuration: Mapping[str, Any]) -> None:
        """Pass it on."""
        self._observer.started(configuration)
        for logger in self._loggers:
            logger.start(configuration)

    def sampled(
        self, step: int, predictions: Sequence[Prediction], map_calibration: MapCalibration | None
    ) -> None:
        """Draw the predictions."""
        self._observer.sampled(step, predictions, map_calibration)
        images = {
            # apart, so that pictures of one name do not change their shape where the map joins them
            f"sample/{number}{'' if map_calibration is None else ' with map'}": strip(
                prediction, map_calibration
            )
            for number, prediction in enumerate(predictions, start=1)
            if prediction.image is not None
        }
        if images:
            self._log(step, {}, images)

    def trained(self, progress: TrainingProgress) -> None:
        """Log losses when they are new."""
        self._observer.trained(progress)
        if progress.losses_step > self._logged_step:
            self._logged_step = progress.losses_step
            losses = {f"loss/{name}": value for name, value in progress.losses.items()}
            values = {**losses, "images_per_second": progress.images_per_second}
            self._log(progress.losses_step, values, {})

    def say(self, sentence: str) -> None:
        """Pass it on."""
        self._observer.say(sentence)

    def warn(self, sentence: str) -> None:
        """Pass it on."""
        self._observer.warn(sentence)

    def decoded(self, done: int, total: int) -> None:
        """Pass it on."""
        self._observer.decoded(done, total)

    def finishing(self, stage: str, done: int, total: int) -> None:
        """Pass it on."""
        self._observer.finishing(stage, done, total)

    def finish(self, figures: Mapping[str, float], model: Path | None) -> None:
        """End the run of each logger."""
        for logger in self._loggers:
            logger.finish(figures, model)

    def _log(self, step: int, values: Mapping[str, float], images: Mapping[str, NDArray[np.uint8]]) -> None:
        for logger in self._loggers:
            logger.log(step, values, images)


class _Ending:
    """What loggers are told at the end; nothing of the model unless it is said."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.figures: Mapping[str, float] = {}
        self.model: Path | None = None

    def saved(self, result: FitResult, model: Path | None) -> None:
        """Note the figures of a run, and the file that its model was saved to; None if that is in a store."""
        self.figures, self.model = final_figures(result), model


@contextmanager
def logged(observer: Observer, loggers: Sequence[TrainingLogger]) -> Iterator[_Ending]:
    """Tell loggers about the run of `fit_model` in this block, and how it ended.

    Parameters
    ----------
    observer : Observer
        Who is told as well.
    loggers : sequence of TrainingLogger
        Who is told; none is fine.

    Yields
    ------
    _Ending
        Its `observer` is what `fit_model` takes, and `saved` takes the result and the model's file.
    """
    if not loggers:
        yield _Ending(observer)
        return
    logging = LoggingObserver(observer, loggers)
    ending = _Ending(logging)
    try:
        yield ending
    finally:
        logging.finish(ending.figures, ending.model)


def run_name(model: Location) -> str:
    """What the run is called that writes a model file: its name, and the time."""
    return f"{model.stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def final_figures(result: FitResult) -> dict[str, float]:
    """What is known of a model from its normal images alone; `evaluate` measures how well it finds defects."""
    calibration, training = result.model.calibration, result.training
    return {
        "threshold": calibration.threshold,
        "attained_false_alarm_rate": calibration.attained_rate,
        "calibration_images": float(len(calibration.scores)),
        "median_calibration_score": float(np.median(calibration.scores)),
        "training_seconds": training.seconds,
        "wait_share": training.wait_share,
        "unreadable_images": float(len(result.failures)),
    }


def strip(prediction: Prediction, map_calibration: MapCalibration | None) -> NDArray[np.uint8]:
    """The panels of a prediction side by side, `uint8[h, w, 3]`; none is larger than `LONGER_SIDE`."""
    drawn = []
    for panel in panels(prediction, map_calibration).values():
        image = Image.fromarray(to_rgb(panel if panel.ndim == 3 else panel[..., np.newaxis]))
        image.thumbnail((LONGER_SIDE, LONGER_SIDE))
        drawn.append(np.asarray(image))
    return np.concatenate(drawn, axis=1)
