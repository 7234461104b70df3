"""Bad input gets one clear sentence and the right exit status, and nothing is lost."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from images import textures, write_images
from shell import Done, ganomaly, ganomaly_process

FAILED, WRONG_USAGE, SOME_UNREADABLE, INTERRUPTED = 1, 2, 3, 130
# shells start background jobs, tests included, with Ctrl-C disabled
CTRL_C_ENABLED = ["env", "--default-signal=INT"]


def assert_one_sentence(done: Done, exit_status: int, *words: str) -> None:
    assert done.returncode == exit_status, done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("ganomaly: ")]
    assert len(sentences) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in sentences[0]


def fit(data: Path, tmp_path: Path, *more: object) -> Done:
    return ganomaly(
        "fit", data, "--model", tmp_path / "m.safetensors", "--preset", "paper", "--epochs", 1, *more
    )


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert_one_sentence(fit(tmp_path / "empty", tmp_path), FAILED, "empty", "no image")


def test_a_missing_folder(tmp_path):
    assert_one_sentence(fit(tmp_path / "missing", tmp_path), WRONG_USAGE, "missing")


def test_one_image(tmp_path):
    folder = write_images(tmp_path / "one", textures(1))
    assert_one_sentence(fit(folder, tmp_path), FAILED, "found 1 normal image", "10")


def test_a_folder_of_broken_images_only(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.png").write_text("text")
    assert_one_sentence(fit(folder, tmp_path), FAILED, "0 normal images that can be read")


def test_broken_images_among_good_ones_are_listed_and_left_out(tmp_path, normal_folder):
    (normal_folder / "text.png").write_text("I am text")
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8))
    photo.save(tmp_path / "whole.jpg")
    (normal_folder / "truncated.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:4000])
    Image.new("L", (20_000, 20_000)).save(normal_folder / "huge.png")
    done = fit(normal_folder, tmp_path)
    assert done.returncode == SOME_UNREADABLE, done.stderr
    assert (tmp_path / "m.safetensors").exists()
    for name, why in (("text.png", ""), ("truncated.jpg", "truncated"), ("huge.png", "20000")):
        lines = [line for line in done.stderr.splitlines() if name in line]
        assert lines, f"{name} is not listed"
        assert why in " ".join(lines)


def test_mixed_sizes_are_no_trouble(tmp_path, normal_folder):
    for number, size in enumerate([(20, 31), (200, 90), (33, 33)]):
        Image.new("L", size, 100 + number).save(normal_folder / f"size{number}.png")
    assert fit(normal_folder, tmp_path).returncode == 0


def test_the_majority_decides_about_channels_and_an_option_overrides(tmp_path, normal_folder):
    Image.new("RGB", (32, 32), "red").save(normal_folder / "colour.png")
    done = fit(normal_folder, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "gray (1 colour image becomes gray)" in done.stderr
    done = fit(normal_folder, tmp_path, "--channels", 3)
    assert done.returncode == 0, done.stderr
    assert "colour" in done.stderr
    described = json.loads(ganomaly("info", tmp_path / "m.safetensors", "--json").stdout)
    assert described["preprocessing"]["channels"] == 3


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--image-size", 48, "48"),
        ("--preset", "nonsense", "nonsense"),
        ("--false-alarm-rate", 2, "not a share"),
        ("--epochs", -7, "'--epochs': must be"),
        ("--device", "tpu", "tpu"),
    ],
)
def test_options_that_cannot_be(tmp_path, normal_folder, option, value, word):
    done = fit(normal_folder, tmp_path, option, value)
    assert done.returncode == WRONG_USAGE, done.stderr
    assert word in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["nz"], ["'nz'", "name=value"]),
        (["=3"], ["'=3'", "name=value"]),
        (["nz="], ["'nz='", "name=value"]),
        (["nz=8", "nz=9"], ["nz is given twice"]),
        (["nzz=8"], ["preset paper has no option nzz", "ndf, ngf, nz"]),
        (["nz=0"], ["nz", "greater than or equal to 1", "'0'"]),
        (["nz=many"], ["nz", "integer", "'many'"]),
    ],
)
def test_wrong_method_options_are_refused_before_anything_is_read(tmp_path, options, words):
    arguments = [part for option in options for part in ("--option", option)]
    done = fit(tmp_path / "missing", tmp_path, *arguments)
    assert_one_sentence(done, WRONG_USAGE, *words)
    assert "missing" not in done.stderr


def test_unwritable_output_is_said_before_the_work(tmp_path, normal_folder, model_path):
    done = ganomaly("fit", normal_folder, "--model", tmp_path / "no" / "folder" / "m.safetensors")
    assert_one_sentence(done, WRONG_USAGE, "does not exist")
    assert "normal images in" not in done.stderr, "it should not have begun"
    done = ganomaly("score", model_path, normal_folder, "--out", tmp_path / "table.txt")
    assert_one_sentence(done, WRONG_USAGE, ".csv, .jsonl or .parquet")


def test_maps_never_replace_the_images(tmp_path, normal_folder, model_path):
    images = sorted(normal_folder.iterdir())[:2]
    before = [path.read_bytes() for path in images]
    for images_given, maps in (
        ([normal_folder], normal_folder),
        ([normal_folder], normal_folder / "maps"),
        (images, normal_folder),
    ):
        done = ganomaly("score", model_path, *images_given, "--out", tmp_path / "t.csv", "--maps", maps)
        assert_one_sentence(done, WRONG_USAGE, "images", "another folder")
    assert [path.read_bytes() for path in images] == before
    assert not (normal_folder / "maps").exists()


def test_a_note_says_so_when_every_image_is_anomalous(tmp_path, normal_folder, model_path, monkeypatch):
    def notes() -> str:
        return ganomaly("score", model_path, normal_folder, "--out", tmp_path / "t.csv").stderr

    assert "every image" not in notes()
    monkeypatch.setattr("ganomaly.calibration.conformal.Calibration.is_anomaly", lambda *_: True)
    assert "every image is anomalous" in notes()


def test_fit_does_not_write_a_graph(tmp_path, normal_folder):
    done = ganomaly("fit", normal_folder, "--model", tmp_path / "part.onnx")
    assert_one_sentence(done, WRONG_USAGE, "ganomaly export")


def test_a_code_page_without_greek_letters_costs_no_figures(tmp_path, labelled_folder, model_path):
    done = ganomaly_process(
        "evaluate",
        model_path,
        labelled_folder,
        "--json",
        tmp_path / "figures.json",
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
        encoding="cp1252",
    )
    assert done.returncode == 0, done.stderr
    assert "detection rate at ?" in done.stdout
    assert (tmp_path / "figures.json").stat().st_size > 0


def test_a_file_that_is_no_model(tmp_path, normal_folder):
    (tmp_path / "m.safetensors").write_text("I am text")
    done = ganomaly("score", tmp_path / "m.safetensors", normal_folder, "--out", tmp_path / "t.csv")
    assert_one_sentence(done, FAILED, "not a model of ganomaly")


def test_evaluate_without_labels_says_what_layout_it_needs(model_path, normal_folder):
    assert_one_sentence(ganomaly("evaluate", model_path, normal_folder), FAILED, "test")


def test_a_full_disk_keeps_the_old_files(tmp_path, normal_folder, model_path):
    """A limit on the size of files simulates a full disk: writes fail with a system error."""
    table, model = tmp_path / "t.csv", tmp_path / "m.safetensors"
    table.write_text("path,score,normalized_score,p_value,is_anomaly,error\nold.png,1,1,1,true,\n")
    shutil.copy(model_path, model)
    old = table.read_bytes(), model.read_bytes()
    before = sorted(path.name for path in tmp_path.iterdir())

    def limit(size: int):
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    scored = ganomaly_process("score", model_path, normal_folder, "--out", table, preexec_fn=limit(1000))
    assert_one_sentence(scored, FAILED, "cannot write", "t.csv")
    fitted = ganomaly_process(
        "fit", normal_folder, "--model", model, "--preset", "paper", "--epochs", 1, preexec_fn=limit(100_000)
    )
    assert_one_sentence(fitted, FAILED, "cannot write", "m.safetensors")
    assert (table.read_bytes(), model.read_bytes()) == old
    assert sorted(path.name for path in tmp_path.iterdir()) == before, "something half-written was left"


def test_ctrl_c_leaves_the_old_model_and_says_how_to_go_on(tmp_path, normal_folder, model_path):
    model = tmp_path / "m.safetensors"
    shutil.copy(model_path, model)
    command = [
        sys.executable,
        "-m",
        "ganomaly",
        "fit",
        str(normal_folder),
        "--model",
        str(model),
        "--epochs",
        "100000",
    ]
    process = subprocess.Popen([*CTRL_C_ENABLED, *command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any(line.startswith("epoch") for line in process.stderr), "training never began"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED, stderr
    assert "Traceback" not in stderr
    assert "the same command starts anew" in stderr, "no checkpoint is due in the first seconds"
    assert model.read_bytes() == model_path.read_bytes()


def test_ctrl_c_while_starting_is_not_lost_in_an_import_that_swallows_it():
    swallowing = """
import os, signal
from ganomaly.commands.process import heavy_imports
with heavy_imports():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        pass
print("went on")
"""
    done = subprocess.run(
        [*CTRL_C_ENABLED, sys.executable, "-c", swallowing], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (INTERRUPTED, "")
    assert done.stderr == "ganomaly: interrupted before the work started\n"


def test_an_unexpected_error_is_a_sentence_and_a_traceback_only_with_debug(
    tmp_path, normal_folder, monkeypatch
):
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("an unforeseen case")

    monkeypatch.setattr("ganomaly.training.fit.inspect_images", broken)
    assert_one_sentence(fit(normal_folder, tmp_path), FAILED, "an unforeseen case", "bug in ganomaly")
    with pytest.raises(ZeroDivisionError):
        fit(normal_folder, tmp_path, "--debug")
