"""An event arrives signed; every answer and every failure of the network has an outcome, in bounded time."""

import json
import random
import socket
import ssl
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganomaly.errors import UsageError
from ganomaly.service.webhooks import (
    EVENT_HEADER,
    LARGEST_WAIT,
    MAX_ATTEMPTS,
    SIGNATURE_HEADER,
    check_url,
    deliver,
    next_attempt,
    sign,
    verify,
)

SECRET = "geheim"
EVENT = {"id": "7f3a", "type": "anomaly", "model": "Gehäuse", "p_value": 0.004}


class Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, status=200, headers=()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.answer_headers, self.received = status, dict(headers), []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/hook?line=3"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, self.headers, body))
        self.send_response(self.server.status)
        for name, value in self.server.answer_headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"x" * 100_000)

    def do_GET(self):
        self.server.received.append((self.path, self.headers, b""))

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    servers = []

    def start(*arguments, **options):
        servers.append(Receiver(*arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


# signatures


@given(st.text(), st.binary(max_size=200), st.integers(0, 10**11))
def test_what_was_signed_is_verified(secret, body, timestamp):
    assert verify(secret, body, sign(secret, body, timestamp), now=timestamp)


@pytest.mark.parametrize(
    ("body", "signature", "now"),
    [
        (b"changed", sign(SECRET, b"body", 1000), 1000),
        (b"body", sign("other", b"body", 1000), 1000),
        (b"body", sign(SECRET, b"body", 1000).replace("t=1000", "t=1001"), 1000),
        (b"body", sign(SECRET, b"body", 1000), 1301),
        (b"body", sign(SECRET, b"body", 1000), 699),
    ],
    ids=["body changed", "other secret", "time changed", "too old", "of the future"],
)
def test_what_was_changed_or_comes_too_late_is_not_verified(body, signature, now):
    assert verify(SECRET, b"body", sign(SECRET, b"body", 1000), now=1300)
    assert not verify(SECRET, body, signature, now=now)


@given(st.text(alphabet="tv1=,0123456789abcdef x²é-", max_size=60))
def test_a_signature_that_is_none_is_not_verified(signature):
    assert not verify(SECRET, b"body", signature)


# deliveries


def test_an_event_arrives_signed_and_with_its_id(receiver):
    server = receiver()
    outcome = deliver(server.url, SECRET, EVENT)
    assert (outcome.delivered, outcome.status, outcome.error, outcome.retry) == (True, 200, None, False)
    [(path, headers, body)] = server.received
    assert path == "/hook?line=3"
    assert json.loads(body) == EVENT
    assert headers[EVENT_HEADER] == "7f3a"
    assert verify(SECRET, body, headers[SIGNATURE_HEADER])


@pytest.mark.parametrize(
    ("status", "retry"), [(400, True), (401, True), (429, True), (503, True), (410, False)]
)
def test_an_answer_that_is_not_2xx_is_tried_again_unless_the_receiver_is_gone(receiver, status, retry):
    outcome = deliver(receiver(status).url, SECRET, EVENT)
    assert not outcome.delivered
    assert outcome.status == status
    assert str(status) in outcome.error
    assert outcome.retry == retry


@pytest.mark.parametrize(
    ("asked", "wait"),
    [("17", 17.0), ("99999999", LARGEST_WAIT), ("-1", None), ("Fri, 31 Dec 1999", None), ("²", None)],
)
def test_the_wait_that_a_receiver_asks_for_is_passed_on(receiver, asked, wait):
    server = receiver(503, headers=[("Retry-After", asked.encode().decode("latin-1"))])
    assert deliver(server.url, SECRET, EVENT).retry_after == wait


def test_redirects_are_not_followed(receiver):
    target = receiver()
    outcome = deliver(receiver(307, headers=[("Location", target.url)]).url, SECRET, EVENT)
    assert not outcome.delivered
    assert target.received == []


def test_a_receiver_that_is_not_there_is_an_outcome():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        outcome = deliver(f"http://127.0.0.1:{unused.getsockname()[1]}", SECRET, EVENT)
    assert outcome.retry
    assert outcome.error.startswith("127.0.0.1 cannot be reached: ")


@pytest.mark.parametrize("behaviour", ["silent", "drips", "hangs up", "nonsense"])
def test_a_receiver_that_never_answers_costs_the_timeout_at_most(behaviour):
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        connection, _ = listener.accept()
        with connection:
            if behaviour == "nonsense":
                connection.sendall(b"\x00\xff not HTTP\r\n\r\n")
            for _ in range(100 if behaviour in {"silent", "drips"} else 0):
                time.sleep(0.1)
                if behaviour == "drips":
                    with suppress(OSError):  # the sender has gone
                        connection.sendall(b"H")

    threading.Thread(target=answer, daemon=True).start()
    start = time.monotonic()
    outcome = deliver(f"http://127.0.0.1:{listener.getsockname()[1]}/", SECRET, EVENT, timeout=0.5)
    assert time.monotonic() - start < 5
    assert not outcome.delivered
    assert outcome.retry
    if behaviour in {"silent", "drips"}:
        assert outcome.error == "127.0.0.1 cannot be reached: no answer in time"
    listener.close()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "file:///etc/passwd",
        "http://",
        "no url",
        "http://host:port/",
        "http://user:password@host/",
        "http://host/a b",
        "http://host/a\r\nX: y",
        "http://[::1",
    ],
)
def test_a_url_that_cannot_work_is_refused_and_not_tried_again(url):
    with pytest.raises(UsageError, match="cannot send"):
        check_url(url)
    outcome = deliver(url, SECRET, EVENT)
    assert not outcome.retry
    assert "cannot send" in outcome.error


def test_a_certificate_that_nobody_signed_is_not_trusted(receiver, tmp_path):
    server = receiver()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed_certificate(tmp_path / "certificate.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    outcome = deliver(server.url.replace("http://127.0.0.1", "https://localhost"), SECRET, EVENT)
    assert not outcome.delivered
    assert outcome.retry
    assert "certificate verify failed" in outcome.error
    assert server.received == []


def self_signed_certificate(path):
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(pem))
    return path


# when to try again


def test_waits_grow_are_spread_and_end():
    waits = [next_attempt(attempts, random.Random(0)) for attempts in range(1, MAX_ATTEMPTS)]
    assert 5 <= waits[0] <= 10
    assert waits == sorted(waits)
    assert max(waits) <= LARGEST_WAIT
    assert 36 * 3600 < sum(waits) < 72 * 3600
    assert len({next_attempt(3, random.Random(seed)) for seed in range(10)}) == 10
    assert next_attempt(MAX_ATTEMPTS) is None
