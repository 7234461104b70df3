"""Who asks, what they may do, and what no answer leaves out."""

import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Annotated, Any

from fastapi import Form, Request

from ganomaly.errors import GANomalyError
from ganomaly.service.settings import LOOPBACK
from ganomaly.service.station import Station
from ganomaly.store.keys import Caller, caller_of_key, caller_of_session, ever_had_keys
from ganomaly.store.schema import Role

SESSION_COOKIE, TOKEN_COOKIE = "ganomaly_session", "ganomaly_token"
TOKEN_HEADER, TOKEN_FIELD = "x-csrf-token", "csrf_token"
FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
NO_KEY = "a key is needed, Authorization: Bearer KEY; `ganomaly serve keys add NAME` makes one"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LOCAL = Caller("local", "admin")
"""Who asks on a station that only this machine can reach and that has no keys."""

Token = Annotated[str | None, Form(alias=TOKEN_FIELD, max_length=200)]
"""The token of a page, in the forms that it sends."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class RequestError(GANomalyError):
    """A request that is refused: its status and one sentence."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers or {}


@dataclass
class RateLimit:
    """At most so many requests a minute for each caller, and as many at once.

    Attributes
    ----------
    per_minute : int
        How many.
    """

    per_minute: int
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, caller: str, clock: Callable[[], float] = monotonic) -> None:
        """Raise `RequestError` 429 if this caller asks too often."""
        now = clock()
        with self._lock:
            if len(self._left) > 10_000:  # callers that are back at the full number need not be remembered
                self._left = {name: each for name, each in self._left.items() if now - each[1] < 60}
            left, since = self._left.get(caller, (float(self.per_minute), now))
            left = min(self.per_minute, left + (now - since) * self.per_minute / 60)
            if left < 1:
                wait = max(1, round((1 - left) * 60 / self.per_minute))
                raise RequestError(
                    429, f"more than {self.per_minute} requests a minute", {"Retry-After": str(wait)}
                )
            self._left[caller] = (left - 1, now)


class Gate:
    """Lets callers in.

    Parameters
    ----------
    station : Station
        Whose keys count.
    """

    def __init__(self, station: Station) -> None:
        self._station = station
        self._rate = RateLimit(station.settings.requests_per_minute)

    def __call__(
        self, request: Request, role: Role, *, form_token: str | None = None, later: bool = False
    ) -> Caller:
        """Who asks; with `later`, the token of a form is checked once the form was read.

        Raises
        ------
        RequestError
            401 without a valid key or session, 403 if the role does not allow it or another site made the browser
            ask, 429 if this caller asks too often.
        """
        self._check_host(request)
        secret = _key_of(request)
        with self._station.store.reading() as session:
            cookie = request.cookies.get(SESSION_COOKIE)
            if secret is not None:
                caller = caller_of_key(session, secret)
            elif cookie is not None:
                caller = caller_of_session(session, cookie)
            else:
                caller = None
            if caller is None and secret is None and self._is_direct(request):
                caller = None if ever_had_keys(session) else LOCAL
        self.check_rate(request, None if caller is LOCAL else caller)
        if caller is None:
            sentence = "this key is not valid" if secret else NO_KEY
            raise RequestError(401, sentence, {"WWW-Authenticate": "Bearer"})
        if secret is None and request.method not in SAFE_METHODS and not later:
            check_same_site(request, form_token)
        if not caller.may(role):
            raise RequestError(
                403, f"the key {caller.name} is one of a {caller.role}; this takes the role {role}"
            )
        return caller

    def _is_direct(self, request: Request) -> bool:
        """Whether a request comes from this machine, and not from others through a proxy on it."""
        forwarded = any(name in request.headers for name in FORWARDING_HEADERS)
        return self._station.settings.is_local and not forwarded

    def check_rate(self, request: Request, caller: Caller | None = None) -> None:
        """Raise `RequestError` 429 if this caller, or this address, asks too often."""
        address = request.client.host if request.client else "unknown"
        self._rate.check(address if caller is None else f"key {caller.name}")

    def _check_host(self, request: Request) -> None:
        """On a station for this machine alone, refuse names that another site may have pointed here."""
        host = (request.url.hostname or "").lower()
        if self._station.settings.is_local and host not in LOOPBACK:
            raise RequestError(403, "this station answers to localhost only")


def check_same_site(request: Request, form_token: str | None) -> None:
    """Raise `RequestError` 403 if a browser was made to ask by another site.

    A page carries the token of a cookie, which other sites cannot read. Programs that are no browsers send neither
    cookies nor an origin, and need none.
    """
    is_browser = any(name in request.headers for name in ("cookie", "origin", "sec-fetch-site", "referer"))
    if not is_browser:
        return
    cookie = request.cookies.get(TOKEN_COOKIE, "")
    token = form_token or request.headers.get(TOKEN_HEADER, "")
    if not cookie or not hmac.compare_digest(cookie.encode(), token.encode()):
        raise RequestError(403, "this request did not come from a page of the station; load the page again")


def new_token() -> str:
    """A token for the pages of a browser."""
    return secrets.token_urlsafe(32)


def set_cookie(response: Any, request: Request, name: str, value: str, seconds: int | None = None) -> None:
    """Set a cookie that scripts and other sites cannot use."""
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path="/",
    )


def _key_of(request: Request) -> str | None:
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and secret:
        return secret.strip()
    return request.headers.get("x-api-key")
