"""Ray, started on this machine or joined on a cluster, quiet and without calling home."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ganomaly.data.resources import usable_processors
from ganomaly.errors import EngineError, package_needed

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anybody
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what matters comes as exceptions
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default, which a warning announces
}

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Lets Ray listen on the loopback address, on Linux too; read when Ray is imported."""


def import_ray() -> Any:
    """Ray with Ray Data.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    for name, value in (_QUIET if os.environ.get("RAY_ADDRESS") else _QUIET | _ALONE).items():
        os.environ.setdefault(name, value)
    with package_needed("--engine ray", "ray"):
        import ray
        import ray.data
    return ray


def ray_message(error: Exception) -> str:
    """What an exception of Ray says at its end, which names the cause, in one line without colours."""
    lines = _COLOUR.sub("", str(error)).split("\n")
    last = next((line for line in reversed(lines) if line.strip()), type(error).__name__)
    return " ".join(last.split())[-300:]


@contextmanager
def ray_session() -> Iterator[Any]:
    """Ray while the block runs: the cluster that this process is in, that of `RAY_ADDRESS`, or one of its own.

    One of its own listens on this machine alone and ends with the block.

    Raises
    ------
    UsageError
        If Ray is not installed.
    EngineError
        If it does not start, as where a machine is so busy that it takes too long.
    """
    ray = import_ray()
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors come as exceptions too
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get("RAY_ADDRESS")
    own: dict[str, Any] = (
        {} if address else {"num_cpus": usable_processors(), "_node_ip_address": "127.0.0.1"}
    )
    # workers find what this process finds, wherever it was started
    paths = os.pathsep.join(path for path in sys.path if path)
    try:
        with _without_standard_error():
            ray.init(
                address=address or "local",
                include_dashboard=None if address else False,
                configure_logging=True,
                logging_level=logging.ERROR,
                log_to_driver=False,
                runtime_env=None if address else {"env_vars": {"PYTHONPATH": paths}},
                **own,
            )
    except Exception as error:  # Ray raises many kinds
        where = f"the cluster {address}" if address else "this machine"
        raise EngineError(
            f"Ray does not start on {where}, where another try may do if it is very busy: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _without_standard_error() -> Iterator[None]:
    """Ray's C++ part says on starting that it will be quiet; errors come as exceptions all the same."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
