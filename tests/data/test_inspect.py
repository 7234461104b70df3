"""What is said of a dataset before it is decoded: sizes, channels, bits, failures, identity."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganomaly.data import (
    Inspection,
    inspect_images,
    open_images,
    open_training_images,
    suggested_image_size,
)
from ganomaly.data.inspect import agreed_bits
from ganomaly.data.readers.decoding import decode_image
from ganomaly.errors import DataError, ImageError


def of_sizes(*sizes: tuple[int, int]) -> Inspection:
    return inspect_images(open_images([np.zeros(size, np.uint8) for size in sizes]))


def test_sizes_channels_and_bits_are_counted(tmp_path: Path) -> None:
    Image.new("L", (30, 20)).save(tmp_path / "0.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "1.jpg")
    Image.fromarray(np.zeros((8, 9), np.uint16)).save(tmp_path / "2.tif")
    (tmp_path / "3.png").write_text("text")
    inspection = inspect_images(open_training_images(tmp_path))
    assert inspection.sizes == {(20, 30): 2, (8, 9): 1}
    assert inspection.channel_counts == {1: 2, 3: 1}
    assert inspection.bit_counts == {8: 2, 16: 1}
    assert list(inspection.failures) == [3]
    assert inspection.failures[3].startswith("3.png is not an image")


def test_headers_of_gray_images_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inspecting photographs must not take as long as decoding them."""
    for number, suffix in enumerate((".png", ".jpg", ".bmp", ".tif")):
        Image.new("L", (30, 20)).save(tmp_path / f"{number}{suffix}")
    for module in ("pillow.PillowImage", "tiff.TiffImage"):
        monkeypatch.setattr(f"ganomaly.data.readers.{module}.decode", None)
    assert inspect_images(open_training_images(tmp_path)).sizes == {(20, 30): 4}
    with pytest.raises(ImageError):
        decode_image(tmp_path / "0.png")


def test_the_medians_are_those_of_heights_widths_and_shorter_sides() -> None:
    inspection = of_sizes((10, 100), (20, 90), (80, 30), (40, 70))
    assert inspection.median_height == 20
    assert inspection.median_width == 70
    assert inspection.median_shorter_side == 20


@pytest.mark.parametrize(("side", "size"), [(28, 32), (48, 32), (49, 64), (1000, 64)])
def test_the_size_follows_the_publication(side: int, size: int) -> None:
    assert suggested_image_size(of_sizes((side, 500), (500, side), (side, side))) == size


def test_mixed_bits_are_refused_with_counts_and_examples() -> None:
    inspection = inspect_images(open_images([np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint16)]))
    with pytest.raises(DataError, match=r"1 of 8 bit \(array\[0\]\), 1 of 16 bit \(array\[1\]\)"):
        agreed_bits(inspection)


def test_no_readable_image_is_refused_with_the_first_reason(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(
        DataError, match=r"0 normal images that can be read among the 1 in .*a\.png is not an image"
    ):
        inspect_images(open_training_images(tmp_path))
