"""Connections that wait for a request only so long, and say in JSON why they refuse one."""

import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol


class LimitedConnection(H11Protocol):
    """A connection whose requests must arrive in time.

    uvicorn itself waits for ever for the rest of a head, and for the rest of a body that nobody reads any more. The
    body of a request that is being answered is the business of `Limits`.

    Attributes
    ----------
    request_seconds : float
        From the first byte of a request, or from the beginning of the connection, to the end of the head; and from a
        refusal to the end of a body that is thrown away.
    """

    request_seconds = 30.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._timer: Any = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._end_timer()

    def data_received(self, data: bytes) -> None:
        """Take some bytes of a request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the rest of a body that was refused."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(400, "this is no valid HTTP request")
        else:  # an answer is on its way already
            self.transport.close()

    def _watch(self) -> None:
        is_answering = self.cycle is not None and not self.cycle.response_complete
        is_waiting = not is_answering and self._has_begun()
        if self.transport.is_closing() or not is_waiting:
            self._end_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.request_seconds, self._give_up)

    def _has_begun(self) -> bool:
        """Whether a request has begun and is not complete; the first one begins with the connection."""
        if self.conn.their_state is h11.SEND_BODY:
            return True
        return self.conn.their_state is h11.IDLE and (self.cycle is None or bool(self.conn.trailing_data[0]))

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE:
            self._refuse(408, f"the request did not arrive within {self.request_seconds:g} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, sentence: str) -> None:
        body = json.dumps({"error": sentence}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status]),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def connections_within(request_seconds: float) -> type[LimitedConnection]:
    """Connections with this limit, for uvicorn to make."""
    return type("Connection", (LimitedConnection,), {"request_seconds": request_seconds})
