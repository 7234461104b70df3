"""Each complete image is submitted at least once, moved once, and never lost; all else is left alone."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ganomaly.errors import ImageError, UsageError
from ganomaly.service import watch_folder
from ganomaly.service.watch_folder import WatchFolder


class Killed(BaseException):
    """Like a kill: nothing may catch it."""


class Service:
    def __init__(self, error=None):
        self.error, self.calls = error, []

    def __call__(self, image, name, key):
        self.calls.append((name, image, key))
        if self.error is not None:
            raise self.error
        return {"id": key, "is_anomaly": False, "error": None}


def watch(folder, submit, **options):
    return WatchFolder(folder, submit, **{"settle_seconds": 0.0, "poll_seconds": 0.01} | options)


def scan(watched, times=2):
    for _ in range(times):  # seen first, then settled
        watched.scan()


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def test_images_of_the_folder_and_its_subfolders_are_submitted_and_moved(tmp_path):
    (tmp_path / "line 3/früh").mkdir(parents=True)
    for name in ("a.png", "line 3/früh/b.JPG", "line 3/a.png"):
        (tmp_path / name).write_bytes(name.encode())
    service = Service()
    watched = watch(tmp_path, service)
    scan(watched, 4)
    assert {name: image.decode() for name, image, _ in service.calls} == {
        name: name for name in ("a.png", "line 3/früh/b.JPG", "line 3/a.png")
    }
    assert files(tmp_path) == ["done/a.png", "done/line 3/a.png", "done/line 3/früh/b.JPG"]
    assert (watched.status.done, watched.status.failed, watched.status.waiting) == (3, 0, 0)


def test_a_file_that_is_still_written_is_left_alone_until_it_is_complete(tmp_path):
    service, image = Service(), tmp_path / "a.png"
    watched = watch(tmp_path, service, settle_seconds=0.15)
    with image.open("wb") as file:
        for part in range(6):
            file.write(bytes([part]))
            file.flush()
            watched.scan()
            time.sleep(0.05)
    assert service.calls == []
    time.sleep(0.2)
    scan(watched)
    assert [content for _, content, _ in service.calls] == [bytes(range(6))]


def test_an_image_that_changes_while_it_is_submitted_is_submitted_again(tmp_path):
    calls = []

    def submit(image, name, key):
        calls.append((image, key))
        if len(calls) == 1:
            (tmp_path / "a.png").write_bytes(b"second version")
        return {}

    (tmp_path / "a.png").write_bytes(b"first")
    scan(watch(tmp_path, submit), 4)
    assert [image for image, _ in calls] == [b"first", b"second version"]
    assert calls[0][1] != calls[1][1]
    assert (tmp_path / "done/a.png").read_bytes() == b"second version"


@pytest.mark.parametrize(
    "outcome", [ImageError("it is no image"), {"error": "it is no image"}], ids=["raised", "returned"]
)
def test_a_broken_image_goes_to_failed_with_a_text_that_says_why(tmp_path, outcome):
    def submit(image, name, key):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    (tmp_path / "lot").mkdir()
    (tmp_path / "lot/a.png").write_bytes(b"x")
    watched = watch(tmp_path, submit)
    scan(watched)
    assert files(tmp_path) == ["failed/lot/a.png", "failed/lot/a.png.txt"]
    assert (tmp_path / "failed/lot/a.png.txt").read_text() == "it is no image\n"
    assert watched.status.failed == 1


@pytest.mark.parametrize(
    ("content", "why"), [(b"", "empty"), (b"x" * 101, "100 bytes")], ids=["empty", "large"]
)
def test_empty_and_too_large_files_fail_without_being_submitted(tmp_path, content, why):
    (tmp_path / "a.png").write_bytes(content)
    service = Service()
    scan(watch(tmp_path, service, max_bytes=100))
    assert service.calls == []
    assert why in (tmp_path / "failed/a.png.txt").read_text()


def test_a_service_that_is_away_is_tried_again_with_the_same_key_and_less_and_less_often(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(watch_folder, "pause", lambda failures, first, longest: 0.001 * failures)
    service = Service(ConnectionError("refused"))
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"x")
    watched = watch(tmp_path, service)
    for _ in range(5):
        watched.scan()
        time.sleep(0.01)
    assert {"a.png", "b.png"} <= set(files(tmp_path)), "nothing is moved while the service is away"
    assert watched.status.waiting == 2
    assert "ConnectionError: refused" in watched.status.last_error
    service.error = None
    time.sleep(0.02)
    watched.scan()
    assert files(tmp_path) == ["done/a.png", "done/b.png"]
    assert len(service.calls) > 4
    assert len({key for _, _, key in service.calls}) == 2


def test_the_pause_between_attempts_keeps_a_broken_service_from_being_flooded(tmp_path):
    service = Service(RuntimeError("down"))
    (tmp_path / "a.png").write_bytes(b"x")
    watched = watch(tmp_path, service, poll_seconds=10.0)
    scan(watched, 20)
    assert len(service.calls) == 1


def test_links_special_hidden_and_other_files_are_left_alone(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"secret")
    folder = tmp_path / "watched"
    folder.mkdir()
    (folder / "link.png").symlink_to(outside / "secret.png")
    (folder / "linked").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "dead.png").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    for name in (".hidden.png", "notes.txt", "a.png.part"):
        (folder / name).write_bytes(b"x")
    before = files(folder)
    service = Service()
    watched = watch(folder, service)
    scan(watched, 3)
    assert service.calls == []
    assert files(folder) == before
    assert watched.status.waiting == 0


def test_a_file_that_becomes_a_link_between_two_looks_is_not_followed(tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    folder = tmp_path / "watched"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"x")
    service = Service()
    real_open = os.open

    def swapped(path, *arguments, **options):
        if str(path).endswith("a.png"):
            status = Path(path).stat()
            os.utime(secret, ns=(status.st_atime_ns, status.st_mtime_ns))
            Path(path).unlink()
            Path(path).symlink_to(secret)
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", swapped)
    watch(folder, service).scan()
    assert (folder / "a.png").is_symlink()
    assert service.calls == []


def test_nothing_that_was_moved_before_is_replaced(tmp_path):
    watched = watch(tmp_path, Service())
    for content in (b"first", b"second", b"third"):
        (tmp_path / "a.png").write_bytes(content)
        scan(watched)
    assert files(tmp_path) == ["done/a (2).png", "done/a (3).png", "done/a.png"]
    assert (tmp_path / "done/a.png").read_bytes() == b"first"


def test_names_that_are_not_utf_8_are_handled(tmp_path):
    name = b"teil-\xfc.png"
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(b"x")
    service = Service()
    scan(watch(tmp_path, service))
    assert service.calls[0][0] == "teil-�.png"
    assert [os.fsencode(path.name) for path in (tmp_path / "done").iterdir()] == [name]


def test_an_image_that_cannot_be_moved_is_not_submitted_again(tmp_path, monkeypatch):
    monkeypatch.setattr(watch_folder, "pause", lambda *_: 0.0)
    (tmp_path / "a.png").write_bytes(b"x")
    service = Service()
    watched = watch(tmp_path, service)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(PermissionError("read-only")))
        scan(watched, 5)
    assert len(service.calls) == 1
    assert "read-only" in watched.status.last_error
    watched.scan()
    assert files(tmp_path) == ["done/a.png"]
    assert len(service.calls) == 1


def test_more_images_than_are_remembered_have_their_turn(tmp_path, monkeypatch):
    monkeypatch.setattr(watch_folder, "MAX_WAITING", 3)
    for number in range(10):
        (tmp_path / f"{number}.png").write_bytes(b"x")
    watched = watch(tmp_path, Service())
    scan(watched, 12)
    assert watched.status.done == 10


@pytest.mark.parametrize("point", ["before submitting", "after submitting", "in the text", "before moving"])
def test_a_kill_at_any_point_loses_nothing(tmp_path, monkeypatch, point):
    (tmp_path / "a.png").write_bytes(b"x")
    keys, broken = [], ImageError("broken") if point == "in the text" else None

    def submit(image, name, key):
        if point == "before submitting" and not keys:
            keys.append(key)
            raise Killed
        keys.append(key)
        if point == "after submitting" and len(keys) == 1:
            raise Killed
        if broken:
            raise broken
        return {}

    with monkeypatch.context() as patched:
        if point in {"in the text", "before moving"}:
            patched.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            watch(tmp_path, submit).scan()
    scan(watch(tmp_path, submit))
    assert files(tmp_path) == (["failed/a.png", "failed/a.png.txt"] if broken else ["done/a.png"])
    assert len(keys) == 2
    assert len(set(keys)) == 1


PROGRAM = """
import sys, threading, time
from pathlib import Path
from ganomaly.service.watch_folder import WatchFolder
folder, log = map(Path, sys.argv[1:])
def submit(image, name, key):
    with log.open("a") as file:
        file.write(f"{name} {key}\\n")
    time.sleep(0.01)
    return {}
