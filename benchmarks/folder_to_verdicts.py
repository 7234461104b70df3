"""From a folder of photographs to verdicts: the share of the time that the processor computes rather than waits.

`ganomaly score` runs in a process of its own over JPEG files of 512×512 px. Its share is the processor time of all
its threads, user and system, over wall time × processors. Threads of the networks that wait for one another sleep
here (OMP_WAIT_POLICY=passive), because otherwise they spin and waiting would count as computing. Starting Python and
loading the libraries uses one processor, so the share is also given without the time that one image takes; that time
varies by a second, so there have to be enough images to take many.

Run: python benchmarks/folder_to_verdicts.py [--images 6144] [--rounds 3]
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ganomaly import GANomalyDetector
from image_loading import write_photographs
from machine import describe_machine

PRESETS = {"paper": 32, "small": 32}  # and the side of the network input


class Seconds(NamedTuple):
    """Seconds that a process took."""

    wall: float
    processor: float


def score(model: Path, images: Path, out: Path) -> Seconds:
    """Score a folder in a process of its own."""
    command = [sys.executable, "-m", "ganomaly", "score", str(model), str(images), "--out", str(out)]
    start = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        command,
        os.environ | {"OMP_WAIT_POLICY": "passive"},
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"ganomaly score ended with status {os.waitstatus_to_exitcode(status)}")
    return Seconds(time.perf_counter() - start, usage.ru_utime + usage.ru_stime)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=6144)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    processors = len(os.sched_getaffinity(0))
    print(describe_machine())
    print(f"{arguments.images} JPEG files of 512×512 px, seed 0; medians of {arguments.rounds} runs")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n in (1, arguments.images):
            (folder / f"{n}").mkdir()
            write_photographs(folder / f"{n}", n)
        for preset, size in PRESETS.items():
            model, out = folder / f"{preset}.safetensors", folder / "verdicts.csv"
            noise = np.random.default_rng(1).integers(0, 255, (200, size, size, 3), dtype=np.uint8)
            GANomalyDetector(preset, epochs=1, image_size=size, false_alarm_rate=0.05).fit(noise).save(model)
            shares, shares_after_start = [], []
            for _ in range(arguments.rounds):
                one = score(model, folder / "1", out)
                many = score(model, folder / f"{arguments.images}", out)
                shares.append(many.processor / many.wall / processors)
                shares_after_start.append(
                    (many.processor - one.processor) / (many.wall - one.wall) / processors
                )
            rate = arguments.images / many.wall
            print(
                f"{preset:6} computing {statistics.median(shares):.0%} of the time of {processors} processors, "
                f"{statistics.median(shares_after_start):.0%} once started; {rate:.0f} images/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
