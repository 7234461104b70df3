"""Disks that are full, slow, broken or read-only, and memory that is short: one sentence, and nothing is lost."""

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faults.commands import NAMES
from faults.harness import (
    Command,
    Result,
    Runner,
    Undisturbed,
    check_visible_files,
    chosen,
    contents,
    report,
    results,
    seeded,
    tries,
)

FAILED, USAGE, UNREADABLE_IMAGES = 1, 2, 3
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)
SLOW_MICROSECONDS = 2000


def check_sentence(done: Result) -> None:
    """The command failed, and said why in one sentence that ends its output."""
    done.check_in_words()
    assert done.status in {FAILED, USAGE}, done.text
    last = [line for line in done.text.splitlines() if line and not line.startswith("operations: ")][-1]
    assert last.startswith("ganomaly: "), done.text


@pytest.mark.parametrize("name", chosen(NAMES, "fit paper", "score"))
def test_a_failing_disk_costs_one_sentence_and_the_same_command_then_gives_the_same_result(
    name: str,
    runner: Runner,
    layer: Path,
    all_commands: dict[str, Command],
    undisturbed: Callable[[str], Undisturbed],
    parts: Path,
    tmp_path: Path,
) -> None:
    command, whole = all_commands[name], undisturbed(name)
    inputs, out = contents(parts), tmp_path / "out"
    random, failed = seeded(f"disk {name}"), 0
    for _ in range(tries(1)):
        out.mkdir()
        fault = {
            "action": random.choice(("fail from", "fail from", "fail once")),
            "at": random.randint(1, whole.operations),
            "errno": random.choice(ERRORS),
            "folder": str(out),
        }
        done = runner.run(command.arguments(out), **command.options, **fault)
        if done.status != 0:  # an error in cleaning up costs nothing
            check_sentence(done)
            failed += 1
        check_visible_files(out)
        done = runner.run(command.arguments(out), **command.options)
        assert done.status == 0, (fault, done.text)
        assert results(out, command.variable) == whole.results, fault
        assert contents(parts) == inputs
        shutil.rmtree(out)
    report(f"failing disk, {name}", tries=tries(1), failed=failed)


@pytest.mark.parametrize("action", ["short", "interrupt", "slow"])
@pytest.mark.parametrize("name", chosen(NAMES, "score"))
def test_short_interrupted_and_slow_writes_change_nothing(
    name: str,
    action: str,
    runner: Runner,
    layer: Path,
    all_commands: dict[str, Command],
    undisturbed: Callable[[str], Undisturbed],
    tmp_path: Path,
) -> None:
    command = all_commands[name]
    fault = {"action": action, "at": SLOW_MICROSECONDS, "folder": str(tmp_path)}
    done = runner.run(command.arguments(tmp_path), **command.options, **fault)
    assert done.status == 0, done.text
    assert results(tmp_path, command.variable) == undisturbed(name).results


