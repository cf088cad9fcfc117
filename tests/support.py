"""What several test folders need: waiting instead of sleeping, and how late this machine is."""

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self


async def wait_until(
    condition: Callable[[], Any] | Callable[[], Awaitable[Any]],
    *,
    timeout: float = 20,  # noqa: ASYNC109  # the caller's patience, stated in the failure
    description: str,
) -> Any:
    """Poll `condition` (plain or async) until it is true and return its value.

    Raises:
        AssertionError: It was not true within `timeout` seconds; says what was waited for.
    """
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s for: {description}; last value {value!r}")
        await asyncio.sleep(0.01)


_PORTS = range(30000, 32760)
"""Between those that LocalForge looks for its servers' among and those that Linux gives out."""


def unclaimed_ports(count: int = 1) -> range:
    """Return so many loopback ports in a row that nobody has, or takes unless told to.

    For a port that is bound some time after it was chosen, while other tests start servers.
    """
    for first in random.sample(_PORTS, 200):
        found = range(first, first + count)
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for port in found:
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return found
    raise AssertionError(f"no {count} free ports in a row in {_PORTS}")


class Lateness:
    """Measures how late this machine's timers are while a test times something.

    A promise in seconds is the product's on a machine that has time for it. One that does not is
    late at every hop of a request, which is what a bound has to allow for.
    """

    TICK_S = 0.02
    HOPS = 20
    """A request's wake-ups one after the other, in five processes, with some to spare."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._measure())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def allowed(self, seconds: float, *, at_most: float) -> float:
        """Return a bound for what takes `seconds` at most where nothing is late.

        Args:
            seconds: What is promised.
            at_most: Where the promise would be broken however busy the machine is.
        """
        return max(seconds, min(seconds + self.HOPS * self.worst_s, at_most))

    async def _measure(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(self.TICK_S)
            self.worst_s = max(self.worst_s, time.monotonic() - began - self.TICK_S)
