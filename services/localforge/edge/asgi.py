"""One HTTP request, as the endpoints see it: headers in, body in, answer out.

Raw ASGI: a framework's request and response objects cost as much as the server itself
(`docs/adr/0003-edge-http-stack.md`).
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from localforge.contracts.chat import ApiError
from localforge.edge.body import encode
from localforge.errors import DependencyUnavailable, LocalforgeError, RequestRefused

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]
OnDisconnect = Callable[[Callable[[], None] | None], None]
Answer = Callable[[int, Sequence[Header], bytes], bool]

JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"
ON_DISCONNECT = "localforge.on_disconnect"
"""ASGI extension of `EdgeProtocol`: `call` takes a callback for when the client hangs up."""
ANSWER = "localforge.answer"
"""ASGI extension of `EdgeProtocol`: `call` takes status, headers and body of a whole answer and
writes it, unless there is more to it than that; then it returns False and has done nothing."""
ABORT = "localforge.abort"
"""ASGI extension of `EdgeProtocol`: `call` ends the connection, and drops what is not written."""
REQUEST_ID = b"x-request-id"
OWN_HEADERS = b"x-localforge-"
"""Begins headers that say what may become of a request; of two of them one would be lost."""
GUARDED_HEADERS = frozenset({b"authorization", b"host", b"origin", b"x-api-key"})
_NO_ABORT = {"call": lambda: None}
"""Another server: it ends the connection itself when an answer is not whole."""
CLIENT_GONE = 499
"""nginx's code for a client that hung up before the answer; only in logs and metrics."""

MAX_DRAINED_BYTES = 64 * 1024 * 1024
"""Of a refused body, read for the sake of a client that reads its answer only afterwards."""


class Disconnected(Exception):  # noqa: N818  # reads as what happened
    """The client hung up while its request was being read."""


class ErrorAnswer(msgspec.Struct, frozen=True):
    """Any error, in OpenAI's shape."""

    error: ApiError


class ErrorShape(Protocol):
    """How one API says that something went wrong."""

    def answer(self, status: int, error: ApiError) -> tuple[int, bytes]:
        """Return the status and the body of an answer that is an error."""

    def event(self, status: int, error: ApiError) -> bytes:
        """Return the server-sent event that ends a stream before its answer was whole."""


class OpenAIErrors:
    """OpenAI's way."""

    def answer(self, status: int, error: ApiError) -> tuple[int, bytes]:
        """Return the status and the body."""
        return status, encode(ErrorAnswer(error=error))

    def event(self, status: int, error: ApiError) -> bytes:  # noqa: ARG002  # part of the protocol
        """Return the event; no `[DONE]` follows it."""
        return b"data: " + encode(ErrorAnswer(error=error)) + b"\n\n"


OPENAI_ERRORS = OpenAIErrors()


