"""A detector learns: small networks on small textures, in seconds."""

import numpy as np
import pytest

from ganomaly import GANomalyDetector
from ganomaly.metrics import image_auroc
from images import textures


@pytest.fixture(scope="module")
def learned() -> GANomalyDetector:
    options = {"ngf": 16, "ndf": 16, "nz": 16, "learning_rate": 1e-3}
    return GANomalyDetector(
        "paper", epochs=60, false_alarm_rate=0.05, precision="fp32", method_options=options
    ).fit(textures(200))


def test_anomalous_images_score_above_new_normal_ones(learned):
    images = np.concatenate([textures(60, seed=11), textures(60, seed=12, blob=True)])
    assert image_auroc(learned.anomaly_score(images), np.repeat([False, True], 60)) > 0.9


def test_normal_images_are_rebuilt_far_better_than_a_flat_gray(learned):
    images = textures(60, seed=13)
    error = np.abs(learned.reconstruct(images)[..., 0].astype(float) - images).mean()
    assert error < 0.5 * np.abs(images - images.mean()).mean()


def test_the_map_has_its_maximum_on_the_blob(learned):
    image = textures(1, seed=14)[0]
    image[10:17, 18:25] = 255
    row, column = np.unravel_index(learned.anomaly_map(image).argmax(), image.shape)
    assert 9 <= row <= 17
    assert 17 <= column <= 25


def test_new_normal_images_seldom_alarm(learned):
    alarms = (learned.predict(textures(300, seed=15)) == -1).mean()
    assert alarms < 0.15
