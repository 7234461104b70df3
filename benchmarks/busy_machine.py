"""Latency and time to fit beside a busy program, over those without it, in alternating runs.

The busy program takes one processor of two (half of them where there are more); signals stop and continue it.
Nothing is set by hand: *command* is a process whose threads wait as those of the package's commands do, *program* one
that uses the Python package with its environment as it is. A fit is `ganomaly fit`, from the shell to the file, of 40
noisy images for some epochs. The bar is 2.5 times.

Run: python benchmarks/busy_machine.py [--rounds 5] [--repeats 10] [--epochs 10] [--json FILE]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from ganomaly.commands.process import SPINS
from machine import describe_load, describe_machine
from own_systems import FILES, noise
from workers import Worker

HERE = Path(__file__).parent
BUSY = "while True: pass"


class BusyPrograms:
    """Programs that compute all the time while they are not stopped."""

    def __init__(self, n: int) -> None:
        self.processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n)]
        self._signal(signal.SIGSTOP)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let them run during a block."""
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._signal(signal.SIGSTOP)

    def end(self) -> None:
        """End them."""
        for process in self.processes:
            process.kill()
            process.wait()

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes:
            process.send_signal(number)


def fit_seconds(images: Path, model: Path, preset: str, epochs: int) -> float:
    """Time of `ganomaly fit`."""
    command = [
        sys.executable,
        "-m",
        "ganomaly",
        "fit",
        str(images),
        "--model",
        str(model),
        "--preset",
        preset,
    ]
    command += ["--epochs", str(epochs), "--false-alarm-rate", "0.1"]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def alternating(measures: dict[str, Callable[[], list[float]]], rounds: int, busy: BusyPrograms) -> list[Any]:
    """A row for each measurement: idle, busy, and the ratio of the medians."""
    idle_values: dict[str, list[float]] = {name: [] for name in measures}
    busy_values: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            idle_values[name] += measure()
            with busy.running():
                busy_values[name] += measure()
    rows = []
    for name in measures:
        alone, beside = idle_values[name], busy_values[name]
        rows.append(
            {
                "work": name,
                "idle": median(alone),
                "busy": median(beside),
                "ratio": median(beside) / median(alone),
                "idle_p95": float(np.percentile(alone, 95)),
                "busy_p95": float(np.percentile(beside, 95)),
                "runs": len(alone),
            }
        )
    return rows


def latency_of(worker: Worker, repeats: int) -> Callable[[], list[float]]:
    """Seconds of a number of predictions of one image."""
    return lambda: [worker.ask("predict")["seconds"] for _ in range(repeats)]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="features")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=10, help="predictions in a round")
    parser.add_argument("--epochs", type=int, default=10, help="of the fit")
    parser.add_argument("--fits", type=int, default=2, help="alternating runs of the fit")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    arguments = parser.parse_args()
    n_busy = max(1, len(os.sched_getaffinity(0)) // 2)
    print(describe_machine(), describe_load(), sep="\n", flush=True)
    busy = BusyPrograms(n_busy)
    started: list[Worker] = []
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            (folder / "images").mkdir()
            for number, pixels in enumerate(noise(40, 1)):
                Image.fromarray(pixels[..., 0]).save(folder / "images" / f"{number:02}.png")
            write = ["--write", str(folder), "--preset", arguments.preset]
            subprocess.run([sys.executable, str(HERE / "own_systems.py"), *write], check=True)
            for runtime, file in FILES.items():
                waits = {"command": SPINS, "program": None} if runtime == "PyTorch" else {"program": None}
                for way, spins in waits.items():
                    path = str(folder / file)
                    started.append(
                        Worker(
                            f"one image, {runtime}, {way}",
                            sys.executable,
                            HERE / "own_systems.py",
                            "--model",
                            path,
                            spins=spins,
                        )
                    )
            measures = {worker.name: latency_of(worker, arguments.repeats) for worker in started}
            rows = alternating(measures, arguments.rounds, busy)
            for worker in started:
                worker.close()
            model = folder / "fitted.safetensors"
            fit = {
                f"fit of {arguments.epochs} epochs": lambda: [
                    fit_seconds(folder / "images", model, arguments.preset, arguments.epochs)
                ]
            }
            if arguments.fits:
                rows += alternating(fit, arguments.fits, busy)
    finally:
        busy.end()
        for worker in started:
            worker.close()
    print(
        f"preset {arguments.preset}, 256×256 px, gray; {n_busy} busy program(s); medians of alternating runs; "
        f"{describe_load()}\n| work | idle, ms | busy, ms | ratio | p95 idle, ms | p95 busy, ms | runs |\n"
        + "| --- " * 7
        + "|"
    )
    for row in rows:
        print(
            f"| {row['work']} | {1000 * row['idle']:,.0f} | {1000 * row['busy']:,.0f} | {row['ratio']:.2f} "
            f"| {1000 * row['idle_p95']:,.0f} | {1000 * row['busy_p95']:,.0f} | {row['runs']} |"
        )
    if arguments.json is not None:
        machine = {"machine": describe_machine(), "load": describe_load()}
        arguments.json.write_text("".join(json.dumps(row | machine) + "\n" for row in rows))


if __name__ == "__main__":
    main()
