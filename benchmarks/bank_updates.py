"""What an update of the memory banks changes: scores, detection, and how conservative the threshold becomes.

A model is fitted on a part of the normal images of a dataset in MVTec AD layout, and updated with the others; then
all are compared on its test images. `all rescored` has the threshold that the same calibration images would give if
they were predicted again by the updated model, which an update cannot do, since it does not have them.

Run: python benchmarks/bank_updates.py --data DATA/magnetic_tile --models DIR [--share 0.5] [--seed 0]
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganomaly.calibration import ROUNDING, Calibration
from ganomaly.config import FitOptions
from ganomaly.data import Subset, open_test_images, open_training_images
from ganomaly.methods import Method
from ganomaly.metrics import image_auroc
from ganomaly.prediction.model import Model
from ganomaly.prediction.model_file import load_model, save_model
from ganomaly.training.fit import calibration_images, fit_model
from ganomaly.training.observers import SilentObserver
from ganomaly.training.update import divided_for_update, update_model
from machine import describe_machine

FALSE_ALARM_RATE = 0.05


def main() -> None:
    """Fit, update, and print a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data set folder in MVTec AD layout")
    parser.add_argument("--models", type=Path, required=True, help="folder to save the fitted model in")
    parser.add_argument("--share", type=float, default=0.5, help="of the normal images, to fit with")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(describe_machine())
    paths = [record.path for record in open_training_images(arguments.data).records]
    order = np.random.default_rng(arguments.seed).permutation(len(paths))
    n_fit = round(arguments.share * len(paths))
    first, others = ([paths[index] for index in sorted(part)] for part in (order[:n_fit], order[n_fit:]))
    fitted = _fitted(first, arguments)
    new = open_training_images(others)
    start = time.perf_counter()
    result = update_model(fitted, new)
    seconds = time.perf_counter() - start
    updated = result.model
    assert isinstance(fitted.method, Method)
    _, calibrating, _ = divided_for_update(fitted.method, new)
    old_images, new_images = calibration_images(fitted, first), Subset(new, calibrating)
    models = {
        "fitted": fitted,
        "all new images calibrate": _calibrated(fitted, fitted, [old_images, new]),
        "updated": updated,
        "all rescored": _calibrated(updated, updated, [old_images, new_images]),
    }
    print(f"update: {seconds:.0f} s, {result.in_banks} images into the banks, {result.added} calibrate")
    for name, model in models.items():
        print(json.dumps({"model": name, **_measured(model, arguments.data)}), flush=True)


def _fitted(paths: Sequence[str], arguments: argparse.Namespace) -> Model:
    path = arguments.models / f"{arguments.data.name}_{arguments.share}_{arguments.seed}.safetensors"
    if not path.exists():
        arguments.models.mkdir(parents=True, exist_ok=True)
        options = FitOptions(seed=arguments.seed, false_alarm_rate=FALSE_ALARM_RATE)
        save_model(fit_model(paths, options, observer=SilentObserver()).model, path)
    return load_model(path)


def _calibrated(model: Model, predictor: Model, datasets: Sequence[Any]) -> Model:
    """The model with the scores of these normal images as its calibration."""
    scores = np.concatenate([_scores(predictor, dataset) for dataset in datasets]) * (1 + ROUNDING)
    return replace(model, calibration=Calibration(scores, FALSE_ALARM_RATE))


def _measured(model: Model, data: Path) -> dict[str, Any]:
    dataset = open_test_images(data)
    labels = np.array([bool(record.is_anomalous) for record in dataset.records])
    start = time.perf_counter()
    scores = _scores(model, dataset)
    seconds = time.perf_counter() - start
    alarms = model.calibration.is_anomaly(scores)
    return {
        "threshold": float(model.calibration.threshold),
        "n_calibration": len(model.calibration.scores),
        "image_auroc": image_auroc(scores, labels),
        "median_normal_score": float(np.median(scores[~labels])),
        "false_alarm_rate": float(alarms[~labels].mean()),
        "detection_rate": float(alarms[labels].mean()),
        "ms_per_image": round(1000 * seconds / len(scores), 1),
    }


def _scores(model: Model, dataset: Any) -> NDArray[np.float64]:
    return np.array([prediction.score for prediction in model.predict(dataset)], dtype=np.float64)


if __name__ == "__main__":
    main()
