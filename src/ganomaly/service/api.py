"""The HTTP API: each route a thin function over one of the store or of the station."""

import asyncio
from concurrent.futures import Future
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from ganomaly.service.answers import (
    DriftAnswer,
    ErrorAnswer,
    ModelAnswer,
    ModelsAnswer,
    PredictionAnswer,
    PredictionsAnswer,
    ProposalAnswer,
    RecalibrationRequest,
    ReviewRequest,
    VersionAnswer,
    VersionRequest,
)
from ganomaly.service.images import overlay_jpeg, stored_image, stored_map
from ganomaly.service.learning import propose
from ganomaly.service.security import Gate, RequestError
from ganomaly.service.served_model import Upload
from ganomaly.service.station import Station
from ganomaly.service.uploads import check_header, read_upload
from ganomaly.store.keys import Caller
from ganomaly.store.predictions import Filter, Order, find_by_key, list_predictions
from ganomaly.store.reviews import UnknownPredictionError, add_review, get_prediction, reviews_of, undo_review
from ganomaly.store.schema import MAX_KEY, MAX_LABEL, PredictionRow, VersionRow
from ganomaly.store.versions import find_model, versions_of

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer} for status in (400, 401, 403, 404, 408, 409, 413, 422, 429, 503)
}
IMAGE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}
PredictionId = Annotated[int, Path(ge=1, lt=2**63, alias="id")]
ModelName = Annotated[str, Path(alias="model", min_length=1, max_length=255)]


def api_routes(station: Station, gate: Gate) -> APIRouter:
    """All routes under /v1."""
    router = APIRouter(prefix="/v1", responses=ERRORS)
    _add_predicting(router, station, gate)
    _add_reading(router, station, gate)
    _add_showing(router, station, gate)
    _add_reviewing(router, station, gate)
    _add_models(router, station, gate)
    return router


def _add_predicting(router: APIRouter, station: Station, gate: Gate) -> None:
    @router.post("/models/{model}/predictions", status_code=201, openapi_extra=IMAGE_BODY)
    async def predict(
        request: Request,
        model: ModelName,
        name: Annotated[str, Query(max_length=255, description="What you call the part.")] = "",
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=MAX_KEY)] = None,
    ) -> PredictionAnswer:
        """Predict one image and store the prediction: once this answers, it is stored."""
        caller = await asyncio.to_thread(gate, request, "station")
        served = station.model(model)
        upload = await read_upload(request, station.settings, name, source_of(caller))
        if idempotency_key is not None:
            known = await asyncio.to_thread(_known, station, served.resident.model_id, idempotency_key)
            if known is not None:
                return PredictionAnswer.of(_same_image(known, upload), model)
        await asyncio.to_thread(check_header, upload, station.settings)
        row = await answered(served.submit(upload), station.settings.request_seconds)
        return PredictionAnswer.of(_same_image(row, upload), model)


def source_of(caller: Caller) -> str:
    """What a prediction says of who sent its image."""
    return f"http {caller.name}"[:MAX_LABEL]


def check_own(caller: Caller, row: PredictionRow) -> None:
    """Raise `UnknownPredictionError` if a station's key asks for what another one sent."""
    if not caller.may("reviewer") and row.source != source_of(caller):
        raise UnknownPredictionError(f"the key {caller.name} sent no image with prediction {row.id}")


def _own(station: Station, caller: Caller, number: int) -> PredictionRow:
    with station.store.reading() as session:
        row = get_prediction(session, number)
    check_own(caller, row)
    return row


async def answered(future: "Future[PredictionRow]", seconds: float) -> PredictionRow:
    """What the future gives, in time.

    Raises
    ------
    RequestError
        503 if it takes too long; the prediction may be stored later.
    """
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
    except TimeoutError:
        raise RequestError(
            503, f"no answer within {seconds:g} s; send the image again with the same Idempotency-Key"
        ) from None


def _known(station: Station, model_id: int, key: str) -> PredictionRow | None:
    with station.store.reading() as session:
        return find_by_key(session, model_id, key)


def _same_image(row: PredictionRow, upload: Upload) -> PredictionRow:
    if row.digest != upload.digest:
        raise RequestError(409, f"the Idempotency-Key {row.key[:80]} belongs to another image")
    return row


def _add_reading(router: APIRouter, station: Station, gate: Gate) -> None:
    @router.get("/predictions")
    def predictions(
        request: Request,
        model: Annotated[str | None, Query(max_length=255)] = None,
        verdict: Annotated[str | None, Query(pattern="^(normal|anomalous)$")] = None,
        reviewed: bool | None = None,
        label: Annotated[str | None, Query(max_length=64)] = None,
        since: datetime | None = None,
        until: datetime | None = None,
        max_p_value: Annotated[float | None, Query(ge=0, le=1)] = None,
        disagrees: bool | None = None,
        in_sample: bool | None = None,
        name: Annotated[str | None, Query(max_length=255)] = None,
        order: Order = "newest",
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(max_length=500)] = None,
    ) -> PredictionsAnswer:
        """List predictions, newest or worst first, a page at a time."""
        gate(request, "reviewer")
        with station.store.reading() as session:
            wanted = Filter(
                None if model is None else find_model(session, model).id,
                None if verdict is None else verdict == "anomalous",
                reviewed,
                label,
                _with_zone(since),
                _with_zone(until),
                max_p_value,
                disagrees,
                in_sample,
                name,
            )
            page = list_predictions(session, wanted, order=order, limit=limit, cursor=cursor)
        rows = [PredictionAnswer.of(row, station.name_of(row.model_id)) for row in page.rows]
        return PredictionsAnswer(predictions=rows, next_cursor=page.next_cursor)


