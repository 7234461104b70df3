"""What a trial is given to try: the preset first, then what Optuna's TPE proposes, by the seed."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

_STARTUP_TRIALS = 8  # at random, before TPE has something to learn from


def place_of(study: optuna.Study, trial: FrozenTrial) -> int:
    """The place of a trial among those that count, from 0: one that was killed or interrupted does not.

    So the trial that replaces a killed one has its place, and is the same trial.
    """
    trials = study.get_trials(deepcopy=False)
    return sum(other.number < trial.number and other.state != TrialState.FAIL for other in trials)


class SeededSampler(BaseSampler):
    """TPE whose proposals follow from seed, place and the trials that are done, not from the life of a process.

    Source: Bergstra, Bardenet, Bengio, Kégl, *Algorithms for Hyper-Parameter Optimization*, NeurIPS 2011.

    Parameters
    ----------
    seed : int
        With the place of a trial it seeds the proposal.
    start : mapping of str to value
        What the first trial gets.
    """

    def __init__(self, seed: int, start: Mapping[str, Any]) -> None:
        self._seed, self._start = seed, start
        self._sampler = self._of_place(0)
        self._is_first = True

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Seed the proposal of this trial."""
        place = place_of(study, trial)
        self._is_first = place == 0
        self._sampler = self._of_place(place)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """None: options are proposed one by one."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing, likewise."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Propose the value of an option."""
        if self._is_first:
            return self._start[param_name]
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Tell TPE."""
        self._sampler.after_trial(study, trial, state, values)

    def _of_place(self, place: int) -> TPESampler:
        # 32 bits, which is what NumPy's RandomState takes
        seed = (self._seed * 1_000_003 + place * 7_919) % 2**32
        return TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS, constant_liar=True)
