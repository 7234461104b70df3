"""Disks with faults below the system, through FUSE: mapped files, reads and errors on closing are part of it.

Needs root, `/dev/fuse`, libfuse and the extra `faults`.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

import pytest

from faults.commands import NAMES
from faults.harness import (
    Command,
    Runner,
    Undisturbed,
    check_visible_files,
    chosen,
    report,
    results,
    seeded,
    tries,
)
from faults.test_disk import UNREADABLE_IMAGES, check_sentence

pytestmark = pytest.mark.skipif(
    not (
        os.access("/dev/fuse", os.R_OK | os.W_OK)
        and find_spec("mfusepy")
        and (find_library("fuse3") or find_library("fuse"))
        and shutil.which("umount")
    ),
    reason="needs /dev/fuse, libfuse and mfusepy",
)
SLOW_MICROSECONDS = 2000


@contextmanager
def faulty_disk(folder: Path, mount_point: Path, fault: str = "none", at: int = 0) -> Iterator[Path]:
    """Mount a disk that mirrors a folder."""
    folder.mkdir(exist_ok=True)
    mount_point.mkdir(exist_ok=True)
    script = Path(__file__).with_name("fuse_disk.py")
    disk = subprocess.Popen([sys.executable, script, folder, mount_point, fault, str(at)])
    try:
        for _ in range(1000):
            if mount_point.is_mount():
                break
            assert disk.poll() is None, "the disk cannot be mounted"
            time.sleep(0.02)
        yield mount_point
    finally:
        subprocess.run(["umount", "--lazy", mount_point], check=False)
        try:
            disk.wait(timeout=10)
        except subprocess.TimeoutExpired:
            disk.kill()
            disk.wait()


@pytest.mark.parametrize("name", chosen(NAMES, "fit paper", "score"))
def test_a_disk_that_breaks_costs_one_sentence_and_the_same_command_then_gives_the_same_result(
    name: str,
    runner: Runner,
    all_commands: dict[str, Command],
    undisturbed: Callable[[str], Undisturbed],
    tmp_path: Path,
) -> None:
    command, whole = all_commands[name], undisturbed(name)
    random, failed = seeded(f"fuse {name}"), 0
    folder, mount_point = tmp_path / "folder", tmp_path / "disk"
    for _ in range(tries(1)):
        at = random.randint(1, 2 * whole.operations)
        with faulty_disk(folder, mount_point, "fail from", at) as out:
            done = runner.run(command.arguments(out), **command.options)
            if done.status != 0:
                check_sentence(done)
                failed += 1
        check_visible_files(folder)
        with faulty_disk(folder, mount_point) as out:
            done = runner.run(command.arguments(out), **command.options)
            assert done.status == 0, (at, done.text)
            assert results(out, command.variable) == whole.results, at
        shutil.rmtree(folder)
    report(f"broken disk (FUSE), {name}", tries=tries(1), failed=failed)


@pytest.mark.parametrize("name", chosen(NAMES, "score"))
def test_a_slow_disk_changes_nothing(
    name: str,
    runner: Runner,
    all_commands: dict[str, Command],
    undisturbed: Callable[[str], Undisturbed],
    tmp_path: Path,
) -> None:
    command = all_commands[name]
    with faulty_disk(tmp_path / "folder", tmp_path / "disk", "slow", SLOW_MICROSECONDS) as out:
        done = runner.run(command.arguments(out), **command.options)
        assert done.status == 0, done.text
        assert results(out, command.variable) == undisturbed(name).results


def test_images_with_bad_blocks_are_rows_with_an_error(
    runner: Runner, parts: Path, model: Path, tmp_path: Path
) -> None:
    images = parts / "test" / "good"
    sizes = [path.stat().st_size for path in sorted(images.iterdir())]
    at = sorted(sizes)[len(sizes) // 2]
    with faulty_disk(images, tmp_path / "disk", "bad blocks", at) as disk:
        done = runner.run(["score", model, disk, "--out", tmp_path / "t.csv"])
    done.check_in_words()
    assert done.status == UNREADABLE_IMAGES, done.text
    rows = (tmp_path / "t.csv").read_text().splitlines()[1:]
    assert ["Input/output error" in row for row in rows] == [size > at for size in sizes]


@pytest.mark.parametrize("at", [0, 5000, 50_000])
def test_a_model_with_bad_blocks_is_refused_in_one_sentence(
    runner: Runner, parts: Path, model: Path, tmp_path: Path, at: int
) -> None:
    with faulty_disk(model.parent, tmp_path / "disk", "bad blocks", at) as disk:
        argv = ["score", disk / model.name, parts / "test", "--out", tmp_path / "t.csv"]
        check_sentence(runner.run(argv))
    assert not (tmp_path / "t.csv").exists()


def test_a_graph_with_bad_blocks_is_refused_and_not_replaced(
    runner: Runner, parts: Path, model: Path, graph: Path, tmp_path: Path
) -> None:
    with faulty_disk(graph.parent, tmp_path / "disk", "bad blocks", 0) as disk:
        argv = ["score", disk / graph.name, parts / "test", "--out", tmp_path / "t.csv"]
        check_sentence(runner.run(argv))
        check_sentence(runner.run(["export", model, "--out", disk / graph.name], graph=str(graph)))
