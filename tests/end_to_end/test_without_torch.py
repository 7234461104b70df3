"""An install that only predicts: no PyTorch, small, the same verdicts."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ganomaly.export import export_model

PROJECT = Path(__file__).parents[2]
LARGEST_INSTALL = 350e6  # bytes


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd="/", **options
    )


@pytest.fixture(scope="module")
def slim_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with `ganomaly-inference` only."""
    folder = tmp_path_factory.mktemp("slim") / "venv"
    assert run(sys.executable, "-m", "venv", folder).returncode == 0
    install = [folder / "bin" / "pip", "install", "--constraint", PROJECT / "constraints.txt"]
    installed = run(*install, PROJECT / "inference")
    if installed.returncode:
        if os.environ.get("GANOMALY_REQUIRE_SHARED_DATA") == "1":
            pytest.fail(installed.stderr)
        pytest.skip(f"pip cannot install ganomaly-inference here: {installed.stderr[-300:]}")
    return folder


def size_of(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def test_it_has_no_torch_and_is_small(slim_environment):
    assert run(slim_environment / "bin" / "python", "-c", "import torch").returncode == 1
    assert size_of(slim_environment) < LARGEST_INSTALL


def test_it_predicts_with_an_exported_model(slim_environment, detector, model_path, normal_folder, tmp_path):
    graph, table, report = tmp_path / "model.onnx", tmp_path / "verdicts.csv", tmp_path / "report.html"
    export_model(detector.model_, graph)
    program = slim_environment / "bin" / "ganomaly"
    maps = tmp_path / "maps"
    done = run(program, "score", graph, normal_folder, "--out", table, "--maps", maps, "--report", report)
    assert done.returncode == 0, done.stderr
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    paths = sorted(normal_folder.iterdir())
    np.testing.assert_allclose([float(row[1]) for row in rows], detector.anomaly_score(paths), rtol=1e-3)
    assert len(list(maps.iterdir())) == 2 * len(paths)
    assert "<html" in report.read_text()

    in_python = f"""
from ganomaly import GANomalyDetector
detector = GANomalyDetector.load({str(graph)!r})
print(detector.predict({str(normal_folder)!r}).tolist())
"""
    done = run(slim_environment / "bin" / "python", "-c", in_python)
    assert done.stdout.strip() == str(detector.predict(paths).tolist()), done.stderr

    needs_torch = run(program, "score", model_path, normal_folder, "--out", table)
    assert needs_torch.returncode == 2
    assert "needs torch" in needs_torch.stderr or "needs safetensors" in needs_torch.stderr
    needs_more = run(program, "fit", normal_folder, "--model", tmp_path / "m.safetensors")
    assert needs_more.returncode == 2, needs_more.stderr
    assert "which is not installed here" in needs_more.stderr
