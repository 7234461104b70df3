"""The range of physical values is that of the training images, and neither one odd image nor new ones change it."""

from pathlib import Path

import numpy as np
import pytest

from dicom_files import write_dicom
from ganomaly.data import inspect_images, open_images
from ganomaly.data.inspect import have_values
from ganomaly.data.sources.dataset import ImageDataset
from ganomaly.data.value_range import measure_value_range
from ganomaly.errors import DataError


def scans(folder: Path, highs: list[int]) -> ImageDataset:
    """Images with values from −1000 to a highest value."""
    for number, high in enumerate(highs):
        samples = np.linspace(-1000, high, 1024).reshape(32, 32).round().astype(np.int16)
        write_dicom(folder / f"{number:03}.dcm", samples, slope=1, intercept=0)
    return open_images([folder])


def test_it_holds_all_values_and_a_margin(tmp_path: Path) -> None:
    low, high = measure_value_range(scans(tmp_path, [1000] * 10), np.arange(10))
    assert low == pytest.approx(-1200, abs=10)
    assert high == pytest.approx(1200, abs=10)


def test_one_image_with_an_implant_does_not_change_it(tmp_path: Path) -> None:
    usual = measure_value_range(scans(tmp_path / "usual", [1000] * 12), np.arange(12))
    assert measure_value_range(scans(tmp_path / "odd", [1000] * 11 + [30000]), np.arange(12)) == usual


def test_images_that_do_not_train_do_not_count(tmp_path: Path) -> None:
    images = scans(tmp_path, [1000] * 8 + [9000] * 8)
    assert measure_value_range(images, np.arange(8))[1] < 1300
    assert measure_value_range(images, np.arange(16))[1] > 9000


def test_damaged_images_do_not_count(tmp_path: Path) -> None:
    images = scans(tmp_path, [1000] * 10)
    expected = measure_value_range(images, np.arange(1, 10))
    path = tmp_path / "000.dcm"
    path.write_bytes(path.read_bytes()[:-100])
    assert measure_value_range(images, np.arange(10)) == expected


def test_equal_values_are_refused(tmp_path: Path) -> None:
    for number in range(4):
        write_dicom(tmp_path / f"{number}.dcm", np.full((8, 8), 7, np.int16), slope=1)
    with pytest.raises(DataError, match=r"all values in the training images .* are 7"):
        measure_value_range(open_images([tmp_path]), np.arange(4))


def test_values_and_pixels_do_not_mix(tmp_path: Path) -> None:
    scans(tmp_path, [1000] * 2)
    write_dicom(tmp_path / "pixels.dcm", np.zeros((32, 32), np.uint8))
    with pytest.raises(DataError, match=r"physical values \(.*000\.dcm\) and some pixels \(.*pixels\.dcm\)"):
        have_values(inspect_images(open_images([tmp_path])))
