"""Regions of single images that are ignored change neither score nor map, training nor calibration."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ganomaly import GANomalyDetector
from ganomaly.data import open_images, open_training_images, with_ignored_regions
from ganomaly.data.ignored_region import split_region, with_region
from ganomaly.errors import ImageError, UsageError
from ganomaly.export import export_model
from ganomaly.methods.feature_ganomaly.scoring import SignalScoring
from ganomaly.methods.ignored_positions import counted_positions
from ganomaly.methods.reference_statistics import PositionStatistics, SizeStatistics
from images import SMALL, textures, write_images
from shell import ganomaly

OPTIONS = {
    "features": {"ngf": 8, "ndf": 4, "nz": 4},
    "patches": {"ngf": 4, "ndf": 4, "nz": 4},
    "paper": SMALL,
}


def masks_for(n: int, seed: int = 0, *, size: int = 72) -> np.ndarray:
    """A square at another position of each image."""
    random = np.random.default_rng(seed)
    masks = np.zeros((n, size, size), dtype=np.bool_)
    for mask in masks:
        side = size // 3
        top, left = random.integers(2, size - side - 2, 2)
        mask[top : top + side, left : left + side] = True
    return masks


def with_noise(images: np.ndarray, masks: np.ndarray, seed: int = 5) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, images.shape, dtype=np.uint8)
    return np.where(masks, noise, images)


@pytest.fixture(scope="module", params=list(OPTIONS))
def fitted(request):
    """Fitted on images with a mask each."""
    masks = masks_for(24)
    images = with_noise(textures(24, size=72), masks)
    return GANomalyDetector(
        request.param,
        epochs=1,
        image_size=64,
        false_alarm_rate=0.2,
        ignore=masks,
        method_options=OPTIONS[request.param],
    ).fit(images)


def test_the_content_of_the_regions_changes_neither_score_nor_map(fitted):
    images, masks = textures(3, seed=9, size=72), masks_for(3, seed=3)
    scores = fitted.anomaly_score(images, ignore=masks)
    np.testing.assert_array_equal(fitted.anomaly_score(with_noise(images, masks), ignore=masks), scores)
    assert (fitted.anomaly_score(images, ignore=[masks[0], None, masks[2]])[[0, 2]] == scores[[0, 2]]).all()
    anomaly_map = fitted.anomaly_map(images[0], ignore=masks[0])
    rows, columns = np.nonzero(masks[0])
    inner = anomaly_map[rows.min() + 4 : rows.max() - 3, columns.min() + 4 : columns.max() - 3]
    assert inner.max() == 0
    assert anomaly_map.max() > 0
    np.testing.assert_array_equal(
        fitted.anomaly_map(with_noise(images, masks)[0], ignore=masks[0]), anomaly_map
    )


def test_training_and_calibration_do_not_see_the_regions(fitted):
    masks = masks_for(24)
    again = GANomalyDetector(**fitted.get_params()).fit(with_noise(textures(24, size=72), masks, seed=8))
    first, second = fitted.model_.method.state_dict(), again.model_.method.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    np.testing.assert_array_equal(fitted.model_.calibration.scores, again.model_.calibration.scores)


def test_a_graph_ignores_regions_where_the_score_is_that_of_the_whole_image(tmp_path):
    fitted = GANomalyDetector("paper", epochs=1, false_alarm_rate=0.2, method_options=SMALL).fit(textures(24))
    export_model(fitted.model_, tmp_path / "m.onnx")
    graph = GANomalyDetector.load(tmp_path / "m.onnx")
    images, masks = textures(3, seed=9, size=72), masks_for(3, seed=3)
    expected = fitted.anomaly_score(images, ignore=masks)
    np.testing.assert_allclose(graph.anomaly_score(images, ignore=masks), expected, rtol=1e-4)
    graph_map = graph.anomaly_map(images[0], ignore=masks[0])
    np.testing.assert_allclose(
        graph_map, fitted.anomaly_map(images[0], ignore=masks[0]), rtol=1e-3, atol=1e-4
    )
    preprocessing = graph.model_.preprocessing.model_copy(update={"scale": 1.0})
    graph.model_ = replace(graph.model_, preprocessing=preprocessing)
    with pytest.raises(UsageError, match="cannot ignore regions of single images"):
        graph.anomaly_score(images, ignore=masks)


def test_statistics_count_what_is_not_ignored():
    random = torch.Generator().manual_seed(0)
    maps = [torch.rand(2, 40, 30, generator=random) for _ in range(8)]
    ignored = [torch.zeros(80, 60, dtype=torch.bool) for _ in maps]
    for number, region in enumerate(ignored):
        region[4 * number : 4 * number + 20, 10:40] = True
    counted = [counted_positions(region, 2) for region in ignored]
    spoilt = [torch.where(positions, image, 1e6) for image, positions in zip(maps, counted, strict=True)]
    for statistics_type in (PositionStatistics, SizeStatistics):
        clean, dirty = statistics_type(2), statistics_type(2)
        clean.fit(maps, counted)
        dirty.fit(spoilt, counted)
        for name, value in clean.state_dict().items():
            torch.testing.assert_close(dirty.state_dict()[name], value)


@pytest.mark.parametrize("ignored_part", [slice(0, 40), slice(20, 60)])
def test_signals_in_the_region_do_not_count_for_the_score(ignored_part):
    scoring = SignalScoring(2)
    signals = torch.rand(1, 2, 40, 30, generator=torch.Generator().manual_seed(0))
    region = torch.zeros(80, 60, dtype=torch.bool)
    region[ignored_part] = True
    x = torch.zeros(1, 1, 80, 60)
    spoilt = torch.where(counted_positions(region, 2), signals, 50.0)
    scores = [scoring.predict(lambda _, s=s: s, x, region).score for s in (signals, spoilt)]
    assert torch.equal(*scores)
    assert scoring.predict(lambda _: spoilt, x).score > 2 * scores[0]


def test_a_region_is_filled_from_what_surrounds_it():
    rows = np.arange(64, dtype=np.uint8)[:, None, None] * np.ones((1, 64, 1), np.uint8)
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[20:44, 20:44] = True
    pixels, region = split_region(with_region(np.where(mask[..., None], 255, rows), mask)[None], 1)
    assert region is not None
    np.testing.assert_array_equal(region[0], mask)
    assert np.abs(pixels[0].astype(int) - rows).max() <= 6
    with pytest.raises(ImageError, match="nothing of the image is left"):
        with_region(rows, np.ones((4, 4), dtype=np.bool_))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A dataset in MVTec AD layout, masks of most of its images, and a model fitted with them."""
    root = tmp_path_factory.mktemp("ignored")
    write_images(root / "data/train/good", textures(24))
    write_images(root / "data/test/crack", textures(4, seed=3, blob=True))
    write_images(root / "masks/good", masks_for(20, size=32).astype(np.uint8) * 255)
    write_images(root / "masks/test/crack", masks_for(3, size=32).astype(np.uint8) * 255)
    for path in (root / "masks/test/crack").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    done = ganomaly(
        *("fit", root / "data", "--model", root / "m.safetensors", "--preset", "paper", "--epochs", 1),
        *("--false-alarm-rate", 0.2, "--option", "ngf=4", "--option", "ndf=4", "--ignore", root / "masks"),
    )
    assert done.returncode == 0, done.stderr
    assert "20 of 24 images have a mask" in done.stderr
    return root


