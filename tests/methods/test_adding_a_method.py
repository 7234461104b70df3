"""The example of `docs/adding-a-method.md` is a method that works."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ganomaly import GANomalyDetector
from ganomaly.methods import METHODS, Method

GUIDE = Path(__file__).parents[2] / "docs" / "adding-a-method.md"


@pytest.fixture
def autoencoder(monkeypatch: pytest.MonkeyPatch) -> type[Method]:
    """The guide's method, registered as the guide says."""
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    module = ModuleType("autoencoder")
    monkeypatch.setitem(sys.modules, "autoencoder", module)
    exec(compile(blocks[0], str(GUIDE), "exec"), module.__dict__)
    method: type[Method] = module.Autoencoder
    monkeypatch.setitem(METHODS, method.name, method)
    return method


def test_the_example_trains_predicts_and_is_saved(autoencoder, normal_images, anomalous_images, tmp_path):
    detector = GANomalyDetector(
        "autoencoder", epochs=2, method_options={"ngf": 4, "nz": 8}, false_alarm_rate=0.1
    )
    detector.fit(normal_images)
    scores = detector.anomaly_score(anomalous_images)
    assert (scores >= 0).all()
    assert detector.anomaly_map(anomalous_images[0]).shape == anomalous_images[0].shape
    assert detector.reconstruct(anomalous_images).shape[:3] == anomalous_images.shape
    detector.save(tmp_path / "autoencoder.safetensors")
    loaded = GANomalyDetector.load(tmp_path / "autoencoder.safetensors")
    np.testing.assert_array_equal(loaded.anomaly_score(anomalous_images), scores)
