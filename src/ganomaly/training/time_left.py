"""How long the rest of a training is likely to take: its steps, and what follows them."""

import time
from collections.abc import Callable

AFTERWARDS_FROM = 0.05
"""Share of the steps after which the time of what follows is measured."""

SHORT_TRAINING = 30.0
"""Seconds of all steps; after a shorter training what follows is not measured, and counts nothing."""


class TimeLeft:
    """The pace of the steps, and what follows them.

    Parameters
    ----------
    first_step, steps : int
        Steps done when training begins or goes on, and steps in all.
    measure_afterwards : callable
        Gives the seconds that what follows the steps is likely to take; called once.
    """

    def __init__(self, first_step: int, steps: int, measure_afterwards: Callable[[], float]) -> None:
        self._first_step, self._steps = first_step, steps
        self._measure_afterwards = measure_afterwards
        self._started = time.perf_counter()
        self._first_step_ended: float | None = None
        self._afterwards: float | None = None

    def after(self, step: int) -> float:
        """The seconds left after a step; to be called after each."""
        now = time.perf_counter()
        # the first step also waits for kernels to be chosen and memory to be had, and says nothing of the others
        self._first_step_ended = self._first_step_ended or now
        done = step - self._first_step
        pace = (now - self._first_step_ended) / (done - 1) if done > 1 else now - self._started
        if self._afterwards is None and step >= AFTERWARDS_FROM * self._steps:
            is_long = pace * self._steps > SHORT_TRAINING
            self._afterwards = self._measure_afterwards() if is_long else 0.0
        return pace * (self._steps - step) + (self._afterwards or 0.0)
