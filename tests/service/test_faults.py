"""A station that is killed or asked to end, whose database is killed, and whose disk is full."""

import contextlib
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
from faults.harness import LONG, report, seeded, tries
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
