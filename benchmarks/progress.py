"""Whether the time that progress says is left is right: predicted over actual total of `fit`, and of `score`.

The total that is predicted at a share of the steps is the time until then plus what is said to be left; the actual
one ends when the model is there, with its statistics and calibration. 1 is right, below 1 is too hopeful.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import Progress

from ganomaly.config import FitOptions
from ganomaly.data import open_images
from ganomaly.prediction.model import Model
from ganomaly.training.fit import fit_model
from ganomaly.training.observers import SilentObserver, TrainingProgress

SHARES = (0.1, 0.25, 0.5)


class Predictions(SilentObserver):
    """The totals that are predicted when these shares of the work are done."""

    def __init__(self) -> None:
        self.first = 0.0  # when training was first heard of: reading the images is another bar
        self.totals: dict[float, float] = {}

    def trained(self, progress: TrainingProgress) -> None:
        """Note the prediction."""
        now = time.perf_counter()
        self.first = self.first or now
        self.note(progress.step / progress.steps, now - self.first + progress.seconds_left)

    def note(self, share: float, total: float) -> None:
        """Keep the first prediction after each share."""
        for asked in SHARES:
            if share >= asked:
                self.totals.setdefault(asked, total)


def report(name: str, predicted: Predictions, actual: float) -> None:
    ratios = "  ".join(f"{share:4.0%} {total / actual:5.2f}" for share, total in predicted.totals.items())
    print(f"{name:<18} {actual:7.1f} s   predicted over actual at {ratios}", flush=True)


def measure_fit(folder: Path, preset: str, epochs: int | None) -> Model:
    observer = Predictions()
    result = fit_model(folder, FitOptions.checked(preset=preset, epochs=epochs), observer=observer)
    report(f"fit {preset}", observer, time.perf_counter() - observer.first)
    return result.model


def measure_score(predict: Callable[[], Iterable[object]], n_images: int) -> None:
    """With the bar of `score`: Rich's own estimate, from the pace of the last half minute."""
    observer = Predictions()
    bar = Progress()
    task = bar.add_task("score", total=n_images)
    started = time.perf_counter()
    for done, _ in enumerate(predict(), start=1):
        bar.update(task, completed=done)
        left = bar.tasks[0].time_remaining
        if left is not None:
            observer.note(done / n_images, time.perf_counter() - started + left)
    report("score", observer, time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--size", type=int, default=64, help="px")
    parser.add_argument("--presets", nargs="+", default=["small", "paper"])
    parser.add_argument("--epochs", type=int)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    size = (arguments.size, arguments.size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(arguments.images):
            pixels = np.clip(rng.normal(120, 30, size), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:05}.png")
        models = [measure_fit(folder, preset, arguments.epochs) for preset in arguments.presets]
        measure_score(lambda: models[-1].predict(open_images(folder), details=True), arguments.images)


if __name__ == "__main__":
    main()
