"""Coverage-guided fuzzing of this package's own parsers; needs atheris, of the extra `faults`."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from faults.harness import SEED, report, tries

TARGETS = ("png", "png_rows", "tiff", "header", "model", "method", "rows", "outputs")
RUNS = 2000  # for each try
SLOW = {"rows": 10, "outputs": 10}  # by what the number of runs is divided where files are written


@pytest.mark.skipif(find_spec("atheris") is None, reason="needs atheris")
@pytest.mark.parametrize("target", TARGETS)
def test_parsers_give_a_result_or_a_sentence(target: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    script = Path(__file__).with_name("fuzz_parsers.py")
    runs = RUNS * tries(1) // SLOW.get(target, 1)
    options = [
        f"-runs={runs}",
        f"-seed={SEED + 1}",
        f"-artifact_prefix={tmp_path}/",
    ]  # 0 would be a random one
    done = subprocess.run(
        [sys.executable, script, target, corpus, *options],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    numbers = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
    assert int(numbers["number_of_executed_units"]) >= runs
    coverage = re.findall(r"cov: (\d+)", done.stderr)[-1]
    report(f"parser {target}", tries=runs, peak_mb=int(numbers["peak_rss_mb"]), coverage=int(coverage))
