"""How often a stream's events go to the edge: at once, but no more than fifty times a second.

A frame costs the same whether it carries one event or ten: a message through the broker, and a
write to the client. Streams of up to forty tokens per second are not held back at all, since
whatever comes after a pause goes out at once; of faster ones the events of one frame period, about
what a screen shows as one picture, travel together.

Frames that are due leave when the clock's next period begins, the same moment for every stream, so
that those of many streams are one write to the broker, and one read at the edge.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable

PERIOD_S = 0.02
LEAST_PERIODS = 0.25
"""Between two frames, when the first one was not due but came after a pause."""
MAX_HELD_BYTES = 64 * 1024


class FramePacer:
    """Gathers what one stream writes. Everything leaves in order.

    Args:
        send: Takes the events of one frame. What it raises comes out of the next `write` or
            `flush`.
    """

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._next_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None

    async def write(self, data: bytes) -> None:
        """Send events now when the last frame is a period ago, else with the next frame."""
        if self._sending is not None:
            await self.sent()
        if not self._held and self._loop.time() >= self._next_at:
            self._next_at = _next_period(self._loop.time())
            await self._send(data)
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > MAX_HELD_BYTES:
            await self._send(self.take())
        elif self._timer is None:
            self._timer = self._loop.call_at(self._next_at, self._on_period)

    async def flush(self) -> None:
        """Send what is held."""
        await self.sent()
        if held := self.take():
            await self._send(held)

    def stop(self) -> None:
        """Send nothing more by itself; what is held waits for `flush` or `take`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take(self) -> bytes:
        """Return what is held, for the caller to send."""
        self.stop()
        held = b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        return held

    def close(self) -> bytes:
        """Return what is held, for the caller to send as the last of all."""
        self._send = _nobody  # which holds on to whoever made this
        return self.take()

    async def sent(self) -> None:
        """Wait for a frame that is on its way."""
        sending, self._sending = self._sending, None
        if sending is not None:
            await sending

    def _on_period(self) -> None:
        self._timer = None
        self._next_at = _next_period(self._loop.time())
        self._sending = self._loop.create_task(self._send_held())

    async def _send_held(self) -> None:
        if held := self.take():
            await self._send(held)


def _next_period(now: float) -> float:
    """Return when the next period begins, the one after it if that is too soon.

    A timer may fire a little before its time, which must not make a frame of its own.
    """
    return (math.floor(now / PERIOD_S + LEAST_PERIODS) + 1) * PERIOD_S


async def _nobody(_: bytes) -> None:
    raise AssertionError("a stream went on after its end")
