"""Does a search find at least what the preset has? Tiles and cells, by defects that no trial has seen.

The search sees normal training images alone. Then the preset as it is and what was found are fitted with the same
training, and both are measured: by the labelled test images, and by new synthetic defects in normal test images.
Each seed of the fits is a row, written as soon as it is done, and both models are kept beside the rows. A search that
was stopped goes on; fits are made again. `--kill-after N` kills the search in the trial after the N-th finished one,
and starts it again.

Run: python benchmarks/tuning.py --tiles DATA/magnetic_tile --out rows.jsonl [--trials 30] [--seed 0]
     [--fit-seeds 0,1,2] [--kill-after 10]
     python benchmarks/tuning.py --cells --out rows.jsonl
"""

import argparse
import json
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState

from ganomaly.audit import audit_model, plan_audit
from ganomaly.benchmark.elpv import find_elpv, split_elpv
from ganomaly.config import FitOptions
from ganomaly.data import ImageDataset, Subset, open_test_images
from ganomaly.data.evaluation_defects import DEFECTS, DefectiveImages
from ganomaly.defaults import TRIAL_BUDGET, TRIALS
from ganomaly.evaluation import evaluate_model
from ganomaly.metrics import audit_metrics
from ganomaly.prediction import Prediction
from ganomaly.prediction.model import Model
from ganomaly.prediction.model_file import save_model
from ganomaly.training.fit import fit_model
from ganomaly.tuning import SearchOptions, search
from ganomaly.tuning.storage import open_storage
from machine import describe_machine

FALSE_ALARM_RATE = 0.05
NEW_DEFECTS = 10_007  # added to the seed of the search
MOST_NORMAL = 150  # test images that get new synthetic defects


def main() -> None:
    """Search, fit the preset and what was found with each seed, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=Path, help="magnetic tiles in MVTec AD layout")
    parser.add_argument("--cells", action="store_true", help="the solar cells of the package elpv-dataset")
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--budget", type=float, default=TRIAL_BUDGET)
    parser.add_argument("--epochs", type=int, help="of the whole training, instead of the preset's steps")
    parser.add_argument("--seed", type=int, default=0, help="of the search")
    parser.add_argument("--fit-seeds", help="seeds of the fits, separated by commas; by default the search's")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines to add rows to")
    parser.add_argument("--kill-after", type=int, metavar="N", help="finished trials; fewer than --trials")
    arguments = parser.parse_args()
    if (arguments.tiles is None) != arguments.cells:
        parser.error("give --tiles DATA or --cells")
    kills = arguments.kill_after is not None
    if kills and not 0 <= arguments.kill_after < arguments.trials:
        parser.error("--kill-after takes a number from 0 to below --trials")
    if kills and storage_of(arguments.out).exists():
        parser.error(
            f"--kill-after counts the trials of a new search, and {storage_of(arguments.out)} has others"
        )
    print(describe_machine())
    options = FitOptions(
        preset=arguments.preset,
        epochs=arguments.epochs,
        seed=arguments.seed,
        false_alarm_rate=FALSE_ALARM_RATE,
    )
    data = Data.of(arguments.tiles, options.seed)
    asked = SearchOptions(arguments.trials, arguments.budget)
    if kills:
        kill_search(arguments.tiles, options, asked, arguments.out, arguments.kill_after)
    found, searched = search_options(data, options, asked, arguments.out)
    if kills:
        n_finished = trial_states(arguments.out)[0]
        print(f"started again, ended with {n_finished} finished trials of {asked.trials}", flush=True)
        if n_finished != asked.trials:
            raise SystemExit("the search that was killed did not end with its number of trials")
    fit_seeds = arguments.fit_seeds or str(options.seed)
    for seed in map(int, fit_seeds.split(",")):
        row = searched | {"fit_seed": seed}
        for label, chosen in (("preset_fit", options), ("found_fit", found)):
            row[label] = fit_and_measure(
                data,
                chosen.model_copy(update={"seed": seed}),
                arguments.out.with_name(f"{arguments.out.stem}-{data.name}-{seed}-{label}.safetensors"),
            )
            print(label, row[label], flush=True)
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row, indent=2), flush=True)


@dataclass(frozen=True)
class Data:
    """What is learned from, and what is measured on."""

    name: str
    normal: Any
    test: ImageDataset

    @classmethod
    def of(cls, tiles: Path | None, seed: int) -> "Data":
        """Tiles, or cells split by the seed."""
        if tiles is not None:
            return cls(tiles.name, str(tiles), open_test_images(str(tiles)))
        training, test = split_elpv(find_elpv(), seed)
        return cls("elpv", [str(find_elpv() / record.path) for record in training.records], test)


def storage_of(out: Path) -> Path:
    """The SQLite file of a search's trials, beside the rows."""
    return out.with_suffix(".db")


