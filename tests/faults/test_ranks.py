"""Any process of a training on several devices is killed at a random moment: the run goes on to the same weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from faults.harness import LONG, report, seeded, tries
from ganomaly.errors import TrainingError
from training_in_processes import run_presets

STEPS = 60


@pytest.mark.skipif(not LONG, reason="takes minutes; `make faults` runs it")
@pytest.mark.parametrize("rank", [0, 1])
def test_each_process_killed_at_random_moments_leaves_a_run_that_ends_with_the_same_weights(
    rank: int, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    assert run_presets(whole, "paper", steps=STEPS) == 0
    expected = load_file(whole / "paper 0.safetensors")
    seconds = float((whole / "seconds").read_text())
    random, wanted, kills, runs = seeded(f"rank {rank}"), tries(1), 0, 0
    while kills < wanted or runs == 0:
        after = random.uniform(0, seconds) if kills < wanted else 1e9
        try:
            run_presets(killed, "paper", steps=STEPS, killed=rank, after=after)
        except TrainingError as error:
            kills += 1
            assert f"process {rank + 1} of 2 was killed by signal SIGKILL" in str(error)  # noqa: PT017
            continue
        weights = load_file(killed / "paper 0.safetensors")
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
        runs += 1
        (killed / "paper.checkpoint").unlink()  # the next run begins anew
    report(f"process {rank + 1} of 2", kills=kills, runs=runs, seconds=round(seconds, 1))
