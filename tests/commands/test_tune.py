"""`ganomaly tune`: from images to a model and a report."""

import numpy as np
from PIL import Image

from ganomaly.prediction import describe_model
from shell import ganomaly

SMALL = (
    *("--preset", "paper", "--epochs", 2, "--budget", 0.5, "--precision", "fp32", "--false-alarm-rate", 0.1),
    *("--option", "ngf=4", "--option", "ndf=4", "--option", "nz=8"),
)


def test_tune_writes_a_model_with_what_it_found_and_a_report_and_goes_on(normal_folder, tmp_path):
    model, report = tmp_path / "part.safetensors", tmp_path / "search.html"
    mask, runs = tmp_path / "mask.png", tmp_path / "runs"
    Image.fromarray(np.pad(np.full((8, 32), 255, np.uint8), ((0, 24), (0, 0)))).save(mask)
    given = (*SMALL, "--ignore", mask, "--log", f"tensorboard:{runs}")
    done = ganomaly("tune", normal_folder, "--model", model, "--trials", 1, "--report", report, *given)
    assert done.returncode == 0, done.stderr
    description = describe_model(model)
    tuning = description["provenance"]["tuning"]
    assert (tuning["trials"], tuning["saw_labels"]) == (1, False)
    assert tuning["auroc"] >= tuning["preset_auroc"]
    assert description["options"]["nz"] == 8  # as asked
    assert description["preprocessing"]["ignored"]
    assert list(runs.rglob("events.*"))
    page = report.read_text()
    assert page.count("data:image/svg+xml") >= 3
    assert "<script" not in page
    assert "synthetic defects" in page
    # the second command has the first trial already
    again = ganomaly("tune", normal_folder, "--model", model, "--trials", 2, "--report", report, *given)
    assert again.returncode == 0, again.stderr
    assert "Goes on after 1 of 2 trials" in again.stderr
    assert describe_model(model)["provenance"]["tuning"]["trials"] == 2


def test_a_search_with_labels_says_that_it_leaks(labelled_folder, tmp_path):
    model, report = tmp_path / "part.safetensors", tmp_path / "search.html"
    options = ("--trials", 1, "--labelled", labelled_folder, "--report", report)
    done = ganomaly("tune", labelled_folder, "--model", model, *options, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "labels" in done.stderr
    assert "too high" in done.stderr
    assert "too high" in report.read_text()
    assert describe_model(model)["provenance"]["tuning"]["saw_labels"] is True


def test_no_output_replaces_what_ganomaly_did_not_write(normal_folder, tmp_path):
    report = tmp_path / "mine.html"
    report.write_text("<html>mine</html>")
    done = ganomaly("tune", normal_folder, "--model", tmp_path / "m.safetensors", "--report", report)
    assert done.returncode == 2
    assert report.read_text() == "<html>mine</html>"


def test_what_a_search_does_not_take_is_refused(normal_folder, tmp_path):
    for options, sentence in (
        (("--ignore", normal_folder), "one mask for all images"),
        (("--value-range", 0, 100), "the images hold pixels"),
        (("--log", "paper:runs"), "cannot read the logger"),
    ):
        done = ganomaly("tune", normal_folder, "--model", tmp_path / "m.safetensors", *options, *SMALL)
        assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr
