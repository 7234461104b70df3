"""MLflow: a run in the experiment `ganomaly` of a tracking server or a local database."""

import logging
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from ganomaly.errors import UsageError, package_needed

EXPERIMENT = "ganomaly"
ANSWER_SECONDS = 5.0  # that a server has to accept a connection
PARAMS_AT_ONCE = 100  # as many as MLflow takes


class MLflowLogger:
    """Logs to MLflow by its client, so that a run that the program itself has open is left alone.

    Parameters
    ----------
    uri : str
        Of the tracking server, as ``http://localhost:5000``, or of a database, as ``sqlite:///mlflow.db``.
    run_name : str
        Of the run.

    Raises
    ------
    UsageError
        If MLflow is not installed, or the URI is that of a folder, which MLflow keeps no new runs in.
    """

    def __init__(self, uri: str, run_name: str) -> None:
        with package_needed("logging to MLflow", "mlflow"):
            import mlflow  # noqa: F401 - missing packages are said before training
        if "://" not in uri and uri.partition(":")[0] not in ("databricks", "uc", "databricks-uc"):
            raise UsageError(
                f"MLflow keeps no runs in a folder any more, and {uri} is one; name a database, as "
                "sqlite:///mlflow.db, or a server, as http://localhost:5000"
            )
        self._uri, self._run_name = uri, run_name

    def start(self, configuration: Mapping[str, Any]) -> None:
        """Create the run, in the experiment named by `MLFLOW_EXPERIMENT_NAME` or `EXPERIMENT`."""
        from mlflow import MlflowClient
        from mlflow.entities import Param

        _check_answers(self._uri)
        # it tells of each table that it makes
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        self._client: Any = MlflowClient(tracking_uri=self._uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = (
            self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        )
        self._run_id = self._client.create_run(experiment_id, run_name=self._run_name).info.run_id
        params = [Param(name, str(value)) for name, value in configuration.items()]
        for first in range(0, len(params), PARAMS_AT_ONCE):
            self._client.log_batch(self._run_id, params=params[first : first + PARAMS_AT_ONCE])

    def log(self, step: int, values: Mapping[str, float], images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Log metrics and images."""
        self._log_metrics(values, step)
        for name, image in images.items():
            self._client.log_image(self._run_id, image, key=name, step=step)

    def finish(self, figures: Mapping[str, float], model: Path | None) -> None:
        """Log the figures and the model, and end the run."""
        self._log_metrics({f"final/{name}": value for name, value in figures.items()})
        if model is not None:
            self._client.log_artifact(self._run_id, str(model), "model")
        self._client.set_terminated(self._run_id, "FAILED" if model is None else "FINISHED")

    def _log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())  # milliseconds
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        if metrics:
            self._client.log_batch(self._run_id, metrics=metrics)


def _check_answers(uri: str) -> None:
    """Raise `ConnectionError` if a server does not: MLflow itself would try for minutes."""
    address = urlsplit(uri)
    if address.scheme not in ("http", "https") or address.hostname is None:
        return
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), ANSWER_SECONDS).close()
    except OSError as error:
        raise ConnectionError(
            f"no server answers at {uri} ({error}); start it with `mlflow server`"
        ) from None
