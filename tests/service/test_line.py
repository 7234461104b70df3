"""A station on its line: images from a folder, verdicts to webhooks, MQTT and OPC UA, none lost and none twice."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ganomaly.errors import UsageError
from ganomaly.service.settings import Connections
from ganomaly.service.webhooks import SIGNATURE_HEADER, verify
from images import textures
from service.stations import client_of, png, post, settings

SECRET = "a secret of the receiver"


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


@contextmanager
def receiver(answers: list[int]) -> Iterator[tuple[str, list[dict]]]:
    """A webhook receiver: its URL, and what it accepted; each request takes the next status, the last one stays."""
    accepted: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = answers.pop(0) if len(answers) > 1 else answers[0]
            if status == 200:
                assert verify(SECRET, body, self.headers[SIGNATURE_HEADER])
                accepted.append(json.loads(body))
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", accepted
    server.shutdown()
    thread.join()
    server.server_close()


def test_images_of_a_folder_are_predicted_stored_and_moved(model_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, image in enumerate(textures(3)):
        (folder / f"{number}.png").write_bytes(png(image))
    (folder / "broken.png").write_bytes(b"no image")
    chosen = settings(model_path, tmp_path, connections=Connections(watch=folder))
    with client_of(chosen) as (client, _):
        wait_for(
            lambda: (
                len(list((folder / "done").glob("*.png"))) == 3
                and (folder / "failed" / "broken.png").exists()
            )
        )
        rows = client.get("/v1/predictions").json()["predictions"]
        assert sorted((row["name"], row["source"]) for row in rows) == [
            (f"{n}.png", "folder") for n in range(3)
        ]
        by_http = post(client, png(textures(3)[0])).json()
        assert by_http["score"] == next(row["score"] for row in rows if row["name"] == "0.png")


def test_anomalies_reach_a_webhook_in_order_although_it_fails_first(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganomaly.service.line.next_attempt", lambda _: 0.0)
    odd = textures(4, seed=3)[:, ::-1] // 2
    with receiver([500, 503, 200]) as (url, accepted):
        chosen = settings(model_path, tmp_path, webhooks=(url,), webhook_secret=SECRET)
        with client_of(chosen) as (client, _):
            answers = [post(client, png(image)).json() for image in odd]
            wait_for(lambda: len(accepted) == 4)
    assert all(answer["is_anomaly"] for answer in answers)
    assert [event["prediction"] for event in accepted] == [answer["id"] for answer in answers]
    assert {(event["event"], event["model"]) for event in accepted} == {("anomaly", "textures")}
    assert len({event["id"] for event in accepted}) == 4


def test_events_that_could_not_be_sent_are_sent_after_a_restart(model_path: Path, tmp_path: Path) -> None:
    odd = png(textures(1, seed=3)[0][::-1] // 2)
    with receiver([200]) as (url, accepted):
        nobody = settings(model_path, tmp_path, webhooks=(url,), webhook_secret=SECRET)
        with client_of(nobody) as (client, station):
            for name in ("line", "webhooks"):
                station.problems.pop(name, None)
            post(client, odd)
        # the station ended at once, perhaps before it sent anything
        with client_of(nobody):
            wait_for(lambda: len(accepted) >= 1)
    assert accepted[0]["event"] == "anomaly"


def test_the_last_verdict_is_an_opc_ua_variable(model_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("asyncua")
    from asyncua.sync import Client

    with free_port() as port:
        chosen = settings(model_path, tmp_path, connections=Connections(opcua=str(port)))
        with client_of(chosen) as (client, _):
            answer = post(client, png(textures(1)[0]), params={"name": "part 5"}).json()
            with Client(f"opc.tcp://127.0.0.1:{port}/ganomaly/") as controller:
                index = controller.get_namespace_index("urn:ganomaly")
                path = ["0:Objects", f"{index}:Ganomaly", f"{index}:textures", f"{index}:Score"]
                wait_for(lambda: controller.nodes.root.get_child(path).read_value() == answer["score"])


@contextmanager
def free_port() -> Iterator[int]:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    yield port


def test_what_cannot_be_connected_is_said_before_the_station_starts(model_path: Path, tmp_path: Path) -> None:
    for connections, sentence in (
        (Connections(watch=tmp_path / "missing"), "no such folder"),
        (Connections(mqtt="broker"), "HOST:PORT"),
        (Connections(camera="missing.mp4"), "no camera or video"),
        (Connections(watch=tmp_path, feed="other"), "no model other"),
    ):
        with (
            pytest.raises(UsageError, match=sentence),
            client_of(settings(model_path, tmp_path, connections=connections)),
        ):
            pass
    models = tmp_path / "models"
    models.mkdir()
    for name in ("a", "b"):
        (models / f"{name}.safetensors").write_bytes(model_path.read_bytes())
    with (
        pytest.raises(UsageError, match="--feed"),
        client_of(settings(models, tmp_path, connections=Connections(watch=tmp_path))),
    ):
        pass
