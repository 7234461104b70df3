"""Frames of files and network streams are submitted at the chosen rate, without delay, through interruptions."""

import io
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from PIL import Image

from ganomaly.errors import ImageError, UsageError
from ganomaly.service import camera as camera_module

av = pytest.importorskip("av")

from ganomaly.service.camera import Camera, encode_frame  # noqa: E402 - after the check that its package is there

WIDTH, HEIGHT = 64, 48


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.01)


def frame_of_level(level):
    return av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), level, np.uint8), format="rgb24")


def encode(target, levels, seconds_per_frame=0.0, **options):
    """Write a video of plain frames, each brighter than the one before."""
    with av.open(target, "w", **options) as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = 1
        for level in levels:
            container.mux(stream.encode(frame_of_level(level)))
            time.sleep(seconds_per_frame)
        container.mux(stream.encode())


class Service:
    def __init__(self, seconds=0.0, error=None):
        self.seconds, self.error = seconds, error
        self.levels, self.names, self.keys, self.at = [], [], [], []

    def __call__(self, image, name, key):
        self.at.append(time.monotonic())
        self.levels.append(float(np.asarray(Image.open(io.BytesIO(image))).mean()))
        self.names.append(name)
        self.keys.append(key)
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return {"is_anomaly": False, "error": None}


@contextmanager
def running(camera):
    stop = threading.Event()
    thread = threading.Thread(target=camera.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(15)
        assert not thread.is_alive()


class Sender(io.RawIOBase):
    """A connection as a file that PyAV writes to."""

    def __init__(self, connection):
        self.connection = connection

    def writable(self):
        return True

    def write(self, data):
        self.connection.sendall(data)
        return len(data)


@contextmanager
def network_stream(parts):
    """MPEG-TS over TCP on loopback: each connection gets the next part, frames in real time, and then is closed."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        for levels in parts:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError, av.FFmpegError):  # the camera was stopped
                encode(Sender(connection), levels, 0.04, format="mpegts")

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


# files


@pytest.mark.parametrize(("rate", "expected"), [(25, 50), (5, 10), (1, 2), (1000, 50)])
def test_frames_of_a_file_are_taken_at_the_rate_of_its_own_time(tmp_path, rate, expected):
    path = tmp_path / "video.ts"
    encode(str(path), range(0, 250, 5))
    service = Service()
    camera = Camera(str(path), service, frames_per_second=rate)
    camera.run(threading.Event())
    assert len(service.levels) == expected
    assert service.levels == sorted(service.levels)
    assert (camera.status.frames, camera.status.submitted, camera.status.failed) == (50, expected, 0)
    assert len(set(service.names)) == len(set(service.keys)) == expected


def test_the_same_file_again_has_the_same_keys(tmp_path):
    path = tmp_path / "video.ts"
    encode(str(path), range(0, 100, 10))
    keys = []
    for _ in range(2):
        service = Service()
        Camera(str(path), service, frames_per_second=25).run(threading.Event())
        keys.append(service.keys)
    assert keys[0] == keys[1]


def test_no_frame_of_a_file_is_lost_to_a_slow_model(tmp_path):
    path = tmp_path / "video.ts"
    encode(str(path), range(0, 200, 10))
    service = Service(seconds=0.05)
    Camera(str(path), service, frames_per_second=25).run(threading.Event())
    assert len(service.levels) == 20


def test_a_file_that_is_no_video_is_a_sentence(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"no video" * 100)
    with pytest.raises(ImageError, match="cannot be read"):
        Camera(str(path), Service()).run(threading.Event())


# live streams


def test_a_stream_over_the_network_is_submitted_at_the_chosen_rate():
    service = Service()
    with network_stream([range(0, 250, 2)]) as url:
        camera = Camera(url, service, frames_per_second=10, name="line 3")
        assert camera.is_live
        with running(camera):
            wait_for(lambda: len(service.levels) >= 15)
    gaps = np.diff(service.at[:15])
    assert 0.09 < np.median(gaps) < 0.25
    assert service.levels == sorted(service.levels)
    assert service.names[0].startswith("line 3-20")


def test_a_slow_model_gets_the_newest_frame_and_no_growing_delay():
    service = Service(seconds=0.4)
    with (
        network_stream([range(0, 250, 2)]) as url,
        running(camera := Camera(url, service, frames_per_second=25)),
    ):
        wait_for(lambda: len(service.levels) >= 6)
        behind = 2 * camera.status.frames - service.levels[-1]
    assert camera.status.submitted < camera.status.frames / 3, "most frames were skipped"
    assert behind < 2 * 25, "the frame at hand is less than a second old"


def test_a_lost_connection_is_made_again(monkeypatch):
    monkeypatch.setattr(camera_module, "FIRST_PAUSE", 0.05)
    service = Service()
    with network_stream([range(0, 50, 5), range(100, 150, 5), range(200, 250, 5)]) as url:
        camera = Camera(url, service, frames_per_second=25)
        with running(camera):
            wait_for(lambda: service.levels and service.levels[-1] > 190)
    assert {int(level // 100) for level in service.levels} == {0, 1, 2}
    assert len(set(service.names)) == len(service.names), "no frame is submitted twice"
    assert "connecting again" in camera.status.last_error


def test_a_stream_that_falls_silent_counts_as_lost():
    listener = socket.create_server(("127.0.0.1", 0))
    camera = Camera(f"tcp://127.0.0.1:{listener.getsockname()[1]}", Service(), timeout=0.3)
    with running(camera):
        wait_for(lambda: camera.status.last_error is not None)
    assert not camera.status.connected
    assert "no answer in time" in camera.status.last_error
    listener.close()


def test_a_camera_that_is_not_there_is_tried_with_growing_pauses_and_stops_at_once(monkeypatch):
    pauses = []
    monkeypatch.setattr(
        camera_module, "pause", lambda failures, first, longest: pauses.append(failures) or 0.01
    )
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        camera = Camera(f"tcp://127.0.0.1:{unused.getsockname()[1]}", Service())
        with running(camera):
            wait_for(lambda: len(pauses) >= 4)
    assert pauses[:4] == [1, 2, 3, 4]


def test_a_frame_that_cannot_be_submitted_costs_this_frame_only(tmp_path):
    path = tmp_path / "video.ts"
    encode(str(path), range(0, 100, 10))
    camera = Camera(str(path), Service(error=RuntimeError("down")), frames_per_second=25)
    camera.run(threading.Event())
    assert (camera.status.submitted, camera.status.failed) == (0, 10)
    assert "down" in camera.status.last_error


# frames


@pytest.mark.parametrize(
    ("dtype", "pixel_format", "mode"),
    [(np.uint8, "gray", "L"), (np.uint16, "gray16le", "I;16"), (np.uint8, "rgb24", "RGB")],
)
def test_a_frame_becomes_a_png_with_its_pixels(dtype, pixel_format, mode):
    shape = (HEIGHT, WIDTH, 3) if mode == "RGB" else (HEIGHT, WIDTH)
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)
    image = Image.open(io.BytesIO(encode_frame(av.VideoFrame.from_ndarray(pixels, format=pixel_format))))
    assert image.format == "PNG"
    assert image.mode == mode
    assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize(("source", "rate"), [("/dev/video99", 1), ("missing.mp4", 1), ("rtsp://camera", 0)])
def test_what_cannot_work_is_refused_in_a_sentence(source, rate):
    with pytest.raises(UsageError, match="name a"):
        Camera(source, Service(), frames_per_second=rate)


def test_a_missing_package_is_said_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"pip install 'ganomaly\[camera\]'"):
        Camera("rtsp://camera", Service())
