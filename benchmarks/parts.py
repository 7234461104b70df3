"""Parts and bags with the default preset: are small defects detected and located, and does the false-alarm rate hold?

Each seed is a row, written as soon as it is done; a second run resumes where the first stopped. The audit says
whether it is the defects that are seen.

Run: python benchmarks/parts.py --data DATA/magnetic_tile --out rows.jsonl [--seeds 0,1,2]
     python benchmarks/parts.py --simulated-bags --out rows.jsonl [--models MODELS]
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

from ganomaly.audit import audit_model, plan_audit
from ganomaly.config import FitOptions
from ganomaly.data import ImageDataset, ImageRecord, open_test_images
from ganomaly.data.baggage import write_simulated_baggage
from ganomaly.evaluation import evaluate_model
from ganomaly.prediction import Prediction
from ganomaly.prediction.model import Model
from ganomaly.prediction.model_file import load_model, save_model
from ganomaly.training.fit import fit_model
from ganomaly.training.observers import SilentObserver
from machine import describe_machine

FALSE_ALARM_RATE = 0.05
HIGHEST = 10
METRICS = (
    "image_auroc",
    "pixel_auroc",
    "aupro",
    "defect_auroc",
    "painted_out_auroc",
    "control_auroc",
    "false_alarm_rate",
    "detection_rate",
    "worst_hit",
    "fit_seconds",
    "file_megabytes",
)


def main() -> None:
    """Train and measure each seed that has no row yet, then print the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--data", type=Path, help="data set folder in MVTec AD layout")
    images.add_argument("--simulated-bags", action="store_true", help="whole simulated bags instead")
    parser.add_argument("--preset", default="features", help="features is the default for such images")
    parser.add_argument("--seeds", default="0,1,2", help="seeds, separated by commas")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines to add rows to")
    parser.add_argument(
        "--models", type=Path, help="folder to save the models in; one that is there is not fitted again"
    )
    arguments = parser.parse_args()
    print(describe_machine())
    data = simulated_bags(arguments.out.parent) if arguments.simulated_bags else arguments.data
    rows = (
        [json.loads(line) for line in arguments.out.read_text().splitlines()]
        if arguments.out.exists()
        else []
    )
    selected = [row for row in rows if row["data"] == data.name and row["preset"] == arguments.preset]
    for seed in map(int, arguments.seeds.split(",")):
        if any(row["seed"] == seed for row in selected):
            continue
        row = measure(data, arguments.preset, seed, arguments.models)
        selected.append(row)
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    for metric in METRICS:
        found = [(row.get("audit", {}) | row).get(metric) for row in selected]
        values = [value for value in found if value is not None]
        if not values:
            continue
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        print(f"{data.name} {metric}: {statistics.mean(values):.3f}{spread} over {len(values)} seed(s)")


def simulated_bags(folder: Path) -> Path:
    """500 whole bags to train on; 200 normal and 3×60 with a threat to test."""
    data = folder / "simulated_bags"
    if not (data / "train").is_dir():
        write_simulated_baggage(
            data, kind="bags", n_train=500, n_test_normal=200, n_test_per_threat=60, seed=0
        )
    return data


@dataclass
class Scores:
    """The scores of the images, and whether the maximum of their map is on the mask."""

    dataset: ImageDataset
    of_image: dict[int, float] = field(default_factory=dict)
    hits: list[tuple[float, bool]] = field(default_factory=list)

    def add(self, prediction: Prediction, record: ImageRecord) -> None:
        """Add one image; a normal one is a miss."""
        if prediction.score is None:
            return
        self.of_image[prediction.index] = prediction.score
        anomaly_map = prediction.map_at_image_size()
        if anomaly_map is None:
            return
        mask = self.dataset.read_mask(prediction.index) if record.is_anomalous else None
        hit = False
        if mask is not None:
            hit = bool(mask[np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)])
        self.hits.append((prediction.score, hit))

    def highest_on_mask(self) -> int:
        """How many of the ten highest scores are hits."""
        return sum(hit for _, hit in sorted(self.hits, reverse=True)[:HIGHEST])


def measure(data: Path, preset: str, seed: int, models: Path | None) -> dict[str, Any]:
    """Fit as a user would, unless there is a model, and evaluate and audit it."""
    model, path, fit_seconds = fitted(data, preset, seed, models)
    dataset = open_test_images(str(data))
    scores = Scores(dataset)
    start = time.perf_counter()
    evaluation = evaluate_model(model, dataset, on_prediction=scores.add).evaluation
    evaluate_seconds = time.perf_counter() - start
    audited = audit_model(model, dataset, scores.of_image, plan_audit(dataset, scores.of_image))
    low, high = binom.interval(0.95, evaluation.n_normal, FALSE_ALARM_RATE)
    alarms = round((evaluation.false_alarm_rate or 0) * evaluation.n_normal)
    return {
        "data": data.name,
        "preset": preset,
        "seed": seed,
        **{name: model.provenance[name] for name in ("steps", "precision", "threads")},
        "fit_seconds": fit_seconds,
        "evaluate_seconds": round(evaluate_seconds, 1),
        "file_megabytes": None if path is None else round(path.stat().st_size / 1e6, 1),
        "worst_hit": scores.highest_on_mask(),
        "alarms": alarms,
        "alarms_band": [int(low), int(high)],
        **evaluation.to_json_dict(),
        "audit": audited.audit.to_json_dict(),
    }


def fitted(
    data: Path, preset: str, seed: int, models: Path | None
) -> tuple[Model, Path | None, float | None]:
    """A model, its file, and how long the fit took; of a model that was there nobody knows that."""
    path = None if models is None else models / f"{data.name}_{preset}_{seed}.safetensors"
    if path is not None and path.exists():
        model = load_model(path)
        found = (model.preset, model.provenance["seed"], model.calibration.false_alarm_rate)
        if found != (preset, seed, FALSE_ALARM_RATE):
            sys.exit(f"{path} has another preset, seed or false-alarm rate: {found}")
        return model, path, None
    start = time.perf_counter()
    model = fit_model(
        str(data),
        FitOptions(preset=preset, seed=seed, false_alarm_rate=FALSE_ALARM_RATE),
        observer=SilentObserver(),
    ).model
    seconds = round(time.perf_counter() - start, 1)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(model, path)
    return model, path, seconds


if __name__ == "__main__":
    main()
