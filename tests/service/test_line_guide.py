"""The examples of docs/line.md run as they stand, with addresses of this machine."""

import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")
pytest.importorskip("asyncua")
pytest.importorskip("paho.mqtt.client")

GUIDE = Path(__file__).parents[2] / "docs/line.md"


class Server(BaseHTTPRequestHandler):
    received: list = []  # noqa: RUF012 - one server, one test

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(self.path)
        self.send_response(201)
        self.end_headers()
        self.wfile.write(json.dumps({"id": "1", "is_anomaly": False}).encode())

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def write_video(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(0, 250, 5):
            pixels = np.full((48, 64, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    Path("images/a.png").write_bytes(b"an image")
    write_video(tmp_path / "video.ts")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    here = f"http://127.0.0.1:{server.server_address[1]}"
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL))
    for named, used in {
        "http://inspection-pc:8000": here,
        "http://erp.example": here,
        "rtsp://camera-3/stream": "video.ts",
        'api_key="…"': 'api_key="x"',
        '"broker", 1883': f'"127.0.0.1", {free_port()}',
        "4840)": f"{free_port()})",
        "publisher.close()": "publisher.close(0.1)",
        "stop = threading.Event()": "stop = stop_soon()",
        "camera.run(stop)": "stop.clear()\ncamera.run(stop)",
    }.items():
        assert named in code, f"{named} is not in the guide any more"
        code = code.replace(named, used)

    def stop_soon():
        stop = threading.Event()
        threading.Thread(target=lambda: (wait_until_done(), stop.set()), daemon=True).start()
        return stop

    def wait_until_done():
        deadline = time.monotonic() + 15
        while not Path("images/done/a.png").exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    exec(compile(code, str(GUIDE), "exec"), {"stop_soon": stop_soon})
    server.shutdown()
    server.server_close()
    assert Path("images/done/a.png").read_bytes() == b"an image"
    predictions = [path for path in Server.received if path == "/v1/models/housing/predictions"]
    assert len(predictions) == 1 + 4, "the image and two seconds of video"
    assert "/hooks/inspection" in Server.received
