"""A station that is killed, whose database is killed, whose disk is full, and whose clients are slow or broken."""

import contextlib
import http.client
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from databases import patience, started
from faults import fuzz_images
from faults.harness import LONG, SEED, report, seeded, tries
from ganomaly.data.readers.decoding import decode_image
from ganomaly.errors import ImageError
from service.server_process import NAME, Load, ServerProcess, check_store, image, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.skipif(sys.platform != "linux", reason="signals and mounts")]


# --- kills -----------------------------------------------------------------------------------------------


def test_what_a_client_was_told_is_stored_survives_kills_of_the_server(tmp_path: Path) -> None:
    store, random_ = tmp_path / "station.db", seeded("serve kills")
    kills = tries(2)
    server = ServerProcess(tmp_path, store).wait()
    load = Load([server])
    with contextlib.ExitStack() as running:
        running.callback(lambda: server.kill())  # noqa: PLW0108 - the one of then
        running.enter_context(load.running())
        for _ in range(kills):
            load.wait_for_more(random_.randint(1, 20))
            time.sleep(random_.uniform(0, 0.1))
            server.kill()
            before = dict(load.stored)
            server = ServerProcess(tmp_path, store, port=server.port).wait()
            for key in random_.sample(sorted(before), min(3, len(before))):
                number, count = (int(word) for word in key.split()[1::2])
                assert server.predict(image(number * 1_000_000 + count), key).json["id"] == before[key]
            load.servers[0] = server
    assert load.stored.keys() == load.sent.keys()
    assert check_store(store, load) == len(load.sent)
    report("serve, killed", kills=kills, images=len(load.sent), unanswered=load.refused[-1])


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Any]:
    """A PostgreSQL of these tests."""
    folder = tempfile.mkdtemp(prefix="ganomaly-postgresql-")
    server = started(Path(folder))
    yield server
    kill_postgresql(server)
    shutil.rmtree(folder, ignore_errors=True)


def database(server: Any, name: str) -> str:
    """The URL of a new database."""
    server.psql(f"CREATE DATABASE {name}")
    return server.get_uri(name).replace("postgresql://", "postgresql+psycopg://")


def kill_postgresql(server: Any) -> None:
    """Kill the server and all its processes, as a power cut does."""
    import psutil

    leader = psutil.Process(server.get_pid())
    processes = [leader, *leader.children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=30)


def test_a_database_that_is_killed_under_load_costs_refusals_and_no_prediction(
    postgresql: Any, tmp_path: Path
) -> None:
    url, files = database(postgresql, "killed"), tmp_path / "files"
    kills = tries(1)
    with ServerProcess(tmp_path, url, "--files", files).wait() as server:
        load = Load([server], allowed=(503,))
        with load.running():
            for _ in range(kills):
                load.wait_for_more(10)
                kill_postgresql(postgresql)
                wait_until(lambda before=load.refused[503]: load.refused[503] > before)
                with patience():
                    postgresql.ensure_postgres_running()
                load.wait_for_more(10)
        assert load.refused[-1] == 0
        assert load.stored.keys() == load.sent.keys()
        assert check_store(url, load, files) == len(load.sent)
        assert server.stop() == 0
    report("PostgreSQL, killed", kills=kills, images=len(load.sent), refused=load.refused[503])


# --- two servers on one database -------------------------------------------------------------------------


def test_two_servers_on_one_database_agree(postgresql: Any, tmp_path: Path) -> None:
    url, files = database(postgresql, "shared"), tmp_path / "files"
    with (
        ServerProcess(tmp_path, url, "--files", files) as one,
        ServerProcess(tmp_path, url, "--files", files) as other,
    ):
        servers = [one.wait(), other.wait()]
        load = Load(servers, allowed=())
        with load.running():
            load.wait_for_more(60)
        check_same_keys(servers)
        n = check_store(url, load, files)
        assert n == len(load.sent) + 20
        check_versions_are_followed(one, other)
        n_scored = len(load.sent) + 20 + 1  # all but the one by version 2
        wait_until(lambda: drift_at_last(one)[0] == drift_at_last(other)[0] == n_scored)
        found = drift_at_last(one)
        assert drift_at_last(other) == found
        assert [server.stop() for server in servers] == [0, 0]
    assert drift_of_all_at_once(url, files) == found


def check_same_keys(servers: list[ServerProcess]) -> None:
    """The same keys to both at once, in opposite orders, are one row each."""
    keys = [f"both {number}" for number in range(20)]

    def send(server: ServerProcess, order: int) -> dict[str, int]:
        with ThreadPoolExecutor(4) as threads:
            answers = threads.map(lambda key: server.predict(image(int(key.split()[1])), key), keys[::order])
            return {key: answer.json["id"] for key, answer in zip(keys[::order], list(answers), strict=True)}

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(send, servers, (1, -1))
    assert first == second
    assert len(set(first.values())) == len(keys)


