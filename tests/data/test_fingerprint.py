"""The same images have the same fingerprint wherever they are; images that changed have another one."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ganomaly.data import ImageLoader, fingerprint, inspect_images, open_images, open_training_images
from ganomaly.data.fingerprint import (
    content_fingerprint,
    earlier_fingerprint,
    fingerprint_like,
    has_fingerprint,
    sample_fingerprint,
)
from images import textures

KINDS = (content_fingerprint, sample_fingerprint, earlier_fingerprint)
Fingerprint = Callable[[Any], str]


def write_bmp(folder: Path, levels: tuple[int, ...] = (10, 20, 30)) -> Path:
    """Images whose files have the same size and times, whatever is in them."""
    folder.mkdir(exist_ok=True)
    for number, level in enumerate(levels):
        path = folder / f"{number}.bmp"
        Image.new("L", (8, 8), level).save(path)
        os.utime(path, (1e9, 1e9))
    return folder


def loader_of(data: Any, memory: int | None = None) -> ImageLoader:
    dataset = open_training_images(data)
    loader = ImageLoader(dataset, inspect_images(dataset), image_size=8, channels=1, memory_limit=memory)
    loader.load()
    return loader


@pytest.mark.parametrize("kind", [content_fingerprint, sample_fingerprint])
def test_an_image_of_the_same_name_size_and_time_is_another_one_if_its_content_is(
    tmp_path, kind: Fingerprint
):
    first = kind(open_images(write_bmp(tmp_path)))
    assert kind(open_images(write_bmp(tmp_path))) == first
    assert kind(open_images(write_bmp(tmp_path, (10, 21, 30)))) != first
    assert kind(open_images(write_bmp(tmp_path, (20, 10, 30)))) != first


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_numbers_count_but_not_the_folder(tmp_path, kind: Fingerprint):
    first = kind(open_images(write_bmp(tmp_path / "a")))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert kind(open_images(tmp_path / "b")) == first
    (tmp_path / "b" / "2.bmp").rename(tmp_path / "b" / "3.bmp")
    assert kind(open_images(tmp_path / "b")) != first
    (tmp_path / "a" / "2.bmp").unlink()
    assert kind(open_images(tmp_path / "a")) != first


def test_times_count_in_a_run_that_goes_on_but_not_when_the_images_are_recognised(tmp_path):
    first = sample_fingerprint(open_images(write_bmp(tmp_path)))
    os.utime(tmp_path / "1.bmp", (2e9, 2e9))
    dataset = open_images(tmp_path)
    assert sample_fingerprint(dataset) != first
    assert has_fingerprint(dataset, first)


def test_of_streamed_images_the_content_of_a_sample_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "SAMPLE_SIZE", 4)
    levels = list(range(10, 22))
    first = sample_fingerprint(open_images(write_bmp(tmp_path, tuple(levels))))
    noticed = []
    for index in range(12):
        changed = [level + 100 * (number == index) for number, level in enumerate(levels)]
        noticed.append(sample_fingerprint(open_images(write_bmp(tmp_path, tuple(changed)))) != first)
    assert sum(noticed) == 4


@pytest.mark.parametrize("kind", [content_fingerprint, sample_fingerprint])
def test_rows_of_parquet_and_arrays_count_by_their_content(tmp_path, kind: Fingerprint):
    def parquet(level: int) -> str:
        path = write_bmp(tmp_path, (level,)) / "0.bmp"
        pq.write_table(pa.table({"image": [path.read_bytes()] * 3}), tmp_path / "x.parquet")
        os.utime(tmp_path / "x.parquet", (1e9, 1e9))
        return kind(open_images(tmp_path / "x.parquet"))

    assert parquet(10) == parquet(10) != parquet(11)
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 8), dtype=np.uint8)
    first = kind(open_images(images))
    assert kind(open_images(list(images.copy()))) == first
    assert kind(open_images(images[::-1])) != first
    assert kind(open_images(images + 1)) != first


def test_images_that_cannot_be_read_have_a_fingerprint_too(tmp_path):
    write_bmp(tmp_path)
    (tmp_path / "1.bmp").write_text("text")
    os.mkfifo(tmp_path / "p.png")
    images = [*sorted(tmp_path.iterdir()), tmp_path / "missing.png"]
    for kind in KINDS:
        assert kind(open_images(images)) == kind(open_images(images))


def test_loading_gives_the_fingerprint_of_the_content_and_reads_no_file_again(tmp_path, monkeypatch):
    write_bmp(tmp_path)
    (tmp_path / "1.bmp").write_text("text")
    expected = content_fingerprint(open_images(tmp_path))
    loader = loader_of(tmp_path)
    read = []
    monkeypatch.setattr(Path, "open", lambda path, *_, **__: read.append(path.name) or open(path, "rb"))  # noqa: PTH123, SIM115
    assert loader.fingerprint() == expected
    assert read == ["1.bmp"]  # it was not decoded


def test_what_memory_holds_decides_about_the_kind_unless_another_run_did(tmp_path):
    dataset = open_images(write_bmp(tmp_path))
    in_memory, streamed = loader_of(tmp_path), loader_of(tmp_path, memory=0)
    assert in_memory.fingerprint() == content_fingerprint(dataset)
    assert streamed.fingerprint() == sample_fingerprint(dataset)
    for kind in KINDS:
        recorded = kind(dataset)
        assert in_memory.fingerprint(recorded) == streamed.fingerprint(recorded) == recorded
        assert fingerprint_like(recorded, dataset) == recorded


def test_fingerprints_of_earlier_versions_are_recognised(tmp_path):
    """Computed here as version 0.2 did, over names and sizes."""
    write_bmp(tmp_path)
    digest = hashlib.sha256()
    for path in sorted(tmp_path.iterdir()):
        identity = f"{path.name}\0{path.stat().st_size}".encode()
        digest.update(len(identity).to_bytes(8, "little") + identity)
    dataset = open_images(tmp_path)
    assert has_fingerprint(dataset, digest.hexdigest())
    (tmp_path / "1.bmp").write_bytes(b"")
    assert not has_fingerprint(open_images(tmp_path), digest.hexdigest())


def test_a_run_is_not_resumed_with_images_that_changed_under_the_same_names_and_sizes(tmp_path, monkeypatch):
    from ganomaly.config import FitOptions
    from ganomaly.errors import TrainingError
    from ganomaly.methods import Preset
    from ganomaly.training.checkpoint import recorded_data
    from ganomaly.training.fit import fit_model
    from images import SMALL

    training_for = Preset.training_for
    monkeypatch.setattr(
        Preset,
        "training_for",
        lambda *a, **k: training_for(*a, **k).model_copy(update={"checkpoint_seconds": 0}),
    )
    folder = tmp_path / "images"
    folder.mkdir()

    def write(seed: int) -> None:
        for number, image in enumerate(textures(40, seed)):
            Image.fromarray(image).save(folder / f"{number:03}.bmp")
            os.utime(folder / f"{number:03}.bmp", (1e9, 1e9))

    options = FitOptions(preset="paper", epochs=1, image_size=32, method_options=SMALL)
    checkpoint = tmp_path / "c"
    write(0)
    fitted = fit_model(folder, options, checkpoint=checkpoint)
    assert fitted.model.provenance["data_fingerprint"] == recorded_data(checkpoint)
    fit_model(folder, options, checkpoint=checkpoint)
    write(1)
    with pytest.raises(TrainingError, match="belongs to a run with other data"):
        fit_model(folder, options, checkpoint=checkpoint)
