"""HTTP/1.1 to one model server: kept connections, one wake-up per read, nothing else.

Only what an adapter needs: POST and GET of bytes, a status, headers, and a body read as it comes.
Parsed by httptools (llhttp, as in Node.js); why it is not a general client: `docs/adr/0011`.
A connection serves one request at a time and is used again when its answer was read to the end.
"""

import asyncio
import ssl
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import httptools

from localforge.errors import ConfigError

READ_AHEAD_BYTES = 256 * 1024
"""What may wait to be read before the server is told to pause."""
MAX_HEADER_BYTES = 64 * 1024
IDLE_S = {"http": 4.0, "https": 30.0}
"""Idle connections are given up before the server does: uvicorn and llama.cpp close after 5 s."""
_BODILESS = frozenset({204, 304})
_FIRST_FINAL = 200


class ConnectError(OSError):
    """No connection could be made; another server may do."""


class ConnectTimeoutError(ConnectError):
    """No connection was made in time."""


class BrokenConnectionError(OSError):
    """The connection ended, or what came is no HTTP, before the answer was complete."""


class NotHttpError(BrokenConnectionError):
    """What came is no HTTP, or no end of headers."""


class BodyTooLongError(Exception):
    """A body is longer than its reader takes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} bytes")
        self.limit = limit


class Progress(Protocol):
    """Is told how far a request has come, whether or not an answer ever does."""

    in_doubt: bool
    """It went out and no status has come: the server may be at work on it."""


class Response:
    """An answer whose headers have come; read it to the end or `close` it.

    Attributes:
        status: HTTP status, 200 or above.
        headers: Names in lower case; of a repeated name the last.
    """

    __slots__ = ("_connection", "headers", "status")

    def __init__(self, connection: "_Connection", status: int, headers: Mapping[str, str]) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers

    @property
    def content_type(self) -> str:
        """The media type alone, in lower case; empty when there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def at_end(self) -> bool:
        """The whole body has been read."""
        return self._connection.at_end

    def read(self) -> Coroutine[Any, Any, bytes]:
        """Return what has come since the last read, at least one byte; empty at the end.

        Raises:
            BrokenConnectionError: The body ends too early.
        """
        return self._connection.read()

    def close(self) -> None:
        """Give up the answer, and the connection with it unless the answer was complete."""
        self._connection.release()


class HttpClient:
    """Connections to one base URL.

    Args:
        url: Base URL, `http` or `https`; paths are appended to its own.
        headers: Sent with every request.
        connect_timeout_s: For a new connection, TLS included.
        socket_path: Unix socket to connect to instead of the URL's host.
        reuse: Keep connections between requests.

    Raises:
        ConfigError: The URL is not one of HTTP.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        connect_timeout_s: float,
        socket_path: str = "",
        reuse: bool = True,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in IDLE_S or not parts.hostname:
            raise ConfigError(f"{url!r} is not an http or https URL with a host")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._base = parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._socket_path = socket_path
        self._reuse = reuse
        self._idle_s = IDLE_S[parts.scheme]
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._closed = False
        fields = {"Host": parts.netloc.rpartition("@")[2], **headers}
        for name, value in fields.items():
            if not (name + value).isprintable():
                raise ConfigError(f"header {name!r} has a value that HTTP cannot carry")
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._heads: dict[tuple[str, str], bytes] = {}

    async def close(self) -> None:
        """Close every connection; answers that are still read break off."""
        self._closed = True
        for connection in tuple(self._all):
            connection.end()
        while self._all:  # noqa: ASYNC110  # gone in the next round of the loop
            await asyncio.sleep(0)

    def get(self, path: str) -> Coroutine[Any, Any, Response]:
        """Send a GET and return when the headers of its answer have come."""
        return self._request("GET", path, b"", None)

    def post(
        self, path: str, body: bytes, progress: Progress | None = None
    ) -> Coroutine[Any, Any, Response]:
        """Send a POST and return when the headers of its answer have come.

        It is sent once more, on a new connection, when a kept one turns out to be closed: a server
        may close an idle connection in the moment in which it is used again, and nothing but a
        break before the first byte of the answer tells.

        Args:
            path: Appended to the base URL.
            body: The whole body.
            progress: Says after an end of any kind, a cancellation too, whether the server may have
                begun to work.

        Raises:
            ConnectError: No connection; `ConnectTimeoutError` when not in time.
            ssl.SSLError: TLS failed.
            BrokenConnectionError: It broke before the headers were complete.
        """
        return self._request("POST", path, body, progress)

    async def _request(
        self, method: str, path: str, body: bytes, progress: Progress | None
    ) -> Response:
        head = self._heads.get((method, path))
        if head is None:
            head = self._heads[method, path] = (
                f"{method} {self._base}{path} HTTP/1.1\r\n{self._fields}"
            ).encode("latin-1")
        if method == "GET":
            message = b"%b\r\n" % head
        else:
            message = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        kept = self._take_idle()
        if kept is not None:
            try:
                return await kept.exchange(message, progress)
            except BrokenConnectionError:
                if kept.heard or self._closed:
                    raise
                if progress is not None:
                    progress.in_doubt = False
        return await (await self._connect()).exchange(message, progress)

    def _take_idle(self) -> "_Connection | None":
        oldest = time.monotonic() - self._idle_s
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= oldest:
                return connection
            connection.end()
        return None

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                if self._socket_path:
                    _, connection = await loop.create_unix_connection(
                        lambda: _Connection(self, loop), self._socket_path
                    )
                else:
                    _, connection = await loop.create_connection(
                        lambda: _Connection(self, loop), self._host, self._port, ssl=self._tls
                    )
        except TimeoutError as exc:
            raise ConnectTimeoutError("no connection in time") from exc
        except ssl.SSLError:
            raise
        except OSError as exc:
            raise ConnectError(exc.strerror or str(exc)) from exc
        return connection

    def adopt(self, connection: "_Connection") -> None:
        """Note a connection that is made."""
        self._all.add(connection)

    def keep(self, connection: "_Connection") -> bool:
        """Take back a connection whose answer is complete; False when it is to be closed."""
        if not self._reuse or self._closed:
            return False
        self._idle.append(connection)
        return True

    def forget(self, connection: "_Connection") -> None:
        """Drop a connection that is closed."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


