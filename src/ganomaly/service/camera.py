"""Frames of a camera or a video file, submitted at a chosen rate.

A network stream (RTSP, HTTP, MPEG-TS …) or a device is *live*: a thread decodes all frames and keeps the newest, so
that a slow model costs frames and never delay; a lost connection is made again, at longer and longer intervals. A
video file is not live: its frames are taken at the chosen rate of its own time, in order, none is lost, and its end
is the end.
"""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from ganomaly.errors import ImageError, UsageError, package_needed
from ganomaly.service.submission import Submit, pause, submission_key

TIMEOUT = 10.0
"""Seconds without a frame after which a stream counts as lost."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
_DEVICE = "/dev/"
_USUAL_RATE = 25  # of a video that has no times
_log = logging.getLogger(__name__)


@dataclass
class CameraStatus:
    """What a camera has done since it was started.

    Attributes
    ----------
    connected : bool
        Whether frames arrive.
    frames : int
        Frames decoded.
    submitted, failed : int
        Frames that have a prediction, and frames that could not be submitted.
    connections : int
        How often a connection was made.
    last_error : str or None
        The last thing that went wrong, in one sentence.
    """

    connected: bool = False
    frames: int = 0
    submitted: int = 0
    failed: int = 0
    connections: int = 0
    last_error: str | None = None


class Camera:
    """Submit frames of a camera.

    Parameters
    ----------
    source : str
        A URL such as `rtsp://camera/stream`, a device such as `/dev/video0`, or a video file.
    submit : Submit
        Takes the frame as PNG, its name (camera and time) and key. What it raises costs this frame only.
    frames_per_second : float
        At most so many frames are submitted.
    name : str
        Of the camera, for the names of its frames.
    timeout : float
        Seconds without a frame after which a stream counts as lost.

    Raises
    ------
    UsageError
        If PyAV is not installed, the source is neither a URL nor there, or the rate is not above 0.
    """

    def __init__(
        self,
        source: str,
        submit: Submit,
        *,
        frames_per_second: float = 1.0,
        name: str = "camera",
        timeout: float = TIMEOUT,
    ) -> None:
        with package_needed("a camera", "camera"):
            import av  # noqa: F401 - only to know that it is there
        if not frames_per_second > 0:
            raise UsageError(
                f"a camera cannot submit {frames_per_second} frames per second; name a rate above 0"
            )
        if "://" not in source and not Path(source).exists():
            raise UsageError(f"there is no camera or video {source}; name a URL, a device or a file")
        self.source = source
        self.submit = submit
        self.interval = 1 / frames_per_second
        self.name = name
        self.timeout = timeout
        self.is_live = "://" in source or source.startswith(_DEVICE)
        self.status = CameraStatus()
        self._newest: tuple[int, datetime, Any] | None = None
        self._arrived = threading.Condition()

    def run(self, stop: threading.Event) -> None:
        """Submit frames until `stop` is set, or the video file ends; the frame at hand is finished first.

        Raises
        ------
        ImageError
            If a video file cannot be read.
        """
        if not self.is_live:
            self._run_file(stop)
            return
        reader = threading.Thread(target=self._read, args=(stop,), name=f"camera {self.name}", daemon=True)
        reader.start()
        due = time.monotonic()
        while not stop.is_set():
            with self._arrived:
                self._arrived.wait_for(lambda: self._newest is not None or stop.is_set(), timeout=0.1)
                newest, self._newest = self._newest, None
            if newest is None:
                continue
            number, arrived, frame = newest
            self._submit(frame, f"{arrived:%Y%m%dT%H%M%S.%f}Z-{number:06}")
            due = max(due + self.interval, time.monotonic())  # what a slow model missed is not made up for
            stop.wait(max(due - time.monotonic(), 0))
        reader.join(self.timeout)

    def _run_file(self, stop: threading.Event) -> None:
        import av

        due = None
        try:
            for frame in self._frames():
                if stop.is_set():
                    return
                seconds = self.status.frames / _USUAL_RATE if frame.time is None else frame.time
                due = seconds if due is None else due
                if seconds > due - self.interval / 1000:
                    due = due + self.interval if seconds < due + self.interval else seconds + self.interval
                    self._submit(frame, f"{seconds:012.6f}s")
        except (av.FFmpegError, OSError) as error:
            raise ImageError(f"the video {self.source} cannot be read: {_why(error)}") from error

    def _read(self, stop: threading.Event) -> None:
        """Decode a live stream as it comes and keep the newest frame; connect again until `stop` is set."""
        failures = 0
        while not stop.is_set():
            why = "it has ended"
            try:
                for frame in self._frames():
                    failures = 0
                    with self._arrived:
                        self._newest = (self.status.frames, datetime.now(UTC), frame)
                        self._arrived.notify()
                    if stop.is_set():
                        return
            except Exception as error:  # PyAV has many, and none may end the camera
                why = _why(error)
            failures += 1
            self.status.connected = False
            wait = pause(failures, FIRST_PAUSE, LONGEST_PAUSE)
            self._trouble(f"camera {self.name} has no frames: {why}; connecting again")
            stop.wait(wait)

    def _frames(self) -> Iterator[Any]:
        """Decode the source once, from its beginning to its end."""
        import av

        options = {"rtsp_transport": "tcp"} if self.is_live else {}
        file_format = "v4l2" if self.source.startswith("/dev/video") else None
        with av.open(self.source, format=file_format, options=options, timeout=self.timeout) as container:
            if not container.streams.video:
                raise ValueError("it has no video")
            for frame in container.decode(container.streams.video[0]):
                if frame.is_corrupt:
                    continue  # of a stream that was joined between two whole frames
                self.status.connections += not self.status.connected
                self.status.connected = True
                self.status.frames += 1
                yield frame
        self.status.connected = False

    def _submit(self, frame: Any, moment: str) -> None:
        name = f"{self.name}-{moment}.png"
        try:
            image = encode_frame(frame)
            prediction = self.submit(image, name, submission_key(name.encode(), image))
            error = prediction.get("error")
        except Exception as problem:  # whatever the callable raises
            error = _why(problem)
        if error:
            self.status.failed += 1
            self._trouble(f"{name} has no prediction: {error}")
        else:
            self.status.submitted += 1

    def _trouble(self, sentence: str) -> None:
        self.status.last_error = sentence
        _log.warning(sentence)


def encode_frame(frame: Any) -> bytes:
    """A frame of PyAV as PNG: gray stays gray, with 8 or 16 bits, and all else becomes RGB with 8 bits."""
    stored = frame.format.name
    gray = "gray" if stored in {"gray", "gray8"} else "gray16le"
    pixels: NDArray[Any] = frame.to_ndarray(format=gray if stored.startswith("gray") else "rgb24")
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _why(error: Exception) -> str:
    if type(error).__name__ == "ExitError":  # what PyAV makes of its own timeout
        return "no answer in time"
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__)
