"""Clients that do not read what they asked for: nothing is kept for them for good."""

import asyncio
import gc
import socket

import msgspec
import pytest

from localforge.edge import exchange as exchange_module
from localforge.edge import server
from localforge.edge.protocol import EdgeProtocol
from localforge.edge.write_watch import WriteWatch
from tests.support import wait_until
from tests.unit.edge.lane import BODY, CHAT, completed, delta
from tests.unit.edge.test_edge_connections import head

STREAMED = msgspec.json.encode(CHAT | {"stream": True})
OPENAPI = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
LONG = b"x" * 16_000_000
"""More than the kernel takes for a client that does not read."""


@pytest.fixture
async def ask(edge):
    """Return a function that sends something and never reads."""
    opened = []

    async def send(data: bytes) -> None:
        client = socket.socket()
        opened.append(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", edge.port))
        await loop.sock_sendall(client, data)

    yield send
    for client in opened:
        client.close()


def connections() -> list[EdgeProtocol]:
    return [one for one in gc.get_objects() if isinstance(one, EdgeProtocol) and one.parser]


async def are_cut_off() -> None:
    await wait_until(lambda: not connections(), description="no connection")


async def flood(lane, call):
    lane.emit(delta(call, "x", first=True))
    while call.request_id not in lane.cancelled:
        lane.emit(delta(call, "x" * 50_000))
        await asyncio.sleep(0)


async def test_a_reader_of_a_stream_that_stops_reading_is_gone_with_its_buffer(
    edge, ask, monkeypatch
):
    monkeypatch.setattr(exchange_module, "MAX_BUFFERED_BYTES", 256 * 1024)
    edge.lane.script = flood
    await ask(head(len(STREAMED)) + STREAMED)

    await wait_until(lambda: edge.lane.cancelled, description="the cancel")
    await are_cut_off()


async def test_answers_without_a_model_wait_for_no_reader_for_good(ask, monkeypatch):
    monkeypatch.setattr(EdgeProtocol, "WRITE_WINDOW_S", 0.1)
    await ask(OPENAPI * 1000)
    await wait_until(connections, description="the connection")

    await are_cut_off()


@pytest.mark.parametrize("line", ["connection: close", "connection: keep-alive"])
async def test_a_close_waits_for_no_reader_for_good(make_edge, lane, line, monkeypatch):
    monkeypatch.setattr(EdgeProtocol, "WRITE_WINDOW_S", 0.1)
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.1)
    lane.script = lambda lane, call: lane.emit(completed(call, body=LONG))
    async with server.serve_http(make_edge().app, "127.0.0.1", 0) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(head(len(BODY), line) + BODY)
        await reader.readexactly(1)
        await are_cut_off()
        writer.close()


class FakeTransport(asyncio.Transport):
    """Has something to write, and says when it is told to drop it."""

    left = 100
    aborted = False

    def get_write_buffer_size(self) -> int:
        return self.left

    def abort(self) -> None:
        self.aborted = True


async def test_a_reader_that_takes_something_in_every_window_is_left_alone():
    transport = FakeTransport()
    watch = WriteWatch(transport, asyncio.get_running_loop(), 0.05)
    looks = 0

    def take_some() -> int:
        nonlocal looks
        looks += 1
        return max(0, 5 - looks)

    transport.get_write_buffer_size = take_some  # type: ignore[method-assign]
    watch.start()
    await wait_until(lambda: looks == 5, description="the end of it")

    assert not transport.aborted
    watch.close()


async def test_a_reader_that_takes_nothing_in_a_window_is_cut_off():
    transport = FakeTransport()
    watch = WriteWatch(transport, asyncio.get_running_loop(), 0.01)
    watch.start()

    await wait_until(lambda: transport.aborted, description="the abort")
