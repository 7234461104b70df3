"""A client of another make reads and subscribes to what each model said last, and cannot write."""

import math
import socket
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from ganomaly.errors import GANomalyError, UsageError

pytest.importorskip("asyncua")

from asyncua import ua
from asyncua.sync import Client

from ganomaly.service.opcua import NAMESPACE, VARIABLES, OpcUaServer

PREDICTION = {
    "name": "a.png",
    "score": 2.5,
    "p_value": 0.004,
    "is_anomaly": True,
    "threshold": 1.5,
    "error": None,
}


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


@pytest.fixture(scope="module")
def server():
    server = OpcUaServer(port=free_port())
    yield server
    server.close()


@pytest.fixture(scope="module")
def client(server):
    with Client(server.endpoint) as client:
        yield client


@pytest.fixture
def model(request):
    """A name for each test, as all share a server."""
    return request.node.name


def node(client, model, name):
    return client.get_node(ua.NodeId(f"{model}.{name}", client.get_namespace_index(NAMESPACE)))


def values(client, model):
    return {name: node(client, model, name).read_value() for name in VARIABLES}


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.02)


def shows(client, model, name, value):
    try:
        return node(client, model, name).read_value() == value
    except ua.UaStatusCodeError:
        return False  # the model's variables are not there yet


def test_a_client_reads_the_last_prediction_and_the_counts(server, client, model):
    server.update(model, PREDICTION)
    server.update(model, PREDICTION | {"name": "b.png", "score": 1.0, "p_value": 0.5, "is_anomaly": False})
    wait_for(lambda: shows(client, model, "Images", 2))
    read = values(client, model)
    assert abs(read.pop("Time") - datetime.now(UTC)) < timedelta(minutes=1)
    assert read == {
        "IsAnomaly": False,
        "Score": 1.0,
        "PValue": 0.5,
        "Threshold": 1.5,
        "Image": "b.png",
        "Images": 2,
        "Anomalies": 1,
        "Errors": 0,
        "DriftAlarm": False,
    }


def test_models_are_found_by_browsing_before_their_first_image(server, client, model):
    names = {model, "cover plate"}
    for name in names:
        server.add_model(name)
    wait_for(lambda: all(shows(client, name, "Images", 0) for name in names))
    index = client.get_namespace_index(NAMESPACE)
    folder = client.nodes.objects.get_child([f"{index}:Ganomaly"])
    assert {child.read_browse_name().Name for child in folder.get_children()} >= names
    assert math.isnan(node(client, model, "Score").read_value())


def test_an_image_that_could_not_be_read_is_counted_and_leaves_the_verdict(server, client, model):
    server.update(model, PREDICTION)
    server.update(model, {"name": "broken.png", "error": "it is no image", "score": None, "is_anomaly": None})
    wait_for(lambda: shows(client, model, "Errors", 1))
    read = values(client, model)
    assert (read["IsAnomaly"], read["Score"], read["Image"], read["Anomalies"]) == (
        True,
        2.5,
        "broken.png",
        1,
    )


def test_a_drift_alarm_is_shown_and_taken_back(server, client, model):
    server.set_drift(model, True)
    wait_for(lambda: shows(client, model, "DriftAlarm", True))
    server.set_drift(model, False)
    wait_for(lambda: shows(client, model, "DriftAlarm", False))


def test_a_subscription_is_told_of_changes(server, client, model):
    server.add_model(model)
    wait_for(lambda: shows(client, model, "Images", 0))
    seen = []

    class Handler:
        def datachange_notification(self, node, value, data):
            seen.append(value)

    subscription = client.create_subscription(50, Handler())
    subscription.subscribe_data_change(node(client, model, "Score"))
    server.update(model, PREDICTION)
    wait_for(lambda: 2.5 in seen)
    subscription.delete()


def test_clients_cannot_write(server, client, model):
    server.update(model, PREDICTION)
    wait_for(lambda: shows(client, model, "Images", 1))
    with pytest.raises(ua.UaStatusCodeError):
        node(client, model, "IsAnomaly").write_value(False)
    assert node(client, model, "IsAnomaly").read_value() is True


def test_updates_never_wait_and_none_is_lost_to_the_counts(server, client, model):
    release, ended = threading.Event(), []
    server._loop.call_soon_threadsafe(lambda: ended.append(release.wait(60)))
    try:
        for number in range(5000):
            server.update(model, PREDICTION | {"name": f"{number}.png"})
        assert not ended, "the updates waited for the server"
    finally:
        release.set()
    wait_for(lambda: shows(client, model, "Images", 5000))
    assert node(client, model, "Image").read_value() == "4999.png"


def test_a_port_that_is_taken_is_said_in_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(GANomalyError, match="name another port"):
            OpcUaServer(port=port)


def test_a_missing_package_is_said_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncua.server.server", None)
    with pytest.raises(UsageError, match=r"pip install 'ganomaly\[line\]'"):
        OpcUaServer()
