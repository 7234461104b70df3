"""This package beside anomalib, on one machine, in alternating runs.

One gray image of 256×256 px to score and map, 64 images, time to a fitted model on as many images as there are normal
magnetic tiles, of their sizes, memory at the peak and file size. Each system is a process of its own; the peers have
an environment of their own (`peer_environment.py`), made in `--environment` at the first run.

The weights of the peers are random (`anomalib_systems.py`), and ours are trained briefly. Threads wait alike
in all processes. The time of a peer's training follows from a part of it and is marked `~`; ours is that of `ganomaly
fit` from the shell to the file. To measure it takes as long as it says: `--fit ''` leaves it out.

Processor time is that of all threads; on a machine with other work, run with OMP_NUM_THREADS=1 and read that column.

Run: make bench-peers, or python benchmarks/peers.py [--rounds 7] [--fit features] [--json FILE]
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from ganomaly.commands.process import SPINS
from machine import describe_load, describe_machine
from own_systems import FILES
from peer_environment import peer_interpreter
from workers import Worker, WorkerError

HERE = Path(__file__).parent
PRESETS = ("features", "patches", "paper")
PEERS = (
    ("PatchCore wide_resnet50_2 0.1", "pytorch"),
    ("PatchCore wide_resnet50_2 0.01", "pytorch"),
    ("PatchCore resnet18 0.1", "pytorch"),
    ("PatchCore resnet18 0.01", "pytorch"),
    ("PatchCore resnet18 0.01", "openvino"),
    ("EfficientAD-S", "pytorch"),
    ("EfficientAD-S", "openvino"),
    ("GANomaly", "pytorch"),
    ("GANomaly", "openvino"),
)
"""Names that `anomalib_systems.py` knows, and a runtime."""
FITTED = ("PatchCore resnet18 0.1", "PatchCore resnet18 0.01", "EfficientAD-S", "GANomaly")
"""Whose training is measured; the features of a WideResNet-50 of all tiles alone take 5 GB."""
QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
WIDTHS = (103, 124, 216, 272, 485, 600, 618)
HEIGHTS = (222, 252, 282, 328, 360, 377, 388)
"""Sides of the 761 normal images of the magnetic tiles."""

Row = dict[str, Any]


def write_tiles(folder: Path, n: int) -> None:
    """Write n gray JPEG files of the sizes of the magnetic tiles, with a smooth texture."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(n):
        width, height = (
            round(float(np.interp(rng.random(), QUANTILES, sides))) for sides in (WIDTHS, HEIGHTS)
        )
        coarse = Image.fromarray(rng.integers(90, 160, (height // 8, width // 8), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
        noisy = (pixels + rng.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:04}.jpg", quality=90)


def fit_from_shell(folder: Path, preset: str) -> Row:
    """Seconds and peak memory of `ganomaly fit`, and the size of its file."""
    model = folder / f"fitted-{preset}.safetensors"
    command = [sys.executable, "-m", "ganomaly", "fit", str(folder / "tiles"), "--model", str(model)]
    start = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(sys.executable, [*command, "--preset", preset], os.environ, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"ganomaly fit ended with status {os.waitstatus_to_exitcode(status)}")
    return {"fit_seconds": time.perf_counter() - start, "fit_peak_megabytes": usage.ru_maxrss / 1024}


@contextmanager
def workers(folder: Path, arguments: argparse.Namespace) -> Iterator[list[Worker]]:
    """A process for each system, ours first."""
    started: list[Worker] = []
    try:
        for preset in arguments.presets:
            for runtime, file in FILES.items():
                options = ("--model", str(folder / preset / file), "--channels", str(arguments.channels))
                started.append(
                    Worker(
                        f"{preset}, {runtime}", sys.executable, HERE / "own_systems.py", *options, spins=SPINS
                    )
                )
        if arguments.peers:
            interpreter = peer_interpreter(arguments.environment)
            for name, runtime in PEERS:
                if not re.search(arguments.peers, name):
                    continue
                peer = (name, "--runtime", runtime, "--training-images", str(arguments.images))
                started.append(
                    Worker(
                        f"anomalib {name}, {runtime}",
                        interpreter,
                        HERE / "anomalib_systems.py",
                        *peer,
                        spins=SPINS,
                    )
                )
        yield started
    finally:
        for worker in started:
            worker.close()


def measure(systems: Sequence[Worker], arguments: argparse.Namespace) -> list[Row]:
    """A row for each system: medians of alternating runs."""
    rows: list[Row] = []
    able: list[Worker] = []
    for worker in systems:
        try:
            rows.append({"system": worker.name} | worker.ask("describe"))
            able.append(worker)
        except WorkerError as error:
            print(f"left out: {error}", file=sys.stderr)
    times: list[list[float]] = [[] for _ in able]
    processor: list[list[float]] = [[] for _ in able]
    for number in range(arguments.rounds):
        for worker, values, computing in zip(able, times, processor, strict=True):
            answer = worker.ask("predict")
            values.append(1000 * answer["seconds"])
            computing.append(1000 * answer["processor_seconds"])
        print(f"round {number + 1} of {arguments.rounds}; {describe_load()}", file=sys.stderr, flush=True)
    for worker, values, computing, row in zip(able, times, processor, rows, strict=True):
        row |= {"one_ms": median(values), "one_ms_range": [min(values), max(values)]}
        row["one_processor_ms"] = median(computing)
        answer = worker.ask("predict", images=arguments.many, warm_up=0)
        row |= {"many_seconds": answer["seconds"], "peak_megabytes": answer["peak_megabytes"]}
        print(json.dumps(row), file=sys.stderr, flush=True)
    if arguments.peer_fits:
        for worker, row in zip(able, rows, strict=True):
            name = worker.name.removeprefix("anomalib ").rpartition(", ")[0]
            if name in FITTED and worker.name.endswith("pytorch"):
                answer = worker.ask("fit")
                row |= {"fit_seconds": answer["seconds"], "fit_peak_megabytes": answer["peak_megabytes"]}
    return rows


def print_table(rows: Sequence[Row], n_many: int) -> None:
    """The rows as a table; what was not measured is empty."""
    base, base_processor = rows[0]["one_ms"], rows[0]["one_processor_ms"]
    print(
        "| system | one image, ms (least–most) | over the first row | processor time, ms | over the first row "
        f"| {n_many} images, s | peak, MB | file, MB | fit, s | peak of fit, MB |\n" + "| --- " * 10 + "|"
    )
    for row in rows:
        least, most = row["one_ms_range"]
        mark = "~" if row["system"].startswith("anomalib") else ""
        fit = f"{mark}{row['fit_seconds']:,.0f}" if "fit_seconds" in row else ""
        fit_peak = f"{row['fit_peak_megabytes']:,.0f}" if "fit_peak_megabytes" in row else ""
        print(
            f"| {row['system']} | {row['one_ms']:,.1f} ({least:,.1f}–{most:,.1f}) | {row['one_ms'] / base:.2f} "
            f"| {row['one_processor_ms']:,.1f} | {row['one_processor_ms'] / base_processor:.2f} "
            f"| {row['many_seconds']:.2f} | {row['peak_megabytes']:,.0f} | {row['file_megabytes']:.1f} "
            f"| {fit} | {fit_peak} |"
        )


def main() -> None:
    """Measure and print a table."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ganomaly" / "peers"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--many", type=int, default=64, help="images of the second figure")
    parser.add_argument("--images", type=int, default=761, help="training images")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=1, help="of our images")
    parser.add_argument("--presets", type=str.split, default=list(PRESETS), help="names in one argument")
    parser.add_argument("--peers", default=".", help="regular expression of their names; '' for none")
    parser.add_argument("--fit", type=str.split, default=["features"], help="presets to fit; '' for none")
    parser.add_argument(
        "--no-peer-fits", dest="peer_fits", action="store_false", help="leave out the time of their training"
    )
    parser.add_argument("--environment", type=Path, default=cache, help="folder of the peers' environment")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    arguments = parser.parse_args()
    print(describe_machine(), describe_load(), sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for preset in arguments.presets:
            options = [
                "--write",
                str(folder / preset),
                "--preset",
                preset,
                "--channels",
                str(arguments.channels),
            ]
            subprocess.run([sys.executable, str(HERE / "own_systems.py"), *options], check=True)
        with workers(folder, arguments) as systems:
            rows = measure(systems, arguments)
        if arguments.fit:
            write_tiles(folder / "tiles", arguments.images)
        for preset in arguments.fit:
            of_preset = next((row for row in rows if row["system"] == f"{preset}, PyTorch"), None)
            if of_preset is not None:
                of_preset.update(fit_from_shell(folder, preset))
    versions: dict[str, str] = next((row["versions"] for row in rows if "versions" in row), {})
    print(
        f"one image: 256×256 px, {arguments.channels} channel(s), medians of {arguments.rounds} alternating runs; "
        f"fit: {arguments.images} gray JPEG files; GOMP_SPINCOUNT={SPINS}; peers, random weights: {versions}"
    )
    print(describe_load())
    print_table(rows, arguments.many)
    if arguments.json is not None:
        machine = {"machine": describe_machine(), "load": describe_load()}
        arguments.json.write_text("".join(json.dumps(row | machine) + "\n" for row in rows))


if __name__ == "__main__":
    main()
