"""`ganomaly serve`: runs a station, and manages its keys."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganomaly.commands.console import Console
from ganomaly.errors import OutputError, UsageError, package_needed
from ganomaly.service.settings import Settings

if TYPE_CHECKING:
    from ganomaly.service.station import Station
    from ganomaly.store.schema import Role

KEY_VARIABLE, STORE_VARIABLE, SECRET_VARIABLE = (
    "GANOMALY_API_KEY",
    "GANOMALY_STORE",
    "GANOMALY_WEBHOOK_SECRET",
)

ENVIRONMENT = "environment"
"""Name of the key that the environment holds."""


def serve(console: Console, settings: Settings) -> None:
    """Run a station until it is told to end; it then finishes what it accepted."""
    with package_needed("ganomaly serve"):
        import uvicorn

        from ganomaly.service.app import make_app
        from ganomaly.service.connections import connections_within
        from ganomaly.service.monitoring import log, log_to_stderr
        from ganomaly.service.station import Station
    with _listening(settings.host, settings.port) as listening:
        console.say(f"loading {settings.models}")
        station = Station(settings)
        try:
            _set_keys(station, settings)
            app = make_app(station)
        except BaseException:
            station.close()
            raise
        log_to_stderr()
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=connections_within(settings.request_seconds),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(settings.request_seconds) + 5,
            h11_max_incomplete_event_size=32 * 1024,
        )
        server = uvicorn.Server(config)
        address = f"http://{settings.host}:{listening.getsockname()[1]}/"
        log("started", address=address, models=list(station.models), process=os.getpid())
        console.say(f"{', '.join(station.models)} on {address}; Ctrl-C ends it")
        _end_on_signals(server)
        server.run(sockets=[listening])
    log("ended")


def _set_keys(station: "Station", settings: Settings) -> None:
    """Make the environment's key valid, or end that of an earlier start; others than this machine need a key."""
    from ganomaly.store.keys import has_keys, list_keys, revoke_key, set_key

    secret = os.environ.get(KEY_VARIABLE)
    with station.store.writing() as session:
        if secret:
            set_key(session, ENVIRONMENT, "admin", secret)
        elif any(row.name == ENVIRONMENT and row.revoked is None for row in list_keys(session)):
            revoke_key(session, ENVIRONMENT, "command line")
        if not settings.is_local and not has_keys(session):
            raise UsageError(
                f"on {settings.host} others can reach the station, so keys are needed: make one with "
                f"`ganomaly serve keys add NAME --store {settings.store}`, or set {KEY_VARIABLE}"
            )


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Take an address before anything is loaded; requests wait there until the server runs."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen()
        except OSError as error:
            raise OutputError(
                f"cannot listen on {host}, port {port}: {error.strerror or error}; name a free --port"
            ) from error
        yield listening


def _end_on_signals(server: Any) -> None:
    """Let an orderly end be one: after it, uvicorn sends itself the signal again."""
    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda *_: setattr(server, "should_exit", True))


def add_key(console: Console, store: str, files: Path | None, name: str, role: "Role") -> None:
    """Make a key and show it once."""
    with package_needed("ganomaly serve"):
        from ganomaly.store import keys, open_store
    opened = open_store(store, files)
    with opened.writing() as session:
        secret = keys.add_key(session, name, role, "command line")
    console.say(f"the key of {name} ({role}), which is not shown again:")
    print(secret)
    opened.close()


def show_keys(store: str, files: Path | None) -> None:
    """Print all keys by name and role."""
    with package_needed("ganomaly serve"):
        from ganomaly.store import keys, open_store
    opened = open_store(store, files, new=False)
    with opened.reading() as session:
        for row in keys.list_keys(session):
            state = "valid" if row.revoked is None else f"revoked {row.revoked:%Y-%m-%d}"
            print(f"{row.name}\t{row.role}\t{state}")
    opened.close()


def end_key(console: Console, store: str, files: Path | None, name: str) -> None:
    """End a key."""
    with package_needed("ganomaly serve"):
        from ganomaly.store import keys, open_store
    opened = open_store(store, files, new=False)
    with opened.writing() as session:
        keys.revoke_key(session, name, "command line")
    console.say(f"{name} is revoked")
    opened.close()
