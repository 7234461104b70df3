"""The review pages: server-rendered, usable without JavaScript and quicker with it."""

from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, FastAPI, Form, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel

from ganomaly.outputs import report
from ganomaly.service.images import image_jpeg, overlay_jpeg, reconstruction_jpeg
from ganomaly.service.model_page import add_model_pages
from ganomaly.service.security import (
    SESSION_COOKIE,
    TOKEN_COOKIE,
    TOKEN_FIELD,
    Gate,
    RequestError,
    Token,
    check_same_site,
    new_token,
    set_cookie,
)
from ganomaly.service.station import Station
from ganomaly.service.upload_page import add_upload_page
from ganomaly.store.keys import SESSION_TIME, Caller, begin_session, end_session
from ganomaly.store.predictions import Filter, Order, count_predictions, cursor_after, list_predictions
from ganomaly.store.reviews import add_review, get_prediction, labels_of, reviews_of, undo_review
from ganomaly.store.schema import NORMAL, UNSURE, PredictionRow
from ganomaly.version import __version__

STRIP = 13
"""Predictions on a page: the one in view and those that come next."""

LIVE = 24
KEYS_OF_KINDS = "123456789"
FIRST_KINDS = ("defect",)
"""Kinds that always have the first keys; others follow in the order in which they were first named."""

VIEWS = {
    "queue": "To review",
    "sample": "Sample",
    "disagreements": "Disagreements",
    "all": "All",
}
"""Names of the lists of predictions."""


class Wanted(BaseModel, frozen=True):
    """What a page of predictions shows, as its address says it.

    Attributes
    ----------
    view : str
        One of `VIEWS`.
    model, verdict, day, name, cursor : str
        Filters; empty where there is none.
    p : str
        The largest p-value.
    after : int
        The prediction that was reviewed last, to take it back; 0 if there is none.
    """

    view: str = "queue"
    model: str = ""
    verdict: str = ""
    day: str = ""
    p: str = ""
    name: str = ""
    cursor: str = ""
    after: int = 0

    @property
    def order(self) -> Order:
        """Worst first; the sample as it came, so that no gap is left before an image."""
        orders: dict[str, Order] = {"all": "newest", "sample": "oldest"}
        return orders.get(self.view, "worst")

    def filter(self, model_id: int | None, served: frozenset[int]) -> Filter:
        """The same for the store.

        Parameters
        ----------
        model_id : int or None
            The model that is named, if one is.
        served : frozenset of int
            Models of this station; what waits for a review is of these, because nothing comes of other reviews.

        Raises
        ------
        RequestError
            422 if a filter cannot be understood.
        """
        since = until = None
        try:
            if self.day:
                since = datetime.strptime(self.day, "%Y-%m-%d").astimezone()
                until = since + timedelta(days=1)
            largest = float(self.p) if self.p else None
        except (ValueError, OverflowError, OSError):
            raise RequestError(
                422, "a day is written 2026-01-31, and a p-value is a number from 0 to 1"
            ) from None
        waits = self.view in ("queue", "sample")
        return Filter(
            model_id,
            {"anomalous": True, "normal": False}.get(self.verdict),
            reviewed=False if waits else None,
            in_sample=True if self.view == "sample" else None,
            disagrees=True if self.view == "disagreements" else None,
            since=since,
            until=until,
            max_p_value=largest,
            name=self.name or None,
            among=served if waits else None,
        )

    def address(self, **changes: str) -> str:
        """The address of this page, or of one with changes."""
        fields = {**self.model_dump(exclude={"after"}), **changes}
        query = urlencode({key: value for key, value in fields.items() if value and value != "queue"})
        return f"/?{query}" if query else "/"


