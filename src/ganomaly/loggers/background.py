"""A logger in a thread of its own, which may be slow or broken without training noticing."""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganomaly.loggers.base import TrainingLogger

WAITING = 256
"""Events that may wait for a logger; those that come when so many do are left out."""

FINISHING_SECONDS = 60.0
"""How long a run waits at its end for a logger to write what is left and to take the model."""

FAILED_SECONDS = 5.0
"""How long it waits after an error or Ctrl-C, when there is no model to take."""

_Event = Callable[[], None]


class BackgroundLogger:
    """Hands events to a logger, in order, without ever waiting for it before the end of training.

    Parameters
    ----------
    logger : TrainingLogger
        Called in one thread.
    warn : callable
        Takes the one warning there may be: the first failure, or that the logger is too slow.
    waiting : int
        Events that may wait.
    finishing_seconds : float
        How long `finish` waits.
    """

    def __init__(
        self,
        logger: TrainingLogger,
        warn: Callable[[str], None],
        *,
        waiting: int = WAITING,
        finishing_seconds: float = FINISHING_SECONDS,
    ) -> None:
        self._logger, self._warn_user = logger, warn
        self._finishing_seconds = finishing_seconds
        self._events: queue.Queue[_Event | None] = queue.Queue(waiting)
        self._problem: str | None = (
            None  # of the thread; said by the caller's thread, which owns the terminal
        )
        self._is_broken = self._has_warned = False
        # a daemon: one that hangs must not keep the process alive
        self._thread = threading.Thread(target=self._work, name=f"log to {self.name}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The logger's class, for messages."""
        return type(self._logger).__name__

    def start(self, configuration: Mapping[str, Any]) -> None:
        """Queue the configuration."""
        self._put(lambda: self._logger.start(configuration))

    def log(self, step: int, values: Mapping[str, float], images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Queue values and images; leave them out if the queue is full."""
        self._put(lambda: self._logger.log(step, values, images))

    def finish(self, figures: Mapping[str, float], model: Path | None) -> None:
        """Queue the end, and wait until everything is written, or for `finishing_seconds`."""
        patience = (
            self._finishing_seconds if model is not None else min(FAILED_SECONDS, self._finishing_seconds)
        )
        until = time.monotonic() + patience
        for event in (lambda: self._logger.finish(figures, model), None):
            try:
                self._events.put(event, timeout=max(0.0, until - time.monotonic()))
            except queue.Full:
                break
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            self._warn(f"did not finish within {patience:g} s; what it had not written is missing")
        self._say_problem()

    def _put(self, event: _Event) -> None:
        self._say_problem()
        try:
            self._events.put_nowait(event)
        except queue.Full:
            self._warn("is slower than training; some steps are left out of it")

    def _work(self) -> None:
        while (event := self._events.get()) is not None:
            if self._is_broken:
                continue  # so that the queue empties
            try:
                event()
            except BaseException as error:  # SystemExit too, which some packages raise
                self._problem = f"failed and logs no more: {_in_one_line(error)}; the model is not affected"
                self._is_broken = True

    def _say_problem(self) -> None:
        if self._problem is not None:
            self._warn(self._problem)

    def _warn(self, what: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn_user(f"{self.name} {what}")


def _in_one_line(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:200]}" if words else type(error).__name__
