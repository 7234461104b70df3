"""An S3 server on this machine, and a proxy before it that counts bytes and injects faults."""

import http.client
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from ganomaly.remote import RemoteFile

BUCKET = "parts"
FRAMING = ("transfer-encoding", "content-length", "expect")
KEY, SECRET = "AKIAEXAMPLEOFTHETEST", "secret-of-the-test"


@dataclass
class FaultyStore:
    """The proxy: its address, what went through it, and what goes wrong.

    Attributes
    ----------
    url : str
        Address for clients.
    fail, cut, slow : float
        Share of requests that are answered with `status`, cut in the middle of their content, or delayed. What has no
        content to cut is answered with `status`.
    delay : float
        Seconds by which a slow answer is late.
    read_bytes : Counter
        Bytes of contents that were sent whole, by key.
    requests : Counter
        Number of requests by method, faulty ones included.
    faults : int
        Number of injected faults.
    """

    url: str = ""
    fail: float = 0.0
    cut: float = 0.0
    slow: float = 0.0
    delay: float = 0.3
    status: int = 500
    read_bytes: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    generator: random.Random = field(default_factory=lambda: random.Random(0))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(
        self, *, fail: float = 0.0, cut: float = 0.0, slow: float = 0.0, delay: float = 0.3, status: int = 500
    ) -> None:
        """Forget what was counted, and inject these faults from now on."""
        self.fail, self.cut, self.slow = fail, cut, slow
        self.delay, self.status, self.faults = delay, status, 0
        self.generator.seed(0)
        self.read_bytes.clear()
        self.requests.clear()

    def draw(self, method: str) -> str:
        """What happens to the next request."""
        with self.lock:
            number = self.generator.random()
            for name in ("fail", "cut", "slow"):
                number -= getattr(self, name)
                if number < 0:
                    self.faults += 1
                    return "fail" if name == "cut" and method != "GET" else name
        return ""


@contextmanager
def s3_server() -> Iterator[str]:
    """An S3 server of moto on this machine; its address `host:port`."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"{host}:{port}"
    finally:
        server.stop()


def environment(url: str) -> dict[str, str]:
    """What clients of a server find it by."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ENDPOINT_URL_S3": url,  # which would be asked instead
        "AWS_NO_SIGN_REQUEST": "",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def faulty_proxy(server: str) -> Iterator[FaultyStore]:
    """Pass requests on to a server `host:port`."""
    store = FaultyStore()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _content(self) -> bytes:
            if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return content

        def _passed_on(self) -> None:
            content = self._content()
            with store.lock:
                store.requests[self.command] += 1
            fault = store.draw(self.command)
            if fault == "fail":
                self.send_error(store.status)
                return
            if fault == "slow":
                time.sleep(store.delay)
            connection = http.client.HTTPConnection(server)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in FRAMING}
            connection.request(self.command, self.path, content, headers)
            answer = connection.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if value == "aws-chunked":  # of the upload; a real store does not repeat it
                    continue
                if name.lower() not in (
                    "transfer-encoding",
                    "connection",
                    "content-length",
                    "date",
                    "server",
                ):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") or str(len(body))
            self.send_header("Content-Length", length)
            self.end_headers()
            connection.close()
            if self.command == "HEAD":
                return
            if fault == "cut" and len(body) > 1:
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            if self.command == "GET" and "list-type" not in self.path:
                with store.lock:
                    store.read_bytes[urlsplit(self.path).path] += len(body)
            self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _passed_on  # noqa: N815

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            pass  # a client that went away

    proxy = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    store.url = f"http://127.0.0.1:{proxy.server_address[1]}"
    try:
        yield store
    finally:
        proxy.shutdown()
        proxy.server_close()


def make_public(file: RemoteFile) -> None:
    """Let who has no key read a file."""
    import boto3

    boto3.client("s3", region_name="us-east-1").put_object_acl(
        Bucket=file.host, Key=file.path, ACL="public-read"
    )
