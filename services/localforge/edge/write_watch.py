"""The watch over a client that is written to: one that takes nothing for long is cut off."""

import asyncio

from localforge.edge.lazy_timer import LazyTimer


class WriteWatch:
    """Aborts a connection when nothing of what waits to be written has left in a while.

    Without it a client that has stopped reading keeps its answer, and the request that writes it,
    for good: neither a drain nor a close has an end of its own.

    Args:
        transport: The real one; from `start` on, what waits at it only becomes less.
        loop: Its loop.
        window_s: In which something has to leave.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, window_s: float
    ) -> None:
        self._transport = transport
        self._timer = LazyTimer(loop, window_s, self._look)
        self._left = 0

    def start(self) -> None:
        """Watch, where anything waits to be written."""
        self._left = self._transport.get_write_buffer_size()
        if self._left:
            self._timer.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._timer.stop()

    def close(self) -> None:
        """End."""
        self._timer.close()

    def _look(self) -> None:
        before = self._left
        if self._transport.get_write_buffer_size() >= before:
            self._transport.abort()
        else:
            self.start()
