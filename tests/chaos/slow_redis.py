"""A way to Redis that can be closed, or take two seconds for each command."""

import asyncio
from contextlib import suppress

SLOW_S = 2.0
_CHUNK = 64 * 1024


class Way:
    """A TCP proxy in front of a Redis.

    Attributes:
        delay_s: Added to whatever a client sends; its commands come one at a time.
        refused: Connections that were cut or not let through.
        delayed: How often a client had to wait for that long.
    """

    def __init__(self, host: str, port: int) -> None:
        self.delay_s = 0.0
        self.refused = 0
        self.delayed = 0
        self._address = (host, port)
        self._is_open = True
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen on a free loopback port and return it."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def close_way(self) -> None:
        """Cut every connection, and each new one at once: nobody is there."""
        self._is_open = False
        self.refused += len(self._writers) // 2
        for writer in self._writers:
            writer.transport.abort()

    def open_way(self) -> None:
        """Let connections through again."""
        self._is_open = True

    async def stop(self) -> None:
        """Stop listening."""
        assert self._server is not None
        self._server.close()
        self.close_way()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if not self._is_open:
            self.refused += 1
            writer.transport.abort()
            return
        try:
            back, forth = await asyncio.open_connection(*self._address)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, forth}
        try:
            await asyncio.gather(self._pump(reader, forth, slow=True), self._pump(back, writer))
        finally:
            for end in (writer, forth):
                self._writers.discard(end)
                end.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool = False
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if slow and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                    self.delayed += 1
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
