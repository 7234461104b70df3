"""What lies in the ignored region changes neither a score nor a map, in models and in graphs."""

import os

import numpy as np
import pytest
from PIL import Image

from ganomaly import GANomalyDetector
from ganomaly.data.ignored_region import (
    MARGIN,
    MAX_SIDE,
    ignored_region,
    mask_at_size,
    mask_from_text,
    mask_of,
    read_ignored_region,
    without_region,
)
from ganomaly.errors import ModelFileError, UsageError
from ganomaly.export import export_model
from images import SMALL, textures
from model_files import read_model_file, write_model_file
from shell import ganomaly

REGION = (slice(0, 20), slice(40, 72))


def corner(side: int = 72) -> np.ndarray:
    mask = np.zeros((side, side), dtype=np.bool_)
    mask[REGION] = True
    return mask


def changed(images: np.ndarray, seed: int = 5) -> np.ndarray:
    """The same images with noise in the region."""
    images = images.copy()
    region = images[:, REGION[0], REGION[1]]
    region[...] = np.random.default_rng(seed).integers(0, 256, region.shape)
    return images


@pytest.mark.parametrize("preset", ["features", "paper"])
def test_the_content_of_the_region_changes_neither_score_nor_map(preset, tmp_path):
    options = {"features": {"ngf": 8, "ndf": 4, "nz": 4}, "paper": {"ngf": 4, "ndf": 4}}[preset]
    detector = GANomalyDetector(
        preset, epochs=1, image_size=32, false_alarm_rate=0.2, ignore=corner(), method_options=options
    ).fit(textures(24, size=72))
    images = textures(3, seed=9, size=72)
    models = [detector]
    detector.save(tmp_path / "m.safetensors")
    models.append(GANomalyDetector.load(tmp_path / "m.safetensors"))
    if preset == "paper":
        export_model(detector.model_, tmp_path / "m.onnx")
        models.append(GANomalyDetector.load(tmp_path / "m.onnx"))
    for model in models:
        scores = model.anomaly_score(images)
        np.testing.assert_array_equal(model.anomaly_score(changed(images)), scores)
        np.testing.assert_allclose(scores, detector.anomaly_score(images), rtol=1e-3)
        anomaly_map = model.anomaly_map(images[0])
        assert anomaly_map[2:16, 44:70].max() == 0
        assert anomaly_map[30:].max() > 0
        np.testing.assert_array_equal(model.anomaly_map(changed(images)[0]), anomaly_map)


def test_training_does_not_see_the_region():
    images = textures(24, size=72)
    models = [
        GANomalyDetector(
            "paper",
            epochs=1,
            image_size=32,
            false_alarm_rate=0.2,
            ignore=corner(),
            method_options=SMALL,
        )
        .fit(training)
        .model_.method.state_dict()
        for training in (images, changed(images))
    ]
    assert all(np.array_equal(models[0][name].numpy(), models[1][name].numpy()) for name in models[0])


def test_a_loaded_model_is_fitted_again_with_the_same_region(tmp_path):
    detector = GANomalyDetector(
        "paper", epochs=1, false_alarm_rate=0.2, ignore=corner(), method_options=SMALL
    ).fit(textures(24))
    detector.save(tmp_path / "m.safetensors")
    loaded = GANomalyDetector.load(tmp_path / "m.safetensors")
    assert loaded.fit(textures(24)).model_.preprocessing == detector.model_.preprocessing


def test_a_mask_is_read_at_any_size_and_grows_by_a_margin(tmp_path):
    mask = np.zeros((1500, 900), dtype=np.uint8)
    mask[600:900, 300:600] = 7
    Image.fromarray(mask).save(tmp_path / "mask.png")
    text = read_ignored_region(tmp_path / "mask.png")
    stored = mask_from_text(text)
    assert max(stored.shape) <= MAX_SIDE
    grown = mask_at_size(mask_of(text), 1500, 900) & (mask == 0)
    assert mask_at_size(stored, 1500, 900)[600:900, 300:600].all()
    step = 3
    assert not grown[: 600 - (MARGIN + 1) * step].any()
    assert grown[600 - step, 450]


def test_pixels_of_the_region_are_0():
    images = textures(1, size=72)[0][..., None]
    blanked = without_region(images, ignored_region(corner()))
    region = mask_of(ignored_region(corner()))
    assert (blanked[region] == 0).all()
    np.testing.assert_array_equal(blanked[~region], images[~region])


@pytest.mark.parametrize(("value", "what"), [(0, "nothing"), (255, "everything")])
def test_a_mask_that_ignores_nothing_or_everything_is_refused(tmp_path, value, what):
    Image.new("L", (20, 20), value).save(tmp_path / "mask.png")
    with pytest.raises(UsageError, match=what):
        read_ignored_region(tmp_path / "mask.png")


def test_the_shell_refuses_what_is_no_mask(tmp_path):
    (tmp_path / "mask.png").write_text("no image")
    done = ganomaly("fit", tmp_path, "--model", tmp_path / "m.safetensors", "--ignore", tmp_path / "mask.png")
    assert done.returncode == 2
    assert "is not an image" in done.stderr


def test_a_pipe_is_no_mask(tmp_path):
    os.mkfifo(tmp_path / "mask.png")
    with pytest.raises(UsageError, match="is a pipe"):
        read_ignored_region(tmp_path / "mask.png")


def test_a_header_with_a_damaged_mask_is_refused(tmp_path):
    detector = GANomalyDetector(
        "paper", epochs=1, false_alarm_rate=0.2, ignore=corner(), method_options=SMALL
    ).fit(textures(24))
    detector.save(tmp_path / "m.safetensors")
    text = detector.model_.preprocessing.ignored
    metadata, tensors = read_model_file(tmp_path / "m.safetensors")
    metadata["model"] = metadata["model"].replace(text, text[:40])
    path = write_model_file(tmp_path / "m.safetensors", metadata, tensors)
    with pytest.raises(ModelFileError, match="ignored region"):
        GANomalyDetector.load(path)
