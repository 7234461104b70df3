"""Anomaly maps on disk, and as overlays on their images."""

import numpy as np
import pytest
from PIL import Image

from ganomaly.calibration import MapCalibration
from ganomaly.errors import UsageError
from ganomaly.outputs import MapFolder, overlay, to_8_bit
from ganomaly.outputs.maps import maps_root
from ganomaly.prediction import Prediction, resize_map

CALIBRATION = MapCalibration(
    medians=np.array([1.0, 2.0, 3.0]), maxima=np.array([4.0, 5.0, 10.0]), false_alarm_rate=0.25
)
GRAY = np.full((6, 8, 1), 100, np.uint8)


def predicted(path: str, anomaly_map: np.ndarray, size: tuple[int, int] | None = None) -> Prediction:
    """A prediction with a map, of an image of the map's size unless another is given."""
    height, width = size or anomaly_map.shape
    anomaly_map = anomaly_map.astype(np.float32)
    return Prediction(0, path, score=1.0, height=height, width=width, anomaly_map=anomaly_map)


def write_maps(folder: MapFolder, paths: list[str]) -> dict[str, float]:
    """Write maps that hold the number of their image; return the number by path of the map."""
    for number, path in enumerate(paths):
        folder.write(predicted(path, np.full((6, 8), number)), GRAY)
    numbers = {
        path.relative_to(folder.folder).as_posix(): np.load(path, allow_pickle=False)[0, 0]
        for path in folder.folder.rglob("*.npy")
    }
    assert len(list(folder.folder.rglob("*_overlay.png"))) == len(paths)
    return numbers


def test_maps_keep_the_folder_structure_of_their_images(tmp_path):
    paths = ["in/a/1.png", "in/b/1.png", "in/train.parquet#17", "in/odd#1.png"]
    folder = MapFolder(tmp_path / "maps", CALIBRATION, "npy", maps_root(tmp_path / "maps", paths))
    assert write_maps(folder, paths) == {"a/1.npy": 0, "b/1.npy": 1, "train_17.npy": 2, "odd#1.npy": 3}


