"""Answer in the place of an edge that does not come back.

Whoever connects while the edge is started again waits for it. After some seconds he is better told
than kept, and so is a load balancer that takes an open port for a sign of life.
"""

import asyncio
import socket
from contextlib import suppress

from localforge.embedded.listener import BACKLOG

AFTER_S = 5.0
"""Without an edge. A start takes one to three."""
_LEAVE_S = 1.0
_BODY = (
    b'{"error":{"message":"LocalForge is being started again; retry in a few seconds",'
    b'"type":"server_error","param":null,"code":"starting"}}'
)
_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 3\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


class StandIn:
    """Tell it whether the edge serves; needs a running loop.

    Args:
        listener: The edge's.
        after_s: Seconds without an edge after which it answers.
    """

    def __init__(self, listener: socket.socket, after_s: float = AFTER_S) -> None:
        self._listener = listener
        self._after_s = after_s
        self._serves = True
        self._closed = False
        self._waiting: asyncio.Task[None] | None = None

    def edge_serves(self, *, serves: bool) -> None:
        """Step in when it has not served for a while, and back when it does."""
        if serves == self._serves or self._closed:
            return
        self._serves = serves
        self._step_back()
        if not serves:
            self._waiting = asyncio.create_task(self._stand_in(), name="stand-in")

    def close(self) -> None:
        """Step back for good."""
        self._closed = True
        self._step_back()

    def _step_back(self) -> None:
        if self._waiting:
            self._waiting.cancel()
            self._waiting = None

    async def _stand_in(self) -> None:
        await asyncio.sleep(self._after_s)
        # A copy, since the end of the server closes its socket.
        # It listens anew, and what it says of the queue stays.
        server = await asyncio.start_server(_refuse, sock=self._listener.dup(), backlog=BACKLOG)
        async with server:
            await server.serve_forever()


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, TimeoutError):
        writer.write(_ANSWER)
        writer.write_eof()
        # What is not read would reset the connection before the answer is.
        async with asyncio.timeout(_LEAVE_S):
            while await reader.read(65536):
                pass
    writer.close()
