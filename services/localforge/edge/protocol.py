"""The HTTP/1.1 connection: uvicorn's, with bounds on how much head it takes and how slowly."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from localforge.contracts.chat import ApiError
from localforge.edge.asgi import ABORT, ANSWER, JSON, ON_DISCONNECT, REQUEST_ID, ErrorAnswer, Header
from localforge.edge.body import encode
from localforge.edge.ids import new_request_id
from localforge.edge.lazy_timer import LazyTimer
from localforge.edge.transport import GatheringTransport
from localforge.edge.write_watch import WriteWatch
from localforge.telemetry import log

_log_request = log.recurring("edge", "request")
UNREAD = "unread"
"""In the log, the route of a request that never was a whole one."""
MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers, or trailers; httptools has no bound of its own."""
INVALID = "Invalid HTTP request received."
_CONTROLS = bytes(code for code in (*range(32), 127) if code != ord("\t"))
"""Have no business in a header."""


class _Flow(FlowControl):
    """Reads no more while requests wait their turn: one read is memory enough."""

    def __init__(self, transport: asyncio.Transport, waiting: Collection[object]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class EdgeProtocol(HttpToolsProtocol):
    """One connection.

    A request that is not complete must bring `MIN_WINDOW_BYTES` in every `WINDOW_S`, or it is
    answered with 408: a client that trickles bytes holds a connection and up to a body of memory.
    Costs nothing for requests that arrive in one piece. Of what is written to a client that lets
    it wait, something must leave in every `WRITE_WINDOW_S`, or it is cut off.
    """

    WINDOW_S = 20.0
    MIN_WINDOW_BYTES = 16 * 1024
    WRITE_WINDOW_S = 60.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._in_message = False
        self._got = 0
        self._piece_bytes = 0
        self._loose_bytes = 0
        """Of a head, of trailers, or between chunks. How much of the piece that is being parsed
        comes after the end of something else is not known: none of it is counted."""
        self._plain_head = b""
        """Of a request that wishes to speak another protocol, without that wish."""
        self._keep_alive = LazyTimer(
            self.loop, self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        self._window = LazyTimer(self.loop, self.WINDOW_S, self._on_window_end)
        self._on_disconnect: Callable[[], None] | None = None
        self._is_lost = False
        self._gathering: GatheringTransport
        self._write_watch: WriteWatch
        self._active: RequestResponseCycle | None = None
        """The last that was begun to be answered."""
        self._on_disconnect_extension: Any = {"call": self.on_disconnect}
        self._abort_extension: Any = {"call": self._abort}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; a connection that says nothing is closed like an idle one."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._write_watch = WriteWatch(transport, self.loop, self.WRITE_WINDOW_S)
        self._gathering = GatheringTransport(transport, self.loop, self._write_watch.start)
        self.transport = self._gathering  # type: ignore[assignment]
        self._keep_alive.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        if self._active is not None:
            # uvicorn tells the one that came last.
            self._active.disconnected = True
            self._active.message_event.set()
        self._keep_alive.close()
        self._window.close()
        self._write_watch.close()
        self._is_lost = True
        if self._on_disconnect is not None:
            self._on_disconnect()

    def on_disconnect(self, callback: Callable[[], None] | None) -> None:
        """Call back when the client hangs up, or at once when it has; None: no longer.

        In place of a task per request that waits in `receive`; the body has been read.
        """
        self._on_disconnect = callback
        if callback is None:
            return
        # A large body stops the reading, and a hang-up is read too.
        self.flow.resume_reading()
        if self._is_lost:
            callback()

    def data_received(self, data: bytes) -> None:
        """Parse what came, and bound it while the request is not complete."""
        self._piece_bytes = len(data)
        if not self._in_message:
            self._loose_bytes = 0
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(memoryview(data)[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response(INVALID)
        if not self._in_message or self.transport.is_closing():
            return
        self._got += len(data)
        self._loose_bytes += len(data)
        if self._loose_bytes > MAX_HEAD_BYTES:
            what = "request line and headers" if self._in_head else "trailers or chunk extensions"
            self._refuse(431, "headers_too_large", f"the {what} are too large")
            return
        if not self._window.is_started:
            self._open_window()

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        super().on_message_begin()
        # Not with whatever comes: line ends between requests begin none.
        self._keep_alive.stop()
        self._in_head = self._in_message = True
        self._got = 0

    def on_headers_complete(self) -> None:
        """Note that its head is complete."""
        if self.parser.should_upgrade():
            self._plain_head = self._without_upgrade()
            return
        self._in_head = False
        self._loose_bytes = -self._piece_bytes
        super().on_headers_complete()
        # Trailers go where nobody looks: they come too late to be headers.
        self.headers = []
        self.scope["extensions"] = {
            ON_DISCONNECT: self._on_disconnect_extension,
            ABORT: self._abort_extension,
            ANSWER: {"call": partial(self._answer, self.cycle)},
        }

    def on_body(self, body: bytes) -> None:
        """Take a part of its body."""
        self._loose_bytes = -self._piece_bytes
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that it is complete."""
        if self._plain_head:
            return
        self._in_message = False
        self._loose_bytes = -self._piece_bytes
        self._window.stop()
        super().on_message_complete()
        if self.cycle.response_complete:
            self._keep_alive.start()

    def on_response_complete(self) -> None:
        """Begin with the next request if it is there already; uvicorn's, without a new timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif not self._in_message:
            self._keep_alive.start()
        self.flow.resume_reading()

    def pause_writing(self) -> None:
        """Write no more; the client has to take what is there."""
        super().pause_writing()
        self._write_watch.start()

    def resume_writing(self) -> None:
        """Write again."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._write_watch.stop()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP in the shape of all other errors."""
        self._refuse(400, "invalid_http", msg)

    def _answer(
        self, cycle: RequestResponseCycle, status: int, headers: Sequence[Header], body: bytes
    ) -> bool:
        """Write an answer in one piece, in place of two messages that are looked at for anything.

        Returns:
            False, and nothing is written, when it is not just that: the connection ends with it, it
            has no body, or uvicorn has something to say against it.
        """
        if (
            cycle.response_started
            or cycle.disconnected
            or not cycle.keep_alive
            or self.flow.write_paused
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        lines = [b": ".join(header) for header in (*cycle.default_headers, *headers)]
        head = b"\r\n".join(lines)
        # A name or value with a line end in it would show as a header too many, or in two.
        if len(head) - len(head.translate(None, _CONTROLS)) != 2 * (len(lines) - 1):
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self._gathering.write_whole(b"".join((STATUS_LINE[status], head, b"\r\n\r\n", body)))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _ignore_upgrade(self, rest: memoryview) -> None:
        """Parse a request that asks for another protocol as what it is in this one.

        The parser takes a head with `Upgrade` for the last of its protocol and drops the body. A
        server may ignore the wish (RFC 9110, 7.8), and clients send it with requests that matter.

        Args:
            rest: What came after its head.
        """
        while self._plain_head:
            head, self._plain_head = self._plain_head, b""
            if head.startswith(b"CONNECT "):
                # What follows belongs to the tunnel.
                self._refuse(501, "not_implemented", "LocalForge is no proxy: no CONNECT")
                return
            # Another parser: nobody can take the wish from the one that has seen it.
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            try:
                self.parser.feed_data(head)
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            except httptools.HttpParserError:
                self.send_400_response(INVALID)

    def _without_upgrade(self) -> bytes:
        parser = self.parser
        lines = [
            b"%b %b HTTP/%b" % (parser.get_method(), self.url, parser.get_http_version().encode())
        ]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join((*lines, b"", b""))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def _abort(self) -> None:
        if self._active is not None:
            self._active.disconnected = True
        self.transport.abort()

    def _open_window(self) -> None:
        self._got = 0
        self._window.start()

    def _unset_keepalive_if_required(self) -> None:
        # uvicorn calls it at the end.
        self._keep_alive.stop()

    def _on_window_end(self) -> None:
        if self.transport.is_closing():
            return
        # A server that has stopped reading must not blame the client.
        if self._got < self.MIN_WINDOW_BYTES and not self.flow.read_paused:
            self._refuse(408, "request_timeout", "the request came too slowly")
        else:
            self._open_window()

    def _refuse(self, status: int, code: str, message: str) -> None:
        if self._may_answer_it():
            error = ApiError(message=message, code=code)
            body = encode(ErrorAnswer(error=error))
            request_id = new_request_id()
            headers = (
                (b"content-type", JSON),
                (b"connection", b"close"),
                (b"content-length", str(len(body)).encode()),
                (REQUEST_ID, request_id.encode()),
            )
            lines = [b"%b: %b\r\n" % header for header in headers]
            self.transport.write(b"".join((STATUS_LINE[status], *lines, b"\r\n", body)))
            _log_request(
                {"route": UNREAD, "status": status, "request_id": request_id, "error": code}
            )
        self.transport.close()

    def _may_answer_it(self) -> bool:
        """Tell whether an answer now would be taken for one to what is being read.

        While an earlier request is being answered, or this one is, it would be taken for a part of
        that; while an earlier one waits for its answer, for this.
        """
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None:
            return True
        if self._in_message and not self._in_head:
            return cycle is self._active and not cycle.response_started
        return cycle.response_complete
