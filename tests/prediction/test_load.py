"""A predictor is built from a path, in any process."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ganomaly import GANomalyDetector
from ganomaly.data import open_images
from ganomaly.export import export_model
from ganomaly.prediction import load_predictor
from spawned import predicted_scores

MODELS = sorted((Path(__file__).parent / "models").glob("*.safetensors"))


@pytest.fixture(params=[".safetensors", ".onnx"])
def predictor_path(
    request: pytest.FixtureRequest, detector: GANomalyDetector, model_path: Path, tmp_path: Path
) -> Path:
    if request.param == ".safetensors":
        return model_path
    export_model(detector.model_, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_predictor_built_in_another_process_gives_the_same_scores(
    predictor_path: Path, anomalous_images: NDArray[np.uint8], tmp_path: Path
):
    here = [
        prediction.score
        for prediction in load_predictor(predictor_path).predict(open_images(anomalous_images))
    ]
    np.save(tmp_path / "images.npy", anomalous_images)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(predicted_scores, (predictor_path, tmp_path / "images.npy"))
    np.testing.assert_allclose(there, here, rtol=1e-6)


def test_loading_imports_no_compiler():
    """Shapes without memory are cheap only where PyTorch does not trace them, which takes seconds."""
    paths = list(map(str, MODELS))
    code = (
        f"import sys, ganomaly.prediction as p; models = [p.load_predictor(path) for path in {paths}]\n"
        "from ganomaly.networks.backbones import build_backbone, describe_backbone\n"
        "build_backbone(describe_backbone('efficientnet-lite0', []))\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "torch" in loaded
    assert not loaded & {"torch.fx.experimental.symbolic_shapes", "torch._dynamo", "sympy"}
    assert not loaded & {"scipy.stats", "lightning_fabric", "sklearn", "matplotlib"}  # which training needs
