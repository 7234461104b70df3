"""The page of a model: threshold, recalibration, versions, drift, and who did what."""

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from ganomaly.errors import UsageError
from ganomaly.service.answers import RecalibrationRequest
from ganomaly.service.charts import martingale_curve, score_histogram
from ganomaly.service.learning import propose, propose_new_rate
from ganomaly.service.recalibration import same_networks
from ganomaly.service.security import Token
from ganomaly.store.events import latest_events
from ganomaly.store.sample import complete_sample
from ganomaly.store.schema import NORMAL, UNSURE, PredictionRow
from ganomaly.store.versions import find_version, versions_of

if TYPE_CHECKING:
    from ganomaly.service.pages import PageRenderer
    from ganomaly.service.station import Station

RECOUNTED = 10_000
"""Predictions on which a threshold is tried, the newest."""

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""False-alarm rates of the slider."""

EVENTS = 50


def add_model_pages(router: APIRouter, render: "PageRenderer") -> None:
    """Add the page of a model and what its buttons do."""
    _add_showing(router, render)
    _add_changing(router, render)


def _add_showing(router: APIRouter, render: "PageRenderer") -> None:
    station = render.station

    @router.get("/models/{name}")
    def model(
        request: Request,
        name: str,
        rate: Annotated[float | None, Query(gt=0, lt=1)] = None,
        step: Annotated[int | None, Query(ge=0, lt=len(RATES))] = None,
    ) -> Response:
        caller = render.gate(request, "reviewer")
        resident = station.model(name).resident
        with station.store.reading() as session:
            active = find_version(session, resident.model_id, resident.version)
            versions = versions_of(session, resident.model_id)
            sample = complete_sample(
                session,
                resident.model_id,
                same_networks(session, resident.model_id, active.file),
                int((active.details or {}).get("last_prediction", 0)),
            )
            events = latest_events(session, reviews=False, most=EVENTS)
        drift = station.drift(name)
        points = [] if drift is None else drift.points
        return render(
            request,
            "model.html.j2",
            caller,
            name=name,
            active=active,
            versions=versions,
            sample=sample,
            events=events,
            drift=drift,
            alpha=station.settings.drift_alpha,
            curve=martingale_curve(points, station.settings.drift_alpha),
            **_recount(station, name, rate if step is None else RATES[step]),
        )

    @router.get("/models/{name}/threshold")
    def threshold(
        request: Request,
        name: str,
        step: Annotated[int, Query(ge=0, lt=len(RATES))],
    ) -> Response:
        caller = render.gate(request, "reviewer")
        return render(request, "threshold.html.j2", caller, name=name, **_recount(station, name, RATES[step]))


def _add_changing(router: APIRouter, render: "PageRenderer") -> None:
    station = render.station

    @router.post("/models/{name}/recalibrate")
    def recalibrate(
        request: Request,
        name: str,
        token: Token = None,
        use: Annotated[str, Form(pattern="^(auto|add|replace)$")] = "auto",
        update: Annotated[bool, Form()] = False,
        confirmed: Annotated[bool, Form()] = False,
    ) -> Response:
        caller = render.gate(request, "admin", form_token=token)
        wanted = RecalibrationRequest.model_validate({"use": use, "update": update})
        try:
            proposal = propose(station, name, caller.name, wanted)
        except UsageError as error:
            return render(
                request, "refused.html.j2", caller, status=422, reason=str(error), back=f"/models/{name}"
            )
        if not confirmed:
            return render(
                request, "proposal.html.j2", caller, name=name, proposal=proposal, use=use, update=update
            )
        station.accept(name, proposal)
        return RedirectResponse(f"/models/{name}", 303)

    @router.post("/models/{name}/rate")
    def rate(
        request: Request, name: str, value: Annotated[float, Form(gt=0, lt=1)], token: Token = None
    ) -> Response:
        caller = render.gate(request, "admin", form_token=token)
        station.model(name)
        station.accept(name, propose_new_rate(station, name, caller.name, value))
        return RedirectResponse(f"/models/{name}", 303)

    @router.post("/models/{name}/version")
    def put_back(
        request: Request, name: str, number: Annotated[int, Form(ge=1, lt=2**31)], token: Token = None
    ) -> Response:
        caller = render.gate(request, "admin", form_token=token)
        station.model(name)
        station.put_back(name, number, caller.name)
        return RedirectResponse(f"/models/{name}", 303)


def _recount(station: "Station", name: str, rate: float | None) -> dict[str, Any]:
    """What another false-alarm rate would mean for the newest predictions; nothing is changed."""
    resident = station.model(name).resident
    calibration = resident.predictor.calibration
    tried = calibration if rate is None else type(calibration)(calibration.scores, rate)
    with station.store.reading() as session:
        scores, labels = newest_scores(session, resident.model_id, resident.version)
    known = np.array([label is not None and label != UNSURE for label in labels], dtype=bool)
    normal = np.array([label == NORMAL for label in labels], dtype=bool)
    groups = {
        "normal": ("reviewed normal", scores[known & normal]),
        "anomalous": ("reviewed anomalous", scores[known & ~normal]),
        "unlabelled": ("not reviewed", scores[~known]),
    }
    drawn = {"calibration": ("calibration", calibration.scores), **groups}
    step = min(range(len(RATES)), key=lambda i: abs(RATES[i] - tried.false_alarm_rate))
    return {
        "tried": tried,
        "is_active": tried.false_alarm_rate == calibration.false_alarm_rate,
        "step": step,
        "steps": len(RATES),
        "recounted": [
            (
                group,
                int((values > calibration.threshold).sum()),
                int((values > tried.threshold).sum()),
                len(values),
            )
            for group, values in groups.values()
        ],
        "histogram": score_histogram(
            [(style, drawn[style][1]) for style in ("calibration", "unlabelled", "normal", "anomalous")],
            tried.threshold,
        ),
        "groups": [(style, group, len(values)) for style, (group, values) in drawn.items()],
    }


def newest_scores(session: Session, model_id: int, version: int) -> tuple[Any, list[str | None]]:
    """Scores and labels of the newest predictions whose scores are those of the same networks."""
    row = PredictionRow
    file = find_version(session, model_id, version).file
    query = (
        select(row.score, row.label)
        .where(row.model_id == model_id, row.version.in_(same_networks(session, model_id, file)))
        .order_by(row.id.desc())
        .limit(RECOUNTED)
    )
    found = session.execute(query).all()
    return np.array([score for score, _ in found], dtype=np.float64), [label for _, label in found]