def test_masks_have_the_names_of_their_images(folders):
    dataset = with_ignored_regions(open_training_images(folders / "data"), folders / "masks")
    assert [dataset.read_ignored_region(index) is not None for index in range(24)] == [True] * 20 + [
        False
    ] * 4


def test_score_says_how_many_images_have_no_mask(folders, tmp_path):
    command = ("score", folders / "m.safetensors", folders / "data", "--out", tmp_path / "s.csv")
    done = ganomaly(*command, "--ignore", folders / "masks")
    assert done.returncode == 0, done.stderr
    assert "23 of 28 images have a mask" in done.stderr
    assert "nothing is ignored in the other 5" in done.stderr
    scores = [float(row["score"]) for row in csv.DictReader((tmp_path / "s.csv").open())]
    ganomaly(*command)
    without = [float(row["score"]) for row in csv.DictReader((tmp_path / "s.csv").open())]
    changed = np.array(scores) != np.array(without)
    # images are in natural order: test/crack, then train/good
    np.testing.assert_array_equal(changed, [True] * 3 + [False] + [True] * 20 + [False] * 4)


def test_a_mask_that_cannot_be_read_costs_the_row_of_its_image(folders, tmp_path):
    masks = write_images(tmp_path / "masks", masks_for(2, size=32).astype(np.uint8) * 255)
    (masks / "000.png").write_bytes(b"no image")
    Image.new("L", (32, 32), 255).save(masks / "001.png")
    dataset = with_ignored_regions(open_images(folders / "data/test/crack"), masks)
    detector = GANomalyDetector.load(folders / "m.safetensors")
    errors = [prediction.error for prediction in detector.model_.predict(dataset)]
    assert "its mask cannot be read" in errors[0]
    assert "ignores everything" in errors[1]
    assert errors[2:] == [None, None]


@pytest.mark.parametrize("command", ["fit", "score"])
def test_a_folder_without_masks_is_refused(folders, tmp_path, command):
    (tmp_path / "empty").mkdir()
    words = {
        "fit": (folders / "data", "--model", tmp_path / "m.safetensors"),
        "score": (folders / "m.safetensors", folders / "data", "--out", tmp_path / "s.csv"),
    }[command]
    done = ganomaly(command, *words, "--ignore", tmp_path / "empty")
    assert done.returncode == 2
    assert "none of the images" in done.stderr


def test_masks_in_memory_must_fit_the_images():
    images = open_images(textures(3))
    with pytest.raises(UsageError, match="2 masks to ignore for 3 images"):
        with_ignored_regions(images, masks_for(2, size=32))
    with pytest.raises(UsageError, match="ignores everything"):
        with_ignored_regions(images, np.ones((3, 8, 8), dtype=np.bool_))
    with pytest.raises(UsageError, match="ignores nothing"):
        with_ignored_regions(images, np.zeros((8, 8), dtype=np.bool_))


def test_a_mask_that_the_model_was_not_fitted_with_is_noted(model_path, normal_folder, tmp_path):
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[:8, :8] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (normal_folder / "other.gif").write_bytes(b"GIF89a")
    arguments = ("score", model_path, normal_folder, "--out", tmp_path / "out.csv")
    masked = ganomaly(*arguments, "--ignore", tmp_path / "mask.png")
    assert masked.returncode == 0, masked.stderr
    assert masked.stderr.count("the model was not fitted with --ignore") == 1
    whole = ganomaly(*arguments)
    assert "--ignore" not in whole.stderr
    assert whole.stderr.count("files left out") == 1
    assert ".gif (1)" in whole.stderr