def _add_showing(router: APIRouter, station: Station, gate: Gate) -> None:
    @router.get("/predictions/{id}")
    def prediction(request: Request, number: PredictionId) -> PredictionAnswer:
        """One prediction, with its reviews."""
        caller = gate(request, "station")
        with station.store.reading() as session:
            row = get_prediction(session, number)
            check_own(caller, row)
            return PredictionAnswer.of(row, station.name_of(row.model_id), reviews_of(session, number))

    @router.get("/predictions/{id}/image", response_class=FileResponse)
    def image(request: Request, number: PredictionId) -> Response:
        """The image as it was sent."""
        row = _own(station, gate(request, "station"), number)
        return FileResponse(stored_image(station, row), media_type=row.media_type)

    @router.get("/predictions/{id}/map", response_class=FileResponse)
    def anomaly_map(request: Request, number: PredictionId) -> Response:
        """The anomaly map: 16-bit gray PNG at the network's size, half of white is the threshold."""
        row = _own(station, gate(request, "station"), number)
        return FileResponse(stored_map(station, row), media_type="image/png")

    @router.get("/predictions/{id}/overlay", response_class=Response)
    def overlay(request: Request, number: PredictionId) -> Response:
        """The image with its anomaly map in colours, as JPEG of at most 1,024 px."""
        row = _own(station, gate(request, "station"), number)
        return Response(overlay_jpeg(station, row), media_type="image/jpeg")


def _add_reviewing(router: APIRouter, station: Station, gate: Gate) -> None:
    @router.put("/predictions/{id}/review")
    def review(request: Request, number: PredictionId, said: ReviewRequest) -> PredictionAnswer:
        """Say what an image is; it replaces the review before."""
        caller = gate(request, "reviewer")
        with station.store.writing() as session:
            row = add_review(session, number, said.label, said.note, caller.name)
            session.flush()
            return PredictionAnswer.of(row, station.name_of(row.model_id), reviews_of(session, number))

    @router.delete("/predictions/{id}/review")
    def undo(request: Request, number: PredictionId) -> PredictionAnswer:
        """Take the last review back; the one before it holds again."""
        caller = gate(request, "reviewer")
        with station.store.writing() as session:
            row = undo_review(session, number, caller.name)
            session.flush()
            return PredictionAnswer.of(row, station.name_of(row.model_id), reviews_of(session, number))


def _add_models(router: APIRouter, station: Station, gate: Gate) -> None:
    @router.get("/models")
    def models(request: Request) -> ModelsAnswer:
        """All models with their versions."""
        gate(request, "station")
        return ModelsAnswer(models=[model_answer(station, name) for name in station.models])

    @router.get("/models/{model}/drift")
    def drift(request: Request, model: ModelName) -> DriftAnswer:
        """Whether the images have changed since the calibration."""
        gate(request, "reviewer")
        resident = station.model(model).resident
        return DriftAnswer.of(model, resident.version, station.settings.drift_alpha, station.drift(model))

    @router.post("/models/{model}/recalibrations", status_code=201)
    def recalibrate(
        request: Request, model: ModelName, wanted: RecalibrationRequest, response: Response
    ) -> ProposalAnswer:
        """Make a version from reviewed normal images, or compare only."""
        caller = gate(request, "admin")
        station.model(model)
        proposal = propose(station, model, caller.name, wanted)
        version: VersionRow | None = None
        if wanted.dry_run:
            response.status_code = 200
        else:
            version = station.accept(model, proposal)
        answer = None if version is None else VersionAnswer.of(version)
        return ProposalAnswer(version=answer, proposal=proposal.as_dict())

    @router.put("/models/{model}/version")
    def put_back(request: Request, model: ModelName, wanted: VersionRequest) -> ModelAnswer:
        """Predict with another version that there was."""
        caller = gate(request, "admin")
        station.model(model)
        station.put_back(model, wanted.version, caller.name)
        return model_answer(station, model)


def model_answer(station: Station, name: str) -> ModelAnswer:
    """A model with its versions, newest first."""
    served = station.model(name)
    predictor = served.resident.predictor
    with station.store.reading() as session:
        versions = [VersionAnswer.of(row) for row in versions_of(session, served.resident.model_id)]
    return ModelAnswer(
        name=name,
        method=predictor.method_name,
        preset=predictor.preset,
        active_version=served.resident.version,
        threshold=predictor.calibration.threshold,
        false_alarm_rate=predictor.calibration.false_alarm_rate,
        waiting=served.waiting,
        versions=versions,
    )


def error_response(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """One sentence."""
    return JSONResponse({"error": sentence}, status, headers)


def _with_zone(time: datetime | None) -> datetime | None:
    """A time without a zone is one of this machine."""
    if time is None:
        return None
    try:
        return time.astimezone()
    except (OverflowError, ValueError, OSError):
        raise RequestError(422, f"{time.isoformat()} is not a time that is stored") from None
