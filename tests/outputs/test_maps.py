"""Anomaly maps on disk."""

import numpy as np

from ganomaly.outputs import MapFolder, at_image_size


def test_maps_of_images_with_the_same_name_do_not_overwrite_each_other(tmp_path):
    folder = MapFolder(tmp_path / "maps")
    for number, path in enumerate(["a/1.png", "b/1.png", "b/2.png"]):
        folder.write(path, np.full((2, 3), number, np.float32))
    written = {path.name: np.load(path, allow_pickle=False)[0, 0] for path in (tmp_path / "maps").iterdir()}
    assert written == {"1.npy": 0, "1_2.npy": 1, "2.npy": 2}


def test_a_map_is_brought_to_the_size_of_the_image():
    hot = np.zeros((32, 32), np.float32)
    hot[8:12, 20:24] = 1
    large = at_image_size(hot, 64, 96)
    assert large.shape == (64, 96)
    row, column = np.unravel_index(large.argmax(), large.shape)
    assert 16 <= row < 24
    assert 60 <= column < 72
