"""Serve an ASGI application inside an event loop that others live in too."""

import asyncio
import contextlib
import math
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

from localforge.edge.protocol import EdgeProtocol
from localforge.embedded.listener import inherited, listen

KEEP_ALIVE_S = 75
"""Longer than clients keep idle connections (the `openai` client: 5 s), so that a request does not
meet a connection that is just being closed."""
_CANCELLED_S = 1.0
_TICK_S = 1.0


@contextlib.asynccontextmanager
async def serve_http(
    app: Any, host: str, port: int, *, grace_s: float = 10.0
) -> AsyncIterator[str]:
    """Serve while the context lasts; then stop accepting and finish what is in flight.

    A process that was started with a listening socket serves that one.

    Args:
        app: ASGI 3; lifespan events are not sent.
        host: Address or name to listen on.
        port: 0 takes a free one.
        grace_s: For requests in flight at the end; those that take longer are cancelled.

    Yields:
        The base URL, for example `http://127.0.0.1:8080`.

    Raises:
        ConfigError: The port is in use, or the address is not one of this machine's.
    """
    listener = inherited() or listen(host, port)
    config = uvicorn.Config(
        app,
        http=EdgeProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        # Nothing here reads the client's address, so a proxy's word for it is not needed.
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(grace_s),
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listener]), name="http")
    serving.add_done_callback(lambda _: server.accepting.set())
    await server.accepting.wait()
    if serving.done():
        await serving
    try:
        yield _url(listener)
    finally:
        server.stop()
        await serving
        if server.server_state.tasks:
            await asyncio.wait(server.server_state.tasks, timeout=_CANCELLED_S)


class _Server(uvicorn.Server):
    """uvicorn without its hold on the process's signals, which belong to the host."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Stop accepting and begin to drain."""
        self.should_exit = True
        self._stopping.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, and say so."""
        await super().startup(sockets)
        self.accepting.set()

    async def main_loop(self) -> None:
        """Keep the date header right until told to stop; uvicorn's own wakes ten times as often."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _TICK_S)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
