"""Webhooks: an event is signed, delivered once, and it is said when to try again.

There is no state here: which events are due, and how often each was tried, is for the caller's database.

The signature is HMAC-SHA256 over `timestamp.body`, in the header `X-Ganomaly-Signature: t=TIMESTAMP,v1=HEX`. The time
is signed too, so that a receiver can refuse what somebody recorded and sends again.
"""

import hashlib
import hmac
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ganomaly.errors import UsageError
from ganomaly.version import __version__

SIGNATURE_HEADER = "X-Ganomaly-Signature"
EVENT_HEADER = "X-Ganomaly-Event"
"""The event's `id`: a receiver that knows it already has the event, and answers with 200."""
REPLAY_WINDOW = 300.0
"""Seconds that the clocks of sender and receiver, and the way between them, may differ."""
TIMEOUT = 10.0
FIRST_WAIT, LARGEST_WAIT = 10.0, 6 * 3600.0
MAX_ATTEMPTS = 16
"""The last one comes about two days after the first."""
_GONE = 410


@dataclass(frozen=True)
class Outcome:
    """What became of one delivery.

    Attributes
    ----------
    delivered : bool
        Whether the receiver answered with 2xx.
    status : int or None
        HTTP status, if there was an answer.
    error : str or None
        One sentence if it was not delivered.
    retry : bool
        Whether to try again: not after 410 Gone, nor at a URL that cannot work.
    retry_after : float or None
        Seconds that the receiver asked to wait.
    """

    delivered: bool
    status: int | None = None
    error: str | None = None
    retry: bool = False
    retry_after: float | None = None


def sign(secret: str, body: bytes, timestamp: int) -> str:
    """The signature of a body that is sent at this time, as the header has it.

    >>> sign("secret", b"{}", 1700000000)
    't=1700000000,v1=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163'
    """
    return f"t={timestamp},v1={_digest(secret, body, timestamp)}"


def verify(
    secret: str, body: bytes, signature: str, *, now: float | None = None, window: float = REPLAY_WINDOW
) -> bool:
    """Whether a body was signed with this secret, at a time not further from now than `window`; for receivers.

    Parameters
    ----------
    secret : str
        Shared with the sender.
    body : bytes
        As received, before any parsing.
    signature : str
        The header `X-Ganomaly-Signature`.
    now : float, optional
        Seconds since 1970; None takes the clock.
    window : float
        In seconds.
    """
    fields = dict(part.strip().partition("=")[::2] for part in signature.split(","))
    time_text = fields.get("t", "")
    if not (time_text.isascii() and time_text.isdigit() and len(time_text) <= 12):
        return False
    recent = abs((time.time() if now is None else now) - int(time_text)) <= window
    genuine = hmac.compare_digest(
        fields.get("v1", "").encode(), _digest(secret, body, int(time_text)).encode()
    )
    return genuine and recent


def _digest(secret: str, body: bytes, timestamp: int) -> str:
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def check_url(url: str) -> None:
    """Raise `UsageError` if webhooks cannot be sent to a URL."""
    try:
        _split(url)
    except ValueError as error:
        raise UsageError(f"cannot send webhooks to {url!r}: {error}") from error


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    _ = parts.port  # raises if it is not a number
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("name a URL that begins with http:// or https:// and a host")
    if parts.username is not None:
        raise ValueError("user and password in the URL are not sent; the signature says who is calling")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("it has characters that must be percent-encoded")
    return parts


def deliver(url: str, secret: str, event: Mapping[str, Any], *, timeout: float = TIMEOUT) -> Outcome:
    """Send one event with POST, once; it never raises for what a network or a receiver does.

    Redirects are not followed and count as failures. Proxies of the environment are not used. A delivery whose answer
    got lost is sent again: receivers recognise it by the event's id.

    Parameters
    ----------
    url : str
        `http://` or `https://`; certificates are verified.
    secret : str
        Shared with the receiver.
    event : mapping
        JSON-able; its `id` is also a header.
    timeout : float
        Seconds to connect, and again for the rest.
    """
    body = json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    try:
        parts = _split(url)
    except ValueError as error:
        return Outcome(False, error=f"cannot send to {url!r}: {error}")
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": f"ganomaly/{__version__}",
        EVENT_HEADER: "".join(c for c in str(event.get("id", "")) if c.isascii() and c.isprintable()),
        SIGNATURE_HEADER: sign(secret, body, int(time.time())),
    }
    try:
        return _post(parts, body, headers, timeout)
    except (OSError, HTTPException, ValueError) as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        return Outcome(False, error=f"{parts.hostname} cannot be reached: {why}", retry=True)


def _post(parts: SplitResult, body: bytes, headers: Mapping[str, str], timeout: float) -> Outcome:
    connection = _connection(parts, timeout)
    late = threading.Event()
    try:
        connection.connect()
        opened = connection.sock

        def end() -> (
            None
        ):  # a receiver that sends a byte now and then never runs into the socket's own timeout
            late.set()
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(timeout, end)
        timer.daemon = True
        timer.start()
        try:
            target = parts._replace(scheme="", netloc="", fragment="", path=parts.path or "/").geturl()
            connection.request("POST", target, body, dict(headers))
            return _outcome(connection.getresponse())
        finally:
            timer.cancel()
    except (OSError, HTTPException, ValueError) as error:
        raise (TimeoutError() if late.is_set() else error) from error
    finally:
        connection.close()


def _connection(parts: SplitResult, timeout: float) -> HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        return HTTPSConnection(host, parts.port, timeout=timeout, context=ssl.create_default_context())
    return HTTPConnection(host, parts.port, timeout=timeout)


def _outcome(answer: HTTPResponse) -> Outcome:
    if 200 <= answer.status < 300:
        return Outcome(True, answer.status)
    asked = answer.headers.get("Retry-After", "")
    wait = min(float(asked), LARGEST_WAIT) if asked.isascii() and asked.isdigit() else None
    sentence = f"the receiver answered {answer.status} {answer.reason}".strip()
    return Outcome(False, answer.status, sentence, retry=answer.status != _GONE, retry_after=wait)


def next_attempt(attempts: int, source: random.Random | None = None) -> float | None:
    """Seconds to wait after so many failed attempts; None if that was the last.

    10 s, 40 s, 160 s … up to 6 h, each times a random number between ½ and 1, so that events that failed together do
    not come back together.

    Parameters
    ----------
    attempts : int
        Failed so far, ≥ 1.
    source : random.Random, optional
        Of the random number.
    """
    if attempts >= MAX_ATTEMPTS:
        return None
    longest = min(FIRST_WAIT * 4.0 ** (attempts - 1), LARGEST_WAIT)
    return longest * (source or random.Random()).uniform(0.5, 1)
