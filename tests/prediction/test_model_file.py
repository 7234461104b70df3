"""Files are data: loading never runs code, and a file that is not what it should be gets one clear sentence."""

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ganomaly import GANomalyDetector, ModelFileError, UsageError
from ganomaly.prediction import describe_model
from ganomaly.prediction.model_file import load_model


def rewritten(path: Path, target: Path, **changes: str) -> Path:
    """The model file with other metadata and the same tensors."""
    with safe_open(path, framework="np") as file:
        metadata = dict(file.metadata())
    save_file(load_file(path), target, metadata | changes)
    return target


def test_a_loaded_model_scores_as_before(detector, model_path, anomalous_images):
    loaded = GANomalyDetector.load(model_path)
    np.testing.assert_array_equal(
        loaded.anomaly_score(anomalous_images), detector.anomaly_score(anomalous_images)
    )
    np.testing.assert_array_equal(loaded.predict(anomalous_images), detector.predict(anomalous_images))
    assert loaded.offset_ == detector.offset_
    assert loaded.model_.map_calibration.threshold == detector.model_.map_calibration.threshold
    assert loaded.model_.map_calibration.median == detector.model_.map_calibration.median


def test_the_file_tells_where_the_model_comes_from(model_path):
    provenance = describe_model(model_path)["provenance"]
    assert provenance["seed"] == 3
    assert provenance["training_images"] + provenance["calibration_images"] == 60
    assert {"ganomaly", "torch", "python", "created", "data_fingerprint", "precision"} <= provenance.keys()
    assert json.dumps(describe_model(model_path))


def test_a_missing_file_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="there is no model file"):
        load_model(tmp_path / "missing.safetensors")


@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
def test_a_truncated_file_is_called_truncated(model_path, tmp_path, share):
    content = model_path.read_bytes()
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError, match="is truncated"):
        load_model(broken)


@pytest.mark.parametrize(
    "content", [b"hello, I am a text file", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(5000)]
)
def test_a_foreign_file_is_called_foreign(tmp_path, content):
    (tmp_path / "foreign.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match="is not a model of ganomaly"):
        load_model(tmp_path / "foreign.safetensors")


def test_another_program_s_safetensors_file_is_called_foreign(tmp_path):
    save_file({"weight": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match="not a model of ganomaly"):
        load_model(tmp_path / "other.safetensors")


def test_a_pickle_is_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "trap.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelFileError):
        load_model(tmp_path / "trap.safetensors")
    assert not (tmp_path / "sprung").exists()


def test_a_newer_file_asks_for_an_upgrade(model_path, tmp_path):
    with pytest.raises(ModelFileError, match=r"newer version of ganomaly .*; upgrade"):
        load_model(rewritten(model_path, tmp_path / "newer.safetensors", format_version="3"))


def test_a_file_with_an_edited_threshold_rate_is_refused(model_path, tmp_path):
    with safe_open(model_path, framework="np") as file:
        described = json.loads(file.metadata()["model"])
    described["false_alarm_rate"] = 0.5
    with pytest.raises(ModelFileError, match="was changed after it was saved"):
        load_model(rewritten(model_path, tmp_path / "edited.safetensors", model=json.dumps(described)))


def test_a_file_with_edited_weights_is_refused(model_path, tmp_path):
    content = bytearray(model_path.read_bytes())
    content[-40] ^= 1
    (tmp_path / "edited.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match="was changed after it was saved"):
        load_model(tmp_path / "edited.safetensors")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 2000))
def test_a_damaged_header_never_causes_anything_but_the_one_error(model_path, tmp_path, noise, position):
    content = bytearray(model_path.read_bytes())
    if content[position : position + len(noise)] == noise:
        return
    content[position : position + len(noise)] = noise
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(content)
    with pytest.raises(ModelFileError):
        load_model(broken)


def test_a_header_that_points_beyond_the_file_is_called_truncated(tmp_path):
    header = json.dumps({"w": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
    (tmp_path / "short.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(ModelFileError, match="is truncated"):
        load_model(tmp_path / "short.safetensors")


def test_pickling_a_detector_is_refused_with_a_pointer_to_save(detector):
    with pytest.raises(TypeError, match=r"detector\.save"):
        pickle.dumps(detector)
