"""What a machine's time costs: its price by the hour, shared by the requests that run on it.

Two requests that run together for a minute pay half a minute each, so that the shares add up to
the price of the time in which the machine worked. Idle time is nobody's.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from localforge.inference import Reply

SECONDS_PER_HOUR = 3600
_FREE = nullcontext()


class Meter:
    """The meter of one machine.

    Args:
        usd_per_hour: Its price while it works.
        clock: Monotonic seconds.
    """

    def __init__(self, usd_per_hour: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._usd_per_s = usd_per_hour / SECONDS_PER_HOUR
        self._clock = clock
        self._running = 0
        self._each_usd = 0.0
        """What a request would have paid that has been running since the beginning."""
        self._moved_at = 0.0

    def share(self, reply: Reply) -> AbstractContextManager[None]:
        """Charge the time that passes inside to `reply.time_usd`, however it ends."""
        return self._share(reply) if self._usd_per_s else _FREE

    @contextmanager
    def _share(self, reply: Reply) -> Iterator[None]:
        self._move(+1)
        began = self._each_usd
        try:
            yield
        finally:
            self._move(-1)
            reply.time_usd += self._each_usd - began

    def _move(self, change: int) -> None:
        now = self._clock()
        if self._running:
            self._each_usd += (now - self._moved_at) * self._usd_per_s / self._running
        self._moved_at = now
        self._running += change
