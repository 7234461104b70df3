"""What the button "recalibrate" does: a proposal from the reviewed sample, compared before it is taken."""

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from ganomaly.calibration import Calibration, ProductCalibration
from ganomaly.data.sources.files import ImageFile, ImageFiles
from ganomaly.errors import TrainingError, UsageError, package_needed
from ganomaly.prediction import Predictor
from ganomaly.service.answers import RecalibrationRequest
from ganomaly.service.recalibration import (
    Counts,
    Proposal,
    propose_rate,
    propose_recalibration,
    shortfall_of,
)
from ganomaly.service.station import Station
from ganomaly.store.reviews import is_decided
from ganomaly.store.schema import NORMAL, PredictionRow
from ganomaly.store.versions import NewVersion, find_model

MAX_COMPARED = 500
"""Reviewed images that networks which have learned more predict anew, the newest."""


def propose(station: Station, name: str, actor: str, wanted: RecalibrationRequest) -> Proposal:
    """A new version of a model, not stored yet.

    Raises
    ------
    UsageError
        If no image may calibrate, or the model cannot be updated.
    """
    if isinstance(station.model(name).resident.predictor.calibration, ProductCalibration):
        raise UsageError(
            f"{name} is a model of several products, which cannot be recalibrated yet; fit it anew, or serve a "
            "model for each product"
        )
    drift = station.drift(name)
    with station.store.reading() as session:
        proposal = propose_recalibration(
            session,
            find_model(session, name),
            actor,
            use=wanted.use,
            drifted_since=None if drift is None else drift.alarm_prediction,
            false_alarm_rate=wanted.false_alarm_rate,
        )
    return _with_update(station, name, proposal) if wanted.update else proposal


def propose_new_rate(station: Station, name: str, actor: str, false_alarm_rate: float) -> Proposal:
    """Another threshold from the same calibration images, not stored yet."""
    station.model(name)
    with station.store.reading() as session:
        return propose_rate(session, find_model(session, name), actor, false_alarm_rate)


def _with_update(station: Station, name: str, proposal: Proposal) -> Proposal:
    """The same images, from which the model also learns what it can without training."""
    served = station.model(name)
    with package_needed("updating a model"):
        from ganomaly.prediction.model import Model
        from ganomaly.prediction.model_file import save_model
        from ganomaly.training.update import update_model
    model = served.resident.predictor
    if not isinstance(model, Model):
        raise UsageError(
            f"{name} is an exported graph, which cannot be updated; serve its .safetensors model"
        )
    assert proposal.sample is not None
    rows = [row for row in proposal.sample.normal if row.has_image]
    files = [ImageFile(station.store.files.image(row.digest, row.media_type), row.name) for row in rows]
    if not files:
        raise UsageError(
            "the images of the sample are not stored; start the station with --keep sample or all"
        )
    with served.computing:
        result = update_model(model, ImageFiles(files, "the reviewed sample"))
        before, after, calibration = _compared_anew(
            station, served.resident.model_id, (model, result.model), proposal
        )
        result = replace(result, model=replace(result.model, calibration=calibration))
    with tempfile.TemporaryDirectory(dir=station.store.files.folder) as folder:
        path = Path(folder) / "updated.safetensors"
        save_model(result.model, path)
        file = station.store.files.keep_model(path)
    version = proposal.version
    details = {**(version.details or {}), "added": result.added, "in_banks": result.in_banks}
    new = NewVersion(file, calibration, "update", version.created_by, version.based_on, details)
    return replace(proposal, version=new, before=before, after=after, shortfall=shortfall_of(calibration))


def _without(scores: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores without others that are among them, each as often as it is there."""
    left = Counter(scores.tolist()) - Counter(others.tolist())
    return np.array(sorted(left.elements()), dtype=np.float64)


def _compared_anew(
    station: Station, model_id: int, predictors: tuple[Predictor, Predictor], proposal: Proposal
) -> tuple[Counts, Counts, Calibration]:
    """Verdicts of both on reviewed images, which both predict now."""
    old, new = predictors
    scores = new.calibration.scores
    if (proposal.version.details or {}).get("replaced"):
        scores = _without(scores, old.calibration.scores)
    try:
        calibration = Calibration(scores, proposal.version.calibration.false_alarm_rate)
    except TrainingError as error:
        raise UsageError(f"too few images calibrate after an update: {error}") from error
    row = PredictionRow
    with station.store.reading() as session:
        query = select(row).where(row.model_id == model_id, is_decided(), row.has_image)
        rows = list(session.scalars(query.order_by(row.id.desc()).limit(MAX_COMPARED)))
    files = station.store.files
    dataset = ImageFiles(
        [ImageFile(files.image(each.digest, each.media_type), each.name) for each in rows], "reviewed images"
    )
    predictions = [list(predictor.predict(dataset)) for predictor in (old, new)]
    readable = [i for i in range(len(rows)) if all(each[i].score is not None for each in predictions)]
    normal = np.array([rows[i].label == NORMAL for i in readable], dtype=bool)
    before, after = (
        Counts.of(np.array([each[i].score for i in readable], dtype=np.float64), normal, threshold)
        for each, threshold in zip(
            predictions, (old.calibration.threshold, calibration.threshold), strict=True
        )
    )
    return before, after, calibration
