"""A command that was killed any number of times, and then runs to its end, leaves what an undisturbed run leaves."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.commands import NAMES
from faults.harness import (
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
    chosen(NAMES, "fit patches", "fit small", "score", "evaluate", "benchmark", "demo", "export openvino"),
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
