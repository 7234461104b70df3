"""Completion of the shell, with bash itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = shutil.which("bash")


@pytest.fixture
def in_bash(tmp_path: Path):
    """Run lines of bash where `ganomaly` is on the path and the home folder is empty."""
    if BASH is None:
        pytest.skip("needs bash")
    home, command = tmp_path / "home", tmp_path / "bin" / "ganomaly"
    for folder in (home, command.parent):
        folder.mkdir()
    command.write_text(f"#!{sys.executable}\nfrom ganomaly.cli import main\nmain()\n")
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"

    def run(lines: str) -> str:
        environment = os.environ | {"HOME": str(home), "PATH": path}
        done = subprocess.run(
            [BASH, "--norc", "-c", lines], capture_output=True, text=True, env=environment, check=True
        )
        return done.stdout

    return run


def test_an_installed_completion_completes_verbs_and_options(in_bash, tmp_path):
    assert "_GANOMALY_COMPLETE=complete_bash" in in_bash("ganomaly --show-completion; true")
    in_bash("ganomaly --install-completion; true")  # a parent that is bash is how it is recognised
    assert "ganomaly" in (tmp_path / "home" / ".bashrc").read_text()
    completed = in_bash(
        "source ~/.bashrc\n"
        "COMP_WORDS=(ganomaly ev); COMP_CWORD=1; _ganomaly_completion ganomaly; echo ${COMPREPLY[@]}\n"
        "COMP_WORDS=(ganomaly score --map); COMP_CWORD=2; _ganomaly_completion ganomaly; echo ${COMPREPLY[@]}\n"
    )
    assert completed.splitlines() == ["evaluate", "--maps --map-format"]


def test_completion_imports_nothing_heavy(in_bash):
    """It answers each press of the tab key."""
    imported = in_bash(
        "COMP_WORDS='ganomaly fit --pre' COMP_CWORD=2 _GANOMALY_COMPLETE=complete_bash "
        "PYTHONPROFILEIMPORTTIME=1 ganomaly 2>&1; true"
    )
    modules = {
        line.rpartition("|")[2].strip() for line in imported.splitlines() if line.startswith("import time:")
    }
    assert {"--preset", "--precision"} <= set(imported.split())
    assert "ganomaly.cli" in modules
    assert not modules & {"torch", "numpy", "PIL", "pyarrow", "sklearn"}
