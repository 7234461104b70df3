"""`score --engine ray`: its workers and the command itself are killed; each image is one row all the same."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from faults.harness import report
from images import textures, write_images

N_IMAGES = 2000
KILLS = int(os.environ.get("GANOMALY_FAULTS", "0"))

pytestmark = pytest.mark.skipif(KILLS == 0, reason="takes minutes: `make faults` runs it")


def descendants(process: int) -> list[tuple[int, bytes]]:
    """Processes below one, and their names."""
    parents: dict[int, int] = {}
    names: dict[int, bytes] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                continue
    found, found_before = {process}, -1
    while len(found) != found_before:
        found_before = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return [(child, names.get(child, b"")) for child in found - {process}]


def rows(out: Path) -> list[dict[str, object]]:
    return [row for part in sorted(out.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]


@pytest.mark.parametrize("victim", ["worker", "command"])
def test_whatever_is_killed_each_image_is_one_row(victim: str, model: Path, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", textures(64, seed=3))
    for number in range(64, N_IMAGES):
        (images / f"{number:04}.png").symlink_to(f"{number % 64:03}.png")
    generator = random.Random(int(os.environ.get("GANOMALY_FAULTS_SEED", "0")))
    command = [sys.executable, "-m", "ganomaly", "score", model, images, "--engine", "ray", "--workers", "2"]
    whole = tmp_path / "whole"
    started = time.monotonic()
    subprocess.run([*command, "--out", whole], check=True, capture_output=True)
    duration = time.monotonic() - started
    limit = min(KILLS, 20)
    killed = number = 0
    while killed < limit:
        out = tmp_path / f"out-{number}"
        number += 1
        status = -signal.SIGKILL
        while status == -signal.SIGKILL:
            running = subprocess.Popen([*command, "--out", out], stderr=subprocess.PIPE, text=True)
            # a command that is killed always before it has written a part would never end
            moment = time.monotonic() + generator.uniform(0.3, 1) * duration
            while running.poll() is None:
                if killed < limit and time.monotonic() > moment:
                    moment = time.monotonic() + generator.uniform(1, 8)
                    workers = [p for p, name in descendants(running.pid) if name.startswith(b"ray::Map")]
                    target = running.pid if victim == "command" else next(iter(workers), None)
                    if target is not None:
                        os.kill(target, signal.SIGKILL)
                        killed += 1
                time.sleep(0.05)
            status = running.wait()
            assert status in (0, -signal.SIGKILL), running.stderr and running.stderr.read()
        assert rows(out) == rows(whole)
    report(f"score --engine ray, {victim} killed", killed=killed, runs=number, images=N_IMAGES)
