"""A command that was killed any number of times, and then runs to its end, leaves what an undisturbed run leaves."""

import json
import shutil
from pathlib import Path

import pytest

from faults.harness import (
    LONG,
    Command,
    Runner,
    check_visible_files,
    contents,
    results,
    seeded,
    tries,
)

KILLED = -9
LONGEST_CHAIN = 4  # kills in a row before the command may end
CHECKPOINT_SECONDS = 0.0  # after every step
SMALL_NETWORK = {
    "paper": ("ngf=8", "ndf=8", "nz=16"),
    "patches": ("ngf=4", "ndf=4"),
    "small": ("ngf=8", "ndf=8"),
    "anogan": ("ngf=8", "ndf=8", "nz=16", "search_steps=5"),
    "egbad": ("ngf=8", "ndf=8", "nz=16"),
    "vae": ("ngf=8", "nz=16"),
    "skip-ganomaly": ("ngf=8", "ndf=8"),
    "f-anogan": ("ngf=8", "ndf=8", "nz=16"),
}
EPOCHS = {"patches": 1}
IN_SHORT_VERSION = {
    "fit paper",
    "fit patches",
    "fit small",
    "score",
    "evaluate",
    "benchmark",
    "demo",
    "export onnx",
}


def fit_command(preset: str, parts: Path) -> Command:
    options = [part for option in SMALL_NETWORK[preset] for part in ("--option", option)]
    return Command(
        f"fit {preset}",
        lambda out: [
            "fit", parts, "--model", out / "m.safetensors", "--preset", preset,
            "--epochs", EPOCHS.get(preset, 6), "--false-alarm-rate", 0.1, *options,
        ],
        {"checkpoint_seconds": CHECKPOINT_SECONDS},
    )  # fmt: skip


def commands(parts: Path, model: Path, graph: Path) -> dict[str, Command]:
    all_commands = [
        *(fit_command(preset, parts) for preset in SMALL_NETWORK),
        Command(
            "score",
            lambda out: [
                "score", model, parts / "test", "--out", out / "t.csv", "--maps", out / "maps",
                "--report", out / "r.html",
            ],
        ),
        Command(
            "score parquet and npy",
            lambda out: [
                "score", model, parts / "test", "--out", out / "t.parquet", "--maps", out / "maps",
                "--map-format", "npy",
            ],
        ),
        Command(
            "evaluate",
            lambda out: [
                "evaluate", model, parts, "--json", out / "e.json", "--report", out / "r.html",
                "--figures", out / "figures",
            ],
        ),
        Command(
            "benchmark",
            lambda out: [
                "benchmark", "baggage", "--out", out / "b", "--methods", "ganomaly[ngf=4;ndf=4],vae[ngf=4]",
                "--classes", "gun,whole weapon", "--epochs", 2, "--image-size", 32, "--json", out / "b.json",
            ],
            {"small": True, "checkpoint_seconds": CHECKPOINT_SECONDS},
        ),
        Command(
            "demo",
            lambda out: ["demo", "--out", out / "demo"],
            {"small": True, "checkpoint_seconds": CHECKPOINT_SECONDS},
            variable=("report.html",),
        ),
        Command("export onnx", lambda out: ["export", model, "--out", out / "g.onnx"], {"graph": str(graph)}),
        Command(
            "export openvino",
            lambda out: ["export", model, "--format", "openvino", "--out", out / "g.xml"],
            {"graph": str(graph)},
        ),
    ]  # fmt: skip
    return {command.name: command for command in all_commands}


NAMES = list(commands(Path(), Path(), Path()))


@pytest.fixture(scope="session")
def graph(runner: Runner, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as ONNX, made once."""
    path = tmp_path_factory.mktemp("graph") / "g.onnx"
    done = runner.run(["export", model, "--out", path])
    assert done.status == 0, done.text
    return path


@pytest.fixture(scope="session")
def all_commands(parts: Path, model: Path, graph: Path) -> dict[str, Command]:
    return commands(parts, model, graph)


@pytest.mark.parametrize("name", [name for name in NAMES if LONG or name in IN_SHORT_VERSION])
def test_after_any_number_of_kills_the_same_command_gives_the_same_result(
    name: str, runner: Runner, all_commands: dict[str, Command], parts: Path, model: Path, tmp_path: Path
) -> None:
    command = all_commands[name]
    if runner.layer is None:
        pytest.skip("needs Linux and a C compiler, for the injected file layer")
    inputs = contents(parts), model.read_bytes()
    out = tmp_path / "out"
    out.mkdir()
    whole = runner.run(command.arguments(out), action="count", folder=str(out), **command.options)
    assert whole.status == 0, whole.text
    expected = results(out, command.variable)
    shutil.rmtree(out)

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
        assert results(out, command.variable) == expected, (kills, fault, done.text)
        assert (contents(parts), model.read_bytes()) == inputs
        shutil.rmtree(out)
    report(name, kills=kills, resumed=resumed, seconds=round(whole.seconds, 2), operations=whole.operations)
    if name.startswith("fit ") and wanted >= 20:
        assert resumed > 0, "no run was resumed; checkpoints come too seldom"


def report(name: str, **numbers: object) -> None:
    """Print the numbers of the table in docs/reliability.md; pytest shows them with -s."""
    print(f"\n{json.dumps({'command': name, **numbers})}")