def check_versions_are_followed(one: ServerProcess, other: ServerProcess) -> None:
    """What is recalibrated on one server predicts on the other, and back."""
    listed = one.ask("GET", "/v1/predictions?order=oldest&in_sample=true&limit=10").json["predictions"]
    for number in (each["id"] for each in listed):
        said = one.ask("PUT", f"/v1/predictions/{number}/review", {"label": "normal"})
        assert said.status == 200, said.body
    made = one.ask("POST", f"/v1/models/{NAME}/recalibrations", {"use": "add"})
    assert made.status == 201, made.body
    assert made.json["version"]["number"] == 2
    wait_until(lambda: active_version(other) == 2)
    answer = other.predict(image(7_000_000)).json
    assert (answer["version"], answer["threshold"]) == (2, made.json["version"]["threshold"])
    assert other.ask("PUT", f"/v1/models/{NAME}/version", {"version": 1}).status == 200
    wait_until(lambda: active_version(one) == 1)
    assert one.predict(image(7_000_001)).json["version"] == 1


def active_version(server: ServerProcess) -> int:
    return int(server.ask("GET", "/v1/models").json["models"][0]["active_version"])


def drift_at_last(server: ServerProcess) -> list[float]:
    """How many images the drift monitor has read, and its martingale."""
    points = server.ask("GET", f"/v1/models/{NAME}/drift").json["points"]
    return points[-1] if points else [0, 0.0]


def drift_of_all_at_once(url: str, files: Path) -> list[float]:
    """The same, of a monitor that reads all stored predictions at once."""
    from ganomaly.service.drift_watch import watch_drift
    from ganomaly.store import open_store
    from ganomaly.store.schema import DriftRow
    from ganomaly.store.versions import find_model

    store = open_store(url, files)
    with store.writing() as session:
        model_id = find_model(session, NAME).id
        session.delete(session.get_one(DriftRow, (model_id, 1)))
    last = watch_drift(store, model_id, 1, alpha=0.01).points[-1]
    store.close()
    return list(last)


# --- full disks ------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"cannot mount a disk: {error}")
    if done.returncode:
        pytest.skip(f"cannot mount a disk: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(
    "what",
    [
        "files",
        # a database that fails is tried again for ten seconds first
        pytest.param("database", marks=pytest.mark.skipif(not LONG, reason="`make faults` runs it")),
    ],
)
def test_a_full_disk_costs_refusals_and_no_prediction(what: str, small_disk: Path, tmp_path: Path) -> None:
    store, files = tmp_path / "station.db", tmp_path / "files"
    if what == "files":
        files = small_disk / "files"
    else:
        store = small_disk / "station.db"
    ballast = small_disk / "ballast"
    with ServerProcess(tmp_path, store, "--files", files).wait("/health/live") as server:
        load = Load([server], allowed=(503,))
        with load.running():
            for _ in range(tries(1)):
                load.wait_for_more(10)
                fill(ballast)
                wait_until(lambda before=load.refused[503]: load.refused[503] > before + 3)
                assert server.ask("GET", "/health/live").status == 200
                ballast.unlink()
                load.wait_for_more(10)
        assert load.stored.keys() == load.sent.keys()
        assert check_store(store, load, files) == len(load.sent)
        assert server.stop() == 0
    report(f"full disk of {what}", images=len(load.sent), refused=load.refused[503])


def fill(ballast: Path) -> None:
    """Write until there is no space left."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        for size in (2**16, 2**10, 1):
            with contextlib.suppress(OSError):
                for _ in range(2**20):
                    file.write(bytes(size))


# --- slow clients ----------------------------------------------------------------------------------------


def test_slow_clients_are_turned_away_and_hold_nobody_up(tmp_path: Path) -> None:
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
    import struct
    import zlib

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
    from urllib.parse import quote

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
    import json

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


# --- an orderly end --------------------------------------------------------------------------------------


def test_a_server_that_is_asked_to_end_answers_what_it_accepted(tmp_path: Path) -> None:
    store = tmp_path / "station.db"
    for _ in range(tries(1)):
        server = ServerProcess(tmp_path, store).wait()
        load = Load([server])
        with server, contextlib.ExitStack() as stack:
            accepted = [stack.enter_context(server.connect()) for _ in range(8)]
            for number, connection in enumerate(accepted):
                begin_upload(connection, number)
            with load.running():
                load.wait_for_more(20)
                server.process.terminate()
                statuses = [finish_upload(*each) for each in zip(accepted, range(8), strict=True)]
                load.give_up()
            assert statuses == [201] * 8
            assert server.stop() == 0
        # whatever was stored, its client was told: nobody is left without an answer
        assert check_store(store, load) == len(load.stored) + 8
        (tmp_path / "station.db").unlink()
        shutil.rmtree(tmp_path / "station.files")


def begin_upload(connection: socket.socket, number: int) -> None:
    """Send the head of a request, and return once the server has asked for the rest."""
    size = len(image(number))
    connection.sendall(
        f"POST /v1/models/{NAME}/predictions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        f"Content-Length: {size}\r\n\r\n".encode()
    )
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")


def finish_upload(connection: socket.socket, number: int) -> int:
    """Send the rest; the status of the answer."""
    connection.sendall(image(number))
    return int(connection.recv(65536).split()[1])
