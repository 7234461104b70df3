"""Files appear whole or not at all."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ganomaly.errors import OutputError, UsageError
from ganomaly.files import check_writable, remove_file, written_whole


def test_a_file_appears_when_it_is_whole(tmp_path: Path):
    target = tmp_path / "out.txt"
    with written_whole(target) as part:
        part.write_text("all of it")
        assert not target.exists()
    assert target.read_text() == "all of it"
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]


def test_after_a_failure_the_old_file_stands_as_it_was(tmp_path: Path):
    target = tmp_path / "out.txt"
    target.write_text("old")

    def write_and_fail() -> None:
        with written_whole(target) as part:
            part.write_text("half of the ne")
            raise ValueError("power cut")

    with pytest.raises(ValueError, match="power cut"):
        write_and_fail()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]


def test_a_full_disk_is_said_in_one_sentence(tmp_path: Path):
    def write_to_full_disk() -> None:
        with written_whole(tmp_path / "out.txt"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot write .*out\.txt: No space left on device"):
        write_to_full_disk()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path):
    with pytest.raises(UsageError, match="does not exist"):
        check_writable(tmp_path / "missing" / "out.txt")
    with pytest.raises(UsageError, match="is a folder"):
        check_writable(tmp_path)


def test_a_link_stays_a_link(tmp_path: Path):
    target, link = tmp_path / "real" / "out.txt", tmp_path / "latest.txt"
    target.parent.mkdir()
    link.symlink_to(target)
    with written_whole(link) as part:
        part.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_pipe_is_not_replaced(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="a device or a pipe"):
        check_writable(pipe)
    assert pipe.is_fifo()


def test_the_file_has_the_permissions_of_any_new_file(tmp_path: Path):
    with written_whole(tmp_path / "ours") as part:
        part.write_text("x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


KILLED_WRITER = """
import os, signal, sys
from ganomaly.files import written_whole
with written_whole(sys.argv[1]) as part:
    part.write_text("half of the ne")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks that end with their process")
def test_what_a_killed_process_left_is_gone_after_the_next_run(tmp_path: Path):
    target = tmp_path / "out.txt"
    for _ in range(3):
        killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, target], check=False)
        assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1  # kills do not add up
    with written_whole(target) as part:
        part.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]
    assert target.read_text() == "new"


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path):
    target = tmp_path / "out.txt"
    with written_whole(target) as first:
        first.write_text("first")
        with written_whole(target) as second:
            assert second != first
            second.write_text("second")
        assert target.read_text() == "second"
    assert target.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks that end with their process")
def test_what_two_killed_writers_of_one_file_left_is_gone_after_the_next_run(tmp_path: Path):
    target = tmp_path / "out.txt"
    with written_whole(target) as first:
        first.write_text("first")
        killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, target], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert len(list(tmp_path.iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks that end with their process")
def test_a_file_is_removed_with_what_a_killed_process_left_of_a_newer_one(tmp_path: Path):
    target = tmp_path / "m.checkpoint"
    target.write_text("old")
    subprocess.run([sys.executable, "-c", KILLED_WRITER, target], check=False)
    remove_file(target)
    assert not list(tmp_path.iterdir())


def test_a_writer_that_ends_leaves_the_temporary_file_of_the_next_one(tmp_path: Path, monkeypatch):
    target = tmp_path / "out.txt"
    replace, second = Path.replace, written_whole(target)

    def replace_and_let_the_other_begin(self: Path, path: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        moved = replace(self, path)
        second.__enter__().write_text("second")
        return moved

    monkeypatch.setattr(Path, "replace", replace_and_let_the_other_begin)
    with written_whole(target) as first:
        first.write_text("first")
    assert target.read_text() == "first"
    second.__exit__(None, None, None)
    assert target.read_text() == "second"


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path):
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    (tmp_path / ".out.txt.part").symlink_to(precious)
    with written_whole(tmp_path / "out.txt") as part:
        part.write_text("new")
    assert precious.read_text() == "precious"
