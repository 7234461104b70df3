"""A running station: its store, its models in memory, and what goes on in the background."""

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from ganomaly.calibration import Calibration, ProductCalibration
from ganomaly.config import GRAPH_ENDINGS
from ganomaly.errors import GANomalyError, UsageError, package_needed
from ganomaly.prediction import Predictor, load_predictor
from ganomaly.service.drift_watch import watch_drift
from ganomaly.service.recalibration import Proposal
from ganomaly.service.served_model import PredictedJob, Resident, ServedModel
from ganomaly.service.settings import Settings
from ganomaly.service.store_writer import StoreWriter
from ganomaly.store import open_store
from ganomaly.store.drift_state import drift_row
from ganomaly.store.outbox import forget_delivered
from ganomaly.store.retention import forget
from ganomaly.store.schema import DriftRow, ModelRow, PredictionRow, VersionRow
from ganomaly.store.versions import (
    NewVersion,
    UnknownModelError,
    activate_version,
    add_version,
    calibration_of,
    find_model,
    find_version,
    register_model,
    versions_of,
)

MODEL_ENDINGS = (".safetensors", *GRAPH_ENDINGS)
BACKGROUND_SECONDS = 2.0
DRIFT_SECONDS = 20.0
"""Between two looks for drift: each stores what the monitor remembers, up to 0.4 MB."""

REBUILD_PAUSE = 30
"""After a review has changed the past, the next such one waits for so many times as long as reading it anew took."""

RETENTION_SECONDS = 3600.0
SYSTEM = "station"
"""Who acts where no person does."""

Observer = Callable[[PredictionRow, PredictedJob], None]


