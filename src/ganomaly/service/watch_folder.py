"""A watched folder: each new image is submitted once it is complete, then moved to `done` or `failed` in that folder.

The folder is polled, so shares on a network work too. An image is complete when size and time of change have stayed
the same for a while. It is moved only after `submit` has returned: whenever a process is killed, the image is either
still there and is submitted again with the same key, or it has been moved. Beside each image in `failed` is a text
that says why.

Only regular files that end like images are taken. Hidden files and folders, links and special files are left alone: a
link could lead anywhere, and reading a pipe may never end.
"""

import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ganomaly.data.readers.registry import image_suffixes
from ganomaly.errors import GANomalyError, ImageError, UsageError
from ganomaly.files import make_folder, written_whole
from ganomaly.locks import locked_folder
from ganomaly.service.submission import Submit, pause, submission_key

DONE, FAILED = "done", "failed"
MAX_BYTES = 256 * 2**20
MAX_WAITING = 10_000
"""Images that are remembered at once; further ones have their turn when these have gone."""
LONGEST_PAUSE = 60.0
_Version = tuple[int, int]
"""Size and time of change. Not the inode: some shares invent a new one at each look."""
_log = logging.getLogger(__name__)


@dataclass
class WatchStatus:
    """What a watched folder has done since it was started.

    Attributes
    ----------
    done, failed : int
        Images submitted, and images that cannot be used.
    waiting : int
        Images in the folder: incomplete, or to be tried again.
    last_error : str or None
        The last thing that went wrong, in one sentence.
    """

    done: int = 0
    failed: int = 0
    waiting: int = 0
    last_error: str | None = None


@dataclass
class _Waiting:
    """An image in the folder."""

    version: _Version
    unchanged_since: float
    attempts: int = 0
    not_before: float = 0.0
    result: str | None = None
    """`DONE` or `FAILED` if it has been submitted and could not be moved."""
    why: str = ""


