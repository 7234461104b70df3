"""A process that is forked from one in which a model computes never hangs: it refuses in words, or it computes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ganomaly import GANomalyDetector
from ganomaly.export import export_model

# computes in this process, forks, and predicts in the child; what the child says comes out
FORKED = """
import os, sys
from ganomaly import GANomalyDetector, GANomalyError
from images import textures

path, work = sys.argv[1:]
images = textures(20)  # fewer than a batch: its threads share it
if work == "predict":
    detector = GANomalyDetector.load(path)
    detector.anomaly_score(images)
elif work == "load":
    detector = GANomalyDetector.load(path)
elif work == "fit":
    options = {"ngf": 8, "ndf": 8, "nz": 16}
    detector = GANomalyDetector("paper", epochs=1, false_alarm_rate=0.2, method_options=options).fit(images)
child = os.fork()
if child:
    os.waitpid(child, 0)
    sys.exit()
try:
    if work == "import":
        detector = GANomalyDetector.load(path)
    print(len(detector.anomaly_score(images)), flush=True)
except GANomalyError as error:
    print(error, flush=True)
os._exit(0)
"""


def said_by_child(path: Path, work: str, threads: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", FORKED, path, work],
        env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("work", ["predict", "load", "fit"])
def test_a_process_forked_from_one_that_computes_with_threads_says_to_use_spawn(model_path, work):
    sentence = said_by_child(model_path, work, threads=2)
    assert 'multiprocessing.get_context("spawn")' in sentence
    assert "\n" not in sentence


def test_a_process_forked_before_anything_was_computed_computes(model_path):
    assert said_by_child(model_path, "import", threads=2) == "20"


def test_a_process_forked_from_one_that_computes_with_one_thread_computes(model_path):
    assert said_by_child(model_path, "predict", threads=1) == "20"


@pytest.mark.parametrize("work", ["predict", "load"])
@pytest.mark.parametrize("runtime", ["ONNX Runtime", "OpenVINO"])
def test_a_process_forked_from_one_with_a_graph_says_to_use_spawn(
    detector: GANomalyDetector, runtime, work, tmp_path
):
    suffix, package = {"ONNX Runtime": ("onnx", "onnxruntime"), "OpenVINO": ("xml", "openvino")}[runtime]
    pytest.importorskip(package)
    path = tmp_path / f"model.{suffix}"
    export_model(detector.model_, path, "openvino" if suffix == "xml" else "onnx")
    sentence = said_by_child(path, work, threads=2)
    assert f"forked from one in which {runtime} computes" in sentence
    assert 'multiprocessing.get_context("spawn")' in sentence


@pytest.mark.parametrize("suffix", ["onnx", "xml"])
def test_a_forked_process_loads_and_predicts_with_a_graph_of_its_own(
    detector: GANomalyDetector, suffix, tmp_path
):
    pytest.importorskip("openvino" if suffix == "xml" else "onnxruntime")
    path = tmp_path / f"model.{suffix}"
    export_model(detector.model_, path, "openvino" if suffix == "xml" else "onnx")
    assert said_by_child(path, "import", threads=2) == "20"
