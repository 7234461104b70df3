"""`fit`, `evaluate` and `score` from and to a bucket: are results those of local files, and what is read how often?

The bucket is that of moto's S3 server on this machine, behind a proxy that counts the bytes of contents and injects
faults: errors 500, contents cut in the middle, and slow answers, each in a third of the share. Everything runs once
without faults and once with them. A line for each command: what of the bucket it needs, what it read, its requests,
and whether model, figures, rows and maps are those of local files, bit for bit.

Run: python benchmarks/remote_store.py [--data DATA] [--preset paper] [--epochs 2] [--faults 0.05] [--json FILE]
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faulty_store import BUCKET, FaultyStore, environment, faulty_proxy, s3_server
from ganomaly.data.baggage import write_simulated_baggage
from ganomaly.prediction.model_file import load_model
from ganomaly.remote import RemoteFile, list_files, local_copy, read, stores, upload
from machine import describe_machine

TRAINING, TESTED = ("data/train/",), ("data/test/", "data/ground_truth/")
TOGETHER = ("--devices", "2")


@dataclass(frozen=True)
class Row:
    """What a command read, and what came of it."""

    command: str
    fault_share: float
    needed_files: int
    needed_bytes: int
    read_files: int
    read_bytes: int
    read_twice: int
    requests: dict[str, int]
    faults: int
    seconds: float
    same: bool


class Runs:
    """The commands on local files, and again on a bucket."""

    def __init__(self, data: Path, folder: Path, options: list[str], store: FaultyStore) -> None:
        self.data, self.folder, self.options, self.store = data, folder, options, store

    def local(self) -> None:
        """What comes of local files."""
        self._run("fit", self.data, "--model", "model.safetensors", *self.options)
        self._run("fit", self.data, "--model", "together.safetensors", *self.options, *TOGETHER)
        self._run("evaluate", "model.safetensors", self.data, "--json", "local.json")
        self._run("score", "model.safetensors", self.data / "test", "--out", "local.csv", "--maps", "maps")

    def remote(self, number: int, share: float) -> list[Row]:
        """The same from and to a bucket; outputs are called by `number`."""
        bucket = RemoteFile(f"s3://{BUCKET}")
        data, out = bucket / "data", bucket / f"out-{number}"
        model, maps = out / "model.safetensors", out / "maps"
        rows = []

        def run(needed: tuple[str, ...], *command: object) -> None:
            files = {
                f"/{BUCKET}/{stored.name}": stored.size
                for stored in list_files(bucket)
                if stored.name.startswith(needed)
            }
            self.store.reset(fail=share / 3, cut=share / 3, slow=share / 3)
            start = time.perf_counter()
            self._run(*command)
            seconds, counted = time.perf_counter() - start, dict(self.store.read_bytes)
            requests, faults = dict(self.store.requests), self.store.faults
            self.store.reset()
            name = f"{command[0]} --devices 2" if command[-2:] == TOGETHER else str(command[0])
            rows.append(
                Row(
                    command=name,
                    fault_share=share,
                    needed_files=len(files),
                    needed_bytes=sum(files.values()),
                    read_files=len(counted),
                    read_bytes=sum(counted.values()),
                    read_twice=sum(size > files.get(name, 0) for name, size in counted.items()),
                    requests=requests,
                    faults=faults,
                    seconds=round(seconds, 1),
                    same=self._same(name, out),
                )
            )
            print(json.dumps(asdict(rows[-1])), flush=True)

        named = (f"out-{number}/model",)
        run(TRAINING, "fit", data, "--model", model, *self.options)
        run(TRAINING, "fit", data, "--model", out / "together.safetensors", *self.options, *TOGETHER)
        run(named + TESTED, "evaluate", model, data, "--json", out / "figures.json")
        written = ("--out", out / "verdicts.csv", "--maps", maps, "--report", out / "report.html")
        run(named + TESTED[:1], "score", model, data / "test", *written)
        return rows

    def _run(self, *command: object) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "ganomaly", *map(str, command)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"ganomaly {command[0]} ended with {done.returncode}: {done.stderr}")

    def _same(self, command: str, out: RemoteFile) -> bool:
        """Whether what a command wrote to the bucket is what it wrote here."""
        if command.startswith("fit"):
            model = "model.safetensors" if command == "fit" else "together.safetensors"
            with local_copy(out / model) as copy:
                remote = load_model(copy)
            local = load_model(self.folder / model)
            weights, expected = remote.method.state_dict(), local.method.state_dict()
            return (
                np.array_equal(remote.calibration.scores, local.calibration.scores)
                and weights.keys() == expected.keys()
                and all(bool((weights[name] == expected[name]).all()) for name in expected)
            )
        if command == "evaluate":
            text = (self.folder / "local.json").read_text()
            return bool(json.loads(read(out / "figures.json")) == json.loads(text))
        with local_copy(out / "verdicts.csv") as copy:
            rows_are = _verdicts(copy) == _verdicts(self.folder / "local.csv")
        here = {
            path.relative_to(self.folder / "maps").as_posix(): path.read_bytes()
            for path in (self.folder / "maps").rglob("*.*")
        }
        there = {stored.name: read(out / "maps" / stored.name) for stored in list_files(out / "maps")}
        return rows_are and here == there and b"</html>" in read(out / "report.html")


def _verdicts(path: Path) -> list[dict[str, str]]:
    """The rows of a table, with the folder and the name of an image alone."""
    with path.open(newline="") as file:
        return [row | {"path": "/".join(row["path"].split("/")[-2:])} for row in csv.DictReader(file)]


def measure(data: Path, folder: Path, options: list[str], share: float) -> list[Row]:
    """A row for each command, without faults and with them."""
    import boto3

    with s3_server() as server, faulty_proxy(server) as store:
        os.environ |= environment(store.url)
        stores._s3.cache_clear()
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        for path in sorted(data.rglob("*.*")):
            upload(path, RemoteFile(f"s3://{BUCKET}/data/{path.relative_to(data).as_posix()}"))
        runs = Runs(data, folder, options, store)
        runs.local()
        return [row for number, faults in enumerate((0.0, share)) for row in runs.remote(number, faults)]


def main() -> None:
    """Measure, print and note."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a folder in MVTec AD layout; by default simulated bags")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--faults", type=float, default=0.05, help="share of requests that go wrong")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    print(describe_machine(), flush=True)
    options = ["--preset", arguments.preset, "--epochs", str(arguments.epochs), "--precision", "fp32"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = (arguments.data or folder / "bags").resolve()
        if arguments.data is None:
            write_simulated_baggage(data, n_train=160, n_test_normal=40, n_test_per_threat=20)
        rows: list[dict[str, Any]] = [
            asdict(row)
            for row in measure(data, folder, [*options, "--false-alarm-rate", "0.1"], arguments.faults)
        ]
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    if any(row["read_twice"] or not row["same"] for row in rows):
        raise SystemExit("something was read twice, or is not what local files gave")


if __name__ == "__main__":
    main()
