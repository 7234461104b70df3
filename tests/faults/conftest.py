"""Every test in this folder is one of `make faults`."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from faults.commands import commands
from faults.harness import Command, Runner, Undisturbed, results, write_inputs

collect_ignore = ["fuse_disk.py", "fuzz_parsers.py"]  # scripts that need the extra `faults`


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """Runs commands in forks of one process."""
    runner = Runner(tmp_path_factory.mktemp("runner"))
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder; no test may change it."""
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="session")
def model(runner: Runner, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model."""
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    small = [part for option in ("ngf=8", "ndf=8", "nz=16") for part in ("--option", option)]
    done = runner.run(
        ["fit", parts, "--model", path, "--preset", "paper", "--epochs", 4, "--false-alarm-rate", 0.1, *small]
    )
    assert done.status == 0, done.text
    return path


@pytest.fixture(scope="session")
def graph(runner: Runner, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as ONNX, made once."""
    path = tmp_path_factory.mktemp("graph") / "g.onnx"
    done = runner.run(["export", model, "--out", path])
    assert done.status == 0, done.text
    return path


@pytest.fixture(scope="session")
def all_commands(parts: Path, model: Path, graph: Path) -> dict[str, Command]:
    """The commands with state, by name."""
    return commands(parts, model, graph)


@pytest.fixture
def layer(runner: Runner) -> Path:
    """The injected file layer; the test is skipped where there is none."""
    if runner.layer is None:
        pytest.skip("needs Linux and a C compiler, for the injected file layer")
    return runner.layer


@pytest.fixture(scope="session")
def undisturbed(
    runner: Runner, all_commands: dict[str, Command], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Undisturbed]:
    """Runs a command without faults, once."""

    @cache
    def run(name: str) -> Undisturbed:
        command, out = all_commands[name], tmp_path_factory.mktemp("undisturbed")
        done = runner.run(command.arguments(out), action="count", folder=str(out), **command.options)
        assert done.status == 0, done.text
        sizes = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
        return Undisturbed(
            done.seconds, done.operations, max(sizes), sum(sizes), results(out, command.variable)
        )

    return run
