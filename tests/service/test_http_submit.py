"""An image arrives at a server with its name and key; what the server says decides whether it is tried again."""

import json
import threading
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ganomaly.errors import ImageError, UsageError
from ganomaly.service.http_submit import KEY_HEADER, submit_over_http


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, self.headers, body))
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.received.append((self.path, self.headers, b""))


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.received, server.status, server.answer = [], 201, b'{"id": "7", "is_anomaly": true}'
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def parts(headers, body):
    message = EmailMessage()
    message["Content-Type"] = headers["Content-Type"]
    boundary = message.get_boundary().encode()
    head, _, content = body.removeprefix(b"--" + boundary + b"\r\n").partition(b"\r\n\r\n")
    return head.decode(), content.removesuffix(b"\r\n--" + boundary + b"--\r\n")


def test_an_image_arrives_with_its_name_its_key_and_the_api_key(server):
    image = bytes(range(256)) * 10
    submit = submit_over_http(server.url + "/", "housing/left", api_key="geheim")
    assert submit(image, 'lot 3/a"b\r\n.png', "f00d") == {"id": "7", "is_anomaly": True}
    [(path, headers, body)] = server.received
    head, content = parts(headers, body)
    assert path == "/v1/models/housing%2Fleft/predictions"
    assert headers[KEY_HEADER] == "f00d"
    assert headers["Authorization"] == "Bearer geheim"
    assert 'name="image"; filename="lot 3/a%22b%0D%0A.png"' in head
    assert content == image


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_an_image_that_the_server_cannot_use_is_an_image_error_with_its_sentence(server, status):
    server.status, server.answer = status, json.dumps({"error": "it is no image"}).encode()
    with pytest.raises(ImageError, match="it is no image"):
        submit_over_http(server.url, "housing")(b"x", "a.png", "f00d")


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (401, b""),
        (404, b'{"error": "no such model"}'),
        (429, b"[]"),
        (500, b"<html>"),
        (201, b"<html>"),
        (201, b"[]"),
        (302, b""),
    ],
)
def test_any_other_answer_means_later(server, status, answer):
    server.status, server.answer = status, answer
    with pytest.raises(OSError, match=r"server|answered"):
        submit_over_http(server.url, "housing")(b"x", "a.png", "f00d")
    assert len(server.received) == 1


def test_a_server_that_is_not_there_means_later(server):
    url = server.url
    server.server_close()
    with pytest.raises(OSError, match=r"."):
        submit_over_http(url, "housing", timeout=1)(b"x", "a.png", "f00d")


def test_what_is_no_server_is_refused():
    with pytest.raises(UsageError, match="name a URL"):
        submit_over_http("file:///etc/passwd", "housing")
