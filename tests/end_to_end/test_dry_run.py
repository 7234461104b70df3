"""`fit --dry-run` says what `fit` does, roughly how long it takes, and leaves nothing behind."""

import re
from pathlib import Path

import numpy as np
import pytest

from images import textures, write_images
from shell import Done, ganomaly

QUICK = ("--preset", "paper", "--option", "ngf=8", "--option", "ndf=8", "--epochs", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "parts", textures(40))


def dry_run(data: Path, *more: object) -> Done:
    return ganomaly("fit", data, "--model", data.parent / "m.safetensors", "--dry-run", *more)


def seconds(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def test_it_says_what_fit_then_does(folder: Path) -> None:
    planned = dry_run(folder, *QUICK, "--false-alarm-rate", 0.1)
    assert planned.returncode == 0, planned.stderr
    fitted = ganomaly(
        "fit", folder, "--model", folder.parent / "m.safetensors", *QUICK, "--false-alarm-rate", 0.1
    )
    assert fitted.returncode == 0, fitted.stderr
    assert planned.stderr.splitlines()[0] == fitted.stderr.splitlines()[0]
    assert "31 train, 9 calibrate" in planned.stderr
    assert "have the false-alarm rate of 0.1 that was asked for" in planned.stderr
    low, high = re.findall(
        r"It would take (?:(.*?) to )?(.*?), measured just now with random data", planned.stderr
    )[0]
    assert 0 < seconds(low or high) <= seconds(high) < 60


def test_nothing_is_written_and_what_is_there_is_said(folder: Path) -> None:
    model, checkpoint = folder.parent / "m.safetensors", folder.parent / "m.safetensors.checkpoint"
    assert dry_run(folder, *QUICK).returncode == 0
    assert sorted(path.name for path in folder.parent.iterdir()) == ["parts"]
    assert ganomaly("fit", folder, "--model", model, *QUICK).returncode == 0
    content = model.read_bytes()
    planned = dry_run(folder, *QUICK)
    assert f"It would write {model}, and replace the file there" in planned.stderr
    assert model.read_bytes() == content
    assert not checkpoint.exists()


def test_what_the_threshold_is_worth_is_said(folder: Path) -> None:
    planned = dry_run(folder, *QUICK)
    assert "false-alarm rate of 0.071, not 0.01: that needs 99 calibration images, and there are 13" in (
        planned.stderr
    )


def test_no_pixel_is_decoded(folder: Path) -> None:
    """A file whose header is whole and whose pixels are not counts as readable."""
    path = folder / "000.png"
    path.write_bytes(path.read_bytes()[:-300])
    assert "40 normal images" in dry_run(folder, *QUICK).stderr
    path.write_bytes(b"text")
    planned = dry_run(folder, *QUICK)
    assert planned.returncode == 3
    assert "39 normal images" in planned.stderr
    assert "000.png" in planned.stderr


@pytest.mark.parametrize("preset", ["patches", "anogan"])
def test_other_methods_are_forecast_too(preset: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "parts", textures(12, size=96))
    options = {"patches": ("--epochs", 1), "anogan": ("--option", "search_steps=5", "--image-size", 32)}
    more = (*options[preset], "--option", "ngf=8", "--option", "ndf=8")
    planned = dry_run(folder, "--preset", preset, *more)
    assert planned.returncode == 0, planned.stderr
    assert "It would take" in planned.stderr


def test_the_range_of_scans_is_measured_later(tmp_path: Path) -> None:
    from dicom_files import write_scans

    planned = dry_run(write_scans(tmp_path / "scans", textures(40), images_per_patient=2), *QUICK)
    assert planned.returncode == 0, planned.stderr
    assert "physical values (their range is measured when they are read)" in planned.stderr
    assert "that needs 99 calibration patients, and there are 6" in planned.stderr


def test_errors_are_those_of_fit(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "few", textures(3))
    assert dry_run(folder, *QUICK).returncode == 1
    assert dry_run(tmp_path / "missing", *QUICK).returncode == 2
    assert np.all([path.name == "few" for path in tmp_path.iterdir()])
