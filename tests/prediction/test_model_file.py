"""Files are data: loading never runs code, and a file that is not what it should be gets one clear sentence."""

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ganomaly import GANomalyDetector, ModelFileError, UsageError
from ganomaly.prediction import describe_model
from ganomaly.prediction.model_file import load_model
from model_files import read_model_file, with_model_json, write_model_file


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
        load_model(rewritten(model_path, tmp_path / "newer.safetensors", format_version="4"))


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


MODELS = Path(__file__).parent / "models"
HOURS_OF_NESTING = "[" * 200_000 + "]" * 200_000


def refused(path: Path, *words: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} ")
    assert "\n" not in sentence
    assert len(sentence) < 400
    for word in words:
        assert word in sentence


def test_a_file_whose_checksum_was_computed_by_the_tests_loads(model_path, tmp_path, anomalous_images):
    """Or what follows would be refused for its checksum alone."""
    copy = write_model_file(tmp_path / "copy.safetensors", *read_model_file(model_path))
    np.testing.assert_array_equal(
        GANomalyDetector.load(copy).anomaly_score(anomalous_images),
        GANomalyDetector.load(model_path).anomaly_score(anomalous_images),
    )


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"preset": ...}, ["preset is missing"]),
        ({"preset": 3}, ["preset", "string"]),
        ({"preset": "\x1b[2J"}, ["preset"]),
        ({"method": "x" * 5000}, ["method"]),
        ({"method": "nonsense"}, ["nonsense"]),
        ({"false_alarm_rate": ...}, ["false alarm rate is missing"]),
        ({"false_alarm_rate": None}, ["false alarm rate", "number", "None"]),
        ({"false_alarm_rate": "0.1"}, ["false alarm rate", "number"]),
        ({"false_alarm_rate": [0.1]}, ["false alarm rate", "number"]),
        ({"false_alarm_rate": {"a": 1}}, ["false alarm rate", "number"]),
        ({"false_alarm_rate": True}, ["false alarm rate", "number"]),
        ({"false_alarm_rate": float("nan")}, ["false alarm rate"]),
        ({"false_alarm_rate": 1e308}, ["false alarm rate", "less than 1"]),
        ({"false_alarm_rate": 1e30}, ["false alarm rate", "less than 1"]),
        ({"false_alarm_rate": -1}, ["false alarm rate"]),
        ({"false_alarm_rate": 1e-320}, ["false alarm rate"]),
        ({"preprocessing": []}, ["preprocessing"]),
        ({"preprocessing": {"image_size": 2**31, "channels": 1}}, ["image size", "16384"]),
        ({"preprocessing": {"image_size": 2**70, "channels": 1}}, ["image size", "16384"]),
        ({"preprocessing": {"image_size": "32", "channels": 1}}, ["image size", "integer"]),
        ({"preprocessing": {"image_size": 32, "channels": 1, "scale": 1e-300}}, ["scale"]),
        ({"options": None}, ["options"]),
        ({"options": {"nz": [1]}}, ["options nz"]),
        ({"options": {f"option {n}": n for n in range(5000)}}, ["options"]),
        ({"options": {"nz": "16"}}, ["nz", "integer"]),
        ({"options": {"nz": 10**6}}, ["nz", "less than or equal to"]),
        ({"options": {"ngf": 10**6}}, ["ngf", "less than or equal to"]),
        ({"options": {"ndf": 10**6}}, ["ndf", "less than or equal to"]),
        ({"options": {"extra_layers": 10**6}}, ["extra layers", "less than or equal to"]),
        ({"options": {"learning_rate": 1e300}}, ["learning rate"]),
        ({"options": {"nonsense": 1}}, ["nonsense"]),
    ],
)
def test_a_wrong_value_in_the_header_gets_one_sentence_that_names_it(model_path, tmp_path, edit, words):
    refused(with_model_json(model_path, tmp_path / "edited.safetensors", edit), *words)


