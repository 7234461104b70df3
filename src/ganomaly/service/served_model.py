"""A model that stays in memory: uploads wait for it in a bounded queue, and are predicted in batches."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import monotonic
from typing import Any

from ganomaly.calibration import Calibration
from ganomaly.data.sources.encoded import EncodedImages
from ganomaly.errors import GANomalyError, ImageError
from ganomaly.prediction import Prediction, Predictor
from ganomaly.store.stored_files import digest_of

WAIT_SECONDS = 0.2
"""How often an idle thread looks whether it is to end."""


class QueueFullError(GANomalyError):
    """More uploads wait than the queue holds."""


@dataclass(frozen=True)
class Upload:
    """An image that somebody sent.

    Attributes
    ----------
    content : bytes
        The encoded image.
    name : str
        What the sender calls the part.
    key : str
        Tells uploads apart: the same one is predicted and stored once.
    source : str
        Where it comes from, such as "http".
    """

    content: bytes
    name: str
    key: str
    source: str = "http"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        return digest_of(self.content)


@dataclass(frozen=True, eq=False)
class Resident:
    """The version of a model that predicts now.

    Attributes
    ----------
    model : str
        Its name.
    predictor : Predictor
        In memory.
    model_id, version : int
        Its rows in the store.
    file : str
        Name of its file in the store.
    """

    model: str
    predictor: Predictor
    model_id: int
    version: int
    file: str

    def with_calibration(self, version: int, calibration: Calibration) -> "Resident":
        """The same networks as another version."""
        predictor: Any = self.predictor  # models and graphs are both dataclasses
        return replace(self, version=version, predictor=replace(predictor, calibration=calibration))


@dataclass(frozen=True, eq=False)
class Job:
    """An upload on its way, and the future that its sender waits for."""

    upload: Upload
    future: "Future[Any]" = field(default_factory=Future)
    since: float = field(default_factory=monotonic)

    def elapsed(self) -> float:
        """Seconds since it was sent."""
        return monotonic() - self.since


@dataclass(frozen=True, eq=False)
class PredictedJob:
    """An upload with its prediction, to be stored."""

    job: Job
    resident: Resident
    prediction: Prediction
    seconds: float


class ServedModel:
    """A model, its queue, and the thread that predicts.

    Parameters
    ----------
    resident : Resident
        The version that predicts first.
    on_predicted : callable
        Takes each `PredictedJob`; it may block, and then the queue fills.
    queue_size, batch_size : int
        Uploads that wait, and that are predicted together, at most.
    begin : callable
        Called in the thread first.
    """

    def __init__(
        self,
        resident: Resident,
        on_predicted: Callable[[PredictedJob], None],
        *,
        queue_size: int,
        batch_size: int,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name = resident.model
        self.resident = resident
        self.reconstructs = True
        """Whether the method gives a reconstruction to show; known after the first prediction."""
        self.busy_since: float | None = None
        """When the batch that is predicted now was begun, on the clock of `time.monotonic`; None while it waits."""
        self._on_predicted = on_predicted
        self._batch_size = batch_size
        self._begin = begin
        self._queue: queue.Queue[Job] = queue.Queue(queue_size)
        self._ending = threading.Event()
        self.computing = threading.Lock()
        """Held while the model computes; whoever computes with it elsewhere takes it."""
        self._thread = threading.Thread(target=self._run, name=f"predict {name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Uploads in the queue."""
        return self._queue.qsize()

    def submit(self, upload: Upload) -> "Future[Any]":
        """Put an upload into the queue; the future gives what `on_predicted` makes of it.

        Raises
        ------
        QueueFullError
            If the queue is full, or the model is about to end.
        """
        if self._ending.is_set():
            raise QueueFullError("the station is about to stop; send the image again later")
        job = Job(upload)
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise QueueFullError(
                f"{self._queue.maxsize} images wait for {self.name} already; send this one again later"
            ) from None
        return job.future

    def close(self, seconds: float) -> None:
        """Predict what waits, then end; give up after so many seconds: what was not answered is sent again."""
        self._ending.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        self._begin()
        while True:
            try:
                jobs = [self._queue.get(timeout=WAIT_SECONDS)]
            except queue.Empty:
                if self._ending.is_set():
                    return
                continue
            while len(jobs) < self._batch_size:
                try:
                    jobs.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            # whoever went away does not keep others waiting
            jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if jobs:
                self.busy_since = monotonic()
                self._predict(jobs)
                self.busy_since = None

    def _predict(self, jobs: list[Job]) -> None:
        resident = self.resident
        dataset = EncodedImages([job.upload.content for job in jobs], [job.upload.name for job in jobs])
        waiting = dict(enumerate(jobs))
        started = monotonic()
        try:
            with self.computing:
                predictions = resident.predictor.predict(dataset, details=True, fixed_batches=True)
                for prediction in predictions:
                    job = waiting.pop(prediction.index)
                    if prediction.error is not None:
                        job.future.set_exception(ImageError(prediction.error))
                        continue
                    self.reconstructs = prediction.reconstruction is not None
                    seconds = monotonic() - started
                    self._on_predicted(PredictedJob(job, resident, prediction, seconds))
        except Exception as error:  # whatever it is, nobody waits for ever, and the next batch is predicted
            for job in waiting.values():
                job.future.set_exception(error)