def trial_states(out: Path) -> tuple[int, int]:
    """How many trials in the storage are finished (complete or pruned), and how many run, as seen from outside."""
    storage = open_storage(f"sqlite:///{storage_of(out)}")
    states = [
        trial.state
        for name in optuna.get_all_study_names(storage)
        for trial in optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    ]
    finished = sum(state in (TrialState.COMPLETE, TrialState.PRUNED) for state in states)
    return finished, states.count(TrialState.RUNNING)


def search_in_process(tiles: Path | None, options: FitOptions, asked: SearchOptions, out: Path) -> None:
    """Search in a process of its own, which opens the images for itself."""
    search_options(Data.of(tiles, options.seed), options, asked, out)


def kill_search(
    tiles: Path | None, options: FitOptions, asked: SearchOptions, out: Path, kill_after: int
) -> None:
    """Search in another process, and kill it (SIGKILL) while it runs a trial after the `kill_after`-th.

    Raises
    ------
    SystemExit
        If the search had ended by then.
    """
    trial_states(out)  # makes the tables, which two processes would make at once
    searching = multiprocessing.get_context("spawn").Process(
        target=search_in_process, args=(tiles, options, asked, out)
    )
    searching.start()
    while searching.is_alive():
        n_finished, n_running = trial_states(out)
        if n_finished >= kill_after and n_running:
            searching.kill()
            break
        time.sleep(0.2)
    searching.join()
    n_finished, n_running = trial_states(out)
    if n_finished >= asked.trials or not n_running:
        raise SystemExit(
            f"the search had ended with {n_finished} finished trials before it was killed in one"
        )
    print(f"killed after {n_finished} finished trials, with {n_running} running", flush=True)


def search_options(
    data: Data, options: FitOptions, asked: SearchOptions, out: Path
) -> tuple[FitOptions, dict[str, Any]]:
    """The options that a search found, and a row that says how."""
    start = time.perf_counter()
    found = search(
        data.normal,
        options,
        asked,
        f"sqlite:///{storage_of(out)}",
        folder=out.parent,
        say=print,
        on_trial=lambda done: print(f"{done} trials, {time.perf_counter() - start:.0f} s", flush=True),
    )
    assert found.best is not None
    return found.options, {
        "data": data.name,
        "seed": options.seed,
        "preset": found.options.preset,
        "trials": len(found.trials),
        "complete": sum(trial.state == "complete" for trial in found.trials),
        "budget": asked.budget,
        "search_seconds": round(time.perf_counter() - start),
        "options": dict(found.best.values),
        "search_auroc": {"preset": found.trials[0].value, "found": found.best.value},
        "milliseconds": {"preset": found.trials[0].milliseconds, "found": found.best.milliseconds},
        "importances": dict(found.importances),
    }


def fit_and_measure(data: Data, options: FitOptions, path: Path) -> dict[str, Any]:
    """Fit as a user would, keep the model, and measure it."""
    start = time.perf_counter()
    model = fit_model(data.normal, options).model
    seconds = round(time.perf_counter() - start)
    save_model(model, path)
    return {"fit_seconds": seconds, **figures(model, data.test, options.seed)}


def figures(model: Model, test: ImageDataset, seed: int) -> dict[str, Any]:
    """By real defects, and by new synthetic ones in normal test images."""
    scores: dict[int, float] = {}

    def note(prediction: Prediction, _: Any) -> None:
        if prediction.score is not None:
            scores[prediction.index] = prediction.score

    evaluation = evaluate_model(model, test, on_prediction=note).evaluation
    plan = plan_audit(test, scores)
    audit = audit_model(model, test, scores, plan).audit
    return {
        "image_auroc": evaluation.image_auroc,
        "pixel_auroc": evaluation.pixel_auroc,
        "false_alarm_rate": evaluation.false_alarm_rate,
        "detection_rate": evaluation.detection_rate,
        "defect_auroc": audit.defect_auroc,
        "control_auroc": audit.control_auroc,
        "synthetic_auroc": synthetic_auroc(model, test, seed + NEW_DEFECTS),
    }


def synthetic_auroc(model: Model, test: ImageDataset, seed: int) -> float | None:
    """Normal test images with a synthetic defect each, against the same images without."""
    normal = [index for index, record in enumerate(test.records) if record.is_anomalous is False]
    images = Subset(test, np.array(normal[:MOST_NORMAL]))
    names = list(DEFECTS)
    kinds = [names[index % len(names)] for index in range(len(images))]
    indices = range(len(images))
    defective, clean = (
        scores_of(model, DefectiveImages(images, indices, drawn, seed))
        for drawn in (kinds, [None] * len(images))
    )
    read = np.isfinite(defective) & np.isfinite(clean)
    kinds_read = [kind for kind, one in zip(kinds, read, strict=True) if one]
    return audit_metrics(defective[read], clean[read], kinds_read, clean[read], [], [], []).defect_auroc


def scores_of(model: Model, dataset: ImageDataset) -> NDArray[np.float64]:
    """A(x), `float64[n]`; NaN for an image that cannot be read."""
    return np.array([np.nan if p.score is None else p.score for p in model.predict(dataset)])


if __name__ == "__main__":
    main()
