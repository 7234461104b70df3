"""Many models from one catalogue: each for itself, in processes that stay, resumed."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from torch import Generator

from ganomaly.catalog import fit_catalog, read_catalog
from ganomaly.config import Preprocessing
from ganomaly.methods import find_preset
from ganomaly.training.checkpoint import Checkpoint, RunState
from ganomaly.workers import run_in_processes
from images import textures, write_images
from shell import ganomaly
from spawned import process_after

CATALOG = """
options: {preset: paper, epochs: 1, precision: fp32, false_alarm_rate: 0.1,
          method_options: {ngf: 4, ndf: 4, nz: 4}}
products:
  nut: {data: nuts}
  gone: {data: nowhere}
  screw:
    cameras:
      left: {data: screws}
      right: {data: screws, options: {seed: 1}}
"""


@pytest.fixture
def catalog(tmp_path):
    write_images(tmp_path / "nuts", textures(12))
    write_images(tmp_path / "screws", textures(12, seed=1))
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG)
    return path


def statuses(results):
    return {result.model: result.status for result in results}


def test_one_that_fails_does_not_stop_the_others_and_a_second_run_fits_what_changed(catalog, tmp_path):
    out = tmp_path / "models"
    results = fit_catalog(read_catalog(catalog), out)
    fitted = {"nut": "fitted", "gone": "failed", "screw-left": "fitted", "screw-right": "fitted"}
    assert statuses(results) == fitted
    assert "nowhere does not exist" in (results[1].error or "")

    unchanged = dict.fromkeys(fitted, "unchanged") | {"gone": "failed"}
    assert statuses(fit_catalog(read_catalog(catalog), out)) == unchanged

    # another image, other options, and a model file that was cut off
    Image.fromarray(np.full((32, 32), 9, np.uint8)).save(tmp_path / "nuts" / "003.png")
    catalog.write_text(CATALOG.replace("seed: 1", "seed: 2"))
    (out / "screw-left.safetensors").write_bytes((out / "screw-left.safetensors").read_bytes()[:-100])
    assert statuses(fit_catalog(read_catalog(catalog), out)) == fitted


def test_a_checkpoint_of_other_images_is_replaced(catalog, tmp_path):
    nut = read_catalog(catalog)[0]
    method_type, preset = find_preset("paper")
    method = method_type(preset.options, Preprocessing(image_size=32, channels=1), Generator())
    checkpoint = Checkpoint(tmp_path / "nut.safetensors.checkpoint", {"data": "content:other"})
    checkpoint.save(method, method.optimizers(), RunState())
    assert statuses(fit_catalog([nut], tmp_path)) == {"nut": "fitted"}
    assert not checkpoint.path.exists()


def test_fit_all_writes_a_table_and_its_exit_status_says_what_failed(catalog, tmp_path):
    out = tmp_path / "models"
    (tmp_path / "nuts" / "000.png").write_bytes(b"no image")
    done = ganomaly("fit-all", catalog, "--out", out)
    assert done.returncode == 1
    assert "1 of 4 models failed, the first gone" in done.stderr
    rows = json.loads((out / "models.json").read_text())["models"]
    with (out / "models.csv").open(newline="") as file:
        assert [row["model"] for row in csv.DictReader(file)] == [row["model"] for row in rows]
    assert [row["unreadable"] for row in rows] == [1, 0, 0, 0]
    catalog.write_text(CATALOG.replace("  gone: {data: nowhere}\n", ""))
    again = ganomaly("fit-all", catalog, "--out", out)
    assert again.returncode == 3, again.stderr
    assert [row["status"] for row in json.loads((out / "models.json").read_text())["models"]] == [
        "unchanged"
    ] * 3


def test_processes_stay_from_task_to_task_and_one_that_dies_takes_no_other_with_it():
    results = dict(run_in_processes(process_after, [0, 1, 2, -1, 4, 5, 6, 7], jobs=2))
    assert results.pop(3) is None
    assert sorted(results) == [0, 1, 2, 4, 5, 6, 7]
    pids = list(results.values())
    assert None not in pids
    assert len(set(pids)) <= 6  # two before it, up to two that were lost with it, two after it
