"""An exported graph ends with a checksum over all of it: what is damaged is refused, and anyone can check it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from ganomaly import GANomalyDetector
from ganomaly.errors import ModelFileError
from ganomaly.export import export_model

MODELS = Path(__file__).parents[1] / "prediction" / "models"
PAGE = Path(__file__).parents[2] / "docs" / "export.md"
LENGTH = 78  # bytes of the checksum with what is around it


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def graph(request: pytest.FixtureRequest, detector: GANomalyDetector, tmp_path_factory) -> Path:
    if request.param == "openvino":
        pytest.importorskip("openvino")
    path = tmp_path_factory.mktemp("graph") / ("model.onnx" if request.param == "onnx" else "model.xml")
    export_model(detector.model_, path, request.param)
    return path


def copied(graph: Path, folder: Path) -> Path:
    for path in graph.parent.iterdir():
        shutil.copy(path, folder)
    return folder / graph.name


def parts(graph: Path) -> list[Path]:
    return [graph] if graph.suffix == ".onnx" else [graph, graph.with_suffix(".bin")]


def assert_refused(path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        GANomalyDetector.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_anywhere_is_refused(graph, tmp_path):
    path = copied(graph, tmp_path)
    random = np.random.default_rng(0)
    for part in parts(path):
        content = part.read_bytes()
        positions = random.integers(0, len(content), 200)
        for position in [*positions, *range(len(content) - LENGTH, len(content))]:
            changed = bytearray(content)
            changed[position] ^= 1 << int(random.integers(8))
            part.write_bytes(changed)
            assert_refused(path)
        part.write_bytes(content)
    assert len(GANomalyDetector.load(path).anomaly_score(np.zeros((1, 32, 32), np.uint8))) == 1


def test_weights_of_another_export_are_refused(graph, tmp_path):
    if graph.suffix == ".onnx":
        pytest.skip("an ONNX graph is one file")
    path = copied(graph, tmp_path)
    weights = np.fromfile(path.with_suffix(".bin"), np.uint8)
    weights[::-1].tofile(path.with_suffix(".bin"))
    assert_refused(path)
    path.with_suffix(".bin").unlink()
    assert_refused(path)


def test_a_graph_that_another_program_wrote_anew_is_refused(graph, tmp_path):
    """It holds the name of the checksum, and no longer ends with it."""
    path = copied(graph, tmp_path)
    if graph.suffix == ".onnx":
        proto = onnx.load(path)
        proto.doc_string = "changed"
        onnx.save(proto, path)
    else:
        path.write_bytes(path.read_bytes()[:-LENGTH])
    with pytest.raises(ModelFileError, match="checksum"):
        GANomalyDetector.load(path)


def test_a_graph_of_an_earlier_version_has_no_checksum_and_loads():
    content = (MODELS / "paper.onnx").read_bytes()
    assert b"checksum" not in content
    expected = np.load(MODELS / "predictions.npz", allow_pickle=False)
    graph = GANomalyDetector.load(MODELS / "paper.onnx")
    np.testing.assert_allclose(graph.anomaly_score(expected["images"]), expected["paper.scores"], rtol=1e-4)


def test_the_metadata_name_the_checksum(graph):
    model = re.search(rb'"checksum": ?"(\w+)"|&quot;checksum&quot;: &quot;(\w+)&quot;', graph.read_bytes())
    assert model is not None
    assert b"sha256" in model.groups()
    if graph.suffix == ".onnx":
        metadata = {entry.key: entry.value for entry in onnx.load(graph).metadata_props}
        assert re.fullmatch("[0-9a-f]{64}", metadata["checksum"])
        assert json.loads(metadata["model"])["checksum"] == "sha256"


def recipe(language: str, suffix: str) -> str:
    """The line of the page for graphs with this suffix."""
    page = PAGE.read_text(encoding="utf-8")
    section = page[page.index("\n## Checksum") :]
    block = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert block is not None
    (line,) = (line for line in block[1].splitlines() if f"part{suffix}" in line)
    return line


def test_the_recipe_of_the_page_for_the_shell(graph, tmp_path):
    if not sys.platform.startswith("linux"):
        pytest.skip("needs the tools of GNU")
    path = copied(graph, tmp_path)
    line = recipe("", graph.suffix).replace("part.", "model.")

    def printed() -> list[str]:
        done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
        return re.findall("[0-9a-f]{64}", done.stdout)

    computed, written = printed()
    assert computed == written
    for part in parts(path):
        content = part.read_bytes()
        part.write_bytes(content[:100] + b"x" + content[101:])
        computed, written = printed()
        assert computed != written
        part.write_bytes(content)


def test_the_recipe_of_the_page_in_python(graph, tmp_path):
    path = copied(graph, tmp_path)
    page = PAGE.read_text(encoding="utf-8")
    code = re.search(r"python -c '(.*?)' part.onnx", page[page.index("\n## Checksum") :], re.DOTALL)
    assert code is not None

    def status() -> int:
        command = [sys.executable, "-c", code[1], *parts(path)]
        return subprocess.run(command, check=False, capture_output=True).returncode

    assert status() == 0
    for part in parts(path):
        content = part.read_bytes()
        part.write_bytes(content[:100] + b"x" + content[101:])
        assert status() == 1
        part.write_bytes(content)
