"""All benchmarks of docs/performance.md, one after the other, in at most a quarter of an hour on two idle processors.

The scripts repeat less here than by default. With `--data`, a folder that holds `mnist` or `magnetic_tile`, the
benchmarks that need data run too, on a part of it.

Run: make bench [DATA=folder]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine

Command = tuple[str | int | Path, ...]

WITHOUT_DATA: tuple[Command, ...] = (
    ("training_speed.py", "--steps", 8),
    ("convolution_layers.py", "--rounds", 4),
    ("scoring_speed.py",),
    ("latency.py", "--repeats", 25),
    ("image_loading.py", "--images", 192, "--epochs", 1),
    ("folder_to_verdicts.py", "--images", 3072),
    ("scoring_memory.py", "--many", 10_000),
    ("anogan_search.py", "--steps", 60, "--alone", 2),
)


def with_data(data: Path, rows: Path) -> list[Command]:
    """The benchmarks that run on the data sets that are there."""
    commands: list[Command] = []
    mnist, parts = data / "mnist", data / "magnetic_tile"
    if mnist.is_dir():
        part: Command = ("--train-images", 6_400, "--test-images", 1_000)
        commands.append(("time_to_auroc.py", "--data", mnist, "--out", rows / "time_to_auroc.jsonl", *part))
        part = ("--train-images", 1_280, "--test-images", 1_000, "--seeds", 0)
        commands.append(
            ("accuracy_retained.py", "--mnist", mnist, "--out", rows / "accuracy_retained.jsonl", *part)
        )
    if parts.is_dir():
        commands.append(
            (
                "accuracy_retained.py",
                "--parts",
                parts,
                "--out",
                rows / "accuracy_retained.jsonl",
                "--seeds",
                0,
            )
        )
    return commands


def main() -> None:
    """Run each script in a process of its own and stop at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder that holds mnist or magnetic_tile")
    arguments = parser.parse_args()
    print(describe_machine(), flush=True)
    first_start = time.perf_counter()
    with tempfile.TemporaryDirectory() as rows:
        data_commands = [] if arguments.data is None else with_data(arguments.data, Path(rows))
        for script, *options in (*WITHOUT_DATA, *data_commands):
            print(f"\n== {script} {' '.join(map(str, options))}", flush=True)
            start = time.perf_counter()
            path = str(Path(__file__).parent / str(script))
            subprocess.run([sys.executable, path, *map(str, options)], check=True)
            print(f"({time.perf_counter() - start:.0f} s)", flush=True)
    print(f"\nall benchmarks took {(time.perf_counter() - first_start) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
