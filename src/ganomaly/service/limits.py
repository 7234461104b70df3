"""What surrounds every request: limits of size and time, an id, a log line, a metric, and security headers."""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ganomaly.service.monitoring import Metrics, log
from ganomaly.service.security import HEADERS
from ganomaly.service.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY = 2**20
"""Bytes of a request that is no upload."""

FORM_BYTES = 2**16
"""What a form may add to an upload."""

DISCARD_SECONDS = 2.0
"""So long the rest of a body that is too large is read: a client that still sends when its connection is closed loses
the answer."""

CLIENT_GONE = 499
"""What is logged and counted where a client ended the connection before its request was complete."""

_UPLOADS = re.compile(r"^(/v1/models/[^/]+/predictions|/upload)$")
_REQUEST_ID = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")


class Limits:
    """ASGI middleware around the whole application.

    Parameters
    ----------
    app : ASGI application
        What answers.
    settings : Settings
        With the limits.
    metrics : Metrics
        Counts the answers.
    """

    def __init__(self, app: Any, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.match(given) else secrets.token_hex(8)
        status = 500
        begun = False

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        is_upload = _UPLOADS.match(scope["path"]) is not None
        limit = self._settings.max_bytes + FORM_BYTES if is_upload else MAX_BODY
        try:
            await self._app(scope, self._limited(receive, headers, limit), answer)
        except _LimitError as error:
            if not begun:
                response = JSONResponse({"error": error.detail}, error.status_code, error.headers)
                await response(scope, receive, answer)
        except ClientDisconnect:
            status = CLIENT_GONE
        finally:
            seconds = time.monotonic() - started
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(scope["method"], route, status).inc()
            self._metrics.request_seconds.labels(route).observe(seconds)
            log(
                "request",
                request_id=request_id,
                method=scope["method"],
                route=route,
                status=status,
                seconds=round(seconds, 4),
            )

    def _limited(self, receive: Receive, headers: dict[str, str], limit: int) -> Receive:
        """Read a body of at most so many bytes, and within the time for a request."""
        n_bytes = 0
        until = time.monotonic() + self._settings.request_seconds
        is_complete = False

        async def limited() -> Message:
            nonlocal n_bytes, is_complete
            if is_complete:
                return await receive()
            announced = headers.get("content-length", "0")
            if announced.isdecimal() and int(announced) > limit:
                await _discard(receive)
                raise _too_large(limit)
            try:
                message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
            except TimeoutError:
                sentence = f"the request did not arrive within {self._settings.request_seconds:g} s"
                raise _LimitError(408, sentence) from None
            n_bytes += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if n_bytes > limit:
                if not is_complete:
                    await _discard(receive)
                raise _too_large(limit)
            return message

        return limited


class _LimitError(HTTPException):
    """Too large, or too slow; FastAPI hands on this error of its own, and takes others for a broken body."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(status, sentence, {"Connection": "close"})


async def _discard(receive: Receive) -> None:
    """Read the rest of a body, for a moment."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while (await receive()).get("more_body", False):
                pass


def _too_large(limit: int) -> _LimitError:
    return _LimitError(413, f"a request has at most {limit / 1e6:.3g} MB")
