"""No output replaces an input, or any file that this package did not write."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from ganomaly.errors import UsageError
from ganomaly.output_checks import FIGURES_JSON, MODEL, REPORT, TABLE, check_outputs
from ganomaly.outputs import open_table
from ganomaly.prediction import Prediction
from shell import ganomaly

USAGE = 2


def write_image(path):
    Image.fromarray(np.full((32, 32), 90, np.uint8)).save(path)
    return path


def write_table(path, path_column="a.png"):
    with open_table(path) as write:
        write(Prediction(0, path_column, score=1.0, normalized_score=0.5, p_value=0.1, is_anomaly=False))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_of_this_package_is_replaced_and_another_is_not(tmp_path, suffix):
    ours = tmp_path / f"ours{suffix}"
    write_table(ours)
    check_outputs({"--out": (ours, TABLE)})
    foreign = tmp_path / f"foreign{suffix}"
    foreign.write_bytes(b"PAR1 image label PAR1" if suffix == ".parquet" else b"my,own,notes\n1,2,3\n")
    with pytest.raises(UsageError, match=r"exists and is not a table of predictions that ganomaly wrote"):
        check_outputs({"--out": (foreign, TABLE)})


@pytest.mark.parametrize("kind", [TABLE, REPORT, FIGURES_JSON, MODEL], ids=lambda kind: kind.name)
def test_a_new_or_empty_file_may_be_written(tmp_path, kind):
    path = tmp_path / f"new{kind.suffixes[0]}"
    check_outputs({"--out": (path, kind)})
    path.touch()
    check_outputs({"--out": (path, kind)})


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (REPORT, b"<html><head><title>mine</title></head></html>"),
        (FIGURES_JSON, b'{"my": "settings"}'),
        (FIGURES_JSON, b"[" * 100_000),
        (MODEL, b"\x10\0\0\0\0\0\0\0" + b'{"weights": {}}  '),
        (MODEL, b"x"),
    ],
)
def test_a_file_of_another_kind_is_never_replaced(tmp_path, kind, content):
    path = tmp_path / f"mine{kind.suffixes[0]}"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="so it is not replaced"):
        check_outputs({"--out": (path, kind)})
    assert path.read_bytes() == content


def test_an_output_has_the_ending_of_its_kind(tmp_path):
    with pytest.raises(UsageError, match=r"--report .*m\.safetensors: a report must end in \.html or \.htm"):
        check_outputs({"--report": (tmp_path / "m.safetensors", REPORT)})


def test_two_outputs_are_two_files_whatever_they_are_called(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "q.csv")
    for other in (tmp_path / "q.csv", tmp_path / "inner" / ".." / "q.csv", tmp_path / "link.csv"):
        with pytest.raises(UsageError, match="are the same file"):
            check_outputs({"--out": (tmp_path / "q.csv", TABLE), "--report": (other, TABLE)})
    write_table(tmp_path / "q.csv")
    os.link(tmp_path / "q.csv", tmp_path / "hard.csv")
    with pytest.raises(UsageError, match="are the same file"):
        check_outputs({"--out": (tmp_path / "q.csv", TABLE), "--report": (tmp_path / "hard.csv", TABLE)})


def test_what_a_command_reads_is_what_it_was(tmp_path, model_path, labelled_folder):
    """The commands that destroyed inputs, and what else comes near them; each ends with status 2."""
    model = tmp_path / "m.safetensors"
    shutil.copy(model_path, model)
    image = labelled_folder / "test" / "good" / "001.png"
    parquet = tmp_path / "a.parquet"
    write_parquet(parquet, image)
    notes = labelled_folder / "notes.csv"
    notes.write_text("written by hand\n")
    (tmp_path / "link.parquet").symlink_to(parquet)
    commands = [
        ["score", model, parquet, "--out", parquet],
        ["score", model, parquet, "--out", tmp_path / "link.parquet"],
        ["score", model, labelled_folder, "--out", image],
        ["score", model, labelled_folder, "--out", notes],
        ["score", model, labelled_folder, "--out", tmp_path / "t.csv", "--report", model],
        ["score", model, labelled_folder, "--out", tmp_path / "t.csv", "--report", image],
        ["score", model, labelled_folder, "--out", tmp_path / "q.csv", "--report", tmp_path / "q.csv"],
        ["evaluate", model, labelled_folder, "--json", model],
        ["evaluate", model, labelled_folder, "--report", labelled_folder / "ground_truth/blob/000_mask.png"],
        ["fit", labelled_folder, "--model", labelled_folder / "train" / "good" / "002.png"],
        ["export", model, "--out", model],
    ]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for command in commands:
        done = ganomaly(*command)
        assert done.returncode == USAGE, (command, done)
        assert done.stderr.count("\n") == 1, done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_a_command_wrote_it_replaces(tmp_path, model_path, labelled_folder):
    for _ in range(2):
        done = ganomaly(
            "score", model_path, labelled_folder / "test", "--out", tmp_path / "t.csv",
            "--report", tmp_path / "r.html",
        )  # fmt: skip
        assert done.returncode == 0, done
        done = ganomaly(
            "evaluate",
            model_path,
            labelled_folder,
            "--json",
            tmp_path / "e.json",
            "--report",
            tmp_path / "r.html",
        )
        assert done.returncode == 0, done
    assert "image_auroc" in json.loads((tmp_path / "e.json").read_text())


def write_parquet(path, image):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"image": {"bytes": image.read_bytes(), "path": "001.png"}, "label": 0}]
    pq.write_table(pa.Table.from_pylist(rows), path)


def foreign_file(path):
    """A file of another program under the name of one of ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".png":
            write_image(path)
        case ".npy":
            np.save(path, np.zeros(3))
        case _:
            path.write_text("written by hand\n")
    return path


