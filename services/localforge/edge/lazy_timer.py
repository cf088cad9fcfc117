"""A timer that is started with every request and hardly ever rings."""

import asyncio
import math
from collections.abc import Callable


class LazyTimer:
    """Rings some time after it was last started, unless it was stopped since.

    To start and to stop it is a note; the loop's own timer, which is dear, runs on, and looks at
    the note at its end.

    Args:
        loop: Runs the timer.
        delay_s: From the start until it rings.
        ring: Called then.
    """

    __slots__ = ("_delay_s", "_due_at", "_handle", "_loop", "_ring")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, delay_s: float, ring: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._delay_s = delay_s
        self._ring = ring
        self._due_at = math.inf
        self._handle: asyncio.TimerHandle | None = None

    @property
    def is_started(self) -> bool:
        """True when it is going to ring."""
        return self._due_at < math.inf

    def start(self) -> None:
        """Ring after the delay, counted from now."""
        self._due_at = self._loop.time() + self._delay_s
        if self._handle is None:
            self._handle = self._loop.call_at(self._due_at, self._look)

    def stop(self) -> None:
        """Do not ring."""
        self._due_at = math.inf

    def close(self) -> None:
        """Stop, and let go of what `ring` belongs to."""
        self.stop()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        self._handle = None
        if not self.is_started:
            return
        if self._loop.time() < self._due_at:
            self._handle = self._loop.call_at(self._due_at, self._look)
        else:
            self.stop()
            self._ring()
