"""Training speed: the package's step against the plain loop, alternating in one process.

Matrix throughput is the floating-point operations of the step's convolutions and products, forward and backward, from
PyTorch's FLOP counter, divided by the time of the whole step. It is compared with one large matrix product in the
same precision, measured in the same rounds.

Run: python benchmarks/training_speed.py [--size 32] [--steps 20] [--rounds 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from ganomaly.config import Precision, Preprocessing
from ganomaly.devices import choose_device, choose_precision, make_fabric
from ganomaly.methods.base import Step
from ganomaly.methods.ganomaly import GANomaly, GANomalyOptions
from ganomaly.tensors import in_channels_last
from ganomaly.training.ranks import Ranks, SharedPrecision
from machine import describe_machine
from plain_loop import plain_optimizers, plain_step, with_plain_convolutions

BATCH = 64
PRODUCT = 2048  # side of the large matrices


def plain(size: int, channels: int) -> Callable[[], object]:
    """A step of the plain loop."""
    method, x = with_plain_convolutions(_method(size, channels)), _images(size, channels)
    optimizers = plain_optimizers(method)
    return lambda: plain_step(method, x, optimizers)


def package(size: int, channels: int, precision: Precision) -> Callable[[], object]:
    """A step as `ganomaly fit` takes it: channels last, fused Adam."""
    fabric = make_fabric(choose_device("cpu"), precision)
    method = in_channels_last(_method(size, channels))
    x = _images(size, channels).contiguous(memory_format=torch.channels_last)
    optimizers = method.optimizers()
    return lambda: method.training_step(x, optimizers, SharedPrecision(fabric, Ranks()), Step(0, 1))


def flop(step: Callable[[], object]) -> int:
    """Floating-point operations of a step's convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def large_product(precision: str) -> Callable[[], object]:
    """A large matrix product in the precision of training."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.rand(PRODUCT, PRODUCT, dtype=dtype) for _ in "lr")
    return lambda: left @ right


def _method(size: int, channels: int) -> GANomaly:
    preprocessing = Preprocessing(image_size=size, channels=channels)
    return GANomaly(GANomalyOptions(), preprocessing, torch.Generator().manual_seed(0)).train()


def _images(size: int, channels: int) -> torch.Tensor:
    return torch.rand(BATCH, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def per_second(step: Callable[[], object], steps: int) -> float:
    """Steps per second."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return steps / (time.perf_counter() - start)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    arguments = parser.parse_args()

    precision = choose_precision(arguments.precision, choose_device("cpu"))
    steps = {
        "plain loop": plain(arguments.size, arguments.channels),
        "ganomaly": package(arguments.size, arguments.channels, precision),
    }
    for step in steps.values():
        per_second(step, 3)  # warm up
    product, products = large_product(precision), []
    speeds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            speeds[name].append(BATCH * per_second(step, arguments.steps))
        products.append(2 * PRODUCT**3 * per_second(product, arguments.steps))

    print(describe_machine())
    print(
        f"preset paper, {arguments.size} px, {arguments.channels} channel(s), batch {BATCH}, seed 0, {precision}; "
        f"medians of {arguments.rounds} alternating runs of {arguments.steps} steps"
    )
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, median in medians.items():
        spread = f"{min(speeds[name]):.0f}–{max(speeds[name]):.0f}"
        print(f"{name:12} {median:6.0f} images/s ({spread})  {median / medians['plain loop']:.2f}×")

    step_flop = flop(steps["ganomaly"])
    best, seconds = statistics.median(products), BATCH / medians["ganomaly"]
    print(
        f"{step_flop / 1e9:.1f} GFLOP in a step: {step_flop / seconds / 1e9:.0f} GFLOP/s, "
        f"{step_flop / seconds / best:.0%} of the {best / 1e9:.0f} GFLOP/s of a product of {PRODUCT}×{PRODUCT} "
        "matrices"
    )


if __name__ == "__main__":
    main()