class Station:
    """A running station.

    Parameters
    ----------
    settings : Settings
        What it is told.
    observers : sequence of callable
        Each takes every prediction once it is stored, and its job.

    Attributes
    ----------
    store : Store
        Predictions and reviews.
    models : dict of str to ServedModel
        By name.
    problems : dict of str to str
        What the background could not do the last time, by what it was.

    Raises
    ------
    UsageError, ModelFileError, StoreError
        If a model cannot be loaded, or the store cannot be opened.
    """

    def __init__(self, settings: Settings, observers: tuple[Observer, ...] = ()) -> None:
        self.settings = settings
        self.observers = list(observers)
        self.problems: dict[str, str] = {}
        paths = model_paths(settings.models)
        self.store = open_store(settings.store, settings.files)
        self.models: dict[str, ServedModel] = {}
        self._writer = StoreWriter(self.store, settings, self._notify)
        self._changing = threading.Lock()
        self._names: dict[int, str] = {}
        for name, path in paths.items():
            self.models[name] = ServedModel(
                self._registered(name, path),
                self._writer.put,
                queue_size=settings.queue,
                batch_size=settings.batch_size,
                begin=self._use_threads,
            )
        self._background_tasks: dict[str, Callable[[], None]] = {
            "versions": self._follow_versions,
            "drift": self._watch_drift_now_and_then,
        }
        self._ending = threading.Event()
        self._retained = -RETENTION_SECONDS
        self._drift_watched = -DRIFT_SECONDS
        self._rebuilds_from = 0.0
        self._background = threading.Thread(target=self._run_background, name="background", daemon=True)
        self._background.start()

    def model(self, name: str) -> ServedModel:
        """A model by its name.

        Raises
        ------
        UnknownModelError
            If it is not served.
        """
        if name not in self.models:
            raise UnknownModelError(f"there is no model {name[:80]}; there are {', '.join(self.models)}")
        return self.models[name]

    def name_of(self, model_id: int) -> str:
        """Name of a model in the store, which need not be served now."""
        if model_id not in self._names:
            with self.store.reading() as session:
                self._names[model_id] = session.get_one(ModelRow, model_id).name
        return self._names[model_id]

    def slow_models(self) -> dict[str, str]:
        """Models that have predicted one batch for longer than a request may take, and for how long."""
        now, longest = monotonic(), self.settings.request_seconds
        busy = {name: served.busy_since for name, served in self.models.items()}
        return {
            name: f"it has predicted the same images for {now - since:.0f} s; smaller ones take less"
            for name, since in busy.items()
            if since is not None and now - since > longest
        }

    def in_background(self, name: str, task: Callable[[], None]) -> None:
        """Let a task run every few seconds; what it raises is one of the `problems` until it succeeds."""
        self._background_tasks[name] = task

    def store_version(self, name: str, new: NewVersion) -> VersionRow:
        """Store a version of a model, and predict with it from now on."""
        with self._changing:
            with self.store.writing() as session:
                row = add_version(session, find_model(session, name), new)
            self._take(name, row)
        return row

    def accept(self, name: str, proposal: Proposal) -> VersionRow:
        """Store what was proposed, and predict with it from now on."""
        version = proposal.version
        return self.store_version(name, replace(version, details=proposal.as_dict()))

    def put_back(self, name: str, number: int, actor: str) -> VersionRow:
        """Predict with another version that there was.

        Raises
        ------
        UnknownModelError
            If there is no such version.
        """
        with self._changing:
            with self.store.writing() as session:
                row = activate_version(session, find_model(session, name), number, actor, "put back")
            self._take(name, row)
        return row

    def drift(self, name: str) -> DriftRow | None:
        """What is known of the drift of a model, None before the first look."""
        resident = self.model(name).resident
        with self.store.reading() as session:
            return drift_row(session, resident.model_id, resident.version)

    def watch_drift(self) -> None:
        """Look for drift of each model now."""
        for served in self.models.values():
            resident = served.resident
            started = monotonic()
            row = watch_drift(
                self.store,
                resident.model_id,
                resident.version,
                alpha=self.settings.drift_alpha,
                webhooks=self.settings.webhooks,
                may_rebuild=started >= self._rebuilds_from,
            )
            if started >= self._rebuilds_from:
                self._rebuilds_from = monotonic() + REBUILD_PAUSE * (monotonic() - started)
            if row.alarm_prediction is not None:
                self._writer.draw_again(resident.model_id, resident.version, row.alarm_prediction)

    def _watch_drift_now_and_then(self) -> None:
        if monotonic() - self._drift_watched > DRIFT_SECONDS:
            self._drift_watched = monotonic()
            self.watch_drift()

    def close(self) -> None:
        """Finish what was accepted, then end."""
        self._ending.set()
        until = monotonic() + self.settings.request_seconds
        for served in self.models.values():
            served.close(max(0.1, until - monotonic()))
        self._writer.close()
        self._background.join()
        self.store.close()

    def _registered(self, name: str, path: Path) -> Resident:
        """The version that predicts; a model file that the store does not know is a new one."""
        predictor = _load(path)
        file = self.store.files.keep_model(path)
        with self.store.writing() as session:
            model = register_model(session, name)
            if file in {version.file for version in versions_of(session, model.id)}:
                assert model.active_version is not None
                active = find_version(session, model.id, model.active_version)
            else:
                details = {"file": path.name}
                new = NewVersion(file, predictor.calibration, "file", SYSTEM, model.active_version, details)
                active = add_version(session, model, new)
            resident = Resident(name, predictor, model.id, active.number, file)
        return self._resident(resident, active)

    def _take(self, name: str, row: VersionRow) -> None:
        served = self.models[name]
        served.resident = self._resident(served.resident, row)

    def _resident(self, resident: Resident, row: VersionRow) -> Resident:
        """The version of a row, with the networks in memory where its file is the same."""
        if row.file != resident.file:
            predictor = _load(self.store.files.model(row.file))
            resident = replace(resident, predictor=predictor, file=row.file)
        calibration: Calibration = calibration_of(row)
        if isinstance(resident.predictor.calibration, ProductCalibration):
            # that of each product is in the model file; a version can have another rate
            calibration = replace(
                resident.predictor.calibration, false_alarm_rate=calibration.false_alarm_rate
            )
        return resident.with_calibration(row.number, calibration)

    def _follow_versions(self) -> None:
        """Take versions that another server on this store activated."""
        for name, served in self.models.items():
            with self.store.reading() as session:
                model = session.get_one(ModelRow, served.resident.model_id)
                number = model.active_version
                if number is None or number == served.resident.version:
                    continue
                row = find_version(session, model.id, number)
            with self._changing:
                self._take(name, row)

    def _run_background(self) -> None:
        while not self._ending.wait(BACKGROUND_SECONDS):
            for name, task in list(self._background_tasks.items()):
                self._try(name, task)
            if monotonic() - self._retained > RETENTION_SECONDS:
                self._retained = monotonic()
                self._try("retention", self._forget)

    def _forget(self) -> None:
        forget(self.store, self.settings.retention)
        with self.store.writing() as session:
            forget_delivered(session, datetime.now(UTC))

    def _try(self, name: str, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # the next one must run, and the next round too
            known = isinstance(error, GANomalyError)
            self.problems[name] = str(error) if known else f"{type(error).__name__}: {error}"
        else:
            self.problems.pop(name, None)

    def _notify(self, row: PredictionRow, predicted: PredictedJob) -> None:
        for observe in self.observers:
            with suppress(Exception):  # who looks on does not stop the line
                observe(row, predicted)

    def _use_threads(self) -> None:
        if self.settings.threads is not None and "torch" in sys.modules:  # not where graphs alone are served
            import torch

            torch.set_num_threads(self.settings.threads)


def _load(path: Path) -> Predictor:
    """Load a model without workers of PyTorch for this thread.

    Each thread that computes with PyTorch has workers of its own, and where a process has more of them than
    processors, they wait for each other in a slower way. So a model has them in the thread that predicts alone.
    """
    if path.suffix.lower() in GRAPH_ENDINGS:
        return load_predictor(path)
    with package_needed(f"a model that is not exported, as {path},"):
        import torch
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return load_predictor(path)
    finally:
        torch.set_num_threads(threads)


def model_paths(path: Path) -> dict[str, Path]:
    """Model files by the names under which they are served.

    Raises
    ------
    UsageError
        If there is none, or two have one name.
    """
    if not path.is_dir():
        return {path.stem: path}
    paths: dict[str, Path] = {}
    for each in sorted(path.iterdir()):
        if each.suffix.lower() in MODEL_ENDINGS and each.is_file():
            if each.stem in paths:
                raise UsageError(
                    f"{paths[each.stem].name} and {each.name} in {path} have one name; rename one of them"
                )
            paths[each.stem] = each
    if not paths:
        raise UsageError(f"there is no model in {path}: no file that ends in {', '.join(MODEL_ENDINGS)}")
    return paths
