"""Training in two processes against one: are weights, scores and AUROC the same, and how fast is it?

Each training is a `fit` on simulated baggage in processes of its own, started as `ganomaly fit --devices N` starts
them; the processors are divided among them. For each preset and seed a line says how far weights and scores are
apart, and both AUROCs; for each preset a last one the images per second, from the median time of a step.

Run: python benchmarks/devices.py [--presets paper,patches,features] [--seeds 0,1,2] [--devices 2]
     [--precision fp32|bf16|auto] [--images 320]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganomaly.commands.process import SPINS
from ganomaly.config import FitOptions, Precision
from ganomaly.data import open_images, open_test_images
from ganomaly.data.baggage import write_simulated_baggage
from ganomaly.metrics import image_auroc
from ganomaly.prediction.model import Model
from ganomaly.prediction.model_file import load_model, save_model
from ganomaly.training.fit import fit_model, help_fit
from ganomaly.training.observers import SilentObserver, TrainingProgress
from ganomaly.training.processes import end_with_parent, is_watched, place_of_this_process, run_processes
from machine import describe_machine

EPOCHS = {"paper": 8, "patches": 4, "features": 4}
IMAGE_SIZE = {"paper": 32, "patches": 96, "features": 96}
WARM_UP = 3  # steps that are not counted


class StepTimes(SilentObserver):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def trained(self, progress: TrainingProgress) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())

    def seconds(self) -> float:
        """Of a step, the median."""
        return float(statistics.median(np.diff(self.times)[WARM_UP:]))


@dataclass(frozen=True)
class Trained:
    """A model, its scores of the test images, and the speed of its training."""

    model: Model
    scores: NDArray[np.float64]
    auroc: float
    images_per_second: float


def train_here(data: Path, model: Path, preset: str, seed: int, precision: Precision) -> None:
    """Train as one of several processes, or alone."""
    place = place_of_this_process()
    if is_watched():
        end_with_parent()
    options = FitOptions.checked(
        preset=preset,
        epochs=EPOCHS[preset],
        image_size=IMAGE_SIZE[preset],
        seed=seed,
        precision=precision,
        false_alarm_rate=0.05,
    )
    if place is not None and place.rank > 0:
        help_fit(data, options, place)
        return
    observer = StepTimes()
    result = fit_model(data, options, observer=observer, place=place)
    save_model(result.model, model)
    batch = result.model.provenance["batch_size"]
    model.with_suffix(".json").write_text(json.dumps(batch / observer.seconds()))


def train(data: Path, folder: Path, preset: str, seed: int, precision: Precision, devices: int) -> Trained:
    """Train in processes of their own and score the test images."""
    path = folder / f"{preset}-{seed}-{devices}.safetensors"
    command = [sys.executable, __file__, "--worker", str(data), str(path), preset, str(seed), precision]
    # as the command line does: threads that wait for each other sleep soon
    if run_processes(command, devices=devices, environment={"GOMP_SPINCOUNT": SPINS}) != 0:
        raise SystemExit(f"training {preset} with {devices} devices failed")
    test = open_test_images(data)
    model = load_model(path)
    predictions = list(model.predict(open_images([record.path for record in test.records])))
    scores = np.array([prediction.score for prediction in predictions], dtype=np.float64)
    anomalous = np.array([bool(record.is_anomalous) for record in test.records])
    speed = float(json.loads(path.with_suffix(".json").read_text()))
    return Trained(model, scores, float(image_auroc(scores, anomalous) or np.nan), speed)


def compare(alone: Trained, together: Trained) -> str:
    """How far two trainings are apart, in words."""
    weights, others = alone.model.method.state_dict(), together.model.method.state_dict()
    trained = [name for name, weight in alone.model.method.named_parameters() if weight.requires_grad]
    greatest = max(float((weights[name] - others[name]).abs().max()) for name in trained)
    norm = sum(float(weights[name].double().square().sum()) for name in trained) ** 0.5
    apart = sum(float((weights[name] - others[name]).double().square().sum()) for name in trained) ** 0.5
    scores = np.abs(together.scores / alone.scores - 1)
    return (
        f"weights differ by {greatest:.1e} at most, {apart / norm:.1e} of their norm; "
        f"scores by {np.median(scores):.1e} of their value (median), {scores.max():.1e} (greatest); "
        f"AUROC {alone.auroc:.4f} and {together.auroc:.4f}"
    )


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", default="paper,patches,features")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16", "auto"), default="fp32")
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        data, model, preset, seed, precision = arguments.worker
        train_here(Path(data), Path(model), preset, int(seed), precision)
        return
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "baggage"
        write_simulated_baggage(data, n_train=arguments.images, n_test_normal=100, n_test_per_threat=50)
        for preset in arguments.presets.split(","):
            speeds: dict[int, list[float]] = {1: [], arguments.devices: []}
            for seed in map(int, arguments.seeds.split(",")):
                alone, together = (train(data, folder, preset, seed, arguments.precision, n) for n in speeds)
                speeds[1].append(alone.images_per_second)
                speeds[arguments.devices].append(together.images_per_second)
                print(f"{preset}, seed {seed}: {compare(alone, together)}", flush=True)
            one, several = (statistics.median(values) for values in speeds.values())
            print(
                f"{preset}: {one:.1f} images/s in 1 process, {several:.1f} in {arguments.devices}, "
                f"{several / one:.2f}×",
                flush=True,
            )


if __name__ == "__main__":
    main()
