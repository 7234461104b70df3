"""Damaged model files and graphs are refused or predict the same; edited ones never cost more than any model does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from faults.harness import LONG, SEED, report, tries
from model_files import with_graph_json

MODELS = Path(__file__).parents[1] / "prediction" / "models"
MODEL_FILES, GRAPHS = 100, 20  # for each try: 5,000 and 1,000 where other tests make 50
CASES_PER_PROCESS = 1000
MAX_BYTES = 2e9


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models of all presets, in the formats of this version and of an earlier one, and graphs of some.

    The short version exports nothing, which would take longer than all its cases, and leaves OpenVINO out.
    """
    from ganomaly.prediction.model_file import load_model, save_model

    folder = tmp_path_factory.mktemp("originals")
    for path in MODELS.glob("*.safetensors"):
        shutil.copy(path, folder / f"earlier-{path.name}")
        save_model(load_model(path), folder / path.name)
    shutil.copy(MODELS / "paper.onnx", folder / "earlier-graph.onnx")
    if not LONG:
        with_graph_json(MODELS / "paper.onnx", folder / "paper.onnx", {"checksum": "sha256"})
        return folder
    from ganomaly.export import export_model

    for preset in ("paper", "small", "patches"):
        export_model(load_model(MODELS / f"{preset}.safetensors"), folder / f"{preset}.onnx")
    pytest.importorskip("openvino")
    export_model(load_model(MODELS / "paper.safetensors"), folder / "paper.xml", "openvino")
    return folder


@pytest.mark.parametrize(("kind", "number"), [("models", MODEL_FILES), ("graphs", GRAPHS)])
def test_files_are_refused_in_a_sentence_or_predict(kind: str, number: int, originals: Path) -> None:
    pytest.importorskip("resource")
    total = number * tries(1)
    script = Path(__file__).with_name("fuzz_models.py")
    for first in range(0, total, CASES_PER_PROCESS):
        count = min(CASES_PER_PROCESS, total - first)
        arguments = [sys.executable, script, kind, originals, first, count, SEED]
        done = subprocess.run(
            list(map(str, arguments)),
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-4000:]
        counts = json.loads(done.stdout)
        report(f"fuzzed {kind}", **counts)
        assert counts["peak"] < MAX_BYTES
