"""From the shell to the verdict on one image: `ganomaly score`, over Python that imports the base library alone.

Whole processes in alternating runs, files in the system's cache: `ganomaly score` of one gray JPEG with a model file,
and with exported graphs, beside `python -c "import numpy"` and `python -c "import torch"`.

Run: python benchmarks/shell_to_verdict.py [--preset features] [--size 256] [--rounds 10]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from latency import FILES, write_image, write_models
from machine import describe_load, describe_machine

BASES = {"numpy": "import numpy", "torch": "import torch"}


def seconds(*arguments: str) -> float:
    """Of a Python process that succeeds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="features")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_models(folder, arguments.preset, arguments.size)
        image, verdict = folder / "image.jpg", str(folder / "verdict.csv")
        write_image(image, arguments.size)
        runs: dict[str, tuple[str, ...]] = {base: ("-c", code) for base, code in BASES.items()}
        for runtime, file in FILES.items():
            runs[runtime] = ("-m", "ganomaly", "score", str(folder / file), str(image), "--out", verdict)
        for run in runs.values():
            seconds(*run)  # into the system's cache
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(arguments.rounds):
            for name, run in runs.items():
                times[name].append(seconds(*run))
    print(describe_machine(), describe_load(), sep="\n")
    print(
        f"preset {arguments.preset}, one gray JPEG of {arguments.size} px; medians of {arguments.rounds} runs"
    )
    medians = {name: statistics.median(values) for name, values in times.items()}
    for base, code in BASES.items():
        print(f'python -c "{code}": {medians[base]:.2f} s')
    for runtime in FILES:
        base = "torch" if runtime == "PyTorch" else "numpy"
        spread = f"{min(times[runtime]):.2f}–{max(times[runtime]):.2f}"
        over = medians[runtime] - medians[base]
        print(f"{runtime:20} {medians[runtime]:.2f} s ({spread}), +{over:.2f} s over {base}")


if __name__ == "__main__":
    main()
