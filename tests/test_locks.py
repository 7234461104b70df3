"""One process at a time writes an output, and a killed one never blocks the next."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ganomaly.errors import UsageError
from ganomaly.locks import locked_file, locked_folder
from ganomaly.remote import RemoteFile

HOLDER = """
import sys, time
from ganomaly import locks
with getattr(locks, sys.argv[1])(sys.argv[2], "ganomaly fit"):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hold():
    """Start processes that hold a lock until they are killed."""
    holders = []

    def start(kind: str, path: object) -> subprocess.Popen[str]:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, kind, str(path)], stdout=subprocess.PIPE, text=True
        )
        holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        return holder

    yield start
    for holder in holders:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize(("kind", "lock"), [("locked_file", locked_file), ("locked_folder", locked_folder)])
def test_the_second_process_is_told_who_holds_the_lock(tmp_path, hold, kind, lock):
    output = tmp_path / "out"
    holder = hold(kind, output)
    with (
        pytest.raises(UsageError, match=rf"ganomaly fit, process {holder.pid} on .+ is writing .*out"),
        lock(output, "ganomaly fit"),
    ):
        pytest.fail("two processes hold one lock")


@pytest.mark.parametrize("kind", ["locked_file", "locked_folder"])
def test_the_lock_of_a_killed_process_does_not_block(tmp_path, hold, kind):
    output = tmp_path / "out"
    for _ in range(3):
        holder = hold(kind, output)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with locked_file(output, "ganomaly fit") if kind == "locked_file" else locked_folder(output, "x"):
        pass


def test_a_lock_leaves_nothing_behind(tmp_path):
    with locked_file(tmp_path / "m.safetensors", "ganomaly fit"):
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())


def test_a_lock_does_not_follow_the_clock(tmp_path, hold, monkeypatch):
    """The system releases locks, not a time limit: a clock that jumps by a day changes nothing."""
    hold("locked_file", tmp_path / "out")
    monkeypatch.setattr("time.time", lambda: 2e9)
    with pytest.raises(UsageError, match="is writing"), locked_file(tmp_path / "out", "ganomaly fit"):
        pytest.fail("two processes hold one lock")


def test_different_outputs_do_not_block_each_other(tmp_path):
    with (
        locked_file(tmp_path / "a", "x"),
        locked_file(tmp_path / "b", "x"),
        locked_folder(tmp_path / "c", "x"),
    ):
        pass


def test_a_model_in_a_store_is_locked_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    left, right = (RemoteFile(f"s3://f/{line}/m.safetensors") for line in ("left", "right"))
    with locked_file(left, "ganomaly fit"), locked_file(right, "ganomaly fit"):
        with (
            pytest.raises(UsageError, match=r"is writing s3://f/left/m\.safetensors"),
            locked_file(left, "x"),
        ):
            pytest.fail("two processes hold one lock")
        assert len(list(tmp_path.iterdir())) == 2
    assert not list(tmp_path.iterdir())


def test_a_file_in_a_store_is_not_locked_where_nothing_can_be_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ganomaly.locks.os.access", lambda *_: False)
    with locked_file(RemoteFile("s3://f/m.onnx"), "ganomaly export"):
        assert not list(tmp_path.iterdir())


def test_a_lock_holds_though_its_owner_cannot_be_written_where_the_disk_is_full(tmp_path, monkeypatch):
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with locked_file(tmp_path / "a", "x"), pytest.raises(UsageError), locked_file(tmp_path / "a", "y"):
        pytest.fail("two hold one lock")
    assert not list(tmp_path.iterdir())
