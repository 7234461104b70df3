"""AnoGAN's search: a batch of 64 at once against its images one by one.

One by one is measured twice: as the package searches a single image, in a batch filled up with copies of it, so that
its score does not depend on its batch; and as a plain loop would, in a batch of one. Of the 64 images only the first
are searched one by one; their median time is taken for the others.

Run: python benchmarks/anogan_search.py [--steps 500] [--alone 3]
"""

import argparse
import statistics
import time

import torch
from torch import Tensor

from ganomaly.config import Preprocessing
from ganomaly.methods import anogan
from ganomaly.prediction.pytorch import eval_mode
from machine import describe_machine

BATCH = 64


def time_search(method: anogan.AnoGAN, x: Tensor) -> float:
    """Seconds of one search."""
    start = time.perf_counter()
    with eval_mode(method):
        method.search(x)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--alone", type=int, default=3, help="images searched one by one")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    random = torch.Generator().manual_seed(0)
    options = anogan.AnoGANOptions(search_steps=arguments.steps)
    method = anogan.AnoGAN(options, Preprocessing(image_size=arguments.size, channels=1), random)
    x = torch.rand(BATCH, 1, arguments.size, arguments.size, generator=random) * 2 - 1
    filled = anogan.SEARCH_BATCH_ON_PROCESSOR
    batch_times, single_times, plain_times = [], [], []
    for _ in range(arguments.rounds):
        batch_times.append(time_search(method, x))
        single_times += [time_search(method, image) for image in torch.split(x[: arguments.alone], 1)]
        anogan.SEARCH_BATCH_ON_PROCESSOR = 1  # what a plain loop does
        plain_times += [time_search(method, image) for image in torch.split(x[: arguments.alone], 1)]
        anogan.SEARCH_BATCH_ON_PROCESSOR = filled
    print(describe_machine())
    print(f"AnoGAN, {arguments.size} px, 1 channel, {arguments.steps} steps, fp32")
    batch = statistics.median(batch_times)
    print(f"64 at once                              {batch:7.1f} s")
    for name, values in (
        ("one by one, as the package does", single_times),
        ("one by one, in batches of one", plain_times),
    ):
        single = statistics.median(values)
        print(f"{name:35} 64 × {single:5.2f} s = {BATCH * single:7.1f} s  {BATCH * single / batch:5.1f}×")


if __name__ == "__main__":
    main()
