"""A machine without bf16, with one old core or with little memory gives the same results, only slower."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ganomaly import GANomalyDetector, devices
from images import SMALL
from shell import ganomaly, ganomaly_process

CPU = torch.device("cpu")


@pytest.fixture
def without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that has no instructions for bf16, whatever this one has."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)


@pytest.mark.usefixtures("without_bf16")
def test_training_takes_fp32_where_there_is_no_bf16():
    assert devices.choose_precision("auto", CPU) == "fp32"
    assert devices.precision_warning("auto", CPU) is None


@pytest.mark.usefixtures("without_bf16")
def test_bf16_without_instructions_for_it_works_with_a_warning(normal_folder, tmp_path):
    model = tmp_path / "m.safetensors"
    options = ["--preset", "paper", "--image-size", 32, "--epochs", 1, "--precision", "bf16"]
    done = ganomaly("fit", normal_folder, "--model", model, *options)
    assert done.returncode == 0, done.stderr
    assert "no instructions for bf16" in done.stderr
    assert "--precision" in done.stderr
    assert np.isfinite(GANomalyDetector.load(model).anomaly_score(normal_folder)).all()


def verdicts(table: Path) -> list[dict[str, str]]:
    with table.open() as file:
        return list(csv.DictReader(file))


def test_one_old_core_gives_the_same_verdicts(model_path, normal_folder, tmp_path):
    old = {
        **os.environ,
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
    }
    one = min(os.sched_getaffinity(0))
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    assert ganomaly("score", model_path, normal_folder, "--out", here).returncode == 0
    done = ganomaly_process(
        *("score", model_path, normal_folder, "--out", there),
        env=old,
        preexec_fn=lambda: os.sched_setaffinity(0, {one}),
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = verdicts(here), verdicts(there)
    assert [row["is_anomaly"] for row in theirs] == [row["is_anomaly"] for row in ours]
    scores = [[float(row["score"]) for row in rows] for rows in (theirs, ours)]
    np.testing.assert_allclose(*scores, rtol=1e-4)


def test_little_memory_gives_the_same_model(normal_folder, monkeypatch):
    def fitted() -> GANomalyDetector:
        settings = {"epochs": 2, "precision": "fp32", "false_alarm_rate": 0.1, "method_options": SMALL}
        return GANomalyDetector("paper", **settings).fit(normal_folder)

    expected = fitted().anomaly_score(normal_folder)
    monkeypatch.setattr("ganomaly.data.loader.available_memory", lambda: 0)
    np.testing.assert_array_equal(fitted().anomaly_score(normal_folder), expected)
