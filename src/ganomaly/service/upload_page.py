"""The page on which a person sends images."""

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from ganomaly.service.api import answered
from ganomaly.service.security import TOKEN_FIELD
from ganomaly.service.uploads import check_header, read_form

if TYPE_CHECKING:
    from ganomaly.service.pages import PageRenderer


def add_upload_page(router: APIRouter, render: "PageRenderer") -> None:
    """Add the page and what it sends to."""
    station = render.station

    @router.get("/upload")
    def upload_page(request: Request) -> Response:
        caller = render.gate(request, "station")
        return render(request, "upload.html.j2", caller)

    @router.post("/upload")
    async def upload(request: Request) -> Response:
        await asyncio.to_thread(render.gate, request, "station", later=True)
        form = await read_form(request, station.settings)
        await asyncio.to_thread(render.gate, request, "station", form_token=form.text(TOKEN_FIELD))
        served = station.model(form.text("model"))
        image = form.upload()
        await asyncio.to_thread(check_header, image, station.settings)
        row = await answered(served.submit(image), station.settings.request_seconds)
        return RedirectResponse(f"/predictions/{row.id}", 303)
