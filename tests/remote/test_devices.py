"""Several processes that train from a bucket: one of them copies the images for all on its machine."""

from pathlib import Path
from types import MappingProxyType

import pytest

from faulty_store import FaultyStore
from ganomaly.prediction import describe_model
from ganomaly.remote import RemoteFile, list_files, upload
from images import SMALL
from shell import ganomaly_process

BUCKET = RemoteFile("s3://parts")
SIZES = MappingProxyType({name: str(value) for name, value in SMALL.items()})


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """Of a short fit, with an empty folder for temporary files beside the model."""
    (tmp_path / "temporary").mkdir()
    options = ["--preset", "paper", "--epochs", "1", "--false-alarm-rate", "0.2", "--devices", "2"]
    return options + [word for name, value in SIZES.items() for word in ("--option", f"{name}={value}")]


def test_two_processes_read_each_image_of_a_bucket_once(
    labelled_folder: Path,
    options: list[str],
    store: FaultyStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    for path in sorted((labelled_folder / "train").rglob("*.*")):
        upload(path, BUCKET / "data" / path.relative_to(labelled_folder).as_posix())
    here = ganomaly_process("fit", labelled_folder, "--model", "here.safetensors", *options, cwd=tmp_path)
    assert here.returncode == 0, here.stderr
    store.reset(slow=0.2)
    there = ganomaly_process("fit", BUCKET / "data", "--model", "there.safetensors", *options, cwd=tmp_path)
    assert there.returncode == 0, there.stderr
    assert dict(store.read_bytes) == {f"/parts/{stored.name}": stored.size for stored in list_files(BUCKET)}
    assert not list((tmp_path / "temporary").glob("ganomaly*"))
    models = [describe_model(tmp_path / f"{name}.safetensors") for name in ("here", "there")]
    assert models[0]["calibration"] == models[1]["calibration"]
    assert models[1]["provenance"]["devices"] == 2


def test_a_bucket_without_images_ends_both_processes_with_one_sentence(
    options: list[str], store: FaultyStore, tmp_path: Path
) -> None:
    done = ganomaly_process("fit", BUCKET / "none", "--model", "m.safetensors", *options, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines() == [
        "ganomaly: s3://parts/none does not exist, or nothing is in it; check the path"
    ]