@pytest.mark.parametrize(
    ("preset", "edit", "words"),
    [
        ("anogan", {"options": {"search_steps": 10**9}}, ["search steps", "less than or equal to"]),
        ("vae", {"options": {"samples": 10**9}}, ["samples", "less than or equal to"]),
        ("small", {"options": {"embedding": 10**9}}, ["embedding", "less than or equal to"]),
        ("small", {"options": {"temperature": 1e300}}, ["temperature"]),
        ("f-anogan", {"options": {"feature_weight": 1e300}}, ["feature weight"]),
    ],
)
def test_every_method_bounds_its_own_numbers(preset, edit, words, tmp_path):
    refused(with_model_json(MODELS / f"{preset}.safetensors", tmp_path / "edited.safetensors", edit), *words)


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("model", HOURS_OF_NESTING, ["recursion limit"]),
        ("model", '{"method":' * 100_000, ["recursion limit"]),
        ("model", "[]", ["object"]),
        ("model", "nonsense", ["JSON"]),
        ("model", '"' + "x" * 3_000_000 + '"', ["too large"]),
        ("model", '{"false_alarm_rate": ' + "9" * 5000 + "}", ["number out of range"]),
        ("provenance", HOURS_OF_NESTING, ["recursion limit"]),
        ("provenance", "[]", ["provenance", "object"]),
        ("provenance", "null", ["provenance", "object"]),
        ("provenance", '"text"', ["provenance", "object"]),
        ("provenance", '{"epochs": "many"}', ["epochs"]),
        ("provenance", '{"seed": NaN}', ["not JSON"]),
        ("provenance", '{"seed": -1}', ["seed"]),
        ("provenance", '{"ganomaly": "' + "x" * 100_000 + '"}', ["ganomaly"]),
        ("format_version", "9" * 5000, ["newer version"]),
        ("format_version", "-1", ["format version"]),
        ("format_version", "", ["format version"]),
        ("format_version", "two", ["format version"]),
    ],
)
def test_what_is_not_a_header_gets_one_sentence(model_path, tmp_path, key, text, words):
    metadata, tensors = read_model_file(model_path)
    path = write_model_file(tmp_path / "edited.safetensors", metadata | {key: text}, tensors)
    refused(path, *words)


@pytest.mark.parametrize("key", ["model", "provenance", "format_version"])
def test_a_missing_part_of_the_header_gets_one_sentence(model_path, tmp_path, key):
    metadata, tensors = read_model_file(model_path)
    del metadata[key]
    refused(write_model_file(tmp_path / "edited.safetensors", metadata, tensors), key.replace("_", " "))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("calibration/scores", lambda t: t.bfloat16(), ["BF16"]),
        ("calibration/scores", lambda t: t.float(), ["F32", "F64"]),
        ("calibration/scores", lambda t: t[:, None], ["[9, 1]"]),
        ("calibration/scores", lambda t: t[:0], []),
        ("calibration/scores", lambda t: -t, ["finite"]),
        ("calibration/scores", lambda t: t * torch.nan, ["finite"]),
        ("calibration/map_maxima", lambda t: t[:-1], ["map"]),
        ("calibration/map_maxima", lambda t: t * torch.inf, ["map", "finite"]),
        ("calibration/map_medians", lambda t: t.reshape(3, 3), ["[3, 3]"]),
        ("weights/encoder.latent.weight", lambda t: t.to(torch.int8), ["I8", "F32"]),
        ("weights/encoder.latent.weight", lambda t: t.double(), ["F64", "F32"]),
        ("weights/encoder.latent.weight", lambda t: t.bfloat16(), ["BF16", "F32"]),
        ("weights/encoder.latent.weight", lambda t: t[:-1], ["do not fit"]),
        ("weights/encoder.latent.weight", None, ["do not fit"]),
        ("weights/encoder.pyramid.3.running_mean", lambda t: t[:, None], ["do not fit"]),
    ],
)
def test_a_tensor_of_another_type_or_shape_gets_one_sentence(model_path, tmp_path, name, change, words):
    metadata, tensors = read_model_file(model_path)
    if change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors[name])
    refused(write_model_file(tmp_path / "edited.safetensors", metadata, tensors), *words)


@pytest.mark.parametrize("name", ["calibration/scores", "calibration/map_medians"])
def test_a_missing_calibration_gets_one_sentence(model_path, tmp_path, name):
    metadata, tensors = read_model_file(model_path)
    del tensors[name]
    refused(
        write_model_file(tmp_path / "edited.safetensors", metadata, tensors),
        name.removeprefix("calibration/"),
    )


@pytest.mark.parametrize("name", ["weights/more", "calibration/more", "more"])
def test_a_tensor_that_no_model_has_gets_one_sentence(model_path, tmp_path, name):
    metadata, tensors = read_model_file(model_path)
    refused(
        write_model_file(tmp_path / "edited.safetensors", metadata, tensors | {name: torch.zeros(3)}), "more"
    )


@pytest.mark.parametrize(
    "edit",
    [
        {"options": {"nz": 10_000, "ngf": 1024, "ndf": 1024}},
        {"options": {"extra_layers": 16, "ngf": 1024}},
        {"preprocessing": {"image_size": 16_384, "channels": 1}},
    ],
)
def test_networks_that_the_file_does_not_hold_are_never_built(model_path, tmp_path, edit, monkeypatch):
    """Hundreds of gigabytes, each number within its bounds."""
    path = with_model_json(model_path, tmp_path / "edited.safetensors", edit)
    monkeypatch.setattr(torch.Tensor, "normal_", lambda *_, **__: pytest.fail("weights were drawn"))
    refused(path, "do not fit")
