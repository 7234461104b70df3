"""The search: trials are proposed, run, pruned and recorded until there are as many as asked for.

Every process that is started with the same command and the same storage takes part; what was killed is tried again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.pruners import MedianPruner
from optuna.trial import FrozenTrial, TrialState

from ganomaly.config import FitOptions
from ganomaly.data import ImageDataset, inspect_images, open_test_images, open_training_images
from ganomaly.data.fingerprint import content_fingerprint
from ganomaly.errors import GANomalyError, TrainingError
from ganomaly.training.plan import check_options, plan_training
from ganomaly.tuning.objective import LAST_RUNG, Measure, Objective, TooSlowError
from ganomaly.tuning.sampler import SeededSampler, place_of
from ganomaly.tuning.space import SearchSpace
from ganomaly.tuning.storage import Liveness, open_storage, storage_errors

State = Literal["complete", "pruned", "running"]

_STATES: Mapping[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
}
_TRIALS_BEFORE_PRUNING = 4  # complete ones, whose median says what is poor
_ENOUGH_FOR_IMPORTANCES = 8  # complete ones
_WHY, _MS, _KINDS = "why", "milliseconds", "per_kind"
_FORMAT = 2  # of what identifies a search; another search space or measure is another search


@dataclass(frozen=True)
class SearchOptions:
    """What a user may choose for a search.

    Attributes
    ----------
    trials : int
        How many in all, over all processes and runs.
    budget : float
        Share of the preset's training that a trial gets, of its steps and of the images, in (0, 1].
    max_ms : float or None
        Longest time to predict an image, in milliseconds.
    labelled : str or None
        Labelled images to search with, instead of synthetic defects; their labels leak into the model.
    """

    trials: int
    budget: float
    max_ms: float | None = None
    labelled: str | None = None


@dataclass(frozen=True)
class TrialSummary:
    """One trial.

    Attributes
    ----------
    place : int
        Among the trials that count, from 0, which is the preset as it is.
    values : mapping of str to value
        The options that it tried.
    state : {'complete', 'pruned', 'running'}
        Whether it had the whole budget.
    value : float or None
        Its AUROC; of a pruned trial as far as it came.
    milliseconds : float or None
        To predict one image.
    per_kind : mapping of str to float
        AUROC for each kind of defect.
    why : str or None
        Why it ended early.
    """

    place: int
    values: Mapping[str, Any]
    state: State
    value: float | None
    milliseconds: float | None
    per_kind: Mapping[str, float] = field(default_factory=dict)
    why: str | None = None


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    trials : sequence of TrialSummary
        In order.
    best : TrialSummary or None
        The complete trial with the highest AUROC, the earlier one of two; None if other processes run all that are
        left.
    options : FitOptions
        What to fit with.
    importances : mapping of str to float
        Share of the differences between trials that each option explains, the largest first; empty where there are
        too few trials.
    objective : str
        What was maximised, in words.
    study : str
        Name of the search in its storage.
    is_last : bool
        Whether this process ended the last trial, so that the others are done.
    dataset : ImageDataset
        The normal images, opened: of a store it is a copy.
    """

    trials: Sequence[TrialSummary]
    best: TrialSummary | None
    options: FitOptions
    importances: Mapping[str, float]
    objective: str
    study: str
    is_last: bool
    dataset: ImageDataset


class _NoPlaceError(Exception):
    """Other processes have taken all trials that were left."""


