"""Who is told how training goes."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class TrainingProgress:
    """How far training is.

    Attributes
    ----------
    step, steps : int
        Steps done, and steps in all.
    epoch, epochs : int
        The current epoch, from 1, and epochs in all.
    losses : mapping of str to float
        As of the last check.
    images_per_second : float
        Since this process began to train.
    seconds_left : float
        Estimated from that.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    losses: Mapping[str, float]
    images_per_second: float
    seconds_left: float


class Observer(Protocol):
    """Who is told how `fit_model` goes."""

    def say(self, sentence: str) -> None:
        """Take a sentence about the data or a choice."""

    def warn(self, sentence: str) -> None:
        """Take a sentence that the user should know before trusting the model."""

    def decoded(self, done: int, total: int) -> None:
        """Take the number of images decoded so far."""

    def trained(self, progress: TrainingProgress) -> None:
        """Take the progress after a training step."""


class SilentObserver:
    """Ignores everything; a base class for other observers."""

    def say(self, sentence: str) -> None:
        """Ignore it."""

    def warn(self, sentence: str) -> None:
        """Ignore it."""

    def decoded(self, done: int, total: int) -> None:
        """Ignore it."""

    def trained(self, progress: TrainingProgress) -> None:
        """Ignore it."""


class WarningObserver(SilentObserver):
    """Passes on warnings alone, as Python warnings."""

    def warn(self, sentence: str) -> None:
        """Warn the caller of `GANomalyDetector.fit`."""
        warnings.warn(sentence, stacklevel=4)
