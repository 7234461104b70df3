"""Scoring speed: the package and its exported graphs against the plain loop, alternating in one process.

The plain loop is fp32, eager and channels first, with PyTorch's own convolutions. All take `uint8` pixels of the size
of the network and give scores; the networks are those of the preset `paper`, trained briefly.

Run: python benchmarks/scoring_speed.py [--size 32] [--rounds 5]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ganomaly import GANomalyDetector
from ganomaly.data import open_images
from ganomaly.export import quantise, to_onnx, write_graph
from ganomaly.methods.ganomaly import GANomaly
from ganomaly.prediction.exported import ExportedModel, load_exported
from ganomaly.prediction.model import Model
from ganomaly.prediction.model_file import load_model
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.tensors import network_input
from machine import describe_machine
from plain_loop import with_plain_convolutions

BATCH = 64
Score = Callable[[NDArray[np.uint8]], object]


def fit_on_noise(folder: Path, size: int) -> Path:
    """A model of the preset `paper`, trained on noise for an epoch."""
    images = np.random.default_rng(0).integers(0, 255, (200, size, size), dtype=np.uint8)
    path = folder / "model.safetensors"
    GANomalyDetector("paper", epochs=1, image_size=size, false_alarm_rate=0.05).fit(images).save(path)
    return path


def plain(path: Path) -> Score:
    """The plain loop."""
    method = load_model(path).method
    assert isinstance(method, GANomaly)
    with_plain_convolutions(method).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def score(images: NDArray[np.uint8]) -> object:
        with torch.no_grad():
            x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
            return method.predict(x.contiguous()).score.numpy()

    return score


def package(model: Model) -> Score:
    """As `ganomaly score` computes with the trained model."""
    white, cpu = model.preprocessing.white_level, torch.device("cpu")

    def score(images: NDArray[np.uint8]) -> object:
        with eval_mode(model.method):
            return model.method.predict(network_input(images, white, cpu)).score.numpy()

    return score


def graph(exported: ExportedModel) -> Score:
    """As `ganomaly score` computes with an exported model: every output, verdict and map included."""
    return exported.graph.run


def score_functions(folder: Path, size: int) -> dict[str, Score]:
    """The functions to compare, by name."""
    path = fit_on_noise(folder, size)
    model = load_model(path)
    calibration = np.random.default_rng(1).integers(0, 255, (64, size, size), dtype=np.uint8)
    fp32 = to_onnx(model)
    int8 = quantise(fp32, model, open_images(calibration))
    for name, proto in (("fp32", fp32), ("int8", int8)):
        write_graph(proto, folder / f"{name}.onnx", "onnx")
        write_graph(proto, folder / f"{name}.xml", "openvino")
    return {
        "plain loop": plain(path),
        "ganomaly, PyTorch": package(load_model(path)),
        "ONNX Runtime": graph(load_exported(folder / "fp32.onnx")),
        "ONNX Runtime, int8": graph(load_exported(folder / "int8.onnx")),
        "OpenVINO": graph(load_exported(folder / "fp32.xml")),
        "OpenVINO, int8": graph(load_exported(folder / "int8.xml")),
    }


def images_per_second(score: Score, images: NDArray[np.uint8], steps: int) -> float:
    """Time `steps` batches."""
    start = time.perf_counter()
    for _ in range(steps):
        score(images)
    return steps * len(images) / (time.perf_counter() - start)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    images = np.random.default_rng(2).integers(
        0, 255, (BATCH, arguments.size, arguments.size, 1), dtype=np.uint8
    )
    with tempfile.TemporaryDirectory() as folder:
        scores = score_functions(Path(folder), arguments.size)
        speeds: dict[str, list[float]] = {name: [] for name in scores}
        for score in scores.values():
            images_per_second(score, images, 3)  # warm up
        for _ in range(arguments.rounds):
            for name, score in scores.items():
                speeds[name].append(images_per_second(score, images, arguments.steps))
    print(describe_machine())
    print(
        f"preset paper, {arguments.size} px, 1 channel, batch {BATCH}, seed 0; medians of {arguments.rounds} "
        f"alternating runs of {arguments.steps} batches"
    )
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, median in medians.items():
        spread = f"{min(speeds[name]):.0f}–{max(speeds[name]):.0f}"
        print(f"{name:20} {median:6.0f} images/s ({spread})  {median / medians['plain loop']:.2f}×")


if __name__ == "__main__":
    main()
