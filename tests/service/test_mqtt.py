"""Verdicts reach a real broker, through its restarts, and whoever publishes never waits."""

import asyncio
import json
import socket
import socketserver
import sys
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from ganomaly.errors import UsageError

mqtt = pytest.importorskip("paho.mqtt.client")
pytest.importorskip("amqtt")

from amqtt.broker import Broker  # noqa: E402 - after the check that its package is there
from paho.mqtt.enums import CallbackAPIVersion  # noqa: E402 - after the check that its package is there

from ganomaly.service.mqtt import MqttPublisher, topic_level  # noqa: E402 - after the check that its package is there

PREDICTION = {
    "id": "1",
    "model": "housing",
    "score": 2.5,
    "p_value": 0.004,
    "is_anomaly": True,
    "image": b"never published",
    "map_url": "/v1/predictions/1/map",
}


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def wait_for(condition, seconds=30):  # a publisher that finds no broker tries after 1, 3, 7 and 15 s
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.02)


@contextmanager
def running_broker(port):
    """A broker in a thread with an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start():
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        listeners = {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}
        broker = Broker({"listeners": listeners, "plugins": plugins})
        await broker.start()
        return broker

    broker = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(broker.shutdown(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@contextmanager
def subscriber(port):
    """A client that notes all messages."""
    received, subscribed = [], threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="listener", clean_session=True)
    client.on_connect = lambda *_: client.subscribe("#", 1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _, __, message: received.append(
        (message.topic, message.payload.decode(), message.qos)
    )
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert subscribed.wait(10)
    try:
        yield received
    finally:
        client.disconnect()
        client.loop_stop()


@contextmanager
def broker_behind(port):
    """A broker that a port leads to only once a subscriber is there, and what that received."""
    inner = free_port()

    class Forward(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.create_connection(("127.0.0.1", inner)) as broker:
                answers = threading.Thread(target=copy_bytes, args=(broker, self.request), daemon=True)
                answers.start()
                copy_bytes(self.request, broker)
                answers.join()

    with (
        running_broker(inner),
        subscriber(inner) as received,
        ForwardingServer(("127.0.0.1", port), Forward) as server,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield received
        finally:
            server.shutdown()


class ForwardingServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


def copy_bytes(source, target):
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def test_a_verdict_arrives_with_qos_1_and_without_image_content():
    port = free_port()
    with running_broker(port), subscriber(port) as received:
        publisher = MqttPublisher("127.0.0.1", port, prefix="plant/line3")
        assert publisher.verdict(PREDICTION)
        assert publisher.drift("housing", {"alarmed": False, "log_martingale": -0.7})
        wait_for(lambda: len(received) >= 3)
        assert publisher.close() == 0
        wait_for(lambda: ("plant/line3/status", "offline", 1) in received)
    topics = {topic: (payload, qos) for topic, payload, qos in received}
    payload, qos = topics["plant/line3/housing/verdict"]
    assert json.loads(payload) == {
        "id": "1",
        "model": "housing",
        "score": 2.5,
        "p_value": 0.004,
        "is_anomaly": True,
    }
    assert qos == 1
    assert json.loads(topics["plant/line3/housing/drift"][0]) == {"alarmed": False, "log_martingale": -0.7}
    assert "online" in {payload for topic, payload, _ in received if topic == "plant/line3/status"}
    assert (publisher.published, publisher.dropped) == (3, 0)


def test_what_was_published_while_the_broker_was_away_arrives_in_order():
    port = free_port()
    publisher = MqttPublisher("127.0.0.1", port)
    for number in range(50):
        publisher.verdict(PREDICTION | {"id": str(number)})
    with broker_behind(port) as received:
        wait_for(lambda: sum(topic.endswith("verdict") for topic, *_ in received) >= 50)
        ids = [json.loads(payload)["id"] for topic, payload, _ in received if topic.endswith("verdict")]
        assert ids == [str(number) for number in range(50)]
        wait_for(lambda: publisher.waiting == 0)
    wait_for(lambda: not publisher.is_connected)
    publisher.verdict(PREDICTION | {"id": "after the restart"})
    with broker_behind(port) as received:
        wait_for(lambda: any("after the restart" in payload for _, payload, _ in received))
    publisher.close(0.1)


def test_nothing_waits_for_a_broker_that_is_not_there_and_the_queue_is_bounded():
    publisher = MqttPublisher("127.0.0.1", free_port(), capacity=100)
    start = time.monotonic()
    queued = [publisher.verdict(PREDICTION) for _ in range(1000)]
    assert time.monotonic() - start < 1
    assert queued == [True] * 100 + [False] * 900
    assert (publisher.published, publisher.dropped, publisher.waiting) == (0, 900, 100)
    start = time.monotonic()
    assert publisher.close(0.2) == 100
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_cannot_hold_are_null(value):
    port = free_port()
    with running_broker(port), subscriber(port) as received:
        publisher = MqttPublisher("127.0.0.1", port)
        publisher.verdict(PREDICTION | {"score": value})
        wait_for(lambda: any(topic.endswith("verdict") for topic, *_ in received))
        publisher.close()
    [payload] = [payload for topic, payload, _ in received if topic.endswith("verdict")]
    assert json.loads(payload)["score"] is None


@pytest.mark.parametrize("name", ["a/b", "a+b", "#", "$SYS", "", None, "a\0b", "ü"])
def test_every_name_of_a_model_is_one_level_of_a_topic(name):
    level = topic_level(name)
    assert level
    assert not set(level) & set("+#/\0")
    assert not level.startswith("$")


def test_a_prefix_with_a_wildcard_is_refused():
    with pytest.raises(UsageError, match="cannot begin MQTT topics"):
        MqttPublisher("127.0.0.1", prefix="plant/#")


def test_a_missing_package_is_said_with_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("paho")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(UsageError, match=r"pip install 'ganomaly\[line\]'"):
        MqttPublisher("127.0.0.1")
