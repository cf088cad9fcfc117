"""The server's side of a connection: an answer's head and body are one write."""

import asyncio
from collections.abc import Callable
from typing import Any

HEAD = b"HTTP/1.1 "


class GatheringTransport:
    """A transport that holds the head of an answer, and what follows at once, for a moment.

    uvloop writes at once, so that head and body would be two system calls and two packets, in
    between the work on other requests. Later writes, the events of a stream, pass through. Flow
    control is the transport's own.

    Args:
        transport: The real one.
        loop: Its loop.
        on_close: Called when it begins to close; what waits to be written is written still.
    """

    __slots__ = ("_held", "_loop", "_on_close", "_transport")

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        on_close: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._on_close = on_close
        self._held = b""

    def write(self, data: bytes) -> None:
        """Write now; a head and what follows it in this pass of the loop, with the next pass."""
        if self._held:
            self._held += data
        elif data.startswith(HEAD):
            self._held = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def write_whole(self, answer: bytes) -> None:
        """Write an answer that nothing follows."""
        self._flush()
        self._transport.write(answer)

    def close(self) -> None:
        """Write what is left, then close."""
        self._flush()
        if not self._transport.is_closing():
            self._transport.close()
            self._on_close()

    def is_closing(self) -> bool:
        """Tell whether it is closed or about to be."""
        return self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        data, self._held = self._held, b""
        if data and not self._transport.is_closing():
            self._transport.write(data)
