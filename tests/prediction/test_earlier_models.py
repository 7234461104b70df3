"""Models that an earlier version trained still load, and predict what they predicted.

`tests/models` holds one small model of each preset and an exported graph, written by version 0.1.0 at the commit that
added this file, with their predictions of six images: three normal ones, then three anomalous ones.
"""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ganomaly import GANomalyDetector

MODELS = Path(__file__).parent / "models"
PRESETS = ("paper", "anogan", "egbad", "vae", "skip-ganomaly", "f-anogan", "patches", "small")


def images_for(preset: str, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Twice as large and not square for the preset that takes images of any size."""
    if preset != "patches":
        return images
    return np.ascontiguousarray(np.kron(images, np.ones((1, 2, 2), np.uint8))[:, :60, :56])


@pytest.mark.parametrize("preset", PRESETS)
def test_a_model_of_an_earlier_version_predicts_what_it_predicted(preset):
    expected = np.load(MODELS / "predictions.npz", allow_pickle=False)
    images = images_for(preset, expected["images"])
    detector = GANomalyDetector.load(MODELS / f"{preset}.safetensors")
    np.testing.assert_allclose(detector.anomaly_score(images), expected[f"{preset}.scores"], rtol=1e-6)
    np.testing.assert_array_equal(detector.p_value(images), expected[f"{preset}.p_values"])
    maps = np.stack([detector.anomaly_map(image) for image in images])
    np.testing.assert_allclose(maps, expected[f"{preset}.anomaly_maps"], rtol=1e-5, atol=1e-6)
    reconstructions = detector.reconstruct(images).astype(int)
    assert np.abs(reconstructions - expected[f"{preset}.reconstructions"]).max() <= 1  # of 255 gray levels


def test_a_graph_of_an_earlier_version_predicts_what_its_model_predicted():
    expected = np.load(MODELS / "predictions.npz", allow_pickle=False)
    graph = GANomalyDetector.load(MODELS / "paper.onnx")
    np.testing.assert_allclose(graph.anomaly_score(expected["images"]), expected["paper.scores"], rtol=1e-4)
    np.testing.assert_array_equal(graph.p_value(expected["images"]), expected["paper.p_values"])
