"""Stations for tests: in this process, behind a client or behind a real server on loopback."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image

from ganomaly.service.app import make_app
from ganomaly.service.settings import Settings
from ganomaly.service.station import Station

MODELS = Path(__file__).parents[1] / "prediction" / "models"


def settings(models: Path, folder: Path, **changes: Any) -> Settings:
    """Of a station whose store is in a folder."""
    return Settings(
        **{
            "models": models,
            "store": f"sqlite:///{folder / 'station.db'}",
            "files": folder / "files",
            **changes,
        }
    )


@contextmanager
def client_of(chosen: Settings) -> Iterator[tuple[TestClient, Station]]:
    """A client of a station in this process."""
    station = Station(chosen)
    with TestClient(make_app(station), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client, station


@contextmanager
def served(chosen: Settings) -> Iterator[tuple[str, Station]]:
    """The address of a station behind a real server, and the station."""
    station = Station(chosen)
    server = uvicorn.Server(uvicorn.Config(make_app(station), log_level="error", access_log=False))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [free]})
        thread.start()
        try:
            for _ in range(500):
                if server.started:
                    break
                time.sleep(0.02)
            yield f"http://127.0.0.1:{free.getsockname()[1]}", station
        finally:
            server.should_exit = True
            thread.join()


def png(image: NDArray[np.uint8]) -> bytes:
    """An image as PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def post(client: TestClient, content: bytes, model: str = "textures", **options: Any) -> Any:
    """Send an image as the body of a request."""
    return client.post(f"/v1/models/{model}/predictions", content=content, **options)
