"""Runs commands under faults, and compares what they leave with what an undisturbed run leaves."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image

SEED = int(os.environ.get("GANOMALY_FAULTS_SEED", "0"))
LONG = "GANOMALY_FAULTS" in os.environ
LAYER_SOURCE = Path(__file__).with_name("file_layer.c")
TRACEBACKS = ("Traceback (most recent call last)", "this is a bug in ganomaly")
VARIABLE_COLUMNS = ("train_seconds", "score_ms_per_batch")
"""Of a benchmark; everything else follows from the seed."""
VARIABLE_FILES = ("run_time.png",)


def tries(short: int) -> int:
    """How many tries a test makes: GANOMALY_FAULTS, or `short` without it."""
    return int(os.environ.get("GANOMALY_FAULTS", short))


def chosen(names: Sequence[str], *short: str) -> list[str]:
    """All names in the long version, these in the short one."""
    return [name for name in names if LONG or name in short]


def seeded(name: str) -> random.Random:
    return random.Random(f"{SEED} {name}")


def report(test: str, **numbers: object) -> None:
    """Print numbers for the table in docs/reliability.md; `make faults` shows them."""
    print(f"\n{json.dumps({'test': test, **numbers})}")


@dataclass(frozen=True)
class Result:
    """How one run ended."""

    status: int
    seconds: float
    timed_out: bool
    text: str

    @property
    def operations(self) -> int:
        return int(self.text.rpartition("operations: ")[2])

    def check_in_words(self) -> None:
        """No traceback, no hang."""
        assert not self.timed_out, f"hung\n{self.text}"
        assert not any(words in self.text for words in TRACEBACKS), self.text


class Runner:
    """A process that has imported everything and runs commands in forks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.layer = _compiled_layer(folder)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        if self.layer is not None:
            environment["LD_PRELOAD"] = str(self.layer)
        command = [sys.executable, str(Path(__file__).with_name("runner.py"))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._read() == "ready"

    def run(self, argv: Sequence[object], **options: Any) -> Result:
        return self.run_together([(argv, options)])[0]

    def run_together(self, runs: Sequence[tuple[Sequence[object], dict[str, Any]]]) -> list[Result]:
        requests = [
            {
                "argv": [str(argument) for argument in argv],
                "log": str(self._folder / f"log{number}.txt"),
                "limit": 300,
            }
            | options
            for number, (argv, options) in enumerate(runs)
        ]
        assert self._process.stdin is not None
        print(json.dumps(requests), file=self._process.stdin, flush=True)
        return [
            Result(**answer, text=Path(request["log"]).read_text(errors="replace"))
            for request, answer in zip(requests, self._read(), strict=True)
        ]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the runner has ended with status {self._process.wait(timeout=60)}"
        return json.loads(line)


def _compiled_layer(folder: Path) -> Path | None:
    """The injected file layer, or None where there is no C compiler or no LD_PRELOAD."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "file_layer.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, LAYER_SOURCE, "-ldl"], check=True)
    return library


class Undisturbed(NamedTuple):
    """A run without faults: how long it took, how many operations on files it made, what it left."""

    seconds: float
    operations: int
    largest_file: int
    all_files: int
    results: dict[str, str]


@dataclass
class Command:
    """A command with state, and how to compare its results.

    `arguments` gets the folder of the outputs; `variable` names outputs whose content has times in it.
    """

    name: str
    arguments: Callable[[Path], list[object]]
    options: dict[str, Any] = field(default_factory=dict)
    variable: tuple[str, ...] = ()


def write_inputs(folder: Path) -> Path:
    """A dataset folder in MVTec AD layout of small gray images, with masks."""
    from images import textures, write_images

    root = folder / "parts"
    write_images(root / "train" / "good", textures(48))
    write_images(root / "test" / "good", textures(6, seed=5))
    write_images(root / "test" / "blob", textures(6, seed=6, blob=True))
    masks = (np.zeros((6, 32, 32)) + (np.hypot(*(np.mgrid[:32, :32] - 16)) < 5) * 255).astype(np.uint8)
    write_images(root / "ground_truth" / "blob", masks, suffix="_mask.png")
    return root


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def results(folder: Path, variable: Sequence[str] = ()) -> dict[str, str]:
    """What the files of an output folder say, hidden ones and folders included, without times."""
    return {
        str(path.relative_to(folder)): "folder" if path.is_dir() else _result(path, variable)
        for path in sorted(folder.rglob("*"))
    }


def _result(path: Path, variable: Sequence[str]) -> str:
    check_whole(path)
    if path.name in (*VARIABLE_FILES, *variable):
        return "whole"
    content = path.read_bytes()
    match path.suffix:
        case ".safetensors":  # the weights and scores, without the date in the header
            content = content[8 + int.from_bytes(content[:8], "little") :]
        case ".jsonl" if path.name == "rows.jsonl":
            rows = [json.loads(line) for line in content.splitlines()]
            # rows of cells that failed stay, as a record; those that replace them count
            content = repr([_without_times(row) for row in rows if "error" not in row]).encode()
        case ".json" if b"train_seconds" in content:
            rows = json.loads(content)["rows"]
            content = repr([_without_times(row) for row in rows]).encode()
        case ".csv" if path.name == "rows.csv":
            import csv

            rows = list(csv.DictReader(content.decode().splitlines()))
            content = repr([_without_times(row) for row in rows]).encode()
        case ".npz":
            with np.load(path) as arrays:
                content = repr({name: array.tobytes() for name, array in arrays.items()}).encode()
    return hashlib.sha256(content).hexdigest()


def _without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in VARIABLE_COLUMNS}


def check_visible_files(folder: Path) -> None:
    """Fail if a file is half-written, but for temporary files, which are hidden or in a hidden folder."""
    for path in folder.rglob("*"):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            check_whole(path, rows_may_be_torn=True)


def check_whole(path: Path, *, rows_may_be_torn: bool = False) -> None:  # noqa: PLR0912 - one for each format
    """Fail if a file is half-written."""
    if path.is_dir() or path.name == ".ganomaly.lock":
        return
    content = path.read_bytes()
    match path.suffix:
        case ".png":
            with Image.open(path) as image:
                image.load()
        case ".json":
            json.loads(content)
        case ".jsonl":
            lines = content.split(b"\n")
            if not rows_may_be_torn:
                assert lines[-1] == b"", path
            for line in lines[:-1]:
                json.loads(line)
        case ".csv":
            assert content.endswith(b"\r\n"), path
        case ".html":
            assert content.rstrip().endswith(b"</html>"), path
        case ".safetensors" | ".checkpoint":
            size = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + size])
            end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
            assert len(content) == 8 + size + end, path
        case ".npz":
            with np.load(path) as arrays:
                list(arrays.values())
        case ".npy":
            np.load(path)
        case ".onnx":
            import onnx

            onnx.load(path)
        case ".xml":
            ElementTree.fromstring(content)
            assert path.with_suffix(".bin").exists(), path
