"""How long the package trains until its AUROC is that of the plain loop after an epoch of MNIST.

Both loops start from the same weights and see the same batches in the same order, one digit left out, preset paper
at 32 px; they alternate every few steps, so that both run under the same load. The image AUROC is measured after each
turn, in eval mode and fp32, on a fixed random part of the test set (normal test digits, and every image of the
anomalous digit); its time is not counted, that of bringing pixels to the networks is. The target is the AUROC of the
plain loop after its epoch; the plain loop may reach it earlier, which is printed too.

Run: python benchmarks/time_to_auroc.py --data DATA/mnist --out rows.jsonl [--digit 2] [--seeds 0]
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganomaly.config import Precision, Preprocessing
from ganomaly.devices import choose_device, choose_precision, make_fabric
from ganomaly.methods.base import Step
from ganomaly.methods.ganomaly import GANomaly, GANomalyOptions
from ganomaly.metrics import image_auroc
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.tensors import in_channels_last, network_input
from ganomaly.training.ranks import Ranks, SharedPrecision
from machine import describe_machine
from mnist import Splits, load, load_at_32_px
from plain_loop import plain_optimizers, plain_step, with_plain_convolutions

BATCH = 64
Pixels = NDArray[np.uint8]
Test = tuple[Tensor, NDArray[np.bool_]]
Point = tuple[int, float, float]  # steps, seconds of training, AUROC
Loop = tuple[GANomaly, Callable[[Tensor], object]]  # networks, and a step that trains them


def main() -> None:
    """Train both loops for each seed; print and write a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the train and test parquet files"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON lines to add rows to")
    parser.add_argument("--digit", default="2", help="the anomalous digit")
    parser.add_argument("--seeds", default="0", help="seeds, separated by commas")
    parser.add_argument("--every", type=int, default=25, help="steps between two measurements of the AUROC")
    parser.add_argument(
        "--train-images", type=int, help="number of normal images to train on; all if left out"
    )
    parser.add_argument("--test-images", type=int, default=2000)
    arguments = parser.parse_args()
    print(describe_machine())
    splits = {split: load(arguments.data, split) for split in ("train", "test")}
    normal, test = normal_and_test(splits, arguments.digit, arguments.test_images)
    normal = normal[: arguments.train_images]
    for seed in map(int, arguments.seeds.split(",")):
        loops = (
            curve(*loop, normal, test, seed, arguments.every)
            for loop in (plain_loop(seed), package_loop(seed))
        )
        plain, package = zip(*zip(*loops, strict=True), strict=True)  # in turns
        target = plain[-1][2]
        points = {
            "plain loop, epoch": plain[-1],
            "plain loop, first": next(point for point in plain if point[2] >= target),
            "ganomaly, first": next((point for point in package if point[2] >= target), None),
            "ganomaly, epoch": package[-1],
        }
        row = {"digit": arguments.digit, "seed": seed, "train_images": len(normal)}
        row |= {"test_images": arguments.test_images, **points}
        row |= {"plain loop": plain, "ganomaly": package, "machine": describe_machine()}
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, point in points.items():
            if point is None:
                print(f"seed {seed}: {name:17} not reached")
                continue
            steps, seconds, auroc = point
            ratio = plain[-1][1] / seconds
            print(
                f"seed {seed}: {name:17} AUROC {auroc:.4f}, {steps} steps, {seconds:.1f} s, {ratio:.2f}×",
                flush=True,
            )


def normal_and_test(splits: Splits, digit: str, n: int) -> tuple[Pixels, Test]:
    """Training pixels, and n test images with their labels."""
    (train_images, train_digits), (test_images, test_digits) = splits["train"], splits["test"]
    anomalous = train_digits == digit
    is_anomalous = np.concatenate([test_digits == digit, np.ones(int(anomalous.sum()), bool)])
    sample = np.random.default_rng(0).permutation(len(is_anomalous))[:n]
    images = np.concatenate([test_images, train_images[anomalous]])
    test = network_input(at_32_px(images[sample]), 255, torch.device("cpu"))
    return at_32_px(train_images[~anomalous]), (test, is_anomalous[sample])


def at_32_px(images: Pixels) -> Pixels:
    """Resize as `ganomaly fit` does."""
    loader = load_at_32_px(images)
    batches = np.array_split(loader.usable, len(loader.usable) // 256 + 1)
    return np.concatenate(list(loader.batches(batches)))


def plain_loop(seed: int, size: int = 32) -> Loop:
    """The plain loop's step."""
    method = with_plain_convolutions(_method(seed, size))
    optimizers = plain_optimizers(method)
    return method, lambda x: plain_step(method, x.contiguous(), optimizers)


def package_loop(seed: int, size: int = 32, precision: Precision = "auto") -> Loop:
    """The step of `ganomaly fit`."""
    device = choose_device("cpu")
    fabric = make_fabric(device, choose_precision(precision, device))
    method = in_channels_last(_method(seed, size))
    optimizers = method.optimizers()
    return method, lambda x: method.training_step(x, optimizers, SharedPrecision(fabric, Ranks()), Step(0, 1))


def curve(
    method: GANomaly, step: Callable[[Tensor], object], normal: Pixels, test: Test, seed: int, every: int
) -> Iterator[Point]:
    """Train for an epoch; yield the AUROC every few steps, and at the end."""
    steps = len(normal) // BATCH
    order = np.random.default_rng(seed).permutation(len(normal))[: steps * BATCH].reshape(steps, BATCH)
    seconds = 0.0
    for number, indices in enumerate(order, start=1):
        start = time.perf_counter()
        step(network_input(normal[indices], 255, torch.device("cpu")))
        seconds += time.perf_counter() - start
        if number % every == 0 or number == steps:
            yield number, seconds, _auroc(method, test)


def _auroc(method: GANomaly, test: Test) -> float:
    images, is_anomalous = test
    with eval_mode(method):
        scores = torch.cat([method.predict(x).score for x in torch.split(images, 250)])
    auroc = image_auroc(scores.numpy(), is_anomalous)
    assert auroc is not None  # both classes are there
    return auroc


def _method(seed: int, size: int) -> GANomaly:
    generator = torch.Generator().manual_seed(seed)
    return GANomaly(GANomalyOptions(), Preprocessing(image_size=size, channels=1), generator).train()


if __name__ == "__main__":
    main()
