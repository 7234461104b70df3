"""The programs of docs/export.md are those in examples/, they run, and their predictions are those of ganomaly."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ganomaly import GANomalyDetector
from ganomaly.prediction.model_file import load_model
from images import textures

onnx = pytest.importorskip("onnx", reason="needs the package onnx")
pytest.importorskip("onnxscript", reason="needs the package onnxscript")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAGE = ROOT / "docs" / "export.md"
CODE_BLOCK = re.compile(r"^`(examples/[^`]+)`:\n\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
UNREACHABLE = re.compile(
    r"\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH)\b"
)

# without ganomaly and PyTorch, even where they are installed
WITHOUT_GANOMALY = """
import runpy, sys
sys.modules.update(ganomaly=None, torch=None)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# the score is the mean over all pixels of 1 · first channel + 10 · second + 100 · third
MEAN_OF_PIXELS = """
<ir_version: 10, opset_import: ["" : 20]>
mean ({dtype}[N, H, W, {channels}] image, float[1] threshold)
    => (float[N] score, float[N] p_value, bool[N] is_anomaly)
<float[1] threshold = {{1000.0}}, float[{channels}] weights = {{{weights}}},
 int64[2] height_and_width = {{1, 2}}, int64[1] channel = {{1}}>
{{
    pixels = Cast <to = 1> (image)
    means = ReduceMean <keepdims = 0> (pixels, height_and_width)
    weighted = Mul (means, weights)
    score = ReduceSum <keepdims = 0> (weighted, channel)
    p_value = Div (score, score)
    is_anomaly = Greater (score, threshold)
}}
"""


@dataclass(frozen=True)
class Row:
    """One line of an example's output."""

    path: str
    score: float
    p_value: float
    verdict: str


@dataclass(frozen=True)
class Exported:
    """A model and its graphs."""

    detector: GANomalyDetector
    onnx: Path
    openvino: Path


def run(command: list[object], **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, timeout=300, **options
    )


def predict(command: list[object], *arguments: object) -> list[Row]:
    done = run([*command, *arguments])
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return [Row(path, float(score), float(p_value), verdict) for path, score, p_value, verdict in rows]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A small gray model with very different scores, exported once and written in both formats."""
    pytest.importorskip("openvino", reason="needs the package openvino")
    from ganomaly.export.write import to_onnx, write_graph

    folder = tmp_path_factory.mktemp("exported")
    options = {"ngf": 4, "ndf": 4, "nz": 8}
    GANomalyDetector(
        "paper", epochs=100, false_alarm_rate=0.1, precision="fp32", method_options=options, seed=3
    ).fit(textures(60)).save(folder / "model.safetensors")
    graph = to_onnx(load_model(folder / "model.safetensors"))
    write_graph(graph, folder / "model.onnx", "onnx")
    write_graph(graph, folder / "model.xml", "openvino")
    return Exported(
        GANomalyDetector.load(folder / "model.safetensors"), folder / "model.onnx", folder / "model.xml"
    )


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """Normal and anomalous gray images, larger than the network's input and not square."""
    squares = np.concatenate([textures(4, seed=8, size=48), textures(4, seed=9, size=48, blob=True)])
    return np.ascontiguousarray(squares[:, :, 3:42])