class _Connection(asyncio.Protocol):
    """One connection and the answer that is on it. The methods named `on_…` are httptools'."""

    def __init__(self, client: HttpClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until connected
        self._parser: Any = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []
        self._waiting_bytes = 0
        self._header_bytes = 0
        self._paused = False
        self._headers: dict[str, str] = {}
        self._in_body = False
        self._complete = False
        self._until_close = False
        """The body has no length of its own: it ends with the connection."""
        self._last = False
        """No other answer may follow on this connection."""
        self._busy = False
        self._lost: Exception | None = None
        self.heard = False
        """Anything has come of the present answer."""
        self.idle_since = 0.0

    @property
    def at_end(self) -> bool:
        return self._complete and not self._parts

    async def exchange(self, message: bytes, progress: Progress | None) -> Response:
        self._busy = True
        self._in_body = self._complete = self.heard = self._until_close = False
        self._headers = {}
        self._header_bytes = 0
        self._transport.write(message)
        if progress is not None:
            progress.in_doubt = True
        try:
            while not self._in_body:
                self._check()
                await self._next()
        except BaseException as exc:
            self._transport.abort()
            if progress is not None and isinstance(exc, ssl.SSLError | NotHttpError):
                progress.in_doubt = False  # no model server has read it
            raise
        if progress is not None:
            progress.in_doubt = False
        return Response(self, self._parser.get_status_code(), self._headers)

    async def read(self) -> bytes:
        while not self._parts:
            if self._complete:
                return b""
            self._check()
            await self._next()
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._waiting_bytes = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    def release(self) -> None:
        """End the present answer: keep the connection if it can serve another, else close it."""
        if not self._busy:
            return
        if not self._complete:
            self._transport.abort()  # so that the server stops its work
            return
        self._busy = False
        self._parts.clear()
        self.idle_since = time.monotonic()
        if self._last or self._lost is not None or not self._client.keep(self):
            self._transport.close()
        elif self._paused:
            self._paused = False
            self._transport.resume_reading()

    def end(self) -> None:
        """Close; at once in the middle of an exchange."""
        if self._busy:
            self._transport.abort()
        else:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has no base class
        self._client.adopt(self)

    def data_received(self, data: bytes) -> None:
        if not self._busy:
            # Nothing was asked: a server that says good-bye in words, or worse.
            self.end()
            return
        if self._complete:
            # More than the answer: whatever it is, it must not begin the next one.
            self._last = True
            return
        self.heard = True
        if not self._in_body:
            self._header_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail(NotHttpError("what came is no HTTP"))
        else:
            if not self._in_body and self._header_bytes > MAX_HEADER_BYTES:
                self._fail(NotHttpError("the headers are too long"))
        if self._waiting_bytes > READ_AHEAD_BYTES and not self._paused and not self._complete:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.forget(self)
        if self._until_close and self._in_body and exc is None:
            self._complete = True
        if self._lost is None:
            self._lost = (
                exc if isinstance(exc, ssl.SSLError) else BrokenConnectionError("it was closed")
            )
        self._wake()

    def on_message_begin(self) -> None:
        if self._complete:
            self._last = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._complete:
            return
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < _FIRST_FINAL:
            self._headers = {}
            return
        headers = self._headers
        if status in _BODILESS:
            self._complete = True
        elif "content-length" not in headers and "transfer-encoding" not in headers:
            self._last = self._until_close = True
        self._in_body = True

    def on_body(self, data: bytes) -> None:
        if self._complete:
            return
        self._parts.append(data)
        self._waiting_bytes += len(data)

    def on_message_complete(self) -> None:
        if self._in_body and not self._complete:
            self._complete = True
            self._last = self._last or not self._parser.should_keep_alive()

    def _fail(self, error: Exception) -> None:
        self._lost = error
        self._transport.abort()

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _next(self) -> asyncio.Future[None]:
        """Return what is done when anything has come, or the connection has ended."""
        self._waiter = self._loop.create_future()
        return self._waiter


async def read_bounded(response: Response, limit: int) -> bytes:
    """Return the whole body of an answer.

    Raises:
        BodyTooLongError: It has more than `limit` bytes.
        BrokenConnectionError: It ends too early.
    """
    data = await response.read()
    if response.at_end and len(data) <= limit:
        return data
    parts = [data]
    size = len(data)
    while data:
        if size > limit:
            raise BodyTooLongError(limit)
        data = await response.read()
        parts.append(data)
        size += len(data)
    return b"".join(parts)
