"""The verbs as a user types them."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ganomaly.commands.console import FittingDisplay
from ganomaly.training.observers import TrainingProgress
from ganomaly.version import __version__
from shell import ganomaly, ganomaly_process

CONTRACT_COLUMNS = ["path", "score", "normalized_score", "p_value", "is_anomaly", "error"]
CONTRACT_FIGURES = {
    "image_auroc", "image_average_precision", "image_f1", "eer", "fpr_at_95_tpr", "false_alarm_rate",
    "detection_rate", "pixel_auroc", "aupro", "n_normal", "n_anomalous", "per_kind",
}  # fmt: skip


def test_help_names_every_verb_without_importing_torch():
    program = (
        "import sys; sys.argv = ['ganomaly', '--help']\n"
        "from ganomaly.cli import main\n"
        "try: main()\n"
        "except SystemExit as leaving: sys.exit(leaving.code or 10 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in ("fit", "score", "evaluate", "demo", "info"))


def test_the_version_needs_no_command():
    done = ganomaly("--version")
    assert (done.returncode, done.stdout.strip()) == (0, __version__)


def test_fit_evaluate_score_and_info(labelled_folder: Path, tmp_path: Path):
    model = tmp_path / "parts.safetensors"
    fitted = ganomaly(
        "fit",
        labelled_folder,
        "--model",
        model,
        "--preset",
        "paper",
        "--epochs",
        2,
        "--false-alarm-rate",
        0.1,
        "--seed",
        1,
    )
    assert fitted.returncode == 0, fitted.stderr
    assert "40 normal images" in fitted.stderr
    assert "gray" in fitted.stderr
    assert "32×32 px (chosen from the data" in fitted.stderr
    assert model.exists()
    assert not list(tmp_path.glob("*.checkpoint")), "the checkpoint of a finished run is removed"

    evaluation, report = tmp_path / "evaluation.json", tmp_path / "report.html"
    evaluated = ganomaly(
        "evaluate",
        model,
        labelled_folder,
        "--json",
        evaluation,
        "--report",
        report,
        "--figures",
        tmp_path / "figures",
    )
    assert evaluated.returncode == 0, evaluated.stderr
    figures = json.loads(evaluation.read_text())
    assert figures.keys() == CONTRACT_FIGURES
    assert (figures["n_normal"], figures["n_anomalous"]) == (12, 12)
    assert figures["per_kind"]["blob"]["n"] == 12
    assert 0 <= figures["pixel_auroc"] <= 1
    assert "image AUROC" in evaluated.stdout
    assert "<html" in report.read_text()
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn == {"roc.png", "score_histogram.png", "reconstructions.png"}

    table, maps = tmp_path / "scores.csv", tmp_path / "maps"
    scored = ganomaly_process(
        "score", model, labelled_folder / "test" / "blob", "--out", table, "--maps", maps
    )
    assert scored.returncode == 0, scored.stderr
    rows = list(csv.DictReader(table.open()))
    assert list(rows[0]) == CONTRACT_COLUMNS
    assert [Path(row["path"]).name for row in rows] == [f"{n:03}.png" for n in range(12)]
    assert {row["is_anomaly"] for row in rows} <= {"true", "false"}
    assert len(list(maps.glob("*_overlay.png"))) == 12
    assert len(list(maps.glob("*.png"))) == 24

    described = json.loads(ganomaly("info", model, "--json").stdout)
    assert described["preset"] == "paper"
    assert described["provenance"]["seed"] == 1
    assert ganomaly("info", model).returncode == 0


def test_fit_takes_method_options(normal_folder: Path, tmp_path: Path):
    model = tmp_path / "small.safetensors"
    options = ["--option", "nz=9", "--option", "ngf=4", "--option", "ndf=4", "--option", "score=l1"]
    done = ganomaly("fit", normal_folder, "--model", model, "--preset", "paper", "--epochs", 1, *options)
    assert done.returncode == 0, done.stderr
    described = json.loads(ganomaly("info", model, "--json").stdout)["options"]
    assert (described["nz"], described["ngf"], described["ndf"]) == (9, 4, 4)
    assert described["score"] == "l1"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_are_in_input_order_with_a_row_for_the_broken_image(model_path, normal_folder, tmp_path, suffix):
    images = sorted(normal_folder.iterdir())[:4]
    broken = tmp_path / "broken.png"
    broken.write_text("not an image")
    inputs = [images[3], broken, images[0]]
    out = tmp_path / f"scores{suffix}"
    done = ganomaly("score", model_path, *inputs, "--out", out)
    assert done.returncode == 3
    assert "broken.png" in done.stderr
    if suffix == ".csv":
        rows = [{name: value or None for name, value in row.items()} for row in csv.DictReader(out.open())]
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        rows = pq.read_table(out).to_pylist()
    assert [row["path"] for row in rows] == [str(path) for path in inputs]
    assert [row["error"] is None for row in rows] == [True, False, True]
    assert [row["score"] is None for row in rows] == [False, True, False]


def test_the_same_command_resumes_an_interrupted_fit(normal_folder, tmp_path, monkeypatch):
    arguments = ["fit", normal_folder, "--preset", "paper", "--epochs", 4, "--false-alarm-rate", 0.1]
    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    assert ganomaly(*arguments, "--model", whole).returncode == 0

    steps: list[int] = []
    stop_at = 3

    def interrupt(self: FittingDisplay, progress: TrainingProgress) -> None:
        steps.append(progress.step)
        if progress.step == stop_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(FittingDisplay, "trained", interrupt)
    monkeypatch.setattr(
        "ganomaly.training.loop._Run._seconds_since_saved", lambda self: 1e9
    )  # save at each step
    interrupted = ganomaly(*arguments, "--model", stopped)
    assert interrupted.returncode == 130
    assert "resumes from the last checkpoint" in interrupted.stderr
    assert not stopped.exists()
    stop_at = -1
    assert ganomaly(*arguments, "--model", stopped).returncode == 0
    assert steps == [1, 2, 3, 3, 4], "it resumes from the checkpoint of step 2"
    left, right = (json.loads(ganomaly("info", path, "--json").stdout) for path in (whole, stopped))
    assert left["calibration"] == right["calibration"]
    assert [path.name for path in tmp_path.glob("*.checkpoint")] == []


@pytest.mark.parametrize("verb", ["fit", "score", "evaluate", "benchmark", "export", "demo", "info"])
def test_help_shortens_no_name_in_80_columns(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert "…" not in ganomaly(verb, "--help").stdout


def test_wrong_names_of_options_are_refused_before_images_are_looked_for(tmp_path):
    done = ganomaly("fit", tmp_path / "nothing", "--model", tmp_path / "m.safetensors", "--option", "nzz=64")
    assert done.returncode == 2
    assert "none of small, small-features, features" in done.stderr
    assert " nz," in done.stderr


def test_help_shows_no_types_of_python_and_no_command_that_nobody_types():
    fit_help, serve_help = (ganomaly(*verb, "--help").stdout for verb in (["fit"], ["serve"]))
    assert "<bool>" not in fit_help
    assert "<str>" not in fit_help
    assert "Usage: ganomaly serve [OPTIONS]" in serve_help


def test_a_rate_may_be_written_in_percent(tmp_path):
    wrong = ganomaly("fit", tmp_path, "--model", tmp_path / "a.safetensors", "--false-alarm-rate", "one")
    assert wrong.returncode == 2
    assert "write it as 0.01 or 1%" in " ".join(wrong.stderr.replace("│", "").split())
    right = ganomaly(
        "fit", tmp_path / "none", "--model", tmp_path / "a.safetensors", "--false-alarm-rate", "1%"
    )
    assert "none does not exist" in right.stderr


def test_help_shows_square_brackets():
    fit_help, benchmark_help = (
        " ".join(ganomaly(verb, "--help").stdout.split()) for verb in ("fit", "benchmark")
    )
    assert "[default: the preset's]" in fit_help.replace("│ │ ", "")
    assert "nz=50;ngf=32]" in benchmark_help
