"""How near the hardware's limit our work is: arithmetic, bytes, share of the machine's peak, and what the rest is.

Peaks are measured in the same rounds: a product of two 2048×2048 matrices in fp32 and in bf16, and a copy of 256 MB.
*At peak* is the time that the work's convolutions and products would take at the peak of its precision, *traffic* the
time that its operators' inputs and outputs would take at the speed of the copy, were nothing in a cache: the larger
is a limit for code without fusion. *Networks* runs the method alone, *whole* all from pixels to verdict and map. The
last lines name the operators in which a profiler finds the time of the networks, or of the training step.

Run: python benchmarks/limit.py [--rounds 7] [--clock wall] [--json FILE]
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch

from ganomaly import GANomalyDetector
from ganomaly.config import Preprocessing
from ganomaly.data import open_images
from ganomaly.devices import choose_device, choose_precision, make_fabric
from ganomaly.methods import Step, find_preset
from ganomaly.prediction.model import Model
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.tensors import in_channels_last, network_input
from ganomaly.training.ranks import Ranks, SharedPrecision
from machine import describe_load, describe_machine
from operator_counts import Needs, count, top_operators

PRODUCT = 2048  # side of the large matrices
COPIED = 2**28  # bytes
SIZE = 256
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
Work = Callable[[], object]


class Task(NamedTuple):
    """Some work, the precision of its arithmetic, and what it needs."""

    work: Work
    precision: str
    counted: Work


def prediction_tasks(preset: str) -> dict[str, Task]:
    """Predicting one gray image, trained briefly on noise: the networks alone, and all from pixels to map."""
    images = np.random.default_rng(0).integers(0, 255, (40, SIZE, SIZE), dtype=np.uint8)
    model = GANomalyDetector(preset, epochs=1, false_alarm_rate=0.1).fit(images).model_
    assert isinstance(model, Model)
    dataset = open_images(images[:1])
    preprocessing = model.preprocessing
    size = preprocessing.image_size if preprocessing.scale is None else SIZE
    pixels = np.ascontiguousarray(images[:1, :size, :size, np.newaxis])
    x = network_input(pixels, preprocessing.white_level, torch.device("cpu"))

    def networks() -> object:
        with eval_mode(model.method):
            return model.method.predict(x)

    def counted() -> object:
        with torch.no_grad():  # an inference tensor passes by the counters
            return model.method.eval().predict(x)

    def whole() -> object:
        return list(model.predict(dataset, details=True))

    return {
        f"predict, {preset}, networks": Task(networks, "fp32", counted),
        f"predict, {preset}, whole": Task(whole, "fp32", counted),
    }


def training_task(preset: str) -> Task:
    """A training step as `ganomaly fit` takes it on gray images, with the preset's batch."""
    device = choose_device("cpu")
    precision = choose_precision("auto", device)
    fabric = make_fabric(device, precision)
    method_type, configuration = find_preset(preset)
    patches = configuration.patches
    size = 32 if patches is None else patches.patch_size
    preprocessing = Preprocessing(image_size=size, channels=1, scale=None if patches is None else 1.0)
    generator = torch.Generator().manual_seed(0)
    method = in_channels_last(method_type(configuration.options.completed(), preprocessing, generator))
    method.load_pretrained()
    x = torch.rand(configuration.training.batch_size, 1, size, size, generator=generator) * 2 - 1
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        method.eval().fit_scales(x)
    method.train()
    optimizers = method.optimizers()

    def step() -> object:
        return method.training_step(x, optimizers, SharedPrecision(fabric, Ranks()), Step(1, 100))

    return Task(step, precision, step)


def peaks() -> dict[str, tuple[Work, float]]:
    """The peaks to measure, each with its floating-point operations or bytes."""
    works: dict[str, tuple[Work, float]] = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = torch.rand(2, PRODUCT, PRODUCT).to(kind)
        works[name] = (partial(torch.matmul, left, right), 2.0 * PRODUCT**3)
    source = torch.ones(COPIED // 4)
    target = torch.empty_like(source)
    works["copy"] = (lambda: target.copy_(source), 2.0 * COPIED)
    return works


def seconds_of(work: Work, clock: Callable[[], float], least: float = 0.2) -> float:
    """Mean time of as many runs as take `least` seconds, after one that does not count."""
    work()
    start, runs = clock(), 0
    while runs == 0 or clock() - start < least:
        work()
        runs += 1
    return (clock() - start) / runs


def row(name: str, task: Task, needs: Needs, seconds: float, peak: dict[str, float]) -> dict[str, Any]:
    """What a task needs, took, and how near the limit it is."""
    return {
        "work": name,
        "precision": task.precision,
        "gflop": needs.flop / 1e9,
        "megabytes": needs.n_bytes / 1e6,
        "ms": 1000 * seconds,
        "at_peak_ms": 1000 * needs.flop / peak[task.precision],
        "traffic_ms": 1000 * needs.n_bytes / peak["copy"],
        "share_of_peak": needs.flop / peak[task.precision] / seconds,
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--presets", type=str.split, default=["features", "patches", "paper"])
    parser.add_argument("--trained", type=str.split, default=["paper", "features"])
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="processor: for one thread beside other programs"
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    arguments = parser.parse_args()
    clock = CLOCKS[arguments.clock]
    print(describe_machine(), describe_load(), sep="\n", flush=True)
    tasks: dict[str, Task] = {}
    for preset in arguments.presets:
        tasks |= prediction_tasks(preset)
    tasks |= {f"training step, {preset}": training_task(preset) for preset in arguments.trained}
    needs = {name: count(task.counted) for name, task in tasks.items()}
    measured = peaks()
    times: dict[str, list[float]] = {name: [] for name in (*measured, *tasks)}
    for _ in range(arguments.rounds):
        for name, (work, _) in measured.items():
            times[name].append(seconds_of(work, clock))
        for name, task in tasks.items():
            times[name].append(seconds_of(task.work, clock))
    peak = {name: amount / median(times[name]) for name, (_, amount) in measured.items()}
    print(
        f"peaks: {peak['fp32'] / 1e9:.0f} GFLOP/s in fp32, {peak['bf16'] / 1e9:.0f} in bf16, "
        f"{peak['copy'] / 1e9:.1f} GB/s copied; medians of {arguments.rounds} alternating rounds, "
        f"{arguments.clock} time; {describe_load()}"
    )
    rows = [row(name, task, needs[name], median(times[name]), peak) for name, task in tasks.items()]
    print("| work | GFLOP | MB | ms | at peak, ms | traffic, ms | share of peak |\n" + "| --- " * 7 + "|")
    for values in rows:
        print(
            f"| {values['work']}, {values['precision']} | {values['gflop']:.2f} | {values['megabytes']:,.0f} "
            f"| {values['ms']:.1f} | {values['at_peak_ms']:.1f} | {values['traffic_ms']:.1f} "
            f"| {values['share_of_peak']:.0%} |"
        )
    for values, (name, task) in zip(rows, tasks.items(), strict=True):
        if not name.endswith("whole"):
            operators = values["operators"] = top_operators(task.work, 5)
            print(f"{name}: {', '.join(f'{operator} {share:.0%}' for operator, share in operators)}")
    if arguments.json is not None:
        machine = {"machine": describe_machine(), "peak": peak, "load": describe_load()}
        arguments.json.write_text("".join(json.dumps(values | machine) + "\n" for values in rows))


if __name__ == "__main__":
    main()
