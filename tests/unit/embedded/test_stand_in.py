"""Who answers when the edge does not come back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from socket import socket

import pytest

from localforge.embedded.listener import listen
from localforge.embedded.stand_in import StandIn


@pytest.fixture(name="listener")
def _listener() -> Iterator[socket]:
    with listen("127.0.0.1", 0) as listener:
        yield listener


@asynccontextmanager
async def standing_in(listener: socket, after_s: float) -> AsyncIterator[StandIn]:
    stand_in = StandIn(listener, after_s)
    yield stand_in
    stand_in.close()
    # What was cancelled closes its sockets.
    for _ in range(5):
        await asyncio.sleep(0)


async def ask(listener: socket) -> bytes:
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    try:
        writer.write(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def test_who_waited_too_long_is_told_to_come_again(listener: socket) -> None:
    async with standing_in(listener, 0.01) as stand_in:
        stand_in.edge_serves(serves=False)
        answer = await ask(listener)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 3" in head
    assert f"content-length: {len(body)}".encode() in head
    assert b'"code":"starting"' in body


async def test_it_steps_back_for_an_edge_that_serves(listener: socket) -> None:
    async with standing_in(listener, 0.0) as stand_in:
        stand_in.edge_serves(serves=False)
        await ask(listener)
        stand_in.edge_serves(serves=True)
        loop = asyncio.get_running_loop()
        client = asyncio.open_connection(*listener.getsockname())
        _, writer = await client

        # The connection is the edge's again.
        accepted, _ = await asyncio.wait_for(loop.sock_accept(listener), 10)
        accepted.close()
        writer.close()


async def test_a_short_absence_is_waited_for(listener: socket) -> None:
    async with standing_in(listener, 60) as stand_in:
        stand_in.edge_serves(serves=False)
        stand_in.edge_serves(serves=True)
        stand_in.edge_serves(serves=False)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await ask(listener)
