"""A model with a backbone from a folder holds it: its file needs neither the folder nor a hub."""

import shutil

import numpy as np
import pytest

from ganomaly import GANomalyDetector
from images import textures


@pytest.mark.parametrize("name", ["resnet", "dinov2"])
def test_a_model_file_holds_a_backbone_from_a_folder(folders, name, tmp_path):
    folder = tmp_path / name
    shutil.copytree(folders[name], folder)
    images = textures(16, size=72)
    detector = GANomalyDetector(
        "features",
        epochs=1,
        image_size=64,
        false_alarm_rate=0.3,
        method_options={"backbone": str(folder), "ngf": 8, "ndf": 4, "nz": 4},
    ).fit(images)
    scores = detector.anomaly_score(images)
    detector.save(tmp_path / "model.safetensors")
    shutil.rmtree(folder)
    loaded = GANomalyDetector.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.anomaly_score(images), scores)
    assert np.isfinite(scores).all()
