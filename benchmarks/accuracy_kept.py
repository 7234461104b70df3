"""Whether accuracy stays at each speed-up: image AUROC after the plain loop, after the package's, and in its graphs.

All loops start from the same weights and see the same batches in the same order, preset paper at the size of the
networks: MNIST with one digit left out, at 32 px, or parts in MVTec AD layout, at 64 px. bf16 is trained where the
processor computes in it, and elsewhere if asked for, imitated in fp32: as accurate, and slower. Graphs are exported
from what the package trained in each precision, in 32 bits and in 8, and judge the same test images. Each seed is a
row, kept as soon as it is done; a second run adds what is not there yet.

Run: python benchmarks/accuracy_kept.py --mnist DATA/mnist --out rows.jsonl [--seeds 0,1,2] [--imitate-bf16]
     python benchmarks/accuracy_kept.py --parts DATA/magnetic_tile --epochs 5 --out rows.jsonl
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Container, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganomaly.calibration.conformal import Calibration
from ganomaly.config import Precision, Preprocessing
from ganomaly.data import (
    ImageDataset,
    ImageLoader,
    inspect_images,
    open_images,
    open_test_images,
    open_training_images,
)
from ganomaly.devices import choose_device, choose_precision
from ganomaly.export import to_onnx, quantise, write_graph
from ganomaly.metrics import image_auroc
from ganomaly.prediction import Predictor, load_predictor
from ganomaly.prediction.model import Model
from ganomaly.tensors import network_input
from imitated_bf16 import ImitatedBf16
from machine import describe_machine
from mnist import load
from time_to_auroc import BATCH, Loop, Pixels, at_32_px, package_loop, plain_loop

FALSE_ALARM_RATE = 0.05
CALIBRATION_IMAGES = 64  # normal images that the graphs are calibrated with
PLAIN = "plain loop, fp32"
IMITATED = "imitated bf16"


@dataclass(frozen=True, eq=False)
class Problem:
    """Images at the size of the networks, `uint8[n, S, S, 1]`, and which of the test images are anomalous."""

    name: str
    training: Pixels
    calibration: Pixels
    test: Pixels
    is_anomalous: NDArray[np.bool_]

    @property
    def size(self) -> int:
        """Side of the network input in pixels."""
        return int(self.training.shape[1])


def main() -> None:
    """Train and measure each seed that has no row yet, then print the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--mnist", type=Path, help="folder with the train and test parquet files")
    data.add_argument("--parts", type=Path, help="data set folder in MVTec AD layout")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines to add rows to")
    parser.add_argument("--seeds", default="0,1,2", help="seeds, separated by commas")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--train-images", type=int, default=6_400)
    parser.add_argument("--test-images", type=int, default=2_000)
    parser.add_argument(
        "--imitate-bf16", action="store_true", help="train in bf16 too, imitated where the processor has none"
    )
    arguments = parser.parse_args()
    print(describe_machine())
    problem = (
        mnist(arguments.mnist, arguments.train_images, arguments.test_images)
        if arguments.mnist
        else parts(arguments.parts)
    )
    trainings = ["fp32"]
    if choose_precision("auto", choose_device("cpu")) == "bf16":
        trainings.append("bf16")
    elif arguments.imitate_bf16:
        trainings.append(IMITATED)
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    budget = {"problem": problem.name, "images": len(problem.training), "epochs": arguments.epochs}
    rows = [row for row in map(json.loads, lines) if budget.items() <= row.items()]
    for seed in map(int, arguments.seeds.split(",")):
        known = {name for row in rows if row["seed"] == seed for name in row["auroc"]}
        start = time.perf_counter()
        found = aurocs(problem, seed, arguments.epochs, trainings, known)
        seconds = round(time.perf_counter() - start, 1)
        if not found:
            continue
        row = budget | {"seed": seed, "auroc": found, "seconds": seconds, "machine": describe_machine()}
        rows.append(row)
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    print_means(problem, arguments.epochs, rows)


def print_means(problem: Problem, epochs: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """A line for each loop and graph, over the seeds; a seed's figures may stand in several rows."""
    by_seed: dict[int, dict[str, float]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], {}).update(row["auroc"])
    print(
        f"{problem.name}, {problem.size} px, preset paper: {epochs} epoch(s) of {len(problem.training)} "
        f"images, {len(problem.test)} test images; image AUROC, {len(by_seed)} seed(s)"
    )
    for name in dict.fromkeys(name for found in by_seed.values() for name in found):
        found = [each for each in by_seed.values() if name in each]
        values = [each[name] for each in found]
        differences = [each[name] - each[PLAIN] for each in found]
        print(
            f"{name:36} {', '.join(f'{value:.4f}' for value in values)}; mean {statistics.mean(values):.4f}, "
            f"{statistics.mean(differences):+.4f} beside the plain loop, "
            f"at most {max(map(abs, differences)):.4f} from it"
        )


