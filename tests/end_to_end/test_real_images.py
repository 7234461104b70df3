"""Real images through small networks: the workflow is tested, not the accuracy."""

from pathlib import Path

import numpy as np
import pytest

from ganomaly import GANomalyDetector
from ganomaly.data import open_test_images, open_training_images
from ganomaly.evaluation import evaluate_model
from images import SMALL

pytestmark = pytest.mark.shared_data


def test_magnetic_tiles_from_folder_to_figures(shared_data: Path):
    tiles = shared_data / "magnetic_tile"
    detector = GANomalyDetector("paper", epochs=1, false_alarm_rate=0.05, method_options=SMALL).fit(tiles)
    model = detector.model_
    assert (model.preprocessing.image_size, model.preprocessing.channels) == (64, 1)
    assert model.provenance["training_images"] + model.provenance["calibration_images"] == 761
    evaluated = evaluate_model(model, open_test_images(tiles))
    figures = evaluated.evaluation
    assert (figures.n_normal, figures.n_anomalous, evaluated.failures) == (96, 198, {})
    assert {kind: metrics.n for kind, metrics in figures.per_kind.items()} == {
        "blowhole": 58, "break": 43, "crack": 29, "fray": 16, "uneven": 52,
    }  # fmt: skip
    assert figures.image_auroc is not None
    assert figures.pixel_auroc is not None
    assert figures.aupro is not None


def test_mnist_from_parquet(shared_data: Path):
    dataset = open_training_images(shared_data / "mnist")
    assert len(dataset) == 60_000
    digits = np.stack([dataset.read(index) for index in range(200)])
    detector = GANomalyDetector("paper", epochs=2, false_alarm_rate=0.05, method_options=SMALL).fit(digits)
    assert detector.model_.preprocessing.image_size == 32
    assert np.isfinite(detector.anomaly_score(digits)).all()
