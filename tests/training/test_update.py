"""More calibration images: a finer threshold, the same whatever the order of the updates."""

import json

import numpy as np
import pytest

from ganomaly import GANomalyDetector
from ganomaly.data import open_training_images
from ganomaly.errors import DataError, UsageError
from ganomaly.prediction.model_file import load_model
from ganomaly.training.update import update_model
from images import SMALL, textures, write_images
from shell import ganomaly


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("update")
    GANomalyDetector("paper", epochs=1, false_alarm_rate=0.2, method_options=SMALL).fit(
        write_images(folder / "normal", textures(30))
    ).save(folder / "m.safetensors")
    return folder


def test_calibration_scores_are_those_of_old_and_new_images(folder):
    model = load_model(folder / "m.safetensors")
    result = update_model(model, open_training_images(textures(20, seed=5)))
    assert result.added == 20
    assert len(result.model.calibration.scores) == len(model.calibration.scores) + 20
    assert set(model.calibration.scores) <= set(result.model.calibration.scores)
    assert result.model.provenance["version"] == 2
    assert result.model.provenance["updates"][0]["images"] == 20
    assert result.model.method is model.method
    new_image = open_training_images(textures(1, seed=8))
    before, after = (next(iter(part.predict(new_image))) for part in (model, result.model))
    assert before.score == after.score


def test_the_order_of_updates_does_not_matter(folder):
    model = load_model(folder / "m.safetensors")
    first, second = (open_training_images(textures(10, seed=seed)) for seed in (5, 6))
    one, other = (
        update_model(update_model(model, a).model, b).model for a, b in ((first, second), (second, first))
    )
    np.testing.assert_array_equal(one.calibration.scores, other.calibration.scores)
    np.testing.assert_array_equal(one.map_calibration.maxima, other.map_calibration.maxima)
    np.testing.assert_array_equal(one.map_calibration.medians, other.map_calibration.medians)
    assert one.provenance["version"] == other.provenance["version"] == 3


def test_images_that_the_model_has_seen_are_refused(folder):
    model = load_model(folder / "m.safetensors")
    with pytest.raises(UsageError, match="has seen"):
        update_model(model, open_training_images(folder / "normal"))
    new = open_training_images(textures(10, seed=5))
    with pytest.raises(UsageError, match="has seen"):
        update_model(update_model(model, new).model, new)


def test_images_that_cannot_be_read_are_refused(folder, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the images"):
        update_model(load_model(folder / "m.safetensors"), open_training_images(tmp_path))


def test_the_command_writes_another_file_and_lists_broken_images(folder, tmp_path):
    images = write_images(tmp_path / "new", textures(12, seed=7))
    (images / "broken.png").write_bytes(b"no image")
    out = tmp_path / "m2.safetensors"
    done = ganomaly("update", folder / "m.safetensors", images, "--model", out)
    assert done.returncode == 3, done.stderr
    assert "broken.png" in done.stdout + done.stderr
    assert "version 2: 12 new ones calibrate" in done.stderr
    description = json.loads(ganomaly("info", out, "--json").stdout)
    assert description["provenance"]["version"] == 2
    assert description["calibration"]["images"] == 12 + len(
        load_model(folder / "m.safetensors").calibration.scores
    )


def test_the_command_does_not_replace_the_model_that_it_updates(folder, tmp_path):
    images = write_images(tmp_path / "new", textures(12, seed=7))
    before = (folder / "m.safetensors").read_bytes()
    done = ganomaly("update", folder / "m.safetensors", images, "--model", folder / "m.safetensors")
    assert done.returncode == 2
    assert "name another file" in done.stderr
    assert (folder / "m.safetensors").read_bytes() == before
