"""The hot path of one NATS connection: messages of live subjects, facts and pulls.

nats-py connects, authenticates, reconnects, subscribes and speaks JetStream's API. A message costs
it a regular expression, a queue, two wake-ups of tasks and four future objects; what is here reads
and writes frames of the same connection with none of that. Measured in docs/adr/0021.

Leans on private parts of the pinned nats-py: its parser, its list of pending commands, its
transport. `tests/integration/test_bus_wire.py` fails when they change.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.errors import (
    BadHeaderError,
    BadSubjectError,
    ConnectionClosedError,
    MaxPayloadError,
    OutboundBufferLimitError,
    ProtocolError,
)
from nats.protocol.parser import Parser

from localforge.bus.connection import PENDING_BYTES
from localforge.telemetry import log

_log = log.get("bus.wire")

Callback = Callable[[str, str, bytes, bytes], None]
"""Takes subject, reply subject, payload and raw headers; what is not there is empty.

Called while the connection is being read: what takes long, or waits, belongs in a task.
"""

NEVER_SENT = (BadHeaderError, BadSubjectError, MaxPayloadError)
"""What is wrong with a message itself: another try would end in the same way."""
MESSAGE_ID = "Nats-Msg-Id"
NO_RESPONDERS = "503"
NOBODY = f"NATS/1.0\r\nStatus: {NO_RESPONDERS}\r\n\r\n".encode()
"""Headers of a message that passes on the broker's word that nobody serves a subject."""
FLUSH_BYTES = 32 * 1024
"""What is sent is written with the next pass of the event loop, this much of it at once."""
CONGESTED_BYTES = 1024 * 1024
"""Waiting in the socket's buffer: from here on the broker reads more slowly than we write."""
_LINE_END = b"\r\n"
_HEADERS = "NATS/1.0"
_STATUS = b"Status:"
_MESSAGES = b"MH"


def wire_of(client: Client) -> "Wire":
    """Return the wire of a connected client, which has one from the first call on."""
    frames = client._ps  # noqa: SLF001
    return frames.wire if isinstance(frames, _Frames) else Wire(client)


