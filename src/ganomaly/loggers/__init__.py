"""Loggers: training seen in TensorBoard, MLflow, Weights & Biases, or by a program's own three methods.

`open_loggers` makes them from texts such as ``tensorboard:runs``; `logged` tells them what an observer is told.
"""

from ganomaly.loggers.base import LOGGER_KINDS, TrainingLogger, open_loggers
from ganomaly.loggers.logging_observer import LoggingObserver, logged, run_name

__all__ = ["LOGGER_KINDS", "LoggingObserver", "TrainingLogger", "logged", "open_loggers", "run_name"]
