"""New versions from reviewed images: another threshold, another calibration, or more in the memory of the model.

Whatever is made is compared with the version before on all reviewed images first, and can be put back.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from ganomaly.calibration import ROUNDING, Calibration
from ganomaly.calibration.conformal import images_needed
from ganomaly.errors import TrainingError, UsageError
from ganomaly.store.reviews import is_decided
from ganomaly.store.sample import Sample, complete_sample
from ganomaly.store.schema import NORMAL, ModelRow, PredictionRow, VersionRow
from ganomaly.store.versions import NewVersion, calibration_of, find_version, versions_of

Use = Literal["auto", "add", "replace"]
MIN_IMAGES = 2
"""Calibration scores that differ take two images at least."""

MAX_COMPARED = 20_000
"""Reviewed images that two versions are compared on, the newest."""


@dataclass(frozen=True)
class Counts:
    """Verdicts on reviewed images.

    Attributes
    ----------
    false_alarms, normal : int
        Images reviewed as normal that are called anomalous; of how many.
    found, anomalous : int
        Images reviewed as anomalous that are called so; of how many.
    """

    false_alarms: int
    normal: int
    found: int
    anomalous: int

    @classmethod
    def of(cls, scores: NDArray[np.float64], normal: NDArray[np.bool_], threshold: float) -> "Counts":
        """Count the scores `float64[n]` above a threshold; `normal`, `bool[n]`, is what reviews say."""
        called = scores > threshold
        return cls(
            int(called[normal].sum()),
            int(normal.sum()),
            int(called[~normal].sum()),
            int((~normal).sum()),
        )


@dataclass(frozen=True)
class Proposal:
    """A version that could be, beside the one that is.

    Attributes
    ----------
    version : NewVersion
        Not stored yet.
    before, after : Counts
        Verdicts of both on the same reviewed images.
    sample : Sample or None
        The images that calibrate it; None where only the rate changes.
    shortfall : str or None
        A sentence where there are too few of them for the false-alarm rate.
    """

    version: NewVersion
    before: Counts
    after: Counts
    sample: Sample | None
    shortfall: str | None

    def as_dict(self) -> dict[str, Any]:
        """For the audit trail and for answers."""
        return {
            "threshold": self.version.calibration.threshold,
            "false_alarm_rate": self.version.calibration.false_alarm_rate,
            "calibration_images": len(self.version.calibration.scores),
            "before": vars(self.before),
            "after": vars(self.after),
            "shortfall": self.shortfall,
            **(self.version.details or {}),
        }


def propose_recalibration(
    session: Session,
    model: ModelRow,
    actor: str,
    *,
    use: Use = "auto",
    drifted_since: int | None = None,
    false_alarm_rate: float | None = None,
) -> Proposal:
    """A calibration with the reviewed normal images of the sample.

    Parameters
    ----------
    session : Session
        Of the store.
    model : ModelRow
        Which model.
    actor : str
        Who asks.
    use : {'auto', 'add', 'replace'}
        Whether the images are added to those that calibrated before, or take their place. `auto` adds them, unless
        drift was found: then images from before say nothing about those to come.
    drifted_since : int, optional
        Number of the prediction at which drift was found, if it was: images from before do not calibrate then.
    false_alarm_rate : float, optional
        Another rate; that of the version before if left out.

    Raises
    ------
    UsageError
        If no image of the sample may calibrate, or the rate is not between 0 and 1.
    """
    active = _active(session, model)
    rate = active.false_alarm_rate if false_alarm_rate is None else false_alarm_rate
    if not 0 < rate < 1:
        raise UsageError(f"the false-alarm rate is {rate:g}, but it must be between 0 and 1")
    replaces = drifted_since is not None if use == "auto" else use == "replace"
    after = int((active.details or {}).get("last_prediction", 0))
    if replaces and drifted_since is not None:
        after = max(after, drifted_since)
    versions = same_networks(session, model.id, active.file)
    sample = complete_sample(session, model.id, versions, after)
    scores = sample.scores * (1 + ROUNDING)
    if len(scores) < (MIN_IMAGES if replaces else 1):
        raise UsageError(_why_not(sample))
    if not replaces:
        scores = np.concatenate([calibration_of(active).scores, scores])
    try:
        calibration = Calibration(scores, rate)
    except TrainingError as error:
        raise UsageError(f"these images cannot calibrate: {error}") from error
    details = {
        "added": len(sample.normal),
        "replaced": replaces,
        "last_prediction": sample.normal[-1].id,
        "waiting": sample.waiting,
    }
    return _proposal(session, model, active, calibration, "recalibration", actor, details, sample)


def propose_rate(session: Session, model: ModelRow, actor: str, false_alarm_rate: float) -> Proposal:
    """The same calibration with another false-alarm rate, hence another threshold.

    Raises
    ------
    UsageError
        If the rate is not between 0 and 1.
    """
    if not 0 < false_alarm_rate < 1:
        raise UsageError(f"the false-alarm rate is {false_alarm_rate:g}, but it must be between 0 and 1")
    active = _active(session, model)
    calibration = replace(calibration_of(active), false_alarm_rate=false_alarm_rate)
    details = {"last_prediction": (active.details or {}).get("last_prediction", 0)}
    return _proposal(session, model, active, calibration, "false-alarm rate", actor, details, None)


def shortfall_of(calibration: Calibration) -> str | None:
    """A sentence if there are too few calibration images for the false-alarm rate, else None."""
    if calibration.enough:
        return None
    needed = images_needed(calibration.false_alarm_rate)
    return (
        f"A false-alarm rate of {calibration.false_alarm_rate:.2%} needs {needed} calibration images, and there are "
        f"{len(calibration.scores)}, so that it is {calibration.attained_rate:.2%} instead: review "
        f"{needed - len(calibration.scores)} normal images of the sample more, or choose a higher rate"
    )


def same_networks(session: Session, model_id: int, file: str) -> list[int]:
    """Versions of a model with this file: their scores can be compared."""
    return [version.number for version in versions_of(session, model_id) if version.file == file]


def compare_on_reviewed(
    session: Session, model_id: int, versions: list[int], thresholds: tuple[float, float]
) -> tuple[Counts, Counts]:
    """Verdicts of two thresholds on the reviewed images whose stored scores are of these versions."""
    row = PredictionRow
    query = (
        select(row.score, row.label)
        .where(
            row.model_id == model_id,
            row.version.in_(versions),
            is_decided(),
        )
        .order_by(row.id.desc())
        .limit(MAX_COMPARED)
    )
    found = session.execute(query).all()
    scores = np.array([score for score, _ in found], dtype=np.float64)
    normal = np.array([label == NORMAL for _, label in found], dtype=bool)
    before, after = (Counts.of(scores, normal, threshold) for threshold in thresholds)
    return before, after


def _active(session: Session, model: ModelRow) -> VersionRow:
    assert model.active_version is not None
    return find_version(session, model.id, model.active_version)


def _why_not(sample: Sample) -> str:
    if sample.waiting:
        return (
            f"{sample.waiting} images of the sample wait, the first is prediction {sample.first_gap}: review the "
            "sample in its order, because only images without a gap before them may calibrate"
        )
    return "no new image of the sample was reviewed as normal; review some first"


def _proposal(
    session: Session,
    model: ModelRow,
    active: VersionRow,
    calibration: Calibration,
    reason: str,
    actor: str,
    details: dict[str, Any],
    sample: Sample | None,
) -> Proposal:
    versions = same_networks(session, model.id, active.file)
    before, after = compare_on_reviewed(
        session, model.id, versions, (active.threshold, calibration.threshold)
    )
    new = NewVersion(active.file, calibration, reason, actor, active.number, details)
    shortfall = shortfall_of(calibration)
    return Proposal(new, before, after, sample, shortfall)
