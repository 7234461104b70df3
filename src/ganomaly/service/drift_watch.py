"""Watches for drift: reads stored predictions in their order, away from the requests, so that it delays none.

What it computes follows from the store alone: two servers on one store find the same, and a restart changes nothing.
"""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from ganomaly.calibration.drift import DriftMonitor
from ganomaly.errors import UsageError
from ganomaly.store import Store
from ganomaly.store.drift_state import (
    drift_row,
    last_review_event,
    past_has_changed,
    scores_after,
)
from ganomaly.store.events import add_event
from ganomaly.store.outbox import add_to_outbox
from ganomaly.store.schema import DriftRow, ModelRow
from ganomaly.store.versions import calibration_of, find_version

SETTLED = timedelta(seconds=2)
"""After so long no prediction with a smaller number appears any more."""

MAX_POINTS = 400
"""Of the plot; with more, every second one is dropped."""

LOG10 = math.log(10)


def watch_drift(
    store: Store,
    model_id: int,
    version: int,
    *,
    alpha: float,
    webhooks: tuple[str, ...] = (),
    may_rebuild: bool = True,
) -> DriftRow:
    """Read what came since the last time; report drift where it is found for the first time.

    Parameters
    ----------
    store : Store
        Where predictions and reviews are.
    model_id, version : int
        Which version to watch.
    alpha : float
        Share of undisturbed stations that may ever alarm.
    webhooks : tuple of str
        Who is told.
    may_rebuild : bool
        Whether a review that changed the past is heeded now, by reading everything anew, which takes seconds for a
        million predictions; otherwise it waits for a later call.

    Returns
    -------
    DriftRow
        What is known now.
    """
    now = datetime.now(UTC)
    with store.reading() as session:
        before = drift_row(session, model_id, version)
        event = last_review_event(session)
        start: DriftRow | None = before
        if before is not None and past_has_changed(
            session, before.last_event, before.last_prediction, model_id, version
        ):
            start, event = (None, event) if may_rebuild else (before, before.last_event)
        row = _read_on(session, start, model_id, version, alpha, now - SETTLED)
    if before is not None and start is before and row.last_prediction == before.last_prediction:
        return before
    row.last_event, row.changed = event, now
    return _write(store, row, webhooks)


def _read_on(
    session: Session, start: DriftRow | None, model_id: int, version: int, alpha: float, until: datetime
) -> DriftRow:
    """Read all predictions until a time, from where an earlier reading ended, or from the first one."""
    monitor = None if start is None else _remembered(start)
    if start is None or monitor is None:
        calibration = calibration_of(find_version(session, model_id, version))
        monitor = DriftMonitor.from_calibration(calibration, alpha, seed=version)
        last, points, alarm = 0, [], None
    else:
        last, points, alarm = start.last_prediction, list(start.points), start.alarm_prediction
    for some in scores_after(session, model_id, version, last, until):
        first = monitor.images
        values = monitor.update([score for _, score, _ in some], [out for _, _, out in some])
        points = _with_points(points, first, values / LOG10)
        if alarm is None and monitor.alarm_at is not None:
            alarm = some[monitor.alarm_at - first][0]
        last = some[-1][0]
    return DriftRow(
        model_id=model_id,
        version=version,
        last_prediction=last,
        state=monitor.to_dict(),
        points=points,
        alarm_prediction=alarm,
        alarm_cause=monitor.alarm_cause,
        alarm=None,
    )


def _remembered(row: DriftRow) -> DriftMonitor | None:
    try:
        return DriftMonitor.from_dict(row.state)
    except UsageError:  # of another version of this package: it is made anew from the scores
        return None


def _write(store: Store, row: DriftRow, webhooks: tuple[str, ...]) -> DriftRow:
    with store.writing() as session:
        stored = session.get(DriftRow, (row.model_id, row.version), with_for_update=True)
        model = session.get_one(ModelRow, row.model_id)
        if stored is not None and stored.last_prediction > row.last_prediction:
            return stored  # another server has read further
        was_alarmed = None if stored is None else stored.alarm
        if row.alarm_prediction is not None:
            row.alarm = was_alarmed or row.changed
        subject = f"{model.name} version {row.version}"
        if row.alarm is not None and was_alarmed is None:
            add_event(session, "drift watch", "drift alarm", subject, prediction=row.alarm_prediction)
            payload = {
                "event": "drift",
                "model": model.name,
                "version": row.version,
                "prediction": row.alarm_prediction,
                "cause": row.alarm_cause,
                "created": row.changed.isoformat(),
            }
            key = f"drift {model.name} {model.created.isoformat()} {row.version} {row.alarm_prediction}"
            add_to_outbox(session, webhooks, model.name, key, payload)
        if row.alarm is None and was_alarmed is not None:
            add_event(session, "drift watch", "drift explained by reviews", subject)
        return session.merge(row)


def _with_points(points: list[list[float]], start: int, log10: NDArray[np.float64]) -> list[list[float]]:
    """Add the values of some images; a long curve is thinned, and keeps its last point."""
    step = max(1, len(log10) // MAX_POINTS)
    positions = [*range(step - 1, len(log10), step)]
    if positions and positions[-1] != len(log10) - 1:
        positions.append(len(log10) - 1)
    points = points + [[start + position + 1, round(float(log10[position]), 4)] for position in positions]
    while len(points) > MAX_POINTS:
        points = [*points[:-1:2], points[-1]]
    return points
