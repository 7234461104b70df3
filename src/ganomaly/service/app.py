"""The web application: routes, pages, limits and errors around a station."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from ganomaly.config import described_error
from ganomaly.errors import GANomalyError, ImageError, UsageError
from ganomaly.service.answers import HealthAnswer
from ganomaly.service.api import api_routes, error_response
from ganomaly.service.limits import Limits
from ganomaly.service.line import Line
from ganomaly.service.monitoring import LOG, Metrics
from ganomaly.service.pages import PageRenderer, add_pages
from ganomaly.service.security import Gate, RequestError
from ganomaly.service.served_model import QueueFullError
from ganomaly.service.station import Station
from ganomaly.store import StoreError
from ganomaly.store.reviews import UnknownPredictionError
from ganomaly.store.versions import UnknownModelError
from ganomaly.version import __version__

STATIC = Path(__file__).parent / "static"
MIN_FREE_BYTES = 100 * 2**20
"""With less space on the disk the station is not ready."""

RETRY_SECONDS = "1"


def make_app(station: Station) -> FastAPI:
    """The application of a station, which it closes when it ends, with what connects it to a line.

    Raises
    ------
    UsageError, GANomalyError
        If something cannot be connected.
    """
    line = Line(station)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        line.close()
        station.close()

    app = FastAPI(
        title="ganomaly",
        version=__version__,
        summary="Predict images, review predictions, recalibrate.",
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    gate = Gate(station)
    metrics = Metrics(station)
    app.include_router(api_routes(station, gate))
    _add_health(app, station)

    @app.get("/metrics", response_class=Response)
    def exposition(request: Request) -> Response:
        """Metrics for Prometheus."""
        gate(request, "station")
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    render = add_pages(app, station, gate)
    _add_errors(app, render)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Limits, settings=station.settings, metrics=metrics)
    return app


def _add_health(app: FastAPI, station: Station) -> None:
    @app.get("/health/live")
    def live() -> HealthAnswer:
        """Whether the process answers."""
        return HealthAnswer(status="ok", problems={})

    @app.get("/health/ready", responses={503: {"model": HealthAnswer}})
    def ready(response: Response) -> HealthAnswer:
        """Whether it can predict and store."""
        problems = {**station.problems, **station.slow_models()}
        try:
            with station.store.reading() as session:
                session.connection()
            free = shutil.disk_usage(station.store.files.folder).free
            if free < MIN_FREE_BYTES:
                problems["disk"] = f"{free / 2**20:.0f} MiB are free where images are stored"
        except (StoreError, OSError) as error:
            problems["store"] = str(error)
        if problems:
            response.status_code = 503
        return HealthAnswer(status="not ready" if problems else "ok", problems=problems)


def status_of(error: GANomalyError) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer to an error."""
    match error:
        case RequestError():
            return error.status, error.headers
        case QueueFullError():
            return 429, {"Retry-After": RETRY_SECONDS}
        case UnknownModelError() | UnknownPredictionError():
            return 404, {}
        case ImageError() | UsageError():
            return 422, {}
        case _:  # the store, the disk
            return 503, {"Retry-After": RETRY_SECONDS}


def _add_errors(app: FastAPI, render: PageRenderer) -> None:
    def answer(
        request: Request, status: int, sentence: str, headers: dict[str, str] | None = None
    ) -> Response:
        wants_page = "text/html" in request.headers.get("accept", "")
        if not wants_page or request.url.path.startswith("/v1/"):
            return error_response(status, sentence, headers)
        if status == 401:
            return RedirectResponse("/sign-in", 303)
        return render(request, "refused.html.j2", None, status=status, reason=sentence, back="/")

    @app.exception_handler(GANomalyError)
    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, GANomalyError)
        status, headers = status_of(error)
        if status == 503:
            LOG.warning("%s", error)
        return answer(request, status, str(error), headers)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first: dict[str, Any] = dict(error.errors()[0])
        where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return answer(request, 422, f"{where}{described_error(first)}")

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(request, error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> Response:
        LOG.error("unexpected error", exc_info=error)
        return answer(request, 500, f"unexpected {type(error).__name__}; the log has more")
