"""Training in two processes against one: are weights, scores and AUROC the same, and how fast is it?

Each training is a `fit` in processes of its own, started as `ganomaly fit --devices N` starts them; the processors
are divided among them. Simulated baggage gets a few epochs of small images; a data set of yours the preset's whole
training, at its image size or at the one you say. For each preset and seed a line says how far weights and scores are
apart, and both AUROCs; for each preset a last one the images per second, from the median time of a step, and the mean
AUROCs.

Run: python benchmarks/devices.py [--presets paper,patches,features] [--seeds 0,1,2] [--devices 2]
     [--precision fp32|bf16|auto] [--images 320 | --data DATA [--image-size 96]]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
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
class Training:
    """What one training learns from, and how."""

    data: str
    preset: str
    seed: int
    precision: Precision
    whole: bool  # the preset's own steps
    image_size: int | None  # None for the preset's own

    def options(self) -> FitOptions:
        """Those of `fit`."""
        return FitOptions.checked(
            preset=self.preset,
            epochs=None if self.whole else EPOCHS[self.preset],
            image_size=self.image_size,
            seed=self.seed,
            precision=self.precision,
            false_alarm_rate=0.05,
        )


@dataclass(frozen=True)
class Trained:
    """A model, its scores of the test images, and the speed of its training."""

    model: Model
    scores: NDArray[np.float64]
    auroc: float
    images_per_second: float


def train_here(training: Training, model: Path) -> None:
    """Train as one of several processes, or alone."""
    place = place_of_this_process()
    if is_watched():
        end_with_parent()
    if place is not None and place.rank > 0:
        help_fit(training.data, training.options(), place)
        return
    observer = StepTimes()
    result = fit_model(training.data, training.options(), observer=observer, place=place)
    save_model(result.model, model)
    batch = result.model.provenance["batch_size"]
    model.with_suffix(".json").write_text(json.dumps(batch / observer.seconds()))


def train(training: Training, path: Path, devices: int) -> Trained:
    """Train in processes of their own and score the test images."""
    command = [sys.executable, __file__, "--worker", json.dumps(asdict(training)), str(path)]
    # as the command line does: threads that wait for each other sleep soon
    if run_processes(command, devices=devices, environment={"GOMP_SPINCOUNT": SPINS}) != 0:
        raise SystemExit(f"training {training.preset} with {devices} devices failed")
    test = open_test_images(training.data)
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
    parser.add_argument("--images", type=int, default=320, help="of simulated baggage to train on")
    parser.add_argument("--data", type=Path, help="a folder in MVTec AD layout, for whole trainings")
    parser.add_argument("--image-size", type=int, help="of a data set of yours; the preset's if not given")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        training, model = arguments.worker
        train_here(Training(**json.loads(training)), Path(model))
        return
    whole = arguments.data is not None
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = arguments.data or folder / "baggage"
        if not whole:
            write_simulated_baggage(data, n_train=arguments.images, n_test_normal=100, n_test_per_threat=50)
        for preset in arguments.presets.split(","):
            size = arguments.image_size if whole else IMAGE_SIZE[preset]
            trained: dict[int, list[Trained]] = {1: [], arguments.devices: []}
            for seed in map(int, arguments.seeds.split(",")):
                training = Training(str(data), preset, seed, arguments.precision, whole, size)
                for devices, models in trained.items():
                    models.append(train(training, folder / f"{preset}-{seed}-{devices}.safetensors", devices))
                alone, together = (models[-1] for models in trained.values())
                print(f"{preset}, seed {seed}: {compare(alone, together)}", flush=True)
            one, several = (
                statistics.median(model.images_per_second for model in models) for models in trained.values()
            )
            first, second = (statistics.mean(model.auroc for model in models) for models in trained.values())
            print(
                f"{preset}: {one:.1f} images/s in 1 process, {several:.1f} in {arguments.devices}, "
                f"{several / one:.2f}×; mean AUROC {first:.4f} and {second:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