class Wire:
    """Sends and takes messages over a client that nats-py keeps connected; see `wire_of`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._frames = client._ps = _Frames(self, client, bytes(client._ps.buf))  # noqa: SLF001
        self._flush_due = False
        self._draining: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """True while the broker answers."""
        return self._client.is_connected

    def send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: bytes = b""
    ) -> None:
        """Publish one message; it is written with the next pass of the event loop.

        While the broker is away messages wait for it, up to `PENDING_BYTES`.

        Args:
            subject: Where to.
            data: Payload.
            reply: Subject for an answer.
            headers: From `message_id`, or `NOBODY`.

        Raises:
            nats.errors.Error: A subject is none (`BadSubjectError`), the payload is larger than the
                broker takes (`MaxPayloadError`), too much waits (`OutboundBufferLimitError`), or
                the client is closed.
        """
        client = self._client
        size = len(data)
        if headers:
            size += len(headers)
            line, blanks = f"HPUB {subject} {reply} {len(headers)} {size}", 4
        else:
            line, blanks = f"PUB {subject} {reply} {size}", 3
        # Some of it came with a request, and must not end this command and begin another.
        if not subject or line.count(" ") != blanks or not line.isprintable():
            raise BadSubjectError
        if client.is_closed:
            raise ConnectionClosedError
        if len(data) > client.max_payload:
            raise MaxPayloadError
        waiting = client._pending_data_size  # noqa: SLF001
        if waiting + size > PENDING_BYTES:
            raise OutboundBufferLimitError
        frame = b"%b\r\n%b%b\r\n" % (line.encode(), headers, data)
        client._pending.append(frame)  # noqa: SLF001
        client._pending_data_size = waiting + len(frame)  # noqa: SLF001
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        elif waiting > FLUSH_BYTES:
            self._write()

    async def take(self, subject: str, callback: Callback, *, queue: str = "") -> Subscription:
        """Subscribe; messages go to `callback` as they are read."""
        # The number that the subscription will have: its first message must not go another way.
        number = self._client._sid + 1  # noqa: SLF001
        self._frames.callbacks[number] = callback
        try:
            return await self._client.subscribe(subject, queue=queue, cb=_never)
        except BaseException:
            del self._frames.callbacks[number]
            raise

    async def leave(self, subscription: Subscription) -> None:
        """Take no more; what the broker has sent until now is still handed over."""
        try:
            await subscription.drain()  # type: ignore[no-untyped-call]
        finally:
            self._forget(subscription)

    async def drop(self, subscription: Subscription) -> None:
        """Take no more, from now on."""
        self._forget(subscription)
        await subscription.unsubscribe()

    def _forget(self, subscription: Subscription) -> None:
        self._frames.callbacks.pop(subscription._id, None)  # noqa: SLF001

    def _flush(self) -> None:
        self._flush_due = False
        self._write()

    def _write(self) -> None:
        client = self._client
        if self._draining is not None or not client.is_connected or not client._pending:  # noqa: SLF001
            # Who drains writes the rest, and so does nats-py once it has reconnected.
            return
        transport = client._transport  # noqa: SLF001
        assert isinstance(transport, TcpTransport), "`nats.url` is TCP or TLS"
        pending, client._pending = client._pending, []  # noqa: SLF001
        client._pending_data_size = 0  # noqa: SLF001
        # A connection that has just been lost is noticed by who reads it.
        with suppress(OSError, RuntimeError):
            writer = transport._io_writer  # noqa: SLF001
            assert writer is not None, "a client that is connected has a writer"
            writer.writelines(pending)
            if writer.transport.get_write_buffer_size() > CONGESTED_BYTES:
                self._draining = self._loop.create_task(self._drain(writer))

    async def _drain(self, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, RuntimeError):
                await writer.drain()
        finally:
            self._draining = None
        self._write()


def message_id(value: str) -> bytes:
    """Return the headers of a message that a stream takes only once.

    Raises:
        BadHeaderError: A line would end in it.
    """
    if not value.isprintable():
        raise BadHeaderError(MESSAGE_ID)
    return f"{_HEADERS}\r\n{MESSAGE_ID}: {value}\r\n\r\n".encode()


def status_of(headers: bytes) -> tuple[str, str]:
    """Return the status of a message with headers, and its description; empty without one.

    The broker writes both into the first line; who passes a status on has a header for it.
    """
    first, *lines = headers.split(_LINE_END)
    status, _, description = first.decode().removeprefix(_HEADERS).strip().partition(" ")
    if not status:
        passed_on = (line[len(_STATUS) :] for line in lines if line.startswith(_STATUS))
        status = next(passed_on, b"").strip().decode()
    return status, description


class _Frames(Parser):
    """nats-py's parser with a short way for messages; all other commands are left to it.

    Args:
        wire: Whose messages they are.
        client: Handles all others.
        begun: What another parser has read of a command.
    """

    def __init__(self, wire: Wire, client: Client, begun: bytes) -> None:
        self.wire = wire
        self.callbacks: dict[int, Callback] = {}
        super().__init__(client)
        if begun:
            self._hold(begun, 0)

    def reset(self) -> None:
        """Forget what was read of a connection that is gone."""
        super().reset()
        self._parts: list[bytes] = []
        self._held = 0
        self._needed = 0

    async def parse(self, data: bytes = b"") -> None:
        """Take what was read.

        Raises:
            ProtocolError: It is not NATS.
        """
        if self._parts:
            self._parts.append(data)
            self._held += len(data)
            if self._held < self._needed:
                return
            data = b"".join(self._parts)
            self._parts = []
        at, end = 0, len(data)
        while at < end:
            line_end = data.find(_LINE_END, at)
            if line_end < 0:
                self._hold(data[at:], 0)
                return
            kind = data[at]
            if kind not in _MESSAGES:
                await super().parse(data[at : line_end + 2])
                at = line_end + 2
                continue
            subject, number, reply, head, size = _arguments(data[at:line_end])
            start = line_end + 2
            stop = start + size
            if stop + 2 > end:
                self._hold(data[at:], stop + 2 - at)
                return
            at = stop + 2
            headers = data[start : start + head]
            payload = data[start + head : stop]
            callback = self.callbacks.get(number)
            if callback is None:
                await self.nc._process_msg(number, subject, reply, payload, headers or None)  # noqa: SLF001
                continue
            try:
                callback(subject.decode(), reply.decode(), payload, headers)
            except Exception:  # noqa: BLE001  # one bad message must not end the connection
                _log.exception("message_failed", subject=subject.decode(errors="replace"))

    def _hold(self, rest: bytes, needed: int) -> None:
        """Keep a part of a frame until as many bytes are here."""
        self._parts = [rest]
        self._held = len(rest)
        self._needed = needed


def _arguments(line: bytes) -> tuple[bytes, int, bytes, int, int]:
    """Return subject, number of the subscription, reply subject, and sizes: of headers and all.

    Raises:
        ProtocolError: It is not `MSG subject number [reply] size`, nor `HMSG` with two sizes.
    """
    words = line.split()
    has_headers = line.startswith(b"H")
    sizes_at = len(words) - 1 - has_headers
    if sizes_at not in (3, 4):
        raise ProtocolError("nats: malformed MSG")
    try:
        head = int(words[sizes_at]) if has_headers else 0
        return words[1], int(words[2]), words[3] if sizes_at > 3 else b"", head, int(words[-1])
    except ValueError as exc:
        raise ProtocolError("nats: malformed MSG") from exc


async def _never(msg: Msg) -> None:
    raise AssertionError(f"nats-py was given a message on {msg.subject} that has its own way")
