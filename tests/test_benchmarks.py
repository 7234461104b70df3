"""Benchmarks that reach into training or prediction still run; what they measure is not checked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ganomaly.methods import contrastive_ganomaly
from ganomaly.networks.backbones import DEFAULT_BACKBONE, load_backbone

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("axis", ["step, batch", "predict, batch"])
def test_a_point_of_cost_scaling_is_measured(axis: str) -> None:
    point = json.dumps({"axis": axis, "what": "paper", "x": 2})
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "cost_scaling.py"), "--point", point],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout.splitlines()[-1])
    assert row["seconds"] > 0
    assert row["peak_megabytes"] > 0


def test_the_script_for_a_gpu_runs_on_the_processor_at_a_small_size(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--tiny", "--json", str(rows)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    written = [json.loads(line) for line in rows.read_text().splitlines()]
    presets = [row for row in written if row["section"] == "preset"]
    assert {"features", "patches", "paper"} <= {row["preset"] for row in presets}
    assert all(row["verdicts_that_differ"] == 0 for row in presets)


def test_features_that_small_images_remembers_are_those_of_each_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compute = contrastive_ganomaly.pretrained_features
    monkeypatch.setattr(contrastive_ganomaly, "pretrained_features", compute)  # to restore it at the end
    monkeypatch.syspath_prepend(BENCHMARKS)
    import small_images

    small_images.remember_features()
    backbone = load_backbone(DEFAULT_BACKBONE, ["block4"])
    x = 2 * torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 1
    expected = compute(backbone, x)
    for order in ([0, 1], [2, 0, 1], [3, 3, 2]):
        remembered = contrastive_ganomaly.pretrained_features(backbone, x[order])
        torch.testing.assert_close(remembered, expected[order])
