"""A station in a process of its own, and clients that send images to it.

`python server_process.py JSON` serves with any field of `Settings`; what the command line has options for is started
as `python -m ganomaly serve`.
"""

import contextlib
import hashlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MODEL = Path(__file__).parents[1] / "prediction" / "models" / "paper.onnx"
NAME = MODEL.stem
START_SECONDS = 120
ANSWER_SECONDS = 60
SOURCES = Path(__file__).parents[2] / "src"


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def image(number: int) -> bytes:
    """A small PNG; each number has its own."""
    pixels = np.random.default_rng(number).integers(0, 256, (32, 32), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True)
class Answer:
    """What a server says."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def sentence(self) -> str:
        """Why a request is refused, in one sentence; fails if it is anything else."""
        assert set(self.json) == {"error"}, self.body
        sentence = self.json["error"]
        assert isinstance(sentence, str)
        assert sentence.strip()
        assert not any(words in sentence for words in ("\n", "Traceback")), sentence
        return sentence


class ServerProcess:
    """A station in a process of its own on a free port of this machine.

    Parameters
    ----------
    folder : Path
        For its log.
    store : str or Path
        Database.
    arguments : str
        Of the command line.
    settings : dict, optional
        Fields of `Settings` for which the command line has no option; the arguments are left out then.
    port : int, optional
        A free one if left out.
    """

    def __init__(
        self,
        folder: Path,
        store: str | Path,
        *arguments: object,
        settings: dict[str, Any] | None = None,
        port: int | None = None,
    ) -> None:
        self.port = free_port() if port is None else port
        self.log = folder / f"server-{self.port}.log"
        if settings is None:
            command = [
                sys.executable,
                "-m",
                "ganomaly",
                "serve",
                MODEL,
                "--store",
                store,
                "--port",
                self.port,
            ]
        else:
            fields = {"models": str(MODEL), "store": str(store), "port": self.port} | settings
            command = [sys.executable, __file__, json.dumps(fields)]
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": str(SOURCES),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in (*command, *arguments)],
                stdout=log,
                stderr=log,
                env=environment,
                cwd=folder,
            )

    def wait(self, path: str = "/health/ready") -> "ServerProcess":
        """Return once it answers with 200."""
        started = time.monotonic()
        while time.monotonic() - started < START_SECONDS:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", path).status == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError(f"the server did not start\n{self.log.read_text()}")

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own; a body that is no bytes is sent as JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        with contextlib.closing(connection):
            # a server that refuses a body need not read all of it
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def predict(self, content: bytes, key: str | None = None, name: str = "") -> Answer:
        """Send an image."""
        path = f"/v1/models/{NAME}/predictions" + (f"?name={name}" if name else "")
        return self.ask("POST", path, content, {} if key is None else {"Idempotency-Key": key})

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_SECONDS)

    def kill(self) -> None:
        """End it as the system would that runs out of memory."""
        self.process.kill()
        self.process.wait(ANSWER_SECONDS)

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ANSWER_SECONDS)

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


@dataclass
class Load:
    """Clients that send images one after the other, each again with its key until it is stored.

    Attributes
    ----------
    servers : list of ServerProcess
        Each client has one of them.
    n_clients : int
        How many at once.
    sent : dict of str to str
        SHA-256 of each image, by its key.
    stored : dict of str to int
        Number of its prediction, once a client was told that it is stored.
    refused : Counter
        Other answers by their status; -1 for none.
    unexpected : list of str
        Answers that no fault explains.
    """

    servers: list[ServerProcess]
    n_clients: int = 4
    allowed: tuple[int, ...] = (429, 503)
    sent: dict[str, str] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _given_up: bool = False

    @contextlib.contextmanager
    def running(self) -> Iterator["Load"]:
        """Send within the block; after it, what was begun is finished."""
        threads = [threading.Thread(target=self._send, args=(number,)) for number in range(self.n_clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._ending.set()
            for thread in threads:
                thread.join(START_SECONDS)
        assert not any(thread.is_alive() for thread in threads), "a client never got an answer"
        assert not self.unexpected, self.unexpected[:3]

    def give_up(self) -> None:
        """Do not try again what was not stored."""
        self._given_up = True
        self._ending.set()

    def wait_for_more(self, n: int, seconds: float = ANSWER_SECONDS) -> None:
        """Return once so many more images are stored."""
        goal = len(self.stored) + n
        wait_until(lambda: len(self.stored) >= goal, seconds)

    def _send(self, number: int) -> None:
        server = self.servers[number % len(self.servers)]
        for count in range(100_000):
            if self._ending.is_set():
                return
            key, content = f"client {number} image {count}", image(number * 1_000_000 + count)
            self.sent[key] = hashlib.sha256(content).hexdigest()
            until = time.monotonic() + START_SECONDS
            while key not in self.stored and time.monotonic() < until and not self._given_up:
                self._try(server, key, content)

    def _try(self, server: ServerProcess, key: str, content: bytes) -> None:
        try:
            answer = server.predict(content, key)
        except (OSError, http.client.HTTPException):
            self.refused[-1] += 1
            time.sleep(0.02)
            return
        if answer.status == 201:
            self.stored[key] = answer.json["id"]
            return
        self.refused[answer.status] += 1
        if answer.status not in self.allowed:
            self.unexpected.append(f"{answer.status} {answer.body!r}")
        try:
            answer.sentence()
        except (AssertionError, ValueError) as error:
            self.unexpected.append(f"{answer.status} {answer.body!r}: {error}")
        time.sleep(0.05)


def wait_until(condition: Any, seconds: float = ANSWER_SECONDS) -> None:
    """Return once a condition holds."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it never came"
        time.sleep(0.02)


def check_store(url: str | Path, load: Load, files: Path | None = None) -> int:
    """Every image that was stored, as a client was told, is there once and whole; return how many rows there are."""
    from sqlalchemy import select

    from ganomaly.store import open_store
    from ganomaly.store.schema import PredictionRow

    store = open_store(str(url), files)
    with store.reading() as session:
        rows = list(session.scalars(select(PredictionRow)))
    numbers: dict[str, list[int]] = {}
    for row in rows:
        numbers.setdefault(row.key, []).append(row.id)
    assert {key: [number] for key, number in load.stored.items()}.items() <= numbers.items()
    for row in rows:
        if row.key in load.sent:
            assert row.digest == load.sent[row.key]
        content = store.files.image(row.digest, row.media_type).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row.digest
        assert store.files.anomaly_map(row.model_id, row.version, row.digest).exists() == row.has_map
    assert not list(store.files.folder.rglob("*.part"))
    store.close()
    return len(rows)


def main(fields: dict[str, Any]) -> None:
    """Serve with any settings."""
    from ganomaly.commands.console import Console
    from ganomaly.commands.serve import serve
    from ganomaly.service.settings import Settings

    paths = {name: Path(fields[name]) for name in ("models", "files") if name in fields}
    serve(Console(), Settings(**fields | paths))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
