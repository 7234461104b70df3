"""What a logger is, and how one is named on the command line."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ganomaly.errors import UsageError


class TrainingLogger(Protocol):
    """Takes what is worth keeping of a run of `fit`; all three methods are called in one thread of its own."""

    def start(self, configuration: Mapping[str, Any]) -> None:
        """Take what is trained, and how: names with dots, as ``training.seed``, and values of JSON."""

    def log(self, step: int, values: Mapping[str, float], images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Take what belongs to a step.

        Parameters
        ----------
        step : int
            Training steps done.
        values : mapping of str to float
            Losses, as ``loss/reconstruction``, and ``images_per_second``; often empty where there are images.
        images : mapping of str to ndarray
            Of each fixed image, as ``sample/1``, one strip `uint8[h, w, 3]`: the image, its reconstruction, their
            difference; once training has ended, as ``sample/1 with map``, with the overlay of its anomaly map.
        """

    def finish(self, figures: Mapping[str, float], model: Path | None) -> None:
        """Take the final figures and the model file, which may be gone afterwards; None if training failed."""


def _tensorboard(place: str, run_name: str) -> TrainingLogger:
    from ganomaly.loggers.tensorboard_logger import TensorBoardLogger

    return TensorBoardLogger(Path(place), run_name)


def _mlflow(place: str, run_name: str) -> TrainingLogger:
    from ganomaly.loggers.mlflow_logger import MLflowLogger

    return MLflowLogger(place, run_name)


def _wandb(place: str, run_name: str) -> TrainingLogger:
    from ganomaly.loggers.wandb_logger import WandbLogger

    return WandbLogger(place, run_name)


_Opener = Callable[[str, str], TrainingLogger]
LOGGER_KINDS: Mapping[str, tuple[str, _Opener]] = {
    "tensorboard": ("DIR", _tensorboard),
    "mlflow": ("URI", _mlflow),
    "wandb": ("PROJECT", _wandb),
}
"""For each kind what stands behind the colon, and what opens it."""


def open_loggers(loggers: Iterable[str | TrainingLogger], run_name: str) -> list[TrainingLogger]:
    """Loggers by name; nothing is written or contacted yet.

    Parameters
    ----------
    loggers : iterable of str or TrainingLogger
        ``tensorboard:DIR``, ``mlflow:URI`` or ``wandb:PROJECT``; others stay as they are.
    run_name : str
        What the run is called there.

    Raises
    ------
    UsageError
        If a text is none of them, or the package is not installed.
    """
    return [_open_logger(each, run_name) if isinstance(each, str) else each for each in loggers]


def _open_logger(text: str, run_name: str) -> TrainingLogger:
    kind, _, place = text.partition(":")
    if kind not in LOGGER_KINDS or not place:
        forms = ", ".join(f"{name}:{what}" for name, (what, _) in LOGGER_KINDS.items())
        raise UsageError(f"cannot read the logger {text!r}; write one of {forms}")
    return LOGGER_KINDS[kind][1](place, run_name)
