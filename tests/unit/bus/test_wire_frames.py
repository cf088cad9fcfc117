"""Frames of the broker are read whole however they are cut, and ours cannot be broken out of."""

import pytest
from nats.aio.client import Client
from nats.errors import (
    BadHeaderError,
    BadSubjectError,
    ConnectionClosedError,
    MaxPayloadError,
    OutboundBufferLimitError,
    ProtocolError,
)

from localforge.bus.connection import PENDING_BYTES
from localforge.bus.wire import NOBODY, message_id, status_of, wire_of

Message = tuple[str, str, bytes, bytes]
ID = b"NATS/1.0\r\nNats-Msg-Id: a:b\r\n\r\n"
MESSAGES: list[Message] = [
    ("lf.a", "", b"hello", b""),
    ("lf.b", "reply.1", b"\r\n", b""),
    ("lf.c", "reply.2", b"world", ID),
    ("lf.d", "", b"", b""),
    ("lf.e", "", b"", b"NATS/1.0 503\r\n\r\n"),
    ("lf.f", "", b"MSG x 1 0\r\n\r\n", b""),
    ("lf.g", "", bytes(range(256)) * 8, ID),
]


def frame(message: Message, number: int = 1) -> bytes:
    """Return a message as the broker writes it, to the subscription with this number."""
    subject, reply, data, headers = message
    kind, sizes = ("HMSG", f"{len(headers)} ") if headers else ("MSG", "")
    words = f"{kind} {subject} {number} {reply + ' ' if reply else ''}{sizes}"
    return b"%b%d\r\n%b%b\r\n" % (words.encode(), len(headers) + len(data), headers, data)


class Connection:
    """A client that never connected, and what its wire takes of subscription 1."""

    def __init__(self) -> None:
        self.client = Client()
        self.client._max_payload = 1000
        self.wire = wire_of(self.client)
        self.taken: list[Message] = []
        self.others: list[bytes] = []
        self.pongs = 0
        self.wire._frames.callbacks[1] = lambda *message: self.taken.append(message)
        self.client._process_msg = self._other  # type: ignore[method-assign]
        self.client._process_pong = self._pong  # type: ignore[method-assign]

    async def _other(self, number, subject, reply, data, headers) -> None:
        self.others.append(data)

    async def _pong(self) -> None:
        self.pongs += 1

    async def read(self, *chunks: bytes) -> None:
        for chunk in chunks:
            await self.client._ps.parse(chunk)

    @property
    def sent(self) -> bytes:
        return b"".join(self.client._pending)


@pytest.fixture(name="connection")
async def _connection() -> Connection:
    return Connection()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 100_000])
async def test_messages_are_whole_however_they_are_cut(connection, size):
    stream = b"+OK\r\n".join(map(frame, MESSAGES)) + b"PONG\r\n"

    await connection.read(*(stream[at : at + size] for at in range(0, len(stream), size)))

    assert connection.taken == MESSAGES
    assert connection.pongs == 1


async def test_a_large_message_in_many_pieces_is_joined_once(connection):
    message = ("lf.large", "", b"x" * 20_000_000, b"")
    stream = frame(message)

    await connection.read(*(stream[at : at + 32_768] for at in range(0, len(stream), 32_768)))

    assert connection.taken == [message]


async def test_other_subscriptions_are_left_to_nats_py(connection):
    await connection.read(frame(MESSAGES[0], 2) + frame(MESSAGES[1]) + frame(MESSAGES[2], 2))

    assert connection.others == [b"hello", b"world"]
    assert connection.taken == [MESSAGES[1]]


async def test_a_callback_that_fails_ends_nothing(connection):
    def fail(*message) -> None:
        raise ZeroDivisionError

    connection.wire._frames.callbacks[2] = fail
    await connection.read(frame(MESSAGES[0], 2) + frame(MESSAGES[1]))

    assert connection.taken == [MESSAGES[1]]


@pytest.mark.parametrize("line", [b"MSG lf.a 1\r\n", b"MSG lf.a one 5\r\n", b"HMSG lf.a 1 5\r\n"])
async def test_a_malformed_message_is_an_error_of_the_protocol(connection, line):
    with pytest.raises(ProtocolError):
        await connection.read(line)


async def test_what_a_lost_connection_left_half_read_is_forgotten(connection):
    await connection.read(frame(MESSAGES[0])[:-4])
    connection.client._ps.reset()
    await connection.read(frame(MESSAGES[1]))

    assert connection.taken == [MESSAGES[1]]


async def test_a_wire_takes_over_what_nats_py_has_begun_to_read():
    client = Client()
    await client._ps.parse(b"MSG lf")
    wire, taken = wire_of(client), []
    wire._frames.callbacks[1] = lambda *message: taken.append(message)
    await client._ps.parse(b".a 1 2\r\nhi\r\n")

    assert taken == [("lf.a", "", b"hi", b"")]


async def test_a_client_has_one_wire(connection):
    assert wire_of(connection.client) is connection.wire


async def test_messages_are_written_as_the_broker_reads_them(connection):
    connection.wire.send("lf.a", b"hello")
    connection.wire.send("lf.b", b"", reply="reply.1")
    connection.wire.send("lf.c", b"world", reply="r", headers=message_id("a:b"))

    assert connection.sent == (
        b"PUB lf.a  5\r\nhello\r\n"
        b"PUB lf.b reply.1 0\r\n\r\n"
        b"HPUB lf.c r %d %d\r\n%bworld\r\n" % (len(ID), len(ID) + 5, ID)
    )


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB b", "a\n", "a\tb", "a\x00", "a\x85b"])
@pytest.mark.parametrize("headers", [b"", NOBODY])
async def test_nothing_can_break_out_of_a_subject(connection, subject, headers):
    with pytest.raises(BadSubjectError):
        connection.wire.send(subject, b"", headers=headers)
    if subject:
        with pytest.raises(BadSubjectError):
            connection.wire.send("lf.a", b"", reply=subject, headers=headers)
    assert connection.sent == b""


@pytest.mark.parametrize("value", ["a\r\nStatus: 503", "a\nb", "a\x00"])
def test_nothing_can_break_out_of_a_message_id(value):
    with pytest.raises(BadHeaderError):
        message_id(value)


async def test_what_cannot_be_sent_is_told(connection):
    with pytest.raises(MaxPayloadError):
        connection.wire.send("lf.a", b"x" * 1001)
    connection.client._pending_data_size = PENDING_BYTES
    with pytest.raises(OutboundBufferLimitError):
        connection.wire.send("lf.a", b"x")
    connection.client._status = Client.CLOSED
    with pytest.raises(ConnectionClosedError):
        connection.wire.send("lf.a", b"x")


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (b"NATS/1.0 503\r\n\r\n", ("503", "")),
        (b"NATS/1.0 404 No Messages\r\n\r\n", ("404", "No Messages")),
        (
            b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 5\r\n\r\n",
            ("100", "Idle Heartbeat"),
        ),
        (NOBODY, ("503", "")),
        (message_id("x"), ("", "")),
        (b"", ("", "")),
    ],
)
def test_a_status_is_read_from_the_first_line_or_its_header(headers, found):
    assert status_of(headers) == found