class HttpRequest:
    """One request and its answer.

    Attributes:
        abort: Ends the connection, for a client that does not read; what is not written is lost.
        error_shape: Of the API that the request speaks.
        headers: Lower-case names; of a repeated header the last.
        id: Its request id, in the header `x-request-id` of every answer.
        repeated: A header that is there more than once and must not be; usually empty.
        status: Of the answer, 0 until it has begun.
        on_disconnect: Takes what is called when the client hangs up, or None; one at a time.
        in_events: A stream of events has begun and not ended.
        facts: What the endpoint wants in the request's log line.
    """

    __slots__ = (
        "_answer",
        "_send",
        "abort",
        "error_shape",
        "facts",
        "headers",
        "id",
        "in_events",
        "method",
        "on_disconnect",
        "path",
        "receive",
        "repeated",
        "started_at",
        "status",
    )

    def __init__(
        self, scope: Message, receive: Receive, send: Send, started_at: float, request_id: str
    ) -> None:
        headers = scope["headers"]
        self.id = request_id
        self.headers: dict[bytes, bytes] = dict(headers)
        self.repeated = _repeated(headers) if len(headers) != len(self.headers) else ""
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.receive = receive
        # Taken out: they hold what holds the scope, and only the garbage collector would part them.
        extensions = scope.pop("extensions", {})
        self.on_disconnect = _on_disconnect(extensions)
        self.abort: Callable[[], None] = extensions.get(ABORT, _NO_ABORT)["call"]
        self.started_at = started_at
        self.status = 0
        self.in_events = False
        self.facts: dict[str, Any] = {}
        self.error_shape: ErrorShape = OPENAI_ERRORS
        self._send = send
        # Another server: every answer goes the usual way.
        self._answer: Answer | None = extensions[ANSWER]["call"] if ANSWER in extensions else None

    async def body(self, limit: int) -> bytes:
        """Read the whole body.

        Args:
            limit: Most bytes allowed.

        Raises:
            RequestRefused: 413 when it is longer, as announced or as found; 415 when compressed.
            Disconnected: The client hung up.
        """
        announced = self.headers.get(b"content-length", b"")
        if announced and int(announced) > limit:
            await self._let_it_come()
            raise _too_large(limit)
        encoding = self.headers.get(b"content-encoding", b"identity").lower()
        if encoding != b"identity":
            raise RequestRefused(
                "the request body is compressed; send it plain",
                code="unsupported_encoding",
                param="content-encoding",
                status=415,
            )
        message = await self.receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            whole: bytes = message.get("body", b"")
            if len(whole) > limit:
                raise _too_large(limit)
            return whole
        parts = bytearray()
        while True:
            if message["type"] == "http.disconnect":
                raise Disconnected
            parts += message.get("body", b"")
            if len(parts) > limit:
                if message.get("more_body"):
                    await self._let_it_come()
                raise _too_large(limit)
            if not message.get("more_body"):
                return bytes(parts)
            message = await self.receive()

    async def _let_it_come(self) -> None:
        """Read the rest of a body that is refused, where the answer would be lost otherwise.

        A client that wants the connection closed after the answer, as Python's urllib does, and is
        closed on while it sends, sees a broken pipe and never reads the answer. On connections
        that stay open the server does this after the answer.
        """
        if self.headers.get(b"connection", b"").lower() != b"close" or b"expect" in self.headers:
            return
        left = MAX_DRAINED_BYTES
        while left > 0:
            message = await self.receive()
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                return
            left -= len(message.get("body", b""))

    async def reply(
        self, status: int, body: bytes, headers: Iterable[Header] = (), kind: bytes = JSON
    ) -> None:
        """Answer with one body."""
        self.status = status
        length = str(len(body)).encode()
        every = [
            (b"content-type", kind),
            (b"content-length", length),
            (REQUEST_ID, self.id.encode()),
            *headers,
        ]
        if self._answer is not None and self._answer(status, every, body):
            return
        await self._send({"type": "http.response.start", "status": status, "headers": every})
        await self._send({"type": "http.response.body", "body": body})

    async def fail(
        self,
        status: int,
        error: ApiError,
        headers: Iterable[Header] = (),
        retry_after_s: float = 0,
    ) -> None:
        """Answer with an error."""
        extra = list(headers)
        if retry_after_s > 0:
            extra.append((b"retry-after", str(math.ceil(retry_after_s)).encode()))
        if status == 401:
            extra.append((b"www-authenticate", b"Bearer"))
        shown, body = self.error_shape.answer(status, error)
        await self.reply(shown, body, extra)

    async def refuse(self, exc: LocalforgeError, headers: Iterable[Header] = ()) -> None:
        """Answer with an error; after the first event, as the last one."""
        if self.in_events:
            event = self.error_shape.event(exc.status, exc.as_api_error())
            await self.write(event, last=True)
        elif not self.status:
            await self.fail(exc.status, exc.as_api_error(), headers, exc.retry_after_s)

    async def begin_events(self, headers: Iterable[Header]) -> None:
        """Begin a stream of server-sent events."""
        self.status = 200
        self.in_events = True
        await self._send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", EVENTS),
                    (b"cache-control", b"no-cache"),
                    # nginx would otherwise collect the events before it passes them on.
                    (b"x-accel-buffering", b"no"),
                    (REQUEST_ID, self.id.encode()),
                    *headers,
                ],
            }
        )

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Write events; waits while the client does not read."""
        self.in_events = not last
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})


def _repeated(headers: Iterable[Header]) -> str:
    met: set[bytes] = set()
    for name, _ in headers:
        if name in met and (name.startswith(OWN_HEADERS) or name in GUARDED_HEADERS):
            return name.decode("latin-1")
        met.add(name)
    return ""


def _on_disconnect(extensions: Message) -> OnDisconnect:
    extension = extensions.get(ON_DISCONNECT)
    # Another server: that the client has gone is found out in writing to it.
    return extension["call"] if extension else lambda _: None


def uncancel() -> None:
    """Go on after a cancellation that was meant for this request only."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def shutting_down() -> DependencyUnavailable:
    """Return what a request is told that outlives the grace time of a shutdown."""
    return DependencyUnavailable(
        "LocalForge is shutting down and did not finish this request; send it again",
        code="shutting_down",
    )


def _too_large(limit: int) -> RequestRefused:
    return RequestRefused(
        f"the request body is larger than {limit / 1_000_000:g} MB (`edge.max_body_mb`)",
        code="body_too_large",
        status=413,
    )
