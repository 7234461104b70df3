"""Benchmarks that reach into training or prediction still run; what they measure is not checked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
