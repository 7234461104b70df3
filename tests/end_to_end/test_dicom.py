"""Scans from fit to score: a range that the model keeps, patients on one side, and nothing that names them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from dicom_files import BIRTH_DATE, NAME, patient_id, write_dicom, write_scans
from ganomaly.data import open_images
from ganomaly.prediction import load_predictor
from images import textures
from shell import Done, ganomaly


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("scans")
    write_scans(folder / "data", textures(48), images_per_patient=4)
    done = ganomaly(
        "fit",
        folder / "data",
        "--model",
        folder / "m.safetensors",
        "--preset",
        "paper",
        "--epochs",
        1,
        "--option",
        "ngf=8",
        "--option",
        "ndf=8",
        "--false-alarm-rate",
        0.2,
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def score(folder: Path, *images: Path) -> list[dict[str, str]]:
    done = ganomaly("score", folder / "m.safetensors", *images, "--out", folder / "scores.csv")
    assert done.returncode in (0, 3), done.stderr
    with (folder / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def test_fit_says_values_and_patients(fitted: tuple[Path, Done]) -> None:
    _, done = fitted
    assert "values from " in done.stderr
    assert "They are of 12 patients" in done.stderr
    assert "32 train, 4 calibrate" in done.stderr
    assert "their other 12 images are not used" in done.stderr


def test_the_range_is_in_the_model_and_the_same_for_each_image(
    fitted: tuple[Path, Done], tmp_path: Path
) -> None:
    folder, _ = fitted
    information = json.loads(ganomaly("info", folder / "m.safetensors", "--json").stdout)
    low, high = information["preprocessing"]["value_range"]
    assert -1200 < low < -700
    assert -100 < high < 300
    assert information["provenance"]["patients"] == 12
    # in other units of storage the values are the same, and so are the scores
    samples = textures(1, seed=9)[0].astype(np.int16)
    first = write_dicom(tmp_path / "1.dcm", samples * 6, slope=1, intercept=-1024)
    second = write_dicom(tmp_path / "2.dcm", samples * 12 + 40, slope=0.5, intercept=-1044)
    brighter = write_dicom(tmp_path / "3.dcm", samples * 6 + 200, slope=1, intercept=-1024)
    scores = [row["score"] for row in score(folder, first, second, brighter)]
    assert scores[0] == scores[1] != scores[2]


def test_frames_are_rows(fitted: tuple[Path, Done], tmp_path: Path) -> None:
    folder, _ = fitted
    frames = textures(3, seed=5).astype(np.int16) * 6
    path = write_dicom(tmp_path / "scan.dcm", frames, slope=1, intercept=-1024)
    rows = score(folder, path)
    assert [row["path"] for row in rows] == [f"{path}#{number}" for number in (1, 2, 3)]
    alone = write_dicom(tmp_path / "alone.dcm", frames[1], slope=1, intercept=-1024)
    assert score(folder, alone)[0]["score"] == rows[1]["score"]


def test_damaged_files_and_those_without_values_are_rows_with_an_error(
    fitted: tuple[Path, Done], tmp_path: Path
) -> None:
    folder, _ = fitted
    good = folder / "data" / "000.dcm"
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(good.read_bytes()[:-200])
    pixels = write_dicom(tmp_path / "pixels.dcm", textures(1)[0])
    rows = score(folder, damaged, pixels, good)
    assert "truncated" in rows[0]["error"]
    assert "8-bit pixels, but the model learned from physical values" in rows[1]["error"]
    assert rows[2]["error"] == ""


def test_no_output_names_a_patient(fitted: tuple[Path, Done], tmp_path: Path) -> None:
    folder, done = fitted
    for name in ("good", "crack"):
        write_scans(tmp_path / "test" / name, textures(6, seed=len(name), blob=name == "crack"))
    broken = tmp_path / "test" / "crack" / "broken.dcm"
    broken.write_bytes((folder / "data" / "000.dcm").read_bytes()[:-200])
    model = folder / "m.safetensors"
    out = tmp_path / "out"
    out.mkdir()
    scored = ganomaly(
        *("score", model, tmp_path / "test", "--out", out / "s.jsonl", "--maps", out / "maps"),
        *("--report", out / "r.html"),
    )
    assert scored.returncode == 3, scored.stderr
    evaluated = ganomaly(
        "evaluate", model, tmp_path, "--json", out / "e.json", "--report", out / "e.html", "--debug"
    )
    assert evaluated.returncode == 3, evaluated.stderr
    updated = ganomaly("update", model, tmp_path / "test" / "good", "--model", out / "u.safetensors")
    assert updated.returncode == 0, updated.stderr
    told = [each.stdout + each.stderr for each in (done, scored, evaluated, updated)]
    told.append(ganomaly("info", model).stdout)
    contents = [text.encode() for text in told]
    contents += [path.read_bytes() for path in (model, *out.rglob("*")) if path.is_file()]
    assert len(contents) > 20
    for content in contents:
        for identifying in (NAME, NAME.replace("^", " "), BIRTH_DATE, patient_id(0), "SECRET"):
            assert identifying.encode() not in content


def test_an_update_keeps_patients_on_one_side(tmp_path: Path) -> None:
    from ganomaly.data import inspect_images
    from ganomaly.training.update import _firsts

    write_scans(tmp_path, textures(12), images_per_patient=3)
    groups = inspect_images(open_images([tmp_path])).groups
    numbers = np.random.default_rng(0).permutation(12).astype(np.uint64)
    firsts = _firsts(numbers, groups)
    assert len(set(firsts.tolist())) == 4
    for patient in range(4):
        members = range(3 * patient, 3 * patient + 3)
        assert {int(firsts[index]) for index in members} == {min(members, key=lambda index: numbers[index])}


def test_models_of_before_have_no_range_and_refuse_values(tmp_path: Path) -> None:
    from images import write_images

    folder = write_images(tmp_path / "png", textures(20))
    done = ganomaly("fit", folder, "--model", tmp_path / "m.safetensors", "--preset", "paper", "--epochs", 1)
    assert done.returncode == 0, done.stderr
    model = load_predictor(tmp_path / "m.safetensors")
    assert model.preprocessing.value_range is None
    rows = score(tmp_path, write_scans(tmp_path / "scans", textures(1)))
    assert "holds physical values" in rows[0]["error"]
