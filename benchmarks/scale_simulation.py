"""Scoring with Ray, simulated from measured stages: first what was measured with 1 and 2 workers, then what was not.

One process lists and describes the images; workers take parts, read, decode and predict them, and write a file for
each. What is drawn comes from the samples of `scale_stages.py`; what only a real store and a price list can say is an
assumption, an option of this program, and printed.

Run: python benchmarks/scale_stages.py --json stages.json
     python benchmarks/ray_scoring.py speed --json speed.json
     python benchmarks/scale_simulation.py stages.json speed.json
"""

import argparse
import heapq
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ganomaly.cluster.parts import images_per_part
from ganomaly.cluster.scoring import parts_at_once

NAMES_PER_REQUEST = 1000
READS_AT_ONCE = 16


@dataclass(frozen=True)
class Site:
    """Where the images are and what the machines are like.

    Attributes
    ----------
    request_seconds : float
        A store's answer to one request; 0 for a disk.
    reads_per_image : int
        Requests to read an image.
    requests_per_second : float
        That the store answers in all.
    start_seconds : float
        Until a worker has loaded the model.
    overhead : float
        What a worker needs beyond decoding and predicting, as a factor.
    """

    request_seconds: float
    reads_per_image: int
    requests_per_second: float
    start_seconds: float
    overhead: float


@dataclass(frozen=True)
class Outcome:
    """What a simulated run takes, in seconds."""

    listing: float
    describing: float
    total: float
    rate: float


def simulate(measured: dict[str, Any], site: Site, n_images: int, n_workers: int, seed: int = 0) -> Outcome:
    """One run: window after window is described, then scored part by part by whoever is free."""
    generator = np.random.default_rng(seed)
    stages = {name: np.array(values) for name, values in measured["stages"].items()}
    size = images_per_part(n_images, n_workers)
    computing = stages["decode"].mean() + stages["predict"].mean()
    spread = math.sqrt(stages["decode"].var() + stages["predict"].var())
    # reads overlap each other and the computing of the images before; what is left is waited for
    waiting = max(
        site.request_seconds * site.reads_per_image / READS_AT_ONCE,
        n_workers * site.reads_per_image / site.requests_per_second,
    )
    write = size * stages["write, disk"].mean() + site.request_seconds
    requests = math.ceil(n_images / NAMES_PER_REQUEST)
    listing = requests * site.request_seconds + n_images * stages["list, disk"].mean()
    describing = n_images * measured["driver"]["describe_seconds"]
    now, first_done, scored_after_first = listing, math.inf, 0
    at_once = size * parts_at_once(size, n_workers)
    for start in range(0, n_images, at_once):
        window = min(at_once, n_images - start)
        now += window * measured["driver"]["describe_seconds"]
        free = [now + site.start_seconds * generator.uniform(0.8, 1.2) for _ in range(n_workers)]
        heapq.heapify(free)
        for first in range(0, window, size):
            n = min(size, window - first)
            seconds = generator.normal(n * computing, math.sqrt(n) * spread) * site.overhead
            end = heapq.heappop(free) + max(seconds, n * waiting) + write * n / size
            heapq.heappush(free, end)
            first_done = min(first_done, end)
            scored_after_first += n
        now = max(free)
    return Outcome(listing, describing, now, scored_after_first / max(now - listing - describing, 1e-9))


def steady_rate(measured: dict[str, Any], site: Site, n_images: int, n_workers: int) -> float:
    """Images/s without the start of the workers, as `ray_scoring.py` counts them."""
    started = Site(site.request_seconds, site.reads_per_image, site.requests_per_second, 0.0, site.overhead)
    outcome = simulate(measured, started, n_images, n_workers)
    return n_images / (outcome.total - outcome.listing - outcome.describing)


def check(measured: dict[str, Any], speed: dict[str, Any]) -> Site:
    """Fit the one unknown, the overhead of a worker, to 1 worker; print what it says of 2, and what was measured."""
    n_images = int(speed["images"])
    plain = Site(0.0, 1, math.inf, speed["start_seconds"], 1.0)
    overhead = steady_rate(measured, plain, n_images, 1) / speed["rates"]["1"]
    site = Site(0.0, 1, math.inf, speed["start_seconds"], overhead)
    print(
        f"a worker takes {overhead:.2f} times its decoding and predicting alone, from the run with 1 worker"
    )
    for n_workers in (1, 2):
        found, said = speed["rates"][str(n_workers)], steady_rate(measured, site, n_images, n_workers)
        print(
            f"{n_workers} worker(s): measured {found:.0f} images/s, simulated {said:.0f} ({said / found:.2f})"
        )
    return site


def predict(measured: dict[str, Any], site: Site, arguments: argparse.Namespace) -> None:
    """Print a table of hours, money and requests."""
    print(
        f"assumed: {arguments.request_ms} ms and {site.reads_per_image} requests to read an image, "
        f"{arguments.requests_per_second} requests/s in all, {arguments.cores} workers a machine, "
        f"${arguments.core_hour} for a processor and hour, ${arguments.get} and ${arguments.put} for a million reads "
        "and writes"
    )
    print(
        f"{'images':>14} {'workers':>8} {'machines':>9} {'hours':>8} {'images/s':>9} {'driver GB':>10} {'$':>8}"
    )
    for n_images in (10**7, 10**9):
        for n_workers in arguments.workers:
            if n_images / n_workers > 5e7:
                continue
            outcome = simulate(measured, site, n_images, n_workers)
            machines = math.ceil(n_workers / arguments.cores)
            size = images_per_part(n_images, n_workers)
            parts = math.ceil(n_images / size)
            described = min(n_images, size * parts_at_once(size, n_workers))
            reads = n_images * site.reads_per_image
            writes = math.ceil(n_images / NAMES_PER_REQUEST) + parts
            money = (
                machines * arguments.cores * outcome.total / 3600 * arguments.core_hour
                + reads / 1e6 * arguments.get
                + writes / 1e6 * arguments.put
            )
            memory = (
                n_images * measured["driver"]["held_bytes"]
                + described * measured["driver"]["description_bytes"]
            )
            share = (outcome.listing + outcome.describing) / outcome.total
            print(
                f"{n_images:14,} {n_workers:8} {machines:9} {outcome.total / 3600:8.2f} "
                f"{n_images / outcome.total:9.0f} {memory / 1e9:10.1f} {money:8.0f}  {share:.0%} in the driver; "
                f"{reads + writes:,} requests, {n_images * measured['bytes'] / 1e12:.2f} TB"
            )


def main() -> None:
    """Check the simulation, then predict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", type=Path)
    parser.add_argument("speed", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 16, 100, 1000])
    parser.add_argument("--cores", type=int, default=16)
    parser.add_argument("--request-ms", type=float, default=30.0)
    parser.add_argument("--requests-per-second", type=float, default=5500.0)
    parser.add_argument("--core-hour", type=float, default=0.04)
    parser.add_argument("--get", type=float, default=0.4)
    parser.add_argument("--put", type=float, default=5.0)
    arguments = parser.parse_args()
    measured = json.loads(arguments.stages.read_text())
    local = check(measured, json.loads(arguments.speed.read_text()))
    store = Site(
        arguments.request_ms / 1000, 2, arguments.requests_per_second, local.start_seconds, local.overhead
    )
    predict(measured, store, arguments)


if __name__ == "__main__":
    main()
