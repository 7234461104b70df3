"""Connects a station to its line: folder and camera in, webhooks, MQTT and OPC UA out."""

import socket
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit

from ganomaly.errors import ImageError, UsageError
from ganomaly.service.answers import PredictionAnswer
from ganomaly.service.monitoring import LOG
from ganomaly.service.security import RequestError
from ganomaly.service.served_model import PredictedJob, QueueFullError, Upload
from ganomaly.service.settings import Connections
from ganomaly.service.station import Station
from ganomaly.service.uploads import check_header, clean_name
from ganomaly.service.webhooks import deliver, next_attempt
from ganomaly.store import Store
from ganomaly.store.outbox import due_events
from ganomaly.store.schema import PredictionRow

BUSY_SECONDS = 0.2
"""How long the line waits before it asks a full queue again."""

SEND_SECONDS = 1.0
"""Between two looks for events that are due."""


class Receiver(Protocol):
    """What is told of predictions and of drift."""

    def predicted(self, model: str, prediction: Mapping[str, Any]) -> None:
        """Take a prediction that is stored."""

    def drift(self, model: str, state: Mapping[str, Any]) -> None:
        """Take the state of the drift monitor."""

    def close(self) -> None:
        """End."""


class Line:
    """What feeds a station and what it tells, beside HTTP.

    Parameters
    ----------
    station : Station
        Which one; its settings say what to connect.

    Raises
    ------
    UsageError
        If the packages of an extra are missing, or a connection is named wrongly.
    GANomalyError
        If the OPC UA server cannot be started.
    """

    def __init__(self, station: Station) -> None:
        self._station = station
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._receivers: list[Receiver] = []
        connections, settings = station.settings.connections, station.settings
        try:
            self._receivers += _receivers(connections, list(station.models), str(settings.port))
            for name, run in self._feeds(connections):
                thread = threading.Thread(target=self._feed, args=(name, run), name=name, daemon=True)
                self._threads.append(thread)
        except BaseException:
            self.close()
            raise
        if settings.webhooks:
            # a thread of its own: a receiver that does not answer must not delay anything else
            self._threads.append(threading.Thread(target=self._send, name="webhooks", daemon=True))
        if self._receivers:
            station.observers.append(self._tell)
            station.in_background("drift receivers", self._tell_drift)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Finish the image at hand, then end; the station must still be there."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        for receiver in self._receivers:
            receiver.close()

    def _feeds(self, connections: Connections) -> list[tuple[str, Callable[[threading.Event], None]]]:
        feeds: list[tuple[str, Callable[[threading.Event], None]]] = []
        if connections.watch is None and connections.camera is None:
            return feeds
        models = list(self._station.models)
        if connections.feed is None and len(models) > 1:
            raise UsageError(f"--feed says which model predicts the images: {', '.join(models)}")
        model = self._station.model(connections.feed or models[0]).name
        if connections.watch is not None:
            from ganomaly.service.watch_folder import WatchFolder

            submit = self._submitter(model, "folder")
            watched = WatchFolder(connections.watch, submit, max_bytes=self._station.settings.max_bytes)
            feeds.append(("watched folder", watched.run))
        if connections.camera is not None:
            from ganomaly.service.camera import Camera

            submit = self._submitter(model, "camera")
            camera = Camera(connections.camera, submit, frames_per_second=1 / connections.camera_interval)
            feeds.append(("camera", camera.run))
        return feeds

    def _feed(self, name: str, run: Callable[[threading.Event], None]) -> None:
        try:
            run(self._stop)
        except Exception as error:  # the station goes on without it, and says so
            LOG.error("%s ended: %s", name, error, exc_info=error)
            self._station.problems[name] = f"it ended: {error}"

    def _send(self) -> None:
        problems = self._station.problems
        while not self._stop.wait(SEND_SECONDS):
            try:
                send_webhooks(self._station.store, self._station.settings.webhook_secret, self._stop)
            except Exception as error:  # of the store: it is tried again
                problems["webhooks"] = str(error)
            else:
                problems.pop("webhooks", None)

    def _submitter(self, model: str, source: str) -> Callable[[bytes, str, str], Mapping[str, Any]]:
        """Takes an image, its name and its key, and returns once the prediction is stored."""

        def submit(image: bytes, name: str, key: str) -> Mapping[str, Any]:
            upload = Upload(image, clean_name(name), f"{source} {key}", source)
            try:
                check_header(upload, self._station.settings)
            except RequestError as error:
                raise ImageError(str(error)) from None
            while True:
                try:
                    future = self._station.model(model).submit(upload)
                    break
                except QueueFullError:
                    if self._stop.wait(BUSY_SECONDS):
                        raise
            return PredictionAnswer.of(future.result(), model).model_dump(mode="json")

        return submit

    def _tell(self, row: PredictionRow, predicted: PredictedJob) -> None:
        model = predicted.resident.model
        prediction = PredictionAnswer.of(row, model).model_dump(mode="json")
        for receiver in self._receivers:
            receiver.predicted(model, prediction)

    def _tell_drift(self) -> None:
        for name in self._station.models:
            row = self._station.drift(name)
            state = {
                "alarm": row is not None and row.alarm is not None,
                "prediction": None if row is None else row.alarm_prediction,
                "cause": None if row is None else row.alarm_cause,
            }
            for receiver in self._receivers:
                receiver.drift(name, state)


