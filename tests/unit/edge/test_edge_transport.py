"""The head of an answer goes out with its body, in order, and never after a close."""

import asyncio

from localforge.edge.transport import GatheringTransport

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class FakeTransport(asyncio.Transport):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[object] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.told.append(bytes(data))

    def close(self) -> None:
        self.told.append("close")

    def is_closing(self) -> bool:
        return "close" in self.told


async def test_a_head_and_its_body_are_one_write() -> None:
    real = FakeTransport()
    transport = GatheringTransport(real, asyncio.get_running_loop(), lambda: None)
    transport.write(HEAD)
    transport.write(b"body")
    assert real.told == []
    await asyncio.sleep(0)
    transport.write(b"more")
    assert real.told == [HEAD + b"body", b"more"]


async def test_a_head_alone_does_not_wait_for_a_body() -> None:
    real = FakeTransport()
    transport = GatheringTransport(real, asyncio.get_running_loop(), lambda: None)
    transport.write(HEAD)
    assert real.told == []
    await asyncio.sleep(0)
    assert real.told == [HEAD]


async def test_a_close_comes_after_what_was_written_before_it() -> None:
    real = FakeTransport()
    transport = GatheringTransport(real, asyncio.get_running_loop(), lambda: None)
    transport.write(HEAD)
    transport.close()
    await asyncio.sleep(0)
    assert real.told == [HEAD, "close"]


async def test_nothing_is_written_to_a_transport_that_was_closed_meanwhile() -> None:
    real = FakeTransport()
    transport = GatheringTransport(real, asyncio.get_running_loop(), lambda: None)
    transport.write(HEAD)
    real.close()
    await asyncio.sleep(0)
    assert real.told == ["close"]
