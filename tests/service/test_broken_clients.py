"""Clients that are slow, and what they send that is no image, no form, or no HTTP."""

import contextlib
import http.client
import json
import random
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from faults import fuzz_images
from faults.harness import SEED, report, tries
from ganomaly.data.readers.decoding import decode_image
from ganomaly.errors import ImageError
from service.server_process import NAME, ServerProcess, image

pytestmark = [pytest.mark.faults, pytest.mark.skipif(sys.platform != "linux", reason="signals")]


# --- slow clients ----------------------------------------------------------------------------------------


def test_slow_clients_are_turned_away_and_hold_nobody_up(tmp_path: Any) -> None:
    limit = 2.0
    start = f"POST /v1/models/{NAME}/predictions HTTP/1.1\r\nHost: localhost\r\n".encode()
    body = start + b"Content-Length: 100000\r\n\r\n"
    requests = {
        "headers": start + b"X-Slow: " + b"x" * 1000,
        "body": body + b"\x89PNG" + bytes(1000),
        "after a refusal": body.replace(NAME.encode(), b"unknown") + bytes(1000),
    }
    settings = {"request_seconds": limit}
    with ServerProcess(tmp_path, tmp_path / "station.db", settings=settings).wait() as server:
        with ThreadPoolExecutor(len(requests) * 34) as threads:
            slow = {
                kind: [threads.submit(send_slowly, server, content, limit) for _ in range(34)]
                for kind, content in requests.items()
            }
            time.sleep(limit / 2)
            for number in range(20):
                assert server.predict(image(number)).status == 201
            answers = {kind: [each.result() for each in futures] for kind, futures in slow.items()}
        assert set(answers["headers"]) == {408}
        assert set(answers["body"]) == {408}
        assert set(answers["after a refusal"]) == {404}
        assert server.predict(image(20)).status == 201


def send_slowly(server: ServerProcess, content: bytes, limit: float) -> int:
    """Send a head at once, then a byte a second, until the server ends the connection; the status of its answer."""
    head = content[:-1000]
    received = b""
    with server.connect() as connection:
        connection.sendall(head)
        connection.settimeout(1.0)
        for position in range(int(limit) + 60):
            with contextlib.suppress(TimeoutError):
                try:
                    some = connection.recv(65536)
                except ConnectionResetError:
                    some = b""
                if not some:
                    return int(received.split()[1]) if received else -1
                received += some
            with contextlib.suppress(OSError):
                connection.sendall(content[-1000 + position :][:1])
    raise AssertionError(f"the server let a client send for {int(limit) + 60} s; it said {received[:80]!r}")


# --- broken uploads --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A station that takes at most 1 MB."""
    folder = tmp_path_factory.mktemp("station")
    with ServerProcess(folder, folder / "station.db", "--max-megabytes", 1).wait() as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()


def test_broken_uploads_are_refused_in_a_sentence(station: ServerProcess) -> None:
    seeds = fuzz_images.image_seeds()
    refused = taken = 0
    for number in range(20 * tries(5)):
        random_ = random.Random(f"{SEED} uploads {number}")
        name = random_.choice(sorted(seeds))
        content = fuzz_images.damaged(random_, seeds[name], list(seeds.values()))
        if name.startswith("png") and random_.random() < 0.5:
            content = fuzz_images.damaged_png(random_, seeds[name])
        answer = send_as_form(station, content) if number % 2 else station.predict(content)
        if answer.status == 201:
            decode_image(content)  # it is an image in spite of the damage
            taken += 1
            continue
        assert answer.status in (413, 422), (number, answer.body)
        answer.sentence()
        refused += 1
        with contextlib.suppress(ImageError):  # what can be decoded may still be none that the model takes
            decode_image(content)
            assert answer.status == 413 or any(word in answer.sentence() for word in ("px", "channel", "bit"))
    assert refused > taken
    assert station.predict(image(0)).status == 201
    report("broken uploads", refused=refused, taken=taken)


def send_as_form(server: ServerProcess, content: bytes, file_name: str = "part.png") -> Any:
    """The same upload as a browser sends it."""
    body = (
        b'--limit\r\nContent-Disposition: form-data; name="image"; filename="'
        + file_name.encode()
        + b'"\r\nContent-Type: image/png\r\n\r\n'
        + content
        + b"\r\n--limit--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=limit"}
    return server.ask("POST", f"/v1/models/{NAME}/predictions", body, headers)