def test_maps_stay_below_their_folder_wherever_the_images_are(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    paths = ["1.png", "../b/2.png"]
    folder = MapFolder("../maps", CALIBRATION, "npy", maps_root(tmp_path / "maps", paths))
    assert write_maps(folder, paths) == {"a/1.npy": 0, "b/2.npy": 1}


@pytest.mark.parametrize(
    ("paths", "maps", "among_images"),
    [
        (["p/1.png"], "p", True),
        (["p/1.png"], "maps", False),
        (["p/1.png"], "p/maps", False),
        (["p/1.png", "p/x/1.png"], "p", True),
        (["p/1.png", "p/x/1.png"], "p/x", True),
        (["p/1.png", "p/x/1.png"], "p/y/../x", True),
        (["links/1.png"], "p", True),
        (["links/1.png"], "links", True),
        (["links/1.png"], "maps", False),
    ],
)
def test_maps_are_never_written_among_images(tmp_path, monkeypatch, paths, maps, among_images):
    monkeypatch.chdir(tmp_path)
    for path in ("p/1.png", "p/x/1.png", "links"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).mkdir() if path == "links" else (tmp_path / path).touch()
    (tmp_path / "links" / "1.png").symlink_to(tmp_path / "p" / "1.png")
    if among_images:
        with pytest.raises(UsageError, match="among the images"):
            maps_root(tmp_path / maps, paths)
    else:
        assert maps_root(tmp_path / maps, paths) is not None


def test_maps_that_would_count_as_images_next_time_are_refused(tmp_path):
    (tmp_path / "p").mkdir()
    with pytest.raises(UsageError, match="next time"):
        maps_root(tmp_path / "p" / "maps", [str(tmp_path / "p" / "1.png")], [tmp_path / "p"])


def test_maps_of_images_with_the_same_name_do_not_overwrite_each_other(tmp_path):
    paths = ["a/1.png", "b/1.png", "b/1.jpg", "b/1_2.png", "b/1_overlay.png"]
    written = write_maps(MapFolder(tmp_path / "maps", CALIBRATION, "npy"), paths)
    assert written == {"1.npy": 0, "1_2.npy": 1, "1_3.npy": 2, "1_2_2.npy": 3, "1_overlay_2.npy": 4}


def test_maps_of_other_images_in_the_folder_are_counted(tmp_path):
    folder = MapFolder(tmp_path / "maps", CALIBRATION)
    paths = ["a/1.png", "a/2.png"]
    for path in paths:
        folder.write(predicted(path, np.zeros((6, 8))), GRAY)
    assert folder.count_others() == 0
    again = MapFolder(tmp_path / "maps", CALIBRATION)
    again.write(predicted("a/2.png", np.zeros((6, 8))), GRAY)
    again.write(predicted("a/3.png", np.zeros((6, 8))), GRAY)
    assert again.count_others() == 1


def test_a_map_as_png_is_on_the_scale_of_its_threshold(tmp_path):
    anomaly_map = np.array([[2, 10, 6], [0, 14, 99]])  # the median is 2, the threshold 10
    path = MapFolder(tmp_path, CALIBRATION).write(predicted("a.png", anomaly_map), GRAY[:2, :3])
    with Image.open(path) as png:
        levels = np.asarray(png, dtype=int)
    np.testing.assert_allclose(levels, [[0, 32768, 16384], [0, 49151, 65535]], atol=1)


def test_a_map_is_written_at_the_size_of_the_image(tmp_path):
    prediction = predicted("a.png", np.ones((3, 4)), size=(6, 8))
    path = MapFolder(tmp_path, CALIBRATION, "npy").write(prediction, GRAY)
    assert np.load(path, allow_pickle=False).shape == (6, 8)


def test_a_prediction_without_a_map_is_refused_in_words(tmp_path):
    with pytest.raises(UsageError, match=r"a\.png has no anomaly map"):
        MapFolder(tmp_path, CALIBRATION).write(Prediction(0, "a.png", score=1.0), GRAY)


def test_an_overlay_leaves_normal_pixels_clear_and_outlines_the_mask():
    anomaly_map = np.full((6, 8), 1, np.float32)
    anomaly_map[2:4, 2:4] = 50
    blended = overlay(GRAY, anomaly_map, CALIBRATION)
    assert (blended[0] == 100).all()
    assert (blended[2:4, 2:4] != 100).any(axis=2).all()
    mask = np.zeros((6, 8), bool)
    mask[2:5, 4:8] = True
    outlined = overlay(GRAY, anomaly_map, CALIBRATION, mask)
    assert (outlined[1, 5] == (0, 255, 255)).all()
    assert (outlined[mask] == blended[mask]).all(), "what is inside stays visible"
    assert (outlined[0] == 100).all()


def test_a_strong_defect_stands_out_from_its_surroundings():
    anomaly_map = np.full((6, 8), 15, np.float32)  # all of it above the threshold, 10
    anomaly_map[2:4, 2:4] = 900
    blended = overlay(GRAY, anomaly_map, CALIBRATION).astype(int)
    assert np.abs(blended[2, 2] - blended[0, 0]).max() > 100
    assert (blended[0, 0] != 100).any(), "what is above the threshold is visible"
    below, above = (
        overlay(GRAY, np.full((6, 8), level, np.float32), CALIBRATION).astype(int) for level in (9.95, 10.05)
    )
    assert np.abs(above - below).max() < 5, "colours do not jump at the threshold"


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_an_image_of_any_channels_gets_an_overlay(channels):
    image = np.full((4, 4, channels), 7, np.uint8)
    assert overlay(image, np.zeros((4, 4), np.float32), CALIBRATION).shape == (4, 4, 3)


def test_images_of_16_bits_are_scaled_to_their_white_level():
    assert to_8_bit(np.array([[[0], [2048], [9999]]], np.uint16), 4095).ravel().tolist() == [0, 128, 255]


def test_a_map_is_resized_to_the_size_of_the_image():
    small = np.zeros((32, 32), np.float32)
    small[8:12, 20:24] = 1
    large = resize_map(small, 64, 96)
    assert large.shape == (64, 96)
    row, column = np.unravel_index(large.argmax(), large.shape)
    assert 16 <= row < 24
    assert 60 <= column < 72


@pytest.mark.parametrize("file_format", ["png", "npy"])
def test_maps_written_in_strips_are_those_written_at_once(tmp_path, monkeypatch, file_format):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (60, 50, 3), dtype=np.uint8)
    prediction = predicted("a.png", rng.gamma(2, 3, (16, 16)), size=(60, 50))
    written = []
    for pixels in (2**22, 50 * 7):
        monkeypatch.setattr("ganomaly.data.strips.PIXELS", pixels)
        folder = tmp_path / str(pixels)
        path = MapFolder(folder, CALIBRATION, file_format).write(prediction, image)
        with Image.open(folder / "a_overlay.png") as overlaid:
            levels = np.load(path) if file_format == "npy" else np.asarray(Image.open(path), dtype=int)
            written.append((levels, np.asarray(overlaid, dtype=int)))
    (whole, whole_overlay), (strips, strips_overlay) = written
    np.testing.assert_allclose(strips, whole, rtol=1e-5, atol=0 if file_format == "npy" else 1)
    np.testing.assert_allclose(strips_overlay, whole_overlay, atol=1)