def send_webhooks(store: Store, secret: str, stop: threading.Event) -> None:
    """Send what is due: the first event of each model and URL; the next one once it has arrived."""
    while not stop.is_set():
        with store.writing() as session:
            due = due_events(session, datetime.now(UTC))
            until = datetime.now(UTC) + timedelta(seconds=60)
            for event in due:
                event.next_attempt = until  # nobody else sends it meanwhile; after a crash it is sent again
        arrived = False
        for event in due:
            outcome = deliver(event.url, secret, {"id": event.key, **event.payload})
            now = datetime.now(UTC)
            with store.writing() as session:
                row = session.get_one(type(event), event.id)
                row.attempts += 1
                row.last_error = outcome.error
                wait = next_attempt(row.attempts) if outcome.retry else None
                if outcome.delivered or wait is None:  # given up: the error stays with the event
                    row.delivered = now
                    arrived = True
                else:
                    row.next_attempt = now + timedelta(seconds=max(wait, outcome.retry_after or 0))
        if not arrived:
            return


class _Mqtt:
    def __init__(self, address: str, station: str) -> None:
        from ganomaly.service.mqtt import MqttPublisher

        url = urlsplit(address if "://" in address else f"mqtt://{address}")
        try:
            port = url.port
        except ValueError:
            port = None
        if url.scheme not in ("mqtt", "mqtts") or not url.hostname or port is None:
            raise UsageError("--mqtt is HOST:PORT, or a URL such as mqtts://user:password@broker:8883/prefix")
        self._publisher = MqttPublisher(
            url.hostname,
            port,
            prefix=url.path.strip("/") or "ganomaly",
            client_id=f"ganomaly-{socket.gethostname()}-{station}",
            user=url.username,
            password=url.password,
            tls=url.scheme == "mqtts",
        )
        self._known: dict[str, Any] = {}

    def predicted(self, model: str, prediction: Mapping[str, Any]) -> None:
        self._publisher.verdict(prediction)

    def drift(self, model: str, state: Mapping[str, Any]) -> None:
        if self._known.get(model) != state:
            self._known[model] = dict(state)
            self._publisher.drift(model, state)

    def close(self) -> None:
        self._publisher.close()


class _OpcUa:
    def __init__(self, address: str, models: list[str]) -> None:
        from ganomaly.service.opcua import OpcUaServer

        host, _, port = address.rpartition(":")
        if not port.isdecimal() or not 0 < int(port) < 2**16:
            raise UsageError(f"--opcua {address} is not PORT or HOST:PORT, such as 0.0.0.0:4840")
        self._server = OpcUaServer(host or "127.0.0.1", int(port))
        for model in models:
            self._server.add_model(model)

    def predicted(self, model: str, prediction: Mapping[str, Any]) -> None:
        self._server.update(model, prediction)

    def drift(self, model: str, state: Mapping[str, Any]) -> None:
        self._server.set_drift(model, bool(state["alarm"]))

    def close(self) -> None:
        self._server.close()


def _receivers(connections: Connections, models: list[str], station: str) -> list[Receiver]:
    receivers: list[Receiver] = []
    if connections.mqtt is not None:
        receivers.append(_Mqtt(connections.mqtt, station))
    if connections.opcua is not None:
        receivers.append(_OpcUa(connections.opcua, models))
    return receivers
