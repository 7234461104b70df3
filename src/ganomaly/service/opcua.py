"""An OPC UA server with what each model said last, for controllers and SCADA.

Below `Objects/Ganomaly` each model is an object with the variables of `VARIABLES`; clients read and subscribe, and
cannot write. The server runs in a thread of its own; whoever updates it never waits for a client.
"""

import asyncio
import logging
import math
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError
from datetime import UTC, datetime
from typing import Any

from ganomaly.errors import GANomalyError, package_needed

NAMESPACE = "urn:ganomaly"
PORT = 4840
VARIABLES: dict[str, Any] = {
    "IsAnomaly": False,
    "Score": math.nan,
    "PValue": math.nan,
    "Threshold": math.nan,
    "Image": "",
    "Time": datetime(1970, 1, 1, tzinfo=UTC),
    "Images": 0,
    "Anomalies": 0,
    "Errors": 0,
    "DriftAlarm": False,
}
"""Of each model, with their values before the first image; counts are since the server was started."""
_START_SECONDS = 30.0
_log = logging.getLogger(__name__)


class OpcUaServer:
    """Expose the last prediction of each model.

    Parameters
    ----------
    host : str
        Interface to listen at; the default is this machine only. Connections are neither encrypted nor authenticated:
        let none but the controllers' network reach it.
    port : int
        TCP port; the usual one is 4840.

    Attributes
    ----------
    endpoint : str
        What a client connects to.

    Raises
    ------
    UsageError
        If asyncua is not installed.
    GANomalyError
        If the server cannot be started, as where the port is taken.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = PORT) -> None:
        with package_needed("OPC UA", "line"):
            from asyncua.server.server import Server
        self.endpoint = f"opc.tcp://{host}:{port}/ganomaly/"
        self._server = Server()
        self._models: dict[str, dict[str, Any]] = {}
        self._values: dict[str, dict[str, Any]] = {}
        self._changed: dict[str, set[str]] = {}
        self._writing = False
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="opc-ua", daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(_START_SECONDS)
        except (OSError, TimeoutError, CancelledError) as error:
            self._end()
            raise GANomalyError(
                f"the OPC UA server cannot listen at {host}:{port}: {error or 'no answer in time'}; "
                "name another port, or end the program that uses it"
            ) from error

    def add_model(self, model: str) -> None:
        """Make the variables of a model, so that clients find them before the first image; returns at once."""
        with self._lock:
            new = model not in self._values
            if new:
                self._values[model] = dict(VARIABLES)
        if new:
            self._set(model, {})

    def update(self, model: str, prediction: Mapping[str, Any]) -> None:
        """Show a prediction and count it; returns at once.

        Parameters
        ----------
        model : str
            Name of the model.
        prediction : mapping
            `score`, `p_value`, `is_anomaly`, `threshold`, `name` and `error`, as far as they are there.
        """
        self.add_model(model)
        failed = prediction.get("error") is not None
        anomalous = bool(prediction.get("is_anomaly"))
        values = {
            "Image": str(prediction.get("name") or prediction.get("id") or ""),
            "Time": datetime.now(UTC),
        }
        if not failed:
            values |= {"IsAnomaly": anomalous}
            for variable, name in (("Score", "score"), ("PValue", "p_value"), ("Threshold", "threshold")):
                number = prediction.get(name)
                values[variable] = math.nan if number is None else float(number)
        with self._lock:
            known = self._values[model]
            values |= {
                "Images": known["Images"] + 1,
                "Anomalies": known["Anomalies"] + (anomalous and not failed),
                "Errors": known["Errors"] + failed,
            }
            known.update(values)
        self._set(model, values)

    def set_drift(self, model: str, alarmed: bool) -> None:
        """Show whether the drift monitor of a model has alarmed; returns at once."""
        self.add_model(model)
        with self._lock:
            self._values[model]["DriftAlarm"] = bool(alarmed)
        self._set(model, {"DriftAlarm": alarmed})

    def close(self) -> None:
        """Disconnect all clients and stop."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(_START_SECONDS)
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)
        self._loop.close()

    def _set(self, model: str, values: Mapping[str, Any]) -> None:
        """Tell the server's thread what has changed; several changes that it has not written yet become one."""
        with self._lock:
            self._changed.setdefault(model, set()).update(values)
            waiting, self._writing = self._writing, True
        if not waiting:
            asyncio.run_coroutine_threadsafe(self._write(), self._loop)

    # from here on in the server's thread

    async def _start(self) -> None:
        from asyncua import ua

        await self._server.init()
        self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        self._server.set_endpoint(self.endpoint)
        self._server.set_server_name("ganomaly")
        self._namespace = await self._server.register_namespace(NAMESPACE)
        self._folder = await self._server.nodes.objects.add_object(
            self._node_id("Ganomaly"), self._name("Ganomaly")
        )
        await self._server.start()

    async def _write(self) -> None:
        """Write changes until there are none; only one of these runs at a time."""
        while True:
            with self._lock:
                changes = {
                    model: {name: self._values[model][name] for name in names}
                    for model, names in self._changed.items()
                }
                self._changed = {}
                self._writing = bool(changes)
            if not changes:
                return
            for model, values in changes.items():
                try:
                    nodes = await self._nodes(model)
                    for name, value in values.items():
                        await nodes[name].write_value(value, _type_of(name))
                except Exception:  # one model must not silence the others
                    _log.exception("the OPC UA variables of %s could not be written", model)

    async def _nodes(self, model: str) -> dict[str, Any]:
        if model not in self._models:
            parent = await self._folder.add_object(self._node_id(model), self._name(model))
            nodes = {}
            for name, value in VARIABLES.items():
                node_id = self._node_id(f"{model}.{name}")
                nodes[name] = await parent.add_variable(node_id, self._name(name), value, _type_of(name))
            self._models[model] = nodes
        return self._models[model]

    def _node_id(self, text: str) -> Any:
        from asyncua import ua

        node_id: Any = ua.NodeId  # its annotations forbid the texts that it takes
        return node_id(text, self._namespace)

    def _name(self, text: str) -> Any:
        from asyncua import ua

        return ua.QualifiedName(text, self._namespace)


def _type_of(name: str) -> Any:
    from asyncua import ua

    types = {
        bool: ua.VariantType.Boolean,
        float: ua.VariantType.Double,
        str: ua.VariantType.String,
        int: ua.VariantType.Int64,
        datetime: ua.VariantType.DateTime,
    }
    return types[type(VARIABLES[name])]