def mnist(folder: Path, n_train: int, n_test: int) -> Problem:
    """Digit 2 anomalous; a fixed random part of the other digits, and of the test images."""
    (train_images, train_digits), (test_images, test_digits) = (
        load(folder, name) for name in ("train", "test")
    )
    normal = train_images[train_digits != "2"]
    order = np.random.default_rng(0).permutation(len(normal))
    everything = np.concatenate([test_images, train_images[train_digits == "2"]])
    is_anomalous = np.arange(len(everything)) >= len(test_images)
    is_anomalous[: len(test_images)] = test_digits == "2"
    some = np.random.default_rng(0).permutation(len(everything))[:n_test]
    return Problem(
        "MNIST digit 2",
        at_32_px(normal[order[CALIBRATION_IMAGES:][:n_train]]),
        at_32_px(normal[order[:CALIBRATION_IMAGES]]),
        at_32_px(everything[some]),
        is_anomalous[some],
    )


def parts(folder: Path) -> Problem:
    """All images of a data set at 64 px; some of the normal ones are kept out of training."""
    normal = at_64_px(open_training_images(str(folder)))
    order = np.random.default_rng(0).permutation(len(normal))
    test = open_test_images(str(folder))
    return Problem(
        folder.name,
        normal[order[CALIBRATION_IMAGES:]],
        normal[order[:CALIBRATION_IMAGES]],
        at_64_px(test),
        np.array([record.is_anomalous for record in test.records]),
    )


def at_64_px(dataset: ImageDataset) -> Pixels:
    """Decode and resize as `ganomaly fit` does."""
    loader = ImageLoader(dataset, inspect_images(dataset), image_size=64, channels=1)
    loader.load()
    assert len(loader.usable) == len(dataset), "an image cannot be read"
    return np.concatenate(list(loader.batches([loader.usable]))).astype(np.uint8, copy=False)


def aurocs(
    problem: Problem, seed: int, epochs: int, trainings: Sequence[str], known: Container[str]
) -> Mapping[str, float]:
    """Image AUROC by what trained and what judged, of what is not known yet."""
    found: dict[str, float] = {}
    if PLAIN not in known:
        found[PLAIN] = auroc(trained(plain_loop(seed, problem.size), problem, seed, epochs), problem)
    for training in trainings:
        if f"ganomaly, {training}" in known:
            continue
        precision: Precision = "fp32" if training == "fp32" else "bf16"
        with ImitatedBf16() if training == IMITATED else nullcontext():
            package = trained(package_loop(seed, problem.size, precision), problem, seed, epochs)
        found[f"ganomaly, {training}"] = auroc(package, problem)
        with tempfile.TemporaryDirectory() as folder:
            for name, judge in graphs(package, problem, Path(folder)).items():
                found[f"{name} of {training}"] = auroc(judge, problem)
    return found


def trained(loop: Loop, problem: Problem, seed: int, epochs: int) -> Model:
    """Train for some epochs and calibrate."""
    method, step = loop
    steps = len(problem.training) // BATCH
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(problem.training))
        for indices in order[: steps * BATCH].reshape(steps, BATCH):
            step(network_input(problem.training[indices], 255, torch.device("cpu")))
    preprocessing = Preprocessing(image_size=problem.size, channels=1)
    model = Model(method.eval(), "paper", preprocessing, Calibration(np.ones(1), FALSE_ALARM_RATE), {})
    calibration = Calibration(scores(model, problem.calibration), FALSE_ALARM_RATE)
    return Model(model.method, model.preset, preprocessing, calibration, {})


def graphs(model: Model, problem: Problem, folder: Path) -> Mapping[str, Predictor]:
    """The graphs that are exported from a model."""
    whole = to_onnx(model)
    quantised = quantise(whole, model, open_images(problem.calibration))
    judges: dict[str, Predictor] = {}
    for bits, graph in (("", whole), (", int8", quantised)):
        write_graph(graph, folder / f"graph{bits}.onnx", "onnx")
        write_graph(graph, folder / f"graph{bits}.xml", "openvino")
        judges[f"ONNX Runtime{bits}"] = load_predictor(folder / f"graph{bits}.onnx")
        judges[f"OpenVINO{bits}"] = load_predictor(folder / f"graph{bits}.xml")
    return judges


def auroc(judge: Predictor, problem: Problem) -> float:
    """Image AUROC on the test images."""
    found = image_auroc(scores(judge, problem.test), problem.is_anomalous)
    assert found is not None  # both kinds are there
    return round(found, 5)


def scores(judge: Predictor, images: Pixels) -> NDArray[np.float64]:
    """A(x) of each image."""
    return np.array([each.score for each in judge.predict(open_images(images))], np.float64)


if __name__ == "__main__":
    main()
