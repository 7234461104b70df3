"""`ganomaly doctor` says what is there and what is missing, quickly, and the shell stays quick."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from ganomaly import installation
from ganomaly.version import __version__
from shell import ganomaly

HEAVY = ("torch", "sklearn", "scipy", "pyarrow", "pydicom", "matplotlib")


class Installed:
    """A distribution with two extras."""

    def __init__(self, *requires: str) -> None:
        self.requires = list(requires)
        self.metadata = self

    def get_all(self, _: str) -> list[str]:
        return ["onnx", "dicom", "dev"]

    def __getitem__(self, _: str) -> str:
        return "ganomaly"


def extras(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], *requires: str) -> dict[str, Any]:
    def version_of(package: str) -> str:
        if package not in versions:
            raise PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(installation, "version", version_of)
    monkeypatch.setattr(installation, "distribution", lambda _: Installed(*requires))
    monkeypatch.setattr(sys, "executable", "/opt/python")
    return installation._extras()


REQUIRES = (
    "numpy>=1",
    'onnx>=1.17; extra == "onnx"',
    'onnxruntime>=1.20; extra == "onnx"',
    'pydicom>=3.0; extra == "dicom"',
    'pywin32>=1; (sys_platform == "win33") and extra == "dicom"',
    'mypy; extra == "dev"',
)


def test_an_extra_is_complete_or_has_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found = extras(monkeypatch, {"numpy": "2", "onnx": "1.18", "pydicom": "3.0.1"}, *REQUIRES)
    assert found == {
        "dicom": {"complete": True, "missing": [], "install": None},
        "onnx": {
            "complete": False,
            "missing": ["onnxruntime"],
            "install": "/opt/python -m pip install 'ganomaly[onnx]'",
        },
    }


def test_a_version_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = extras(monkeypatch, {"onnx": "1.18", "onnxruntime": "1.9", "pydicom": "2.4"}, *REQUIRES)
    assert found["dicom"]["missing"] == ["pydicom>=3.0 (found 2.4)"]
    assert found["onnx"]["missing"] == ["onnxruntime>=1.20 (found 1.9)"]


def test_json_has_what_the_table_has() -> None:
    done = ganomaly("doctor", "--json")
    assert done.returncode == 0
    description = json.loads(done.stdout)
    assert set(description) == {"versions", "processor", "memory", "gpu", "extras"}
    assert description["versions"]["ganomaly"] == __version__
    assert description["processor"]["cores_usable"] >= 1
    table = ganomaly("doctor")
    assert table.returncode == 0
    for word in ("versions", "pytorch", "cores", "memory", "GPU", *description["extras"]):
        assert word in table.stdout


def test_a_gpu_that_pytorch_does_not_use_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_gpu_names", lambda: ["H100"])
    monkeypatch.setattr(installation, "_cuda_of_torch", lambda: None)
    assert "for processors only" in installation._gpu()["note"]
    monkeypatch.setattr(installation, "_cuda_of_torch", lambda: "12.6")
    assert installation._gpu()["note"] == "PyTorch was built for CUDA 12.6"


def test_a_driver_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    ended = []
    run = subprocess.run

    def noted(*arguments: Any, **options: Any) -> Any:
        try:
            return run(*arguments, **options)
        except subprocess.TimeoutExpired as error:
            ended.append(error)
            raise

    monkeypatch.setattr(subprocess, "run", noted)
    assert installation._gpu_names() == []
    assert [error.timeout < 10 for error in ended] == [True]


# --- quick -----------------------------------------------------------------------------------------------


def modules_after(program: str) -> set[str]:
    """The modules of a fresh Python that has run a program."""
    code = (
        f"import sys\ntry:\n    {program}\nexcept SystemExit: pass\n"
        "print('\\n' + ' '.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [["doctor"], ["doctor", "--json"], ["--help"], ["fit", "--help"], ["--show-completion", "bash"]],
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    program = f"sys.argv = ['ganomaly', *{arguments!r}]; from ganomaly.cli import main; main()"
    modules = modules_after(program)
    assert not [name for name in HEAVY if name in modules]
    if arguments[0] != "doctor":
        assert "ganomaly.installation" not in modules


def test_importing_the_package_imports_nothing_else_of_it() -> None:
    own = {name for name in modules_after("import ganomaly") if name.split(".")[0] == "ganomaly"}
    assert own == {"ganomaly", "ganomaly.errors", "ganomaly.version"}
