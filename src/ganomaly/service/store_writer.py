"""Stores predictions: a thread that commits those that come together at once, and then tells who waits."""

import contextlib
import hashlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy.orm import Session

from ganomaly.calibration import MapCalibration
from ganomaly.service.served_model import WAIT_SECONDS, PredictedJob
from ganomaly.service.settings import Settings
from ganomaly.store import Store, StoreError
from ganomaly.store.outbox import add_to_outbox
from ganomaly.store.predictions import add_predictions, count_of_version
from ganomaly.store.schema import MAX_NAME, PredictionRow
from ganomaly.store.stored_files import media_type_of

AT_ONCE = 64
"""Predictions in one transaction at most."""

RETRY_SECONDS = 10.0
"""For so long a database that does not answer is tried again, as one that is started anew."""


class StoreWriter:
    """The thread that stores predictions.

    Parameters
    ----------
    store : Store
        Where to.
    settings : Settings
        What is kept, and which webhooks are told.
    on_stored : callable
        Takes each row once it is committed, and its job.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        on_stored: Callable[[PredictionRow, PredictedJob], None] = lambda *_: None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._on_stored = on_stored
        self._counts: dict[tuple[int, int], int] = {}
        self._alarms: dict[tuple[int, int], int] = {}
        self._queue: queue.Queue[PredictedJob] = queue.Queue(2 * AT_ONCE)
        self._file_threads = ThreadPoolExecutor(4, thread_name_prefix="files")
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def put(self, predicted: PredictedJob) -> None:
        """Let a prediction be stored; waits while too many wait already."""
        self._queue.put(predicted)

    def draw_again(self, model_id: int, version: int, alarm: int) -> None:
        """After drift was found, draw the next images as at the start: older ones say nothing about those to come."""
        which = model_id, version
        if self._alarms.get(which) != alarm:
            self._alarms[which] = alarm
            with self._store.reading() as session:
                self._counts[which] = count_of_version(
                    session, *which, self._settings.sample_first, after=alarm
                )

    def close(self) -> None:
        """Store what waits, then end. Nothing may be put any more."""
        self._ending.set()
        self._thread.join()
        self._file_threads.shutdown()

    def _run(self) -> None:
        while True:
            try:
                group = [self._queue.get(timeout=WAIT_SECONDS)]
            except queue.Empty:
                if self._ending.is_set():
                    return
                continue
            with contextlib.suppress(queue.Empty):
                while len(group) < AT_ONCE:
                    group.append(self._queue.get_nowait())
            try:
                rows = self._stored(group)
            except Exception as error:  # whatever it is, nobody waits for ever
                for predicted in group:
                    predicted.job.future.set_exception(error)
                continue
            for predicted, row in zip(group, rows, strict=True):
                self._on_stored(row, predicted)
                predicted.job.future.set_result(row)

    def _stored(self, group: list[PredictedJob]) -> list[PredictionRow]:
        """Files first, then rows: a process that is killed leaves a file too many, never a row without its image."""
        in_sample = [self._is_in_sample(predicted) for predicted in group]
        columns = list(self._file_threads.map(self._with_files, group, in_sample))
        until = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                with self._store.writing() as session:
                    for each in columns:
                        each["created"] = datetime.now(UTC)  # in the order of the numbers
                    rows = add_predictions(session, columns)
                    self._tell_webhooks(session, rows, group)
                    return rows
            except StoreError:
                # the keys make a second try harmless, even if the first one was committed
                if time.monotonic() > until or self._ending.is_set():
                    raise
                time.sleep(WAIT_SECONDS)

    def _with_files(self, predicted: PredictedJob, in_sample: bool) -> dict[str, Any]:
        """Write the files of a prediction; return its row."""
        upload, resident, prediction = predicted.job.upload, predicted.resident, predicted.prediction
        digest, media_type = upload.digest, media_type_of(upload.content)
        keeps = self._settings.keep
        kept = keeps == "all" or (
            keeps != "none" and (in_sample or (keeps == "anomalous" and bool(prediction.is_anomaly)))
        )
        files = self._store.files
        scale = resident.predictor.map_calibration
        has_map = kept and prediction.anomaly_map is not None and scale is not None
        if kept:
            files.write(files.image(digest, media_type), upload.content)
        if has_map:
            assert scale is not None
            content = encoded_map(prediction.anomaly_map, scale)
            files.write(files.anomaly_map(resident.model_id, resident.version, digest), content)
        return {
            "model_id": resident.model_id,
            "version": resident.version,
            "key": upload.key,
            "name": upload.name[:MAX_NAME],
            "source": upload.source,
            "digest": digest,
            "media_type": media_type,
            "n_bytes": len(upload.content),
            "product": prediction.product,
            "height": prediction.height,
            "width": prediction.width,
            "score": prediction.score,
            "normalized_score": prediction.normalized_score,
            "p_value": prediction.p_value,
            "threshold": resident.predictor.calibration.threshold,
            "is_anomaly": prediction.is_anomaly,
            "in_sample": in_sample,
            "has_image": kept,
            "has_map": has_map,
            "label": None,
            "disagrees": False,
        }

    def _is_in_sample(self, predicted: PredictedJob) -> bool:
        """Drawn by when it came and by its key alone: the score must not matter."""
        which = predicted.resident.model_id, predicted.resident.version
        if which not in self._counts:
            with self._store.reading() as session:
                self._counts[which] = count_of_version(session, *which, self._settings.sample_first)
        self._counts[which] += 1
        if self._counts[which] <= self._settings.sample_first:
            return True
        drawn = hashlib.sha256(f"sample {which} {predicted.job.upload.key}".encode()).digest()
        return int.from_bytes(drawn[:8], "big") < self._settings.sample_share * 2**64

    def _tell_webhooks(self, session: Session, rows: list[PredictionRow], group: list[PredictedJob]) -> None:
        for row, predicted in zip(rows, group, strict=True):
            if row.is_anomaly and self._settings.webhooks:
                payload = {
                    "event": "anomaly",
                    "model": predicted.resident.model,
                    "prediction": row.id,
                    "name": row.name,
                    "score": row.score,
                    "p_value": row.p_value,
                    "created": row.created.isoformat(),
                }
                add_to_outbox(
                    session,
                    self._settings.webhooks,
                    predicted.resident.model,
                    f"anomaly {row.id} {payload['created']}",
                    payload,
                )


def encoded_map(anomaly_map: Any, scale: MapCalibration) -> bytes:
    """A map as a 16-bit gray PNG at the network's size: 0 as in the median normal image, half at the threshold."""
    level = np.rint(np.clip(scale.level(anomaly_map) / 2, 0, 1) * 65535).astype(np.uint16)
    file = BytesIO()
    Image.fromarray(level).save(file, "PNG", compress_level=1)
    return file.getvalue()