@pytest.mark.parametrize("damage", range(8))
def test_broken_forms_are_refused_in_a_sentence(station: ServerProcess, damage: int) -> None:
    part = b'--limit\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    bodies = [
        b"",
        b"--limit",
        b"--limit--\r\n",
        part,
        part[:40],
        part + image(0),  # without an end
        part.replace(b'"image"', b'"other"') + image(0) + b"\r\n--limit--\r\n",
        bytes(range(256)) * 40,
    ]
    headers = {"Content-Type": "multipart/form-data; boundary=limit"}
    answer = station.ask("POST", f"/v1/models/{NAME}/predictions", bodies[damage], headers)
    assert answer.status in (201, 400, 422), answer.body
    if answer.status != 201:
        answer.sentence()
    headers = {"Content-Type": "multipart/form-data"}
    station.ask("POST", f"/v1/models/{NAME}/predictions", bodies[damage], headers).sentence()


@pytest.mark.parametrize("announced", [True, False], ids=["Content-Length", "chunked"])
@pytest.mark.parametrize("path", [f"/v1/models/{NAME}/predictions", "/upload", "/v1/predictions/1/review"])
def test_bodies_that_are_too_large_are_refused(station: ServerProcess, path: str, announced: bool) -> None:
    method = "PUT" if path.endswith("review") else "POST"
    content = image(0) + bytes(4_000_000)
    body: Any = (
        content
        if announced
        else iter([content[start : start + 65536] for start in range(0, len(content), 65536)])
    )
    connection = http.client.HTTPConnection("127.0.0.1", station.port, timeout=60)
    with contextlib.closing(connection):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, path, body, encode_chunked=not announced, headers=_framing(announced))
        response = connection.getresponse()
        said = response.read()
    assert response.status == 413, said
    assert said.startswith(b'{"error":"')
    assert station.ask("GET", "/health/live").status == 200


def _framing(announced: bool) -> dict[str, str]:
    return {"Content-Type": "application/json"} | ({} if announced else {"Transfer-Encoding": "chunked"})


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff"])
def test_images_that_grow_when_they_are_decoded_are_refused(station: ServerProcess, kind: str) -> None:
    answer = station.predict(bomb(kind))
    assert answer.status in (413, 422), answer.body
    answer.sentence()


def bomb(kind: str) -> bytes:
    """A small file that says that it is an image of 60,000 by 60,000 pixels."""
    side = 60_000
    if kind == "png":
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        rows = zlib.compress(bytes(10_000_000), 9)
        parts = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(fuzz_images.png_chunk(*part) for part in parts)
    if kind == "bmp":
        return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    content = bytearray(fuzz_images.image_seeds()["tiff gray adobe_deflate"])
    first = struct.unpack_from("<I", content, 4)[0]
    for number in range(struct.unpack_from("<H", content, first)[0]):
        entry = first + 2 + 12 * number
        if struct.unpack_from("<H", content, entry)[0] in (256, 257):  # width and height
            struct.pack_into("<HII", content, entry + 2, 4, 1, side)
    return bytes(content)


NAMES = (
    "../../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "C:%5Cboot.ini",
    "<script>alert(1)</script>",
    "%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E",
    "a%00b%0d%0aSet-Cookie:%20x=y",
    "x" * 255,
    "%F0%9F%92%A9%E2%80%AE",
    "%ED%A0%80%FF%FE",
)


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_names_are_words_and_never_paths_or_markup(station: ServerProcess, number: int) -> None:
    files = station.log.parent / "station.files"
    raw = NAMES[number] if "%" in NAMES[number] else quote(NAMES[number], safe="")
    answers = [station.predict(image(number), name=raw), send_as_form(station, image(number), NAMES[number])]
    for answer in answers:
        assert answer.status == 201, answer.body
        assert "Set-Cookie" not in answer.headers
        assert answer.json["name"].isprintable()
        page = station.ask("GET", f"/predictions/{answer.json['id']}")
        assert page.status == 200
        assert b"<script>alert" not in page.body
        assert b"<img src=x" not in page.body
    names = {path.relative_to(files).parts[0] for path in files.rglob("*") if path.is_file()}
    assert names == {"images", "maps", "models"}
    assert {path.name for path in station.log.parent.iterdir()} <= {
        "station.db", "station.db-wal", "station.db-shm", "station.files", station.log.name,
    }  # fmt: skip


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2_000_000 + b"\r\n\r\n",
        b"POST /v1/models/paper/predictions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
    ids=["TLS", "no target", "negative length", "long header", "broken chunk"],
)
def test_what_is_no_http_is_refused_in_a_sentence(station: ServerProcess, request_: bytes) -> None:
    with station.connect() as connection:
        with contextlib.suppress(OSError):
            connection.sendall(request_)
        response = b""
        with contextlib.suppress(OSError):
            while some := connection.recv(65536):
                response += some
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 "), response
    assert set(json.loads(body)) == {"error"}
    assert station.ask("GET", "/health/live").status == 200