@pytest.fixture(scope="module")
def files(images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """The images in files, by ending."""
    folder = tmp_path_factory.mktemp("images")
    written: dict[str, list[Path]] = {".png": [], ".pgm": []}
    for number, image in enumerate(images):
        for ending, paths in written.items():
            paths.append(folder / f"{number}{ending}")
            Image.fromarray(image).save(paths[-1])
    return written


@pytest.fixture(scope="module")
def python_example() -> list[object]:
    return [sys.executable, "-c", WITHOUT_GANOMALY, EXAMPLES / "python" / "predict.py"]


@pytest.fixture(scope="module")
def cpp_example(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The C++ example, built against the OpenVINO of Python's package."""
    for tool in ("cmake", "g++"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool} to build the C++ example")
    spec = importlib.util.find_spec("openvino")
    home = Path(spec.origin).parent if spec is not None and spec.origin is not None else None
    if home is None or not (home / "include" / "openvino").is_dir() or not (home / "cmake").is_dir():
        pytest.skip("needs the package openvino with its C++ headers")
    build = tmp_path_factory.mktemp("build")
    for command in (
        ["cmake", "-S", EXAMPLES / "cpp", "-B", build, f"-DOpenVINO_DIR={home / 'cmake'}"],
        ["cmake", "--build", build],
    ):
        done = run([*command], env={**os.environ, "CXX": "g++", "CXXFLAGS": "-Wall -Wextra -Werror"})
        assert done.returncode == 0, done.stdout + done.stderr
    return [build / "predict"]


@pytest.fixture(scope="module")
def javascript_example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[object]]:
    """The JavaScript example with its packages."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool} to run the JavaScript example")
    folder = tmp_path_factory.mktemp("javascript")
    for source in (EXAMPLES / "javascript").glob("*.*"):
        shutil.copy(source, folder)
    options = ["--prefer-offline", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=60000"]
    done = run(
        ["npm", "install", *options],
        cwd=folder,
        env={**os.environ, "ONNXRUNTIME_NODE_INSTALL": "skip"},
    )
    unreachable = UNREACHABLE.search(done.stderr)
    if done.returncode != 0 and unreachable:
        pytest.skip(f"the registry of npm cannot be reached: {unreachable[0]}")
    assert done.returncode == 0, done.stderr
    yield ["node", folder / "predict.mjs"]
    shutil.rmtree(folder / "node_modules")  # some hundred megabytes


def assert_predictions_of_ganomaly(rows: list[Row], paths: list[Path], expected: Exported) -> None:
    pngs = [path.with_suffix(".png") for path in paths]
    scores = expected.detector.anomaly_score(pngs)
    assert [row.path for row in rows] == list(map(str, paths))
    np.testing.assert_allclose([row.score for row in rows], scores, rtol=1e-3)
    np.testing.assert_allclose([row.p_value for row in rows], expected.detector.p_value(pngs), rtol=1e-5)
    verdicts = ["anomalous" if sign < 0 else "normal" for sign in expected.detector.predict(pngs)]
    assert [row.verdict for row in rows] == verdicts
    assert set(verdicts) == {"normal", "anomalous"}  # the test needs both


@pytest.mark.parametrize("ending", [".png", ".pgm"])
def test_python_example_predicts_as_ganomaly_does(ending, python_example, exported, files):
    rows = predict(python_example, exported.onnx, *files[ending])
    assert_predictions_of_ganomaly(rows, files[ending], exported)


@pytest.mark.parametrize("file_format", ["openvino", "onnx"])
def test_cpp_example_predicts_as_ganomaly_does(file_format, cpp_example, exported, files):
    model = exported.openvino if file_format == "openvino" else exported.onnx
    rows = predict(cpp_example, model, *files[".pgm"])
    assert_predictions_of_ganomaly(rows, files[".pgm"], exported)


def test_javascript_example_predicts_as_ganomaly_does(javascript_example, exported, files):
    rows = predict(javascript_example, exported.onnx, *files[".pgm"])
    assert_predictions_of_ganomaly(rows, files[".pgm"], exported)


@pytest.fixture(params=["python", "cpp", "javascript"])
def example(request) -> list[object]:
    """Each example in turn."""
    return request.getfixturevalue(f"{request.param}_example")


def test_the_threshold_of_examples_can_be_overridden(example, exported, files):
    middle = float(np.median(exported.detector.anomaly_score(files[".png"])))
    for threshold, n_anomalous in ((0, 8), (middle, 4), (1e9, 0)):
        rows = predict(example, exported.onnx, "--threshold", threshold, *files[".pgm"])
        assert [row.verdict for row in rows].count("anomalous") == n_anomalous


def mean_of_pixels(folder: Path, dtype: str, channels: int) -> Path:
    """Write a graph whose score shows which pixels it received."""
    path = folder / "mean.onnx"
    weights = ", ".join(["1.0", "10.0", "100.0"][:channels])
    text = MEAN_OF_PIXELS.format(dtype=dtype, channels=channels, weights=weights)
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def test_examples_read_colour_images(example, tmp_path):
    pixels = np.random.default_rng(0).integers(1, 256, (7, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colour.ppm")
    (row,) = predict(example, mean_of_pixels(tmp_path, "uint8", 3), tmp_path / "colour.ppm")
    assert row.score == pytest.approx((pixels.mean(axis=(0, 1)) * [1, 10, 100]).sum(), rel=1e-5)


def test_examples_read_16_bit_images(example, python_example, tmp_path):
    pixels = np.random.default_rng(0).integers(1, 65536, (7, 5), dtype=np.uint16)
    if example == python_example:
        path = tmp_path / "deep.png"
        Image.fromarray(pixels).save(path)
    else:
        path = tmp_path / "deep.pgm"
        path.write_bytes(b"P5\n# 16 bits\n5 7\n65535\n" + pixels.astype(">u2").tobytes())
    (row,) = predict(example, mean_of_pixels(tmp_path, "uint16", 1), path)
    assert row.score == pytest.approx(pixels.mean(), rel=1e-5)


def test_examples_report_a_broken_image_and_continue(example, exported, files, tmp_path):
    broken = tmp_path / "broken.pgm"
    broken.write_bytes(files[".pgm"][0].read_bytes()[:-1])
    done = run([*example, exported.onnx, tmp_path / "missing.pgm", broken, files[".pgm"][0]])
    assert done.returncode == 3
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        str(tmp_path / "missing.pgm"),
        str(broken),
    ]
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("language", ["cpp", "javascript"])
def test_examples_refuse_colour_where_the_model_takes_gray(language, exported, tmp_path, request):
    example = request.getfixturevalue(f"{language}_example")
    colour = tmp_path / "colour.ppm"
    Image.new("RGB", (40, 30)).save(colour)
    done = run([*example, exported.onnx, colour])
    assert done.returncode == 3
    assert re.search(r"it has 3 channels of u\w*8, but the model takes 1 of u\w*8", done.stderr)


@pytest.mark.parametrize("language", ["python", "cpp"])
def test_examples_print_the_metadata_of_the_model(language, exported, request):
    example = request.getfixturevalue(f"{language}_example")
    done = run([*example, exported.onnx if language == "python" else exported.openvino])
    assert done.returncode == 0, done.stderr
    metadata = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    checksum = {"checksum"} if language == "python" else set()  # OpenVINO's is not among its metadata
    assert set(metadata) == {"format", "format_version", "model", "provenance"} | checksum
    assert metadata["format"] == "ganomaly-graph"
    assert json.loads(metadata["model"])["false_alarm_rate"] == 0.1
    assert "created" in json.loads(metadata["provenance"])


def test_code_blocks_of_the_page_are_the_examples():
    page = PAGE.read_text(encoding="utf-8")
    blocks = {path: content for path, _, content in CODE_BLOCK.findall(page)}
    # a block with a language is a program, and a program is a file that the tests here run
    assert len(blocks) == len(re.findall(r"^```\w+$", page, re.MULTILINE))
    sources = {path for path in EXAMPLES.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert set(blocks) == {path.relative_to(ROOT).as_posix() for path in sources}
    for path, content in blocks.items():
        assert content == (ROOT / path).read_text(encoding="utf-8"), path


def test_page_quotes_the_errors_of_onnx_runtime(tmp_path):
    session = onnxruntime.InferenceSession(
        mean_of_pixels(tmp_path, "uint8", 3), providers=["CPUExecutionProvider"]
    )
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for wrong in (
        np.zeros((1, 9, 9, 1), dtype=np.uint8),
        np.zeros((1, 9, 9, 3), dtype=np.float32),
        np.zeros((9, 9, 3), dtype=np.uint8),
    ):
        # ONNX Runtime's own errors have no base but Exception
        with pytest.raises(Exception, match="INVALID_ARGUMENT") as error:
            session.run(None, {"image": wrong})
        assert " ".join(str(error.value).split()) in page
