"""Models and their versions: which file and which calibration predicts, and what was before."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ganomaly.calibration import Calibration
from ganomaly.errors import UsageError
from ganomaly.store.database import insert_new
from ganomaly.store.events import add_event
from ganomaly.store.schema import ModelRow, VersionRow


class UnknownModelError(UsageError):
    """There is no model with this name, or no such version of it."""


@dataclass(frozen=True)
class NewVersion:
    """A version that is not stored yet.

    Attributes
    ----------
    file : str
        Name of the model file in the store.
    calibration : Calibration
        Its calibration.
    reason : str
        Why there is one: "file", "recalibration", "update" or "threshold".
    created_by : str
        Who made it.
    based_on : int or None
        Number of the version before.
    details : dict
        What else is known, for the audit trail.
    """

    file: str
    calibration: Calibration
    reason: str
    created_by: str
    based_on: int | None = None
    details: dict[str, Any] | None = None


def find_model(session: Session, name: str) -> ModelRow:
    """A model by its name.

    Raises
    ------
    UnknownModelError
        If there is none.
    """
    row = session.scalars(select(ModelRow).where(ModelRow.name == name)).one_or_none()
    if row is None:
        names = sorted(session.scalars(select(ModelRow.name)))
        known = f"; there are {', '.join(names[:10])}" if names else ""
        raise UnknownModelError(f"there is no model {name[:80]}{known}")
    return row


def find_version(session: Session, model_id: int, number: int) -> VersionRow:
    """A version of a model.

    Raises
    ------
    UnknownModelError
        If there is none with this number.
    """
    row = session.scalars(
        select(VersionRow).where(VersionRow.model_id == model_id, VersionRow.number == number)
    ).one_or_none()
    if row is None:
        raise UnknownModelError(f"the model has no version {number}")
    return row


def versions_of(session: Session, model_id: int) -> list[VersionRow]:
    """All versions, newest first."""
    query = select(VersionRow).where(VersionRow.model_id == model_id).order_by(VersionRow.number.desc())
    return list(session.scalars(query))


def register_model(session: Session, name: str) -> ModelRow:
    """The model with this name, which is made if there is none; locked, as two servers may start together."""
    insert_new(session, ModelRow, [{"name": name, "created": datetime.now(UTC)}], ["name"])
    return session.scalars(select(ModelRow).where(ModelRow.name == name).with_for_update()).one()


def add_version(session: Session, model: ModelRow, new: NewVersion) -> VersionRow:
    """Store a version, and let it predict from now on."""
    session.refresh(model, with_for_update=True)  # another server may add one too
    highest = session.scalar(select(func.max(VersionRow.number)).where(VersionRow.model_id == model.id))
    row = VersionRow(
        model_id=model.id,
        number=(highest or 0) + 1,
        file=new.file,
        calibration_scores=new.calibration.scores.astype("<f8").tobytes(),
        false_alarm_rate=new.calibration.false_alarm_rate,
        threshold=new.calibration.threshold,
        based_on=new.based_on,
        reason=new.reason,
        details=new.details or {},
        created=datetime.now(UTC),
        created_by=new.created_by,
    )
    session.add(row)
    session.flush()
    activate_version(session, model, row.number, new.created_by, new.reason)
    return row


def activate_version(session: Session, model: ModelRow, number: int, actor: str, why: str) -> VersionRow:
    """Let a version predict from now on.

    Raises
    ------
    UnknownModelError
        If the model has no such version.
    """
    row = find_version(session, model.id, number)
    session.refresh(model, with_for_update=True)
    before, model.active_version = model.active_version, number
    add_event(session, actor, "activate version", model.name, version=number, before=before, why=why)
    return row


def calibration_of(version: VersionRow) -> Calibration:
    """The calibration of a version."""
    scores: NDArray[np.float64] = np.frombuffer(version.calibration_scores, dtype="<f8").astype(np.float64)
    return Calibration(scores, version.false_alarm_rate)