WatchFolder(folder, submit, settle_seconds=0, poll_seconds=0.01).run(threading.Event())
"""


def test_a_process_killed_again_and_again_submits_all_and_loses_none(tmp_path):
    folder, log = tmp_path / "watched", tmp_path / "log"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}.png").write_bytes(b"%d" % number)
    deadline = time.monotonic() + 60
    for kill_at in (5, 17, 33, 60):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), str(log)])
        while time.monotonic() < deadline and len(list((folder / "done").glob("*"))) < kill_at:
            time.sleep(0.002)
        process.kill()
        process.wait()
    assert len(files(folder / "done")) == 60
    submitted = [line.split() for line in log.read_text().splitlines()]
    assert {name for name, _ in submitted} == {f"{number:02}.png" for number in range(60)}
    assert len({tuple(line) for line in submitted}) == 60, "a repeated image has the same key"


def test_two_processes_do_not_watch_one_folder(tmp_path):
    stop = threading.Event()
    first = threading.Thread(target=watch(tmp_path, Service()).run, args=(stop,))
    first.start()
    time.sleep(0.2)
    with pytest.raises(UsageError, match="a watched folder"):
        watch(tmp_path, Service()).run(threading.Event())
    stop.set()
    first.join(5)
    assert not first.is_alive()


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="make it first"):
        watch(tmp_path / "none", Service())


def test_a_folder_that_disappears_and_returns_is_watched_again(tmp_path):
    folder, service = tmp_path / "share", Service()
    folder.mkdir()
    watched = watch(folder, service)
    folder.rename(tmp_path / "away")
    scan(watched)
    assert "cannot list" in watched.status.last_error
    (tmp_path / "away").rename(folder)
    (folder / "a.png").write_bytes(b"x")
    scan(watched)
    assert files(folder) == ["done/a.png"]
