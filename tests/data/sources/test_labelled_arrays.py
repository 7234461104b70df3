"""MNIST and CIFAR-10 are read in every form they are downloaded in, and never by running code."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from ganomaly.data.sources.labelled_arrays import check_labelled_arrays, load_labelled_arrays, read_idx
from ganomaly.errors import DataError, UsageError

IMAGES = np.random.default_rng(0).integers(0, 255, (5, 4, 3), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_wherever_torchvision_leaves_them(tmp_path: Path, packed: bool) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in (("train-images-idx3-ubyte", IMAGES), ("train-labels-idx1-ubyte", LABELS)):
        content = idx(array)
        (raw / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    loaded = load_labelled_arrays(tmp_path, "train")
    np.testing.assert_array_equal(loaded.images[..., 0], IMAGES)
    assert loaded.labels.tolist() == ["3", "1", "4", "1", "5"]
    with pytest.raises(UsageError, match="neither parquet nor IDX"):
        load_labelled_arrays(tmp_path, "test")


def test_cifar_s_binary_files_are_read_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    pixels = np.random.default_rng(1).integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    rows = np.concatenate(
        [np.array([[7], [0], [9], [2]], np.uint8), pixels.transpose(0, 3, 1, 2).reshape(4, -1)], axis=1
    )
    (folder / "data_batch_1.bin").write_bytes(rows[:3].tobytes())
    (folder / "data_batch_2.bin").write_bytes(rows[3:].tobytes())
    loaded = load_labelled_arrays(tmp_path, "train")
    np.testing.assert_array_equal(loaded.images, pixels)
    assert loaded.labels.tolist() == ["7", "0", "9", "2"]


def test_a_pickle_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02}q\x01.")
    with pytest.raises(UsageError, match=r"pickles.*binary version"):
        load_labelled_arrays(tmp_path, "train")


@pytest.mark.parametrize(
    "content", [b"", b"hello there", idx(IMAGES)[:-1], idx(IMAGES) + b"x", bytes([0, 0, 8, 3, 0])]
)
def test_a_file_that_is_no_whole_idx_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match="train-images-idx3-ubyte is"):
        read_idx(path)


def test_a_truncated_cifar_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(bytes(5000))
    with pytest.raises(DataError, match=r"test_batch.bin is truncated"):
        load_labelled_arrays(tmp_path, "test")


def test_a_missing_folder_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        load_labelled_arrays(tmp_path / "nowhere", "train")


def test_missing_files_are_found_without_reading_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(b"")
    with pytest.raises(UsageError, match="binary files of the test split"):
        check_labelled_arrays(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"")
    check_labelled_arrays(tmp_path)
