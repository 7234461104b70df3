"""Hand images to a ganomaly server over HTTP: for connectors that run on another machine than the model."""

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlsplit

from ganomaly.errors import ImageError, UsageError
from ganomaly.service.submission import Submit

TIMEOUT = 60.0
KEY_HEADER = "Idempotency-Key"
_LARGEST_ANSWER = 2**20
_ABOUT_THE_IMAGE = {400, 413, 415, 422}


def submit_over_http(
    server: str, model: str, *, api_key: str | None = None, timeout: float = TIMEOUT
) -> Submit:
    """A function that submits images to a server and returns its predictions.

    It raises `ImageError` with the server's sentence if the image cannot be used (status 400, 413, 415 or 422), and
    `OSError` if there is no answer or another one, so that the image is submitted again later. Redirects are not
    followed: the API key is for this server.

    Parameters
    ----------
    server : str
        Such as `http://inspection-pc:8000`.
    model : str
        Name of the model at the server.
    api_key : str, optional
        If the server asks for one.
    timeout : float
        Seconds without an answer.

    Raises
    ------
    UsageError
        If the server is not a URL.
    """
    if urlsplit(server).scheme not in {"http", "https"}:
        raise UsageError(f"{server} is no server; name a URL such as http://inspection-pc:8000")
    opener = urllib.request.build_opener(_NoRedirects)
    url = f"{server.rstrip('/')}/v1/models/{quote(model, safe='')}/predictions"

    def submit(image: bytes, name: str, key: str) -> Mapping[str, Any]:
        body, content_type = multipart(image, name)
        headers = {"Content-Type": content_type, KEY_HEADER: key, "Accept": "application/json"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        request = urllib.request.Request(url, body, headers)
        try:
            with opener.open(request, timeout=timeout) as answer:
                return _prediction(answer.read(_LARGEST_ANSWER))
        except urllib.error.HTTPError as error:
            sentence = _sentence(error)
            if error.code in _ABOUT_THE_IMAGE:
                raise ImageError(sentence) from error
            raise OSError(f"{server} answered {error.code}: {sentence}") from error
        except HTTPException as error:
            raise OSError(f"the answer of {server} broke off: {error!r}") from error

    return submit


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none; the answer is an `HTTPError`."""


def multipart(image: bytes, name: str) -> tuple[bytes, str]:
    """One image as `multipart/form-data`, part `image`, and the content type of it all."""
    boundary = secrets.token_hex(16)
    quoted = name.replace("%", "%25").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{quoted}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + image + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def _prediction(text: bytes) -> Mapping[str, Any]:
    try:
        prediction = json.loads(text)
    except ValueError as error:
        raise OSError("the server's answer is not JSON; is it a ganomaly server?") from error
    if not isinstance(prediction, dict):
        raise OSError("the server's answer is no prediction; is it a ganomaly server?")
    return prediction


def _sentence(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(_LARGEST_ANSWER))["error"])
    except (ValueError, KeyError, TypeError, OSError):
        return str(error.reason)
