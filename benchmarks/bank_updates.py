"""What an update changes: scores, detection, and how conservative the threshold becomes.

The normal test images of a fitted model are divided in two at random: one half updates the model, the other tests it.
Means over several draws. The thresholds compared:

- `fitted`: the model before;
- `all calibrate`: all new images calibrate, and none goes into the banks;
- `updated`: what `ganomaly update` gives;
- `rescored`: the updated model, if its calibration images were predicted again by itself, which an update cannot do,
  since it does not have those of training.

Run: python benchmarks/bank_updates.py --model FILE --data DATA/magnetic_tile [--draws 3]
     python benchmarks/bank_updates.py --model FILE --data DATA/mnist --digit 0
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganomaly.calibration import ROUNDING, Calibration
from ganomaly.data import (
    ImageDataset,
    Subset,
    load_labelled_arrays,
    open_images,
    open_test_images,
)
from ganomaly.methods import Method
from ganomaly.metrics import image_auroc
from ganomaly.prediction.model import Model
from ganomaly.prediction.model_file import load_model
from ganomaly.training.fit import calibration_images
from ganomaly.training.update import divided_for_update, update_model
from machine import describe_machine

FIRST_ANOMALOUS_DIGIT = 5


def main() -> None:
    """Update and measure each draw, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="fitted model")
    parser.add_argument("--data", type=Path, required=True, help="MVTec AD layout, or MNIST")
    parser.add_argument("--digit", help="the digit that the model was fitted on; 5 to 9 are anomalous")
    parser.add_argument("--draws", type=int, default=3)
    arguments = parser.parse_args()
    print(describe_machine())
    model = load_model(arguments.model)
    images, labels, training = opened(arguments.data, arguments.digit)
    calibrating = calibration_images(model, training)
    draws = [measure(model, images, labels, calibrating, seed) for seed in range(arguments.draws)]
    for way in draws[0]:
        rows = [draw[way] for draw in draws]
        means = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}
        print(json.dumps({"threshold of": way, **means}))


def opened(data: Path, digit: str | None) -> tuple[ImageDataset, NDArray[np.bool_], Any]:
    """Test images, whether each is anomalous, and what the model was fitted on."""
    if digit is None:
        dataset = open_test_images(data)
        return dataset, np.array([bool(record.is_anomalous) for record in dataset.records]), data
    training, testing = (load_labelled_arrays(data, split) for split in ("train", "test"))
    anomalous = testing.labels.astype(int) >= FIRST_ANOMALOUS_DIGIT
    shown = (testing.labels == digit) | anomalous
    return open_images(testing.images[shown]), anomalous[shown], training.images[training.labels == digit]


def measure(
    model: Model, images: ImageDataset, is_anomalous: NDArray[np.bool_], old: ImageDataset, seed: int
) -> dict[str, dict[str, float]]:
    """Figures of each way for one draw."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~is_anomalous))
    halves = [np.sort(half) for half in np.array_split(order, 2)]
    new = Subset(images, halves[0])
    tested = np.concatenate([halves[1], np.flatnonzero(is_anomalous)])
    labels, testing = is_anomalous[tested], Subset(images, tested)
    result = update_model(model, new)
    updated = result.model
    assert isinstance(model.method, Method)
    _, calibrating, _ = divided_for_update(model.method, new)
    before, after = scores_of(model, testing), scores_of(updated, testing)
    assert (after <= before * (1 + ROUNDING)).all()
    models = {
        "fitted": (model, before),
        "all calibrate": (calibrated(model, [old, new]), before),
        "updated": (updated, after),
        "rescored": (calibrated(updated, [old, Subset(new, calibrating)]), after),
    }
    return {
        way: {
            "threshold": part.calibration.threshold,
            "n_calibration": len(part.calibration.scores),
            "n_in_banks": result.in_banks if part.method is not model.method else 0,
            "image_auroc": image_auroc(scores, labels) or np.nan,
            "false_alarm_rate": float(part.calibration.is_anomaly(scores[~labels]).mean()),
            "detection_rate": float(part.calibration.is_anomaly(scores[labels]).mean()),
        }
        for way, (part, scores) in models.items()
    }


def calibrated(model: Model, datasets: Sequence[ImageDataset]) -> Model:
    """The model with its own scores of these normal images as its calibration."""
    scores = np.concatenate([scores_of(model, dataset) for dataset in datasets]) * (1 + ROUNDING)
    return replace(model, calibration=Calibration(scores, model.calibration.false_alarm_rate))


def scores_of(model: Model, dataset: ImageDataset) -> NDArray[np.float64]:
    """A(x) of each image."""
    return np.array([prediction.score for prediction in model.predict(dataset)], dtype=np.float64)


if __name__ == "__main__":
    main()