class PageRenderer:
    """Renders templates for somebody who asks.

    Parameters
    ----------
    station, gate
        What is shown, and who may see it.
    """

    def __init__(self, station: Station, gate: Gate) -> None:
        self.station, self.gate = station, gate
        self._environment = Environment(
            loader=PackageLoader("ganomaly.service"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["when"] = _when
        self._environment.filters["number"] = _number

    def __call__(
        self, request: Request, template: str, caller: Caller | None, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """A page with the token of its browser."""
        token = request.cookies.get(TOKEN_COOKIE) or new_token()
        content = self._environment.get_template(template).render(
            caller=caller,
            token=token,
            token_field=TOKEN_FIELD,
            version=__version__,
            models=list(self.station.models),
            problems={**self.station.problems, **self.station.slow_models()},
            views=VIEWS,
            **values,
        )
        response = HTMLResponse(content, status)
        if TOKEN_COOKIE not in request.cookies:
            set_cookie(response, request, TOKEN_COOKIE, token)
        return response


def add_pages(app: FastAPI, station: Station, gate: Gate) -> PageRenderer:
    """Add all pages; return what renders them."""
    render = PageRenderer(station, gate)
    router = APIRouter(include_in_schema=False)
    _add_lists(router, render)
    _add_showing(router, render)
    _add_reviewing(router, render)
    _add_images(router, render)
    _add_signing_in(router, render)
    add_model_pages(router, render)
    add_upload_page(router, render)
    app.include_router(router)

    @app.get("/static/report.css", include_in_schema=False)
    def report_style() -> FileResponse:
        """The style of the report, which the pages share."""
        return FileResponse(report.STYLE, media_type="text/css")

    return render


def _add_lists(router: APIRouter, render: PageRenderer) -> None:
    station = render.station

    @router.get("/")
    def predictions(request: Request, wanted: Annotated[Wanted, Query()]) -> Response:
        try:
            caller = render.gate(request, "reviewer")
        except RequestError as error:
            if error.status == 401:
                return RedirectResponse("/sign-in", 303)
            raise
        if wanted.view not in VIEWS:
            raise RequestError(404, f"there is no list {wanted.view[:80]}")
        with station.store.reading() as session:
            model_id = station.model(wanted.model).resident.model_id if wanted.model else None
            served = frozenset(each.resident.model_id for each in station.models.values())
            found = wanted.filter(model_id, served)
            page = list_predictions(
                session, found, order=wanted.order, limit=STRIP, cursor=wanted.cursor or None
            )
            selected = page.rows[0] if page.rows else None
            reviewed_last = get_prediction(session, wanted.after) if wanted.after else None
            details = {} if selected is None else _details(session, station, selected)
            count = count_predictions(session, found)
        after_cursor = "" if selected is None else cursor_after(wanted.order, selected)
        is_left = wanted.view in ("queue", "sample")  # a review takes the image out of the list
        return render(
            request,
            "predictions.html.j2",
            caller,
            wanted=wanted,
            page=page,
            selected=selected,
            after_cursor=after_cursor,
            back=wanted.address() if is_left else wanted.address(cursor=after_cursor),
            reviewed_last=reviewed_last,
            count=count,
            names={row.id: station.name_of(row.model_id) for row in page.rows},
            **details,
        )


def _add_showing(router: APIRouter, render: PageRenderer) -> None:
    station = render.station

    @router.get("/live")
    def live(request: Request, model: str = "") -> Response:
        caller = render.gate(request, "reviewer")
        with station.store.reading() as session:
            model_id = station.model(model).resident.model_id if model else None
            rows = list_predictions(session, Filter(model_id), limit=LIVE).rows
        names = {row.id: station.name_of(row.model_id) for row in rows}
        return render(request, "live.html.j2", caller, rows=rows, names=names, model=model)

    @router.get("/predictions/{number}")
    def prediction(request: Request, number: int) -> Response:
        caller = render.gate(request, "reviewer")
        with station.store.reading() as session:
            row = get_prediction(session, number)
            same_part = Filter(row.model_id, name=row.name)
            history = list_predictions(session, same_part, limit=20).rows
            details = _details(session, station, row)
        return render(
            request,
            "prediction.html.j2",
            caller,
            selected=row,
            history=history,
            back=f"/predictions/{number}",
            names={row.id: station.name_of(row.model_id)},
            **details,
        )


def _details(session: Any, station: Station, row: PredictionRow) -> dict[str, Any]:
    """What is shown beside an image."""
    kinds = list(dict.fromkeys([*FIRST_KINDS, *labels_of(session, row.model_id)]))
    served = station.models.get(station.name_of(row.model_id))
    return {
        "kinds": list(zip(KEYS_OF_KINDS, kinds, strict=False)),
        "reviews": reviews_of(session, row.id),
        "normal": NORMAL,
        "unsure": UNSURE,
        "reconstructs": served is not None and served.reconstructs,
        "rate": None if served is None else served.resident.predictor.calibration.attained_rate,
    }


def _add_reviewing(router: APIRouter, render: PageRenderer) -> None:
    store = render.station.store

    @router.post("/predictions/{number}/review")
    def review(
        request: Request,
        number: int,
        token: Token = None,
        label: Annotated[str, Form(max_length=64)] = "",
        other: Annotated[str, Form(max_length=64)] = "",
        note: Annotated[str, Form(max_length=2000)] = "",
        back: Annotated[str, Form(max_length=2000)] = "/",
    ) -> Response:
        caller = render.gate(request, "reviewer", form_token=token)
        with store.writing() as session:
            add_review(session, number, label or other, note, caller.name)
        return RedirectResponse(_with_after(_local(back), number), 303)

    @router.post("/predictions/{number}/undo")
    def undo(
        request: Request,
        number: int,
        token: Token = None,
        back: Annotated[str, Form(max_length=2000)] = "/",
    ) -> Response:
        caller = render.gate(request, "reviewer", form_token=token)
        with store.writing() as session:
            undo_review(session, number, caller.name)
        return RedirectResponse(_local(back), 303)


def _add_images(router: APIRouter, render: PageRenderer) -> None:
    @router.get("/images/{number}/{what}.jpg")
    def drawn(
        request: Request, number: int, what: str, side: Annotated[int, Query(ge=32, le=1024)] = 1024
    ) -> Response:
        render.gate(request, "reviewer")
        station = render.station
        with station.store.reading() as session:
            row = get_prediction(session, number)
        match what:
            case "image":
                content = image_jpeg(station, row, side)
            case "overlay":
                content = overlay_jpeg(station, row, side)
            case "reconstruction":
                content = reconstruction_jpeg(station, row)
            case _:
                raise RequestError(404, "there are image, overlay and reconstruction")
        return Response(content, media_type="image/jpeg")


def _add_signing_in(router: APIRouter, render: PageRenderer) -> None:
    store = render.station.store

    @router.get("/sign-in")
    def sign_in_page(request: Request) -> Response:
        return render(request, "sign_in.html.j2", None, refused=False)

    @router.post("/sign-in")
    def sign_in(
        request: Request, token: Token = None, key: Annotated[str, Form(max_length=200)] = ""
    ) -> Response:
        check_same_site(request, token)
        render.gate.check_rate(request)
        with store.writing() as session:
            cookie = begin_session(session, key.strip())
        if cookie is None:
            return render(request, "sign_in.html.j2", None, status=401, refused=True)
        response = RedirectResponse("/", 303)
        set_cookie(response, request, SESSION_COOKIE, cookie, int(SESSION_TIME.total_seconds()))
        return response

    @router.post("/sign-out")
    def sign_out(request: Request, token: Token = None) -> Response:
        check_same_site(request, token)
        with store.writing() as session:
            end_session(session, request.cookies.get(SESSION_COOKIE, ""))
        response = RedirectResponse("/sign-in", 303)
        response.delete_cookie(SESSION_COOKIE)
        return response


def _local(address: str) -> str:
    """An address on this station, whatever a form says."""
    is_local = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if is_local and address.isprintable() else "/"


def _with_after(address: str, number: int) -> str:
    """The same address, which offers to take this review back."""
    if address.startswith("/predictions/"):
        return address
    base, _, query = address.partition("?")
    kept = [part for part in query.split("&") if part and not part.startswith("after=")]
    return f"{base}?{'&'.join([*kept, f'after={number}'])}"


def _when(time: datetime) -> str:
    """In the time zone of the station, as the filter by day."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _number(value: float) -> str:
    return f"{value:.4g}"
