"""A search resumes, is shared, repeats, and sees no label unless it is asked to."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from databases import postgresql  # noqa: F401
from ganomaly.errors import GANomalyError, TrainingError, UsageError
from ganomaly.tuning import SearchResult, TrialSummary
from ganomaly.tuning.study import ended_the_search
from tuning.searches import small_search

TRIALS = 4
TESTS = Path(__file__).parents[1]


def found(result: SearchResult) -> list[tuple]:
    """All of the trials but the time that predictions took."""
    return [(trial.place, trial.values, trial.state, trial.value, trial.why) for trial in result.trials]


def is_in_second_trial(database: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            owners = "SELECT count(*) FROM trial_user_attributes WHERE key = 'owner'"
            return connection.execute(owners).fetchone() == (2,)
    except sqlite3.OperationalError:  # there is no such file or table yet
        return False


@pytest.fixture(scope="module")
def whole_search(tmp_path_factory) -> SearchResult:
    folder = tmp_path_factory.mktemp("whole")
    return small_search(f"sqlite:///{folder / 'whole.db'}", folder, TRIALS)


def test_a_killed_search_goes_on_to_the_same_end(whole_search, tmp_path):
    storage = f"sqlite:///{tmp_path / 'killed.db'}"
    command = [sys.executable, "-m", "tuning.searches", storage, tmp_path, "1000"]
    path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    with subprocess.Popen(list(map(str, command)), env={**os.environ, "PYTHONPATH": path}) as process:
        while process.poll() is None and not is_in_second_trial(tmp_path / "killed.db"):
            time.sleep(0.02)
        process.kill()
    resumed = small_search(storage, tmp_path, TRIALS)
    assert found(resumed) == found(whole_search)
    assert resumed.is_last
    study = optuna.load_study(study_name=resumed.study, storage=storage)
    assert [trial.state for trial in study.trials].count(TrialState.RUNNING) == 0
    assert not list(tmp_path.glob(".ganomaly-tune-*"))


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_processes_that_share_a_storage_run_as_many_trials_as_asked_and_one_ends_the_search(
    database, tmp_path, request
):
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    if database == "postgresql":
        # as a user writes it, without the driver
        storage = request.getfixturevalue("postgresql").replace("+psycopg", "")
    with ThreadPoolExecutor(2) as threads:
        results = [
            future.result()
            for future in [threads.submit(small_search, storage, tmp_path, 3) for _ in range(2)]
        ]
    assert sum(result.is_last for result in results) == 1
    last = next(result for result in results if result.is_last)
    assert len(last.trials) == 3
    assert all(trial.state != "running" for trial in last.trials)
    assert [trial.place for trial in last.trials] == [0, 1, 2]
    values = [tuple(trial.values.items()) for trial in last.trials]
    assert len(set(values)) == 3  # nobody does another's work


def test_one_process_ends_the_search_whichever_of_them_looks_last():
    first, last = (
        trial_of(number, TrialState.COMPLETE, datetime(2026, 1, 1 + number)) for number in range(2)
    )
    running = trial_of(2, TrialState.RUNNING, None)
    assert [ended_the_search([first, last], own) for own in (0, 1, None)] == [False, True, True]
    assert not ended_the_search([first, last, running], 1)


def trial_of(number: int, state: TrialState, completed: datetime | None) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=state,
        value=None,
        values=[0.5] if state == TrialState.COMPLETE else None,
        datetime_start=datetime(2026, 1, 1),
        datetime_complete=completed,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=number,
    )


def test_what_is_found_is_the_best_complete_trial_and_the_first_is_the_preset(whole_search):
    complete = [trial.value for trial in whole_search.trials if trial.state == "complete"]
    assert whole_search.best is not None
    assert whole_search.best.value == max(complete)
    assert whole_search.options.method_options.items() >= whole_search.best.values.items()
    first: TrialSummary = whole_search.trials[0]
    assert (first.values["nz"], first.values["contextual_weight"]) == (100, 50.0)


def test_the_images_and_masks_of_a_test_set_change_nothing(labelled_folder, tmp_path):
    seen = small_search(f"sqlite:///{tmp_path / 'seen.db'}", tmp_path, 1, str(labelled_folder))
    shutil.rmtree(labelled_folder / "test")
    shutil.rmtree(labelled_folder / "ground_truth")
    unseen = small_search(f"sqlite:///{tmp_path / 'unseen.db'}", tmp_path, 1, str(labelled_folder))
    assert found(seen) == found(unseen)
    assert seen.study == unseen.study


def test_a_model_that_is_slower_than_allowed_is_no_result(tmp_path):
    with pytest.raises(TrainingError, match=r"none of the 2 trials.* ms for an image, and at most 0.001"):
        small_search(f"sqlite:///{tmp_path / 'slow.db'}", tmp_path, 2, max_ms=0.001)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("search.db", "takes the URL of a database"),
        ("mysql://host/db", "SQLite or PostgreSQL, not mysql"),
        ("sqlite://", "names no file"),
        ("sqlite:////nowhere/search.db", "/nowhere does not exist"),
    ],
)
def test_a_wrong_storage_gets_one_sentence(url, sentence, tmp_path):
    with pytest.raises(UsageError, match=sentence):
        small_search(url, tmp_path, 1)


def test_a_storage_that_cannot_be_reached_is_named_without_its_password(tmp_path):
    with pytest.raises(GANomalyError, match="cannot be used") as caught:
        small_search("postgresql://me:secret@localhost:1/db", tmp_path, 1)
    assert "secret" not in str(caught.value)
    no_database = tmp_path / "text.db"
    no_database.write_text("no database " * 100)
    with pytest.raises(GANomalyError, match="not a database"):
        small_search(f"sqlite:///{no_database}", tmp_path, 1)
