"""Processes that answer requests over a pipe, one JSON object a line, so that runs of several programs alternate.

Each program may be of an environment of its own; this file needs the standard library alone.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

Answer = Mapping[str, Any]


class WorkerError(RuntimeError):
    """A worker failed; the message is what it said."""


class Worker:
    """A script that runs in a process of its own and answers.

    Parameters
    ----------
    name : str
        What the figures are called.
    interpreter, script : path
        A Python and a script that calls `answer_requests`.
    *arguments : str
        Of the script.
    spins : str or None
        Rounds for which threads of GNU's OpenMP wait before they sleep; None leaves the environment as it is.
    """

    def __init__(
        self, name: str, interpreter: str | Path, script: Path, *arguments: str, spins: str | None
    ) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [str(interpreter), str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ if spins is None else {"GOMP_SPINCOUNT": spins, **os.environ},
        )

    def ask(self, request: str, **values: Any) -> dict[str, Any]:
        """Send a request and wait for its answer; raises `WorkerError` if it fails."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"request": request, **values}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(f"{self.name} ended early") from None
        line = self.process.stdout.readline()
        if not line:
            raise WorkerError(f"{self.name} ended with status {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        self.process.wait()


def answer_requests(handlers: Mapping[str, Callable[..., Answer]]) -> None:
    """Answer each line of standard input until it ends; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        values = json.loads(line)
        try:
            answer = handlers[values.pop("request")](**values)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def seconds(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def timed(function: Callable[[], object]) -> dict[str, float]:
    """Seconds that a call takes, and those that processors compute for it, which other programs change little."""
    start = time.process_time()
    took = seconds(function)
    return {"seconds": took, "processor_seconds": time.process_time() - start}


def peak_megabytes() -> float:
    """The most memory that this process has had, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
