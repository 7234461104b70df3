"""A run of `fit_model` that is logged where no file of the model is wanted: it is written for the loggers alone."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ganomaly.config import FitOptions
from ganomaly.loggers.base import TrainingLogger
from ganomaly.loggers.logging_observer import logged
from ganomaly.prediction.model_file import save_model
from ganomaly.training.fit import FitResult, fit_model
from ganomaly.training.observers import WarningObserver


def fit_and_log(
    images: Any, options: FitOptions, loggers: Sequence[TrainingLogger], *, ignore: Any, products: Any
) -> FitResult:
    """Call `fit_model`, whose parameters these are; warnings become Python's."""
    observer = WarningObserver()
    if not loggers:
        return fit_model(images, options, observer=observer, ignore=ignore, products=products)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        logged(observer, loggers) as logging,
    ):
        result = fit_model(images, options, observer=logging.observer, ignore=ignore, products=products)
        path = Path(folder) / "model.safetensors"
        save_model(result.model, path)
        logging.saved(result, path)
    return result
