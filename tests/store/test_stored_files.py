"""Files of a store: named by their content, written whole, and recognised by their first bytes."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganomaly.errors import OutputError
from ganomaly.store.stored_files import OTHER, StoredFiles, digest_of, media_type_of


@pytest.mark.parametrize(
    ("name", "media_type", "suffix"),
    [
        ("PNG", "image/png", ".png"),
        ("JPEG", "image/jpeg", ".jpg"),
        ("BMP", "image/bmp", ".bmp"),
        ("WEBP", "image/webp", ".webp"),
        ("TIFF", "image/tiff", ".tif"),
        ("AVIF", "image/avif", ".avif"),
        ("JPEG2000", "image/jp2", ".jp2"),
    ],
)
def test_images_are_recognised_by_their_bytes(
    name: str, media_type: str, suffix: str, tmp_path: Path
) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(file, name)
    assert media_type_of(file.getvalue()) == media_type
    assert StoredFiles(tmp_path).image(digest_of(file.getvalue()), media_type).suffix == suffix


def test_dicom_and_what_a_program_added_are_stored_too(tmp_path: Path) -> None:
    assert media_type_of(bytes(128) + b"DICM") == "application/dicom"
    assert media_type_of(b"RAW0") == media_type_of(b"") == OTHER
    assert StoredFiles(tmp_path).image("ab" * 32, OTHER).suffix == ".image"


def test_a_file_is_written_once_and_whole(tmp_path: Path) -> None:
    files = StoredFiles(tmp_path)
    path = files.image("ab" * 32, "image/png")
    files.write(path, b"first")
    files.write(path, b"second")
    assert path.read_bytes() == b"first"
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
    assert files.remove(path) == 5
    assert files.remove(path) == 0


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(b"a file")
    files = StoredFiles(tmp_path)
    with pytest.raises(OutputError, match="cannot make the folder"):
        files.write(files.image("ab" * 32, "image/png"), b"x")