class WatchFolder:
    """Submit the images that appear in a folder and its subfolders.

    Parameters
    ----------
    folder : Path
        Which; `done` and `failed` in it are made.
    submit : Submit
        Takes image, name (the path in the folder) and key. On `ImageError`, or a prediction with an `error`, the
        image goes to `failed`; after any other exception it is tried again, at longer and longer intervals.
    settle_seconds : float
        How long an image must have stayed unchanged.
    poll_seconds : float
        Between two looks at the folder.
    max_bytes : int
        Larger files go to `failed`.

    Raises
    ------
    UsageError
        If the folder does not exist.
    OutputError
        If `done` or `failed` cannot be made.
    """

    def __init__(
        self,
        folder: str | Path,
        submit: Submit,
        *,
        settle_seconds: float = 2.0,
        poll_seconds: float = 1.0,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UsageError(f"cannot watch {folder}: there is no such folder; make it first")
        for name in (DONE, FAILED):
            make_folder(self.folder / name, " for images that were submitted")
        self.submit = submit
        self.settle_seconds = settle_seconds
        self.poll_seconds = poll_seconds
        self.max_bytes = max_bytes
        self.status = WatchStatus()
        self._waiting: dict[Path, _Waiting] = {}

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop` is set; the image at hand is finished first.

        Raises
        ------
        UsageError
            If another process watches the folder.
        """
        with locked_folder(self.folder, "a watched folder"):
            while not stop.is_set():
                self.scan(stop)
                stop.wait(self.poll_seconds)

    def scan(self, stop: threading.Event | None = None) -> int:
        """Look at the folder once, submit what is complete, and return how many images were moved."""
        moved = 0
        seen = set()
        for path, version in self._images():
            if stop is not None and stop.is_set():
                return moved
            if path not in self._waiting and len(self._waiting) >= MAX_WAITING:
                continue
            seen.add(path)
            moved += self._take(path, version)
        self._waiting = {path: image for path, image in self._waiting.items() if path in seen}
        self.status.waiting = len(self._waiting)
        return moved

    def _images(self) -> Iterator[tuple[Path, _Version]]:
        """Regular files that end like images, folder by folder, in the order of their names."""
        folders = [self.folder]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self._trouble(f"cannot list {folder}: {error.strerror or error}")
                continue
            for entry in found:
                if entry.name.startswith(".") or (folder == self.folder and entry.name in {DONE, FAILED}):
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    elif entry.name.lower().endswith(image_suffixes()) and entry.is_file(
                        follow_symlinks=False
                    ):
                        yield Path(entry.path), _version(os.lstat(entry.path))
                except OSError:
                    continue  # gone by now, or about to change

    def _take(self, path: Path, version: _Version) -> bool:
        """Submit and move an image if it is its turn; say whether it has been moved."""
        now = time.monotonic()
        image = self._waiting.get(path)
        if image is None or image.version != version:
            image = self._waiting[path] = _Waiting(version, now)
        if now < max(image.unchanged_since + self.settle_seconds, image.not_before):
            return False
        try:
            if image.result is None:
                content = self._read(path, image)
                if content is None:
                    return False
                image.result, image.why = self._submitted(path, content)
            self._move(path, image)
        except Exception as error:  # whatever the callable raises: the image stays and is tried again
            self._again(path, image, error)
            return False
        return path not in self._waiting

    def _read(self, path: Path, image: _Waiting) -> bytes | None:
        """The content, at most a byte more than is allowed; None if the file changed meanwhile."""
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            before = os.fstat(handle)
            if not stat.S_ISREG(before.st_mode) or _version(before) != image.version:
                return None
            content = file.read(self.max_bytes + 1)
            return content if _version(os.fstat(handle)) == image.version else None

    def _submitted(self, path: Path, content: bytes) -> tuple[str, str]:
        """Where the image goes, and why."""
        name = os.fsencode(path.relative_to(self.folder).as_posix())
        if len(content) > self.max_bytes:
            return FAILED, f"the file has more than {self.max_bytes} bytes"
        if not content:
            return FAILED, "the file is empty"
        try:
            prediction = self.submit(content, name.decode("utf-8", "replace"), submission_key(name, content))
        except ImageError as error:
            return FAILED, str(error)
        error_sentence = prediction.get("error")
        return (FAILED, str(error_sentence)) if error_sentence else (DONE, "")

    def _move(self, path: Path, image: _Waiting) -> None:
        """Move an image that was submitted, unless somebody has written to it since."""
        if _version(os.lstat(path)) != image.version:
            return  # another image by now: the next look begins with it anew
        result = image.result or FAILED
        target = _free_name(self.folder / result / path.relative_to(self.folder))
        make_folder(target.parent)
        if result == FAILED:
            with written_whole(target.with_name(target.name + ".txt")) as part:
                part.write_text(image.why + "\n", encoding="utf-8")
        path.rename(target)
        del self._waiting[path]
        if result == DONE:
            self.status.done += 1
        else:
            self.status.failed += 1
            self._trouble(f"{path}: {image.why}")

    def _again(self, path: Path, image: _Waiting, error: Exception) -> None:
        image.attempts += 1
        image.not_before = time.monotonic() + pause(image.attempts, self.poll_seconds, LONGEST_PAUSE)
        known = isinstance(error, GANomalyError)
        why = str(error) if known else f"{type(error).__name__}: {error}"
        self._trouble(f"{path} stays where it is and is tried again: {why}")

    def _trouble(self, sentence: str) -> None:
        if sentence != self.status.last_error:
            _log.warning(sentence)
        self.status.last_error = sentence


def _version(status: os.stat_result) -> _Version:
    return status.st_size, status.st_mtime_ns


def _free_name(path: Path) -> Path:
    """The path, or one with a number where that is taken: nothing that was moved before is replaced."""
    candidate, number = path, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.stem} ({number}){path.suffix}")
    return candidate
