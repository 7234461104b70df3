"""Whether each speed-up retains accuracy: image AUROC of the plain loop, of the package's loop, and of its graphs.

All loops start from the same weights and see the same batches in the same order, preset paper at the size of the
networks: MNIST with one digit left out, at 32 px, or parts in MVTec AD layout, at 64 px. bf16 is trained where the
processor computes in it; with --imitate-bf16 it is imitated in fp32 elsewhere, which is as accurate and slower. The
models that the package trains in each precision are exported to graphs in 32 bits and in 8, which score the same test
images. Each seed is a row, written as soon as it is done; a second run adds the rows that are missing.

Run: python benchmarks/accuracy_retained.py --mnist DATA/mnist --out rows.jsonl [--seeds 0,1,2] [--imitate-bf16]
     python benchmarks/accuracy_retained.py --parts DATA/magnetic_tile --epochs 5 --out rows.jsonl
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
from ganomaly.export import quantise, to_onnx, write_graph
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
class Task:
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
    task = (
        mnist(arguments.mnist, arguments.train_images, arguments.test_images)
        if arguments.mnist
        else parts(arguments.parts)
    )
    precisions = ["fp32"]
    if choose_precision("auto", choose_device("cpu")) == "bf16":
        precisions.append("bf16")
    elif arguments.imitate_bf16:
        precisions.append(IMITATED)
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    budget = {"problem": task.name, "images": len(task.training), "epochs": arguments.epochs}
    rows = [row for row in map(json.loads, lines) if budget.items() <= row.items()]
    for seed in map(int, arguments.seeds.split(",")):
        done = {name for row in rows if row["seed"] == seed for name in row["auroc"]}
        start = time.perf_counter()
        aurocs = measure(task, seed, arguments.epochs, precisions, done)
        seconds = round(time.perf_counter() - start, 1)
        if not aurocs:
            continue
        row = budget | {"seed": seed, "auroc": aurocs, "seconds": seconds, "machine": describe_machine()}
        rows.append(row)
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    print_means(task, arguments.epochs, rows)


def print_means(task: Task, epochs: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each loop and graph, over the seeds; a seed may have several rows."""
    by_seed: dict[int, dict[str, float]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], {}).update(row["auroc"])
    print(
        f"{task.name}, {task.size} px, preset paper: {epochs} epoch(s) of {len(task.training)} "
        f"images, {len(task.test)} test images; image AUROC, {len(by_seed)} seed(s)"
    )
    for name in dict.fromkeys(name for aurocs in by_seed.values() for name in aurocs):
        complete = [aurocs for aurocs in by_seed.values() if name in aurocs]
        values = [aurocs[name] for aurocs in complete]
        differences = [aurocs[name] - aurocs[PLAIN] for aurocs in complete]
        print(
            f"{name:36} {', '.join(f'{value:.4f}' for value in values)}; mean {statistics.mean(values):.4f}, "
            f"{statistics.mean(differences):+.4f} against the plain loop, "
            f"at most {max(map(abs, differences)):.4f} from it"
        )


def mnist(folder: Path, n_train: int, n_test: int) -> Task:
    """Digit 2 anomalous; a fixed random part of the other digits, and of the test images."""
    (train_images, train_digits), (test_images, test_digits) = (
        load(folder, name) for name in ("train", "test")
    )
    normal = train_images[train_digits != "2"]
    order = np.random.default_rng(0).permutation(len(normal))
    images = np.concatenate([test_images, train_images[train_digits == "2"]])
    is_anomalous = np.arange(len(images)) >= len(test_images)
    is_anomalous[: len(test_images)] = test_digits == "2"
    sample = np.random.default_rng(0).permutation(len(images))[:n_test]
    return Task(
        "MNIST digit 2",
        at_32_px(normal[order[CALIBRATION_IMAGES:][:n_train]]),
        at_32_px(normal[order[:CALIBRATION_IMAGES]]),
        at_32_px(images[sample]),
        is_anomalous[sample],
    )


def parts(folder: Path) -> Task:
    """All images of a data set at 64 px; some of the normal ones are held out of training for calibration."""
    normal = at_64_px(open_training_images(str(folder)))
    order = np.random.default_rng(0).permutation(len(normal))
    test = open_test_images(str(folder))
    return Task(
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


def measure(
    task: Task, seed: int, epochs: int, precisions: Sequence[str], done: Container[str]
) -> Mapping[str, float]:
    """Image AUROC by loop and predictor; those that are done are left out."""
    aurocs: dict[str, float] = {}
    if PLAIN not in done:
        aurocs[PLAIN] = auroc(fit(plain_loop(seed, task.size), task, seed, epochs), task)
    for name in precisions:
        if f"ganomaly, {name}" in done:
            continue
        precision: Precision = "fp32" if name == "fp32" else "bf16"
        with ImitatedBf16() if name == IMITATED else nullcontext():
            model = fit(package_loop(seed, task.size, precision), task, seed, epochs)
        aurocs[f"ganomaly, {name}"] = auroc(model, task)
        with tempfile.TemporaryDirectory() as folder:
            for runtime, predictor in load_graphs(model, task, Path(folder)).items():
                aurocs[f"{runtime} of {name}"] = auroc(predictor, task)
    return aurocs


def fit(loop: Loop, task: Task, seed: int, epochs: int) -> Model:
    """Train and calibrate."""
    method, step = loop
    steps = len(task.training) // BATCH
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(task.training))
        for indices in order[: steps * BATCH].reshape(steps, BATCH):
            step(network_input(task.training[indices], 255, torch.device("cpu")))
    preprocessing = Preprocessing(image_size=task.size, channels=1)
    model = Model(method.eval(), "paper", preprocessing, Calibration(np.ones(1), FALSE_ALARM_RATE), {})
    calibration = Calibration(scores(model, task.calibration), FALSE_ALARM_RATE)
    return Model(model.method, model.preset, preprocessing, calibration, {})


def load_graphs(model: Model, task: Task, folder: Path) -> Mapping[str, Predictor]:
    """Export a model to graphs and load them, by runtime and bits."""
    fp32 = to_onnx(model)
    int8 = quantise(fp32, model, open_images(task.calibration))
    predictors: dict[str, Predictor] = {}
    for bits, graph in (("", fp32), (", int8", int8)):
        write_graph(graph, folder / f"graph{bits}.onnx", "onnx")
        write_graph(graph, folder / f"graph{bits}.xml", "openvino")
        predictors[f"ONNX Runtime{bits}"] = load_predictor(folder / f"graph{bits}.onnx")
        predictors[f"OpenVINO{bits}"] = load_predictor(folder / f"graph{bits}.xml")
    return predictors


def auroc(predictor: Predictor, task: Task) -> float:
    """Image AUROC on the test images."""
    value = image_auroc(scores(predictor, task.test), task.is_anomalous)
    assert value is not None  # both classes are there
    return round(value, 5)


def scores(predictor: Predictor, images: Pixels) -> NDArray[np.float64]:
    """A(x) of each image."""
    return np.array([prediction.score for prediction in predictor.predict(open_images(images))], np.float64)


if __name__ == "__main__":
    main()
