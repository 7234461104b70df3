"""A command that was killed any number of times, and then runs to its end, leaves what an undisturbed run leaves."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.commands import NAMES
from faults.harness import (
    LONG,
    Command,
    Runner,
    Undisturbed,
    check_visible_files,
    chosen,
    contents,
    report,
    results,
    seeded,
    tries,
)

KILLED = -9
LONGEST_CHAIN = 4  # kills in a row before the command may end


@pytest.mark.parametrize(
    "name",
    chosen(
        NAMES,
        "fit features",
        "fit small",
        "score",
        "evaluate",
        "benchmark",
        "demo",
        "export openvino",
    ),
)
def test_after_any_number_of_kills_the_same_command_gives_the_same_result(
    name: str,
    runner: Runner,
    layer: Path,
    all_commands: dict[str, Command],
    undisturbed: Callable[[str], Undisturbed],
    parts: Path,
    model: Path,
    tmp_path: Path,
) -> None:
    command, whole = all_commands[name], undisturbed(name)
    inputs = contents(parts), model.read_bytes()
    out = tmp_path / "out"
    random, wanted = seeded(name), tries(1)
    kills = resumed = 0
    while kills < wanted:
        out.mkdir()
        for _ in range(min(random.randint(1, LONGEST_CHAIN), wanted - kills)):
            if random.random() < 0.4:
                fault = {"kill_after": random.uniform(0, whole.seconds)}
            else:
                action = random.choice(("kill before", "kill after"))
                fault = {"action": action, "at": random.randint(1, whole.operations), "folder": str(out)}
            killed = runner.run(command.arguments(out), **command.options, **fault)
            killed.check_in_words()
            assert killed.status in {KILLED, 0}, (fault, killed.text)  # a resumed run may end before its time
            kills += killed.status == KILLED
            resumed += "Going on from step" in killed.text
            check_visible_files(out)
        done = runner.run(command.arguments(out), **command.options)
        resumed += "Going on from step" in done.text
        done.check_in_words()
        assert done.status == 0, (kills, fault, done.text)
        assert results(out, command.variable) == whole.results, (kills, fault, done.text)
        assert (contents(parts), model.read_bytes()) == inputs
        shutil.rmtree(out)
    report(name, kills=kills, resumed=resumed, seconds=round(whole.seconds, 2), operations=whole.operations)
    if name.startswith("fit ") and wanted >= 20:
        assert resumed > 0, "no run was resumed; checkpoints come too seldom"


@pytest.mark.skipif(not LONG, reason="takes a minute; `make faults` runs it")
def test_workers_end_with_their_benchmark(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    command = [sys.executable, "-m", "ganomaly", "benchmark", "parts", "--data", parts, "--out", out]
    command += ["--methods", "ganomaly[ngf=4;ndf=4],vae[ngf=4]", "--epochs", "100000", "--jobs", "2"]
    benchmark = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(list(out.glob("checkpoints/*.checkpoint"))) == 2)
        assert processes_of_group(benchmark.pid) > 1
        benchmark.kill()
        benchmark.wait()
        wait_until(lambda: processes_of_group(benchmark.pid) == 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(benchmark.pid, signal.SIGKILL)


def processes_of_group(group: int) -> int:
    number = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, process_group = status.read_text().rpartition(")")[2].split()[:3]
            number += int(process_group) == group and state != "Z"
    return number


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it never came"
        time.sleep(0.1)
