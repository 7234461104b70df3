"""Metrics for Prometheus, and log lines in JSON."""

import json
import logging
import shutil
import sys
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ganomaly.service.served_model import PredictedJob
from ganomaly.service.station import Station
from ganomaly.store.outbox import count_waiting
from ganomaly.store.schema import PredictionRow
from ganomaly.store.statistics import database_bytes

LOG = logging.getLogger("ganomaly.service")
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
P_VALUES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Metrics:
    """What a station counts and measures.

    Parameters
    ----------
    station : Station
        Which one.
    """

    def __init__(self, station: Station) -> None:
        self._station = station
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "ganomaly_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "ganomaly_request_seconds",
            "From a request to its answer",
            ["route"],
            registry=registry,
            buckets=SECONDS,
        )
        self._predictions = Counter(
            "ganomaly_predictions", "Predictions stored", ["model", "verdict"], registry=registry
        )
        self._stages = Histogram(
            "ganomaly_stage_seconds",
            "Time of each stage",
            ["model", "stage"],
            registry=registry,
            buckets=SECONDS,
        )
        self._p_values = Histogram(
            "ganomaly_p_value", "p-values of predictions", ["model"], registry=registry, buckets=P_VALUES
        )
        self._waiting = Gauge("ganomaly_queue", "Images that wait", ["model"], registry=registry)
        self._version = Gauge("ganomaly_model_version", "Version that predicts", ["model"], registry=registry)
        self._threshold = Gauge("ganomaly_threshold", "Threshold of the score", ["model"], registry=registry)
        self._log_martingale = Gauge(
            "ganomaly_drift_log10_martingale", "Evidence of drift", ["model"], registry=registry
        )
        self._drift_alarm = Gauge(
            "ganomaly_drift_alarm", "1 if drift was found", ["model"], registry=registry
        )
        self._database = Gauge("ganomaly_database_bytes", "Size of the database", registry=registry)
        self._disk = Gauge("ganomaly_disk_free_bytes", "Free where images are stored", registry=registry)
        self._outbox = Gauge("ganomaly_webhooks_waiting", "Events not delivered yet", registry=registry)
        self._problems = Gauge(
            "ganomaly_background_problems", "Background tasks that fail", registry=registry
        )
        station.observers.append(self._observe)

    def exposition(self) -> bytes:
        """Everything in the text format of Prometheus."""
        station = self._station
        for name, served in station.models.items():
            self._waiting.labels(name).set(served.waiting)
            self._version.labels(name).set(served.resident.version)
            self._threshold.labels(name).set(served.resident.predictor.calibration.threshold)
            drift = station.drift(name)
            points = [] if drift is None else drift.points
            self._log_martingale.labels(name).set(points[-1][1] if points else 0)
            self._drift_alarm.labels(name).set(drift is not None and drift.alarm is not None)
        self._database.set(database_bytes(station.store))
        self._disk.set(shutil.disk_usage(station.store.files.folder).free)
        with station.store.reading() as session:
            self._outbox.set(count_waiting(session))
        self._problems.set(len(station.problems))
        return generate_latest(self.registry)

    def _observe(self, row: PredictionRow, predicted: PredictedJob) -> None:
        model = predicted.resident.model
        self._predictions.labels(model, "anomalous" if row.is_anomaly else "normal").inc()
        self._p_values.labels(model).observe(row.p_value)
        self._stages.labels(model, "predict").observe(predicted.seconds)
        total = predicted.job.elapsed()
        self._stages.labels(model, "total").observe(total)
        self._stages.labels(model, "wait and store").observe(max(0.0, total - predicted.seconds))


class _JsonLines(logging.Formatter):
    """One JSON object a line; no image and no key is ever in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to_stderr() -> None:
    """Write log lines of the service, and warnings of what it is made of, to the standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    for logger, level in (
        (LOG, logging.INFO),
        (logging.getLogger("uvicorn"), logging.WARNING),
        (logging.getLogger("python_multipart"), logging.ERROR),  # it warns of each damaged form
    ):
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def log(message: str, **fields: Any) -> None:
    """Write one line."""
    LOG.info(message, extra={"fields": fields})
