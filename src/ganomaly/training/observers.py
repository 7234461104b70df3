"""Who is told how training goes."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from ganomaly.calibration import MapCalibration
    from ganomaly.prediction import Prediction


Item = TypeVar("Item")


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
    losses_step : int
        The step of that check; 0 before the first.
    images_per_second : float
        Since this process began to train.
    seconds_left : float
        Estimated, with statistics and calibration.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    losses: Mapping[str, float]
    losses_step: int
    images_per_second: float
    seconds_left: float


class Observer(Protocol):
    """Who is told how `fit_model` goes."""

    @property
    def n_samples(self) -> int:
        """How many fixed images `sampled` is to be called with; 0 for no calls."""

    def started(self, configuration: Mapping[str, Any]) -> None:
        """Take what is trained, and how, before the first step; values are of JSON."""

    def sampled(
        self, step: int, predictions: "Sequence[Prediction]", map_calibration: "MapCalibration | None"
    ) -> None:
        """Take predictions, with details, of the same normal images after a step; at the end with a map's scale."""

    def say(self, sentence: str) -> None:
        """Take a sentence about the data or a choice."""

    def warn(self, sentence: str) -> None:
        """Take a sentence that the user should know before trusting the model."""

    def decoded(self, done: int, total: int) -> None:
        """Take the number of images decoded so far."""

    def trained(self, progress: TrainingProgress) -> None:
        """Take the progress after a training step."""

    def finishing(self, stage: str, done: int, total: int) -> None:
        """Take the stage after training, `statistics` or `calibration`, and how many of its images are read."""


class SilentObserver:
    """Ignores everything; a base class for other observers."""

    n_samples: int = 0

    def started(self, configuration: Mapping[str, Any]) -> None:
        """Ignore it."""

    def sampled(
        self, step: int, predictions: "Sequence[Prediction]", map_calibration: "MapCalibration | None"
    ) -> None:
        """Ignore it."""

    def say(self, sentence: str) -> None:
        """Ignore it."""

    def warn(self, sentence: str) -> None:
        """Ignore it."""

    def decoded(self, done: int, total: int) -> None:
        """Ignore it."""

    def trained(self, progress: TrainingProgress) -> None:
        """Ignore it."""

    def finishing(self, stage: str, done: int, total: int) -> None:
        """Ignore it."""


def counted(
    items: Iterable[Item],
    total: int,
    on_images: Callable[[int, int], None],
    images_in: Callable[[Item], int] = lambda _: 1,
) -> Iterator[Item]:
    """Pass items on, and say after each how many images there were, and how many there are to be."""
    done = 0
    on_images(done, total)
    for item in items:
        yield item
        done += images_in(item)
        on_images(done, total)


class WarningObserver(SilentObserver):
    """Passes on warnings alone, as Python warnings."""

    def warn(self, sentence: str) -> None:
        """Warn the caller of `GANomalyDetector.fit`."""
        warnings.warn(sentence, stacklevel=5)