def search(
    data: Any,
    options: FitOptions,
    asked: SearchOptions,
    storage_url: str,
    *,
    folder: Path,
    say: Callable[[str], None] = lambda _: None,
    on_trial: Callable[[int], None] = lambda _: None,
) -> SearchResult:
    """Search options with which a preset finds defects best.

    Parameters
    ----------
    data
        Normal images, as for `fit_model`.
    options : FitOptions
        What the user has chosen, and is not searched.
    asked : SearchOptions
        How long, and for what.
    storage_url : str
        Of the database that holds the trials.
    folder : Path
        For the lock of this process.
    say : callable
        Called with sentences.
    on_trial : callable
        Called with the number of trials that are done.

    Raises
    ------
    UsageError, DataError
        If options, storage or images cannot be used.
    TrainingError
        If no trial came to its end.
    StorageError
        If the storage cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # trials are reported here, in the package's words
    check_options(options)
    storage = open_storage(storage_url)
    dataset = open_training_images(data)
    inspection = inspect_images(dataset)
    space = SearchSpace.of(options, inspection)
    plan_training(dataset, inspection, space.options(space.start))  # says now what a fit would say
    labelled = None if asked.labelled is None else open_test_images(asked.labelled)
    objective = Objective.of(
        dataset,
        inspection,
        seed=options.seed,
        budget=asked.budget,
        max_ms=asked.max_ms,
        labelled=labelled,
    )
    name = _name(
        space,
        asked,
        content_fingerprint(dataset),
        None if labelled is None else content_fingerprint(labelled),
    )
    liveness = Liveness(folder)
    with storage_errors(storage_url), liveness.alive():
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            load_if_exists=True,
            direction="maximize",
            sampler=SeededSampler(options.seed, space.start),
            pruner=MedianPruner(n_startup_trials=_TRIALS_BEFORE_PRUNING, n_warmup_steps=0),
        )
        say(f"Maximises the {objective.describe()}. Searches {space.in_words()}.")
        run = _Run(study, space, objective, asked, dataset, liveness, say, on_trial)
        run.finish()
        return run.result()


@dataclass
class _Run:
    """The part of a search that this process does."""

    study: optuna.Study
    space: SearchSpace
    objective: Objective
    asked: SearchOptions
    dataset: ImageDataset
    liveness: Liveness
    say: Callable[[str], None]
    on_trial: Callable[[int], None]
    last_number: int | None = None
    """Of the last trial that this process ran."""

    def finish(self) -> None:
        """Run trials until as many as asked for are done, or others do the rest."""
        dead = self.liveness.fail_dead_trials(self.study)
        done = self._done()
        if done or dead:
            again = f", and tries {dead} again that did not come to an end" if dead else ""
            self.say(f"Goes on after {done} of {self.asked.trials} trials{again}.")
        self.on_trial(done)
        while self._counted() < self.asked.trials:
            self.study.optimize(self._trial, n_trials=1, catch=(_NoPlaceError,))
            self.liveness.fail_dead_trials(self.study)
            self.on_trial(self._done())

    def _trial(self, trial: optuna.Trial) -> float:
        """One trial: the objective that Optuna calls."""
        self.liveness.sign(trial)
        frozen = self.study.get_trials(deepcopy=False)[trial.number]
        place = place_of(self.study, frozen)
        if place >= self.asked.trials:
            raise _NoPlaceError
        self.last_number = trial.number
        values = {name: _suggest(trial, name, found) for name, found in self.space.distributions.items()}

        def on_rung(rung: int, measure: Measure) -> None:
            _note(trial, rung, measure)
            if trial.should_prune():
                _prune(trial, f"AUROC {measure.value:.3f} after a part of the training is below the median")

        try:
            measure = self.objective.measure(self.space.options(values), on_rung)
        except (TooSlowError, TrainingError) as error:
            _prune(trial, str(error))
        except GANomalyError as error:
            if place == 0:  # the preset itself: so would all others
                raise
            _prune(trial, str(error))
        _note(trial, LAST_RUNG, measure)
        return measure.value

    def result(self) -> SearchResult:
        """What was found so far by all processes."""
        counted = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state in _STATES]
        # what another process has begun beyond these, it ends at once
        counted = counted[: self.asked.trials]
        trials = [_summary(place, trial) for place, trial in enumerate(counted)]
        complete = [trial for trial in trials if trial.state == "complete"]
        best = max(complete, key=lambda trial: (trial.value, -trial.place), default=None)
        is_last = ended_the_search(counted, self.last_number)
        if best is None and is_last:
            raise TrainingError(
                f"none of the {len(trials)} trials came to its end, the first because: {trials[0].why}; search with "
                "another budget, limit or seed"
            )
        return SearchResult(
            trials,
            best,
            self.space.base if best is None else self.space.options(best.values),
            _importances(self.study, len(complete)),
            self.objective.describe(),
            self.study.study_name,
            is_last,
            self.dataset,
        )

    def _counted(self) -> int:
        return sum(trial.state != TrialState.FAIL for trial in self.study.get_trials(deepcopy=False))

    def _done(self) -> int:
        return len(self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def _note(trial: optuna.Trial, rung: int, measure: Measure) -> None:
    trial.set_user_attr(_MS, measure.milliseconds)
    trial.set_user_attr(_KINDS, dict(measure.per_kind))
    trial.report(measure.value, rung)


def _prune(trial: optuna.Trial, why: str) -> NoReturn:
    trial.set_user_attr(_WHY, why)
    raise optuna.TrialPruned(why)


def _name(space: SearchSpace, asked: SearchOptions, images: str, labelled: str | None) -> str:
    """The same for the same command: what a trial is worth, and what is searched, follow from it."""
    identity = {
        "format": _FORMAT,
        "options": space.base.model_dump(mode="json", exclude={"device", "false_alarm_rate"}),
        "space": space.in_words(),
        "budget": asked.budget,
        "max_ms": asked.max_ms,
        "images": images,
        "labelled": labelled,
    }
    digest = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=8).hexdigest()
    return f"ganomaly {space.base.preset} {digest}"


def ended_the_search(trials: Sequence[FrozenTrial], own_last: int | None) -> bool:
    """Whether all trials are done, and this process ended the last of them, or ran none."""
    if any(trial.state == TrialState.RUNNING for trial in trials):
        return False
    last = max(trials, key=lambda trial: (trial.datetime_complete is not None, trial.datetime_complete))
    return own_last in (None, last.number)


def _summary(place: int, trial: FrozenTrial) -> TrialSummary:
    rungs = trial.intermediate_values
    return TrialSummary(
        place,
        dict(trial.params),
        _STATES[trial.state],
        trial.value if trial.state == TrialState.COMPLETE else rungs[max(rungs)] if rungs else None,
        trial.user_attrs.get(_MS),
        trial.user_attrs.get(_KINDS, {}),
        trial.user_attrs.get(_WHY),
    )


def _importances(study: optuna.Study, n_complete: int) -> dict[str, float]:
    """By functional ANOVA: the share of the variance of the AUROC that an option explains alone.

    Source: Hutter, Hoos, Leyton-Brown, *An Efficient Approach for Assessing Hyperparameter Importance*, ICML 2014.
    """
    if n_complete < _ENOUGH_FOR_IMPORTANCES:
        return {}
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