@pytest.mark.parametrize("name", chosen(NAMES, "fit paper", "score"))
def test_a_limit_on_the_size_of_files_costs_one_sentence(
    name: str,
    runner: Runner,
    all_commands: dict[str, Command],
    undisturbed: Callable[[str], Undisturbed],
    tmp_path: Path,
) -> None:
    command, whole = all_commands[name], undisturbed(name)
    random = seeded(f"limit {name}")
    for _ in range(tries(1)):
        limit = random.randrange(whole.largest_file)
        done = runner.run(command.arguments(tmp_path), **command.options, file_bytes=limit)
        check_sentence(done)
        check_visible_files(tmp_path)
    done = runner.run(command.arguments(tmp_path), **command.options)
    assert done.status == 0, (limit, done.text)
    assert results(tmp_path, command.variable) == whole.results
    report(f"limit on the size of files, {name}", tries=tries(1))


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system in memory of so many bytes; the test is skipped where it may not be mounted."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("name", chosen(NAMES, "fit paper", "score"))
@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
def test_on_a_full_disk_the_same_command_goes_on_once_there_is_space(
    name: str,
    runner: Runner,
    all_commands: dict[str, Command],
    undisturbed: Callable[[str], Undisturbed],
    tmp_path: Path,
) -> None:
    command, whole = all_commands[name], undisturbed(name)
    random, failed = seeded(f"full {name}"), 0
    for number in range(tries(1)):
        size = random.randrange(os.sysconf("SC_PAGESIZE"), whole.all_files)
        with small_disk(tmp_path / f"disk{number}", size) as out:
            done = runner.run(command.arguments(out), **command.options)
            if done.status != 0:
                check_sentence(done)
                failed += 1
            check_visible_files(out)
            subprocess.run(["mount", "-o", "remount,size=1g", out], check=True)
            done = runner.run(command.arguments(out), **command.options)
            assert done.status == 0, (size, done.text)
            assert results(out, command.variable) == whole.results
    report(f"full disk, {name}", tries=tries(1), failed=failed)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that another user can reach; the folders of pytest are private."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("name", chosen(NAMES, "fit paper", "score"))
def test_a_folder_that_may_not_be_written_to_is_refused_in_one_sentence(
    name: str, runner: Runner, all_commands: dict[str, Command], parts: Path, model: Path, public_folder: Path
) -> None:
    shutil.copytree(parts, public_folder / "parts")
    shutil.copy(model, public_folder / "m.safetensors")
    (public_folder / "m.safetensors").chmod(0o644)
    out = public_folder / "out"
    out.mkdir()
    replaced = {parts: public_folder / "parts", model: public_folder / "m.safetensors"}
    argv = [
        replaced.get(argument, argument) if argument != parts / "test" else public_folder / "parts" / "test"
        for argument in all_commands[name].arguments(out)
    ]
    options = {key: value for key, value in all_commands[name].options.items() if key != "graph"}
    before = contents(public_folder)
    done = runner.run(argv, **options, as_nobody=True)
    check_sentence(done)
    assert contents(public_folder) == before
    assert not list(out.iterdir())


def test_images_that_may_not_be_read_are_rows_with_an_error(
    runner: Runner, parts: Path, model: Path, public_folder: Path
) -> None:
    images = shutil.copytree(parts / "test" / "good", public_folder / "images")
    (images / "002.png").chmod(0)
    path = public_folder / "m.safetensors"
    shutil.copy(model, path)
    path.chmod(0o644)
    out = public_folder / "out"
    out.mkdir()
    out.chmod(0o777)
    done = runner.run(["score", path, images, "--out", out / "t.csv"], as_nobody=True)
    done.check_in_words()
    assert done.status == UNREADABLE_IMAGES, done.text
    rows = (out / "t.csv").read_text().splitlines()[1:]
    assert [bool(row.rpartition(",")[2]) for row in rows] == [False, False, True, False, False, False]


@pytest.mark.parametrize("headroom", [200e6, 400e6])
def test_an_image_that_does_not_fit_in_memory_costs_its_own_row(
    runner: Runner, parts: Path, model: Path, tmp_path: Path, headroom: float
) -> None:
    images = shutil.copytree(parts / "test" / "good", tmp_path / "images")
    Image.fromarray(np.zeros((15_000, 11_000, 3), np.uint8)).save(images / "0025.png", compress_level=1)
    done = runner.run(
        ["score", model, images, "--out", tmp_path / "t.csv"], memory_headroom_bytes=int(headroom)
    )
    done.check_in_words()
    assert done.status == UNREADABLE_IMAGES, done.text
    rows = (tmp_path / "t.csv").read_text().splitlines()[1:]
    errors = {Path(row.partition(",")[0]).name: row.rpartition(",")[2] for row in rows}
    assert errors.pop("0025.png"), rows
    assert not any(errors.values()), rows