BENCHMARK = ["benchmark", "parts", "--epochs", 1, "--methods", "ganomaly[ngf=8;ndf=8;nz=8]"]


@pytest.mark.parametrize(
    "name",
    [
        "maps/000.png",
        "maps/000_overlay.png",
        "npy/003.npy",
        "figures/roc.png",
        "figures/reconstructions.png",
        "bench/auroc.png",
        "bench/histogram_vae_gun.png",
        "bench/rows.jsonl",
        "bench/rows.csv",
        "bench/table.md",
        "demo/report.html",
        "demo/figures/score_histogram.png",
        "demo/evaluation.json",
        "demo/baggage.safetensors",
        "m.safetensors.checkpoint",
    ],
)
def test_a_folder_of_outputs_may_hold_files_of_others_which_are_never_replaced(
    tmp_path, model_path, labelled_folder, name
):
    foreign = foreign_file(tmp_path / name)
    before = foreign.read_bytes()
    images, table = labelled_folder / "test" / "good", ["--out", tmp_path / "t.csv"]
    command = {
        "maps": ["score", model_path, images, *table, "--maps", tmp_path / "maps"],
        "npy": ["score", model_path, images, *table, "--maps", tmp_path / "npy", "--map-format", "npy"],
        "figures": ["evaluate", model_path, labelled_folder, "--figures", tmp_path / "figures"],
        "bench": [*BENCHMARK, "--data", labelled_folder, "--out", tmp_path / "bench"],
        "demo": ["demo", "--out", tmp_path / "demo"],
        "m.safetensors.checkpoint": [
            "fit",
            labelled_folder,
            "--model",
            tmp_path / "m.safetensors",
            "--no-resume",
        ],
    }[name.partition("/")[0]]
    done = ganomaly(*command)
    assert done.returncode == USAGE, done
    assert "so it is not replaced" in done.stderr
    assert foreign.read_bytes() == before
    assert not (tmp_path / "t.csv").exists()


def test_a_command_replaces_the_maps_figures_and_rows_that_it_wrote(tmp_path, model_path, labelled_folder):
    images = labelled_folder / "test" / "good"
    table = ["--out", tmp_path / "t.csv"]
    for _ in range(2):
        for command in (
            ["score", model_path, images, *table, "--maps", tmp_path / "maps"],
            ["score", model_path, images, *table, "--maps", tmp_path / "npy", "--map-format", "npy"],
            ["evaluate", model_path, labelled_folder, "--figures", tmp_path / "figures"],
            [*BENCHMARK, "--data", labelled_folder, "--out", tmp_path / "bench"],
        ):
            done = ganomaly(*command)
            assert done.returncode == 0, done
