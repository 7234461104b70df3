"""Two processes at one output: it is that of one of them, whole, and nobody waits for the dead."""

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
    report,
    results,
    seeded,
    tries,
)

KILLED, USAGE = -9, 2
SLOW_MICROSECONDS = 500_000  # for each operation on a file, so that the first process outlives the second
WRITING = "is writing"
LOCKED = ("fit", "benchmark", "demo", "export")  # the others write each file at once, and the last one wins


@pytest.mark.parametrize("name", chosen(NAMES, "fit paper", "score"))
def test_two_processes_with_one_output_leave_the_result_of_one(
    name: str,
    runner: Runner,
    all_commands: dict[str, Command],
    undisturbed: Callable[[str], Undisturbed],
    tmp_path: Path,
) -> None:
    command, whole = all_commands[name], undisturbed(name)
    random, out = seeded(f"two {name}"), tmp_path / "out"
    refused = killed = 0
    for _ in range(tries(1)):
        out.mkdir()
        first, second = dict(command.options), dict(command.options)
        second["sleep"] = random.uniform(0, whole.seconds)
        if random.random() < 0.5:
            random.choice((first, second))["kill_after"] = random.uniform(0, 2 * whole.seconds)
        both = runner.run_together([(command.arguments(out), first), (command.arguments(out), second)])
        for done in both:
            done.check_in_words()
            assert done.status in {0, USAGE, KILLED}, done.text
            if done.status == USAGE:
                assert name.startswith(LOCKED), done.text
                assert WRITING in done.text, done.text
                refused += 1
            killed += done.status == KILLED
        check_visible_files(out)
        if any(done.status == KILLED for done in both):
            done = runner.run(command.arguments(out), **command.options)
            assert done.status == 0, done.text
        else:
            assert any(done.status == 0 for done in both), both
        assert results(out, command.variable) == whole.results, both
        shutil.rmtree(out)
    report(f"two processes, {name}", tries=tries(1), refused=refused, killed=killed)


def test_two_models_at_one_path_are_never_mixed(
    runner: Runner,
    all_commands: dict[str, Command],
    undisturbed: Callable[[str], Undisturbed],
    tmp_path: Path,
) -> None:
    names = "fit paper", "fit small"
    random, out = seeded("two models"), tmp_path / "out"
    for _ in range(tries(1)):
        out.mkdir()
        both = runner.run_together(
            [
                (
                    all_commands[name].arguments(out),
                    all_commands[name].options | {"sleep": random.uniform(0, 0.2)},
                )
                for name in names
            ]
        )
        ended = [name for name, done in zip(names, both, strict=True) if done.status == 0]
        assert ended, both
        for done in both:
            done.check_in_words()
            assert done.status == 0 or (done.status == USAGE and WRITING in done.text), done.text
        assert results(out) in [undisturbed(name).results for name in ended], both
        shutil.rmtree(out)
    report("two models at one path", tries=tries(1))


def test_scoring_while_the_model_is_replaced_takes_one_of_the_two(
    runner: Runner, all_commands: dict[str, Command], parts: Path, model: Path, tmp_path: Path
) -> None:
    random = seeded("replaced")
    fit = all_commands["fit small"]
    tables = set()
    for number in range(tries(1)):
        out = tmp_path / f"out{number}"
        out.mkdir()
        path = Path(shutil.copy(model, out / "m.safetensors"))
        score = ["score", path, parts / "test", "--out"]
        runs = [
            (fit.arguments(out), fit.options),
            ([*score, out / "during.csv"], {"sleep": random.uniform(0, 1)}),
        ]
        for done in runner.run_together(runs):
            assert done.status == 0, done.text
        after, before = out / "after.csv", out / "before.csv"
        assert runner.run([*score, after]).status == 0
        assert runner.run(["score", model, parts / "test", "--out", before]).status == 0
        tables |= {before.read_bytes(), after.read_bytes()}
        assert (out / "during.csv").read_bytes() in {before.read_bytes(), after.read_bytes()}
    assert len(tables) == 2


def lock_of(argv: list[object]) -> Path:
    """The lock file of a command."""
    if "--model" in argv:
        model = Path(str(argv[argv.index("--model") + 1]))
        return model.with_name(f".{model.name}.lock")
    return Path(str(argv[argv.index("--out") + 1])) / ".ganomaly.lock"


@pytest.mark.parametrize("name", chosen(("fit paper", "benchmark", "demo"), "fit paper"))
def test_a_lock_holds_and_ends_with_its_process_whatever_the_clock_says(
    name: str,
    runner: Runner,
    layer: Path,
    all_commands: dict[str, Command],
    undisturbed: Callable[[str], Undisturbed],
    tmp_path: Path,
) -> None:
    """With a clock up to a day ahead or behind, others are refused while the first one lives, and not after it."""
    command, whole = all_commands[name], undisturbed(name)
    random, out = seeded(f"clock {name}"), tmp_path / "out"
    for number in range(tries(1)):
        out.mkdir()
        ahead = (24 - number % 24) * 3600 - random.randrange(3600 if number else 1)
        slow = {"action": "slow", "at": SLOW_MICROSECONDS, "folder": str(out), "kill_with_last": True}
        waiting = command.options | {"wait_for": str(lock_of(command.arguments(out)))}
        first, *others = runner.run_together(
            [
                (command.arguments(out), command.options | slow),
                *((command.arguments(out), waiting | {"clock_seconds": shift}) for shift in (ahead, -ahead)),
            ]
        )
        assert first.status == KILLED, first.text
        for other in others:
            assert other.status == USAGE, other.text
            assert WRITING in other.text
        shift = random.choice((ahead, -ahead))
        done = runner.run(command.arguments(out), **command.options, clock_seconds=shift)
        assert done.status == 0, done.text
        assert results(out, command.variable) == whole.results
        shutil.rmtree(out)
    report(f"clock jumps, {name}", tries=tries(1))
