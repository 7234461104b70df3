"""Verdicts to an MQTT broker: JSON without image content, QoS 1, and nothing on the line waits for it.

Topics, below a prefix: `MODEL/verdict` for each prediction, `MODEL/drift` for the state of the drift monitor
(retained), and `status`: `online`, or `offline` once the connection is lost (retained; the broker's last will).

Messages wait in memory while the broker is away, up to a limit, and are sent after a reconnection. What waits is lost
with the process: where each verdict must arrive, use webhooks, whose events are in the database.
"""

import json
import math
import threading
import time
from collections.abc import Mapping
from typing import Any

from ganomaly.errors import UsageError, package_needed

FIELDS = (
    "id",
    "model",
    "version",
    "name",
    "score",
    "normalized_score",
    "p_value",
    "is_anomaly",
    "threshold",
    "error",
    "created",
)
"""What of a prediction is published, if it is there."""
CAPACITY = 10_000
QOS = 1
_LONGEST_WAIT = 60


class MqttPublisher:
    """Publish predictions and the state of the drift monitor.

    Parameters
    ----------
    host : str
        Of the broker.
    port : int
        1883, or 8883 with TLS.
    prefix : str
        Of all topics.
    client_id : str
        Different for each publisher at a broker; the broker keeps the session under this name.
    user, password : str, optional
        If the broker asks for them.
    tls : bool
        Encrypt, and verify the broker's certificate.
    capacity : int
        Messages that may wait; further ones are dropped and counted.

    Attributes
    ----------
    published, dropped : int
        Messages that the broker confirmed, and messages that found the queue full.

    Raises
    ------
    UsageError
        If paho-mqtt is not installed, or the prefix has a wildcard.
    """

    def __init__(
        self,
        host: str,
        port: int = 1883,
        *,
        prefix: str = "ganomaly",
        client_id: str = "ganomaly",
        user: str | None = None,
        password: str | None = None,
        tls: bool = False,
        capacity: int = CAPACITY,
    ) -> None:
        with package_needed("MQTT", "line"):
            from paho.mqtt import client as mqtt
            from paho.mqtt.enums import CallbackAPIVersion
        if not prefix or any(character in prefix for character in "+#\0"):
            raise UsageError(
                f"{prefix!r} cannot begin MQTT topics: it must have a character, and none of + and #"
            )
        self.prefix = prefix.strip("/")
        self.published = self.dropped = 0
        self._queued = 0
        self._not_counted: int | None = None
        self._lock = threading.Lock()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
        self._client.max_queued_messages_set(capacity)
        self._client.reconnect_delay_set(1, _LONGEST_WAIT)
        self._client.will_set(f"{self.prefix}/status", "offline", QOS, retain=True)
        self._client.on_connect = self._connected
        self._client.on_publish = self._confirmed
        if user is not None:
            self._client.username_pw_set(user, password)
        if tls:
            self._client.tls_set()
        self._client.connect_async(host, port)
        self._client.loop_start()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the broker now."""
        return bool(self._client.is_connected())

    def verdict(self, prediction: Mapping[str, Any]) -> bool:
        """Publish a prediction; returns at once, and says whether it was queued."""
        fields = {name: prediction[name] for name in FIELDS if name in prediction}
        return self._publish(f"{topic_level(prediction.get('model'))}/verdict", fields, retain=False)

    def drift(self, model: str, state: Mapping[str, Any]) -> bool:
        """Publish the state of a model's drift monitor, such as `alarmed` and `log_martingale`; returns at once."""
        return self._publish(f"{topic_level(model)}/drift", state, retain=True)

    def close(self, timeout: float = 5.0) -> int:
        """Wait for confirmations, at most so many seconds, disconnect, and return how many messages are lost."""
        if self.is_connected:
            self._publish_text(f"{self.prefix}/status", "offline", retain=True)
        deadline = time.monotonic() + timeout
        while self.waiting and time.monotonic() < deadline:
            time.sleep(0.02)
        lost = self.waiting
        self._client.disconnect()
        self._client.loop_stop()
        return lost

    @property
    def waiting(self) -> int:
        """Messages that the broker has not confirmed yet."""
        with self._lock:
            return self._queued - self.published

    def _publish(self, topic: str, fields: Mapping[str, Any], *, retain: bool) -> bool:
        return self._publish_text(f"{self.prefix}/{topic}", json_text(fields), retain=retain)

    def _publish_text(self, topic: str, text: str, *, retain: bool) -> bool:
        from paho.mqtt.enums import MQTTErrorCode

        with self._lock:
            self._queued += 1
        if self._client.publish(topic, text.encode(), QOS, retain).rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            with self._lock:
                self._queued -= 1
                self.dropped += 1
            return False
        return True

    def _connected(self, *_: Any) -> None:
        # QoS 0 is sent at once even if the queue is full; this runs in the thread that will call _confirmed
        status = self._client.publish(f"{self.prefix}/status", "online", 0, retain=True)
        self._not_counted = status.mid

    def _confirmed(self, _client: Any, _data: Any, message: int, *_: Any) -> None:
        if message == self._not_counted:
            self._not_counted = None
            return
        with self._lock:
            self.published += 1


def topic_level(name: object) -> str:
    """A name as one level of a topic; what MQTT gives a meaning becomes _.

    >>> topic_level("housing/left #3")
    'housing_left _3'
    """
    text = "".join("_" if c in "+#/\\0" or not c.isprintable() else c for c in str(name or "model"))
    return text.lstrip("$") or "_"


def json_text(fields: Mapping[str, Any]) -> str:
    """JSON of numbers, texts and the like; numbers that JSON cannot hold are null, and image content is refused.

    >>> json_text({"score": float("nan"), "is_anomaly": False})
    '{"score":null,"is_anomaly":false}'

    Raises
    ------
    TypeError
        For bytes and arrays.
    """
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }
    return json.dumps(finite, ensure_ascii=False, separators=(",", ":"))
