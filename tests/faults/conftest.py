"""Every test in this folder is one of `make faults`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.harness import Runner, write_inputs


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
