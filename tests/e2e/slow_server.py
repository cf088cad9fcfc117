"""A slow model server, and clients that let go of a bare connection: for tests that take time."""

import asyncio
import json
import socket
import threading
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

from localforge.faults import FaultServer, Settings
from localforge.faults.journal import SeenRequest
from tests.e2e.stack import Stack
from tests.support import Lateness, wait_until

SLOW = Settings(words=("word",) * 400, pace_s=0.02, keep_bodies=True)
"""An answer takes 8 s, streamed or not."""
PROGRESS_S = 5
"""Silence after which a request goes on even if nobody finds its executor dead."""


class Server:
    """A fault server in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = FaultServer(settings)
        self.call(self._server.start())
        self.url = self._server.url

    def saw(self, text: str) -> list[SeenRequest]:
        return [seen for seen in tuple(self._server.journal.requests) if f"{text} " in seen.body]

    def refuse(self) -> None:
        self.call(self._server.refuse())

    def listen(self) -> None:
        self.call(self._server.listen())

    def call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    def close(self) -> None:
        self.call(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def check_took(took: float, promised: float, late: Lateness) -> None:
    """Check a promise in seconds; nothing excuses what only the wait for progress would end."""
    allowed = late.allowed(promised, at_most=PROGRESS_S - 0.5)
    assert took < allowed, f"late by {late.worst_s:.3f} s at worst"


def marker() -> str:
    return f"marker-{uuid.uuid4().hex[:8]}"


def body_of(text: str, **more: Any) -> dict[str, Any]:
    return {
        "model": "first",
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": f"{text} please"}],
        **more,
    }


def post(stack: Stack, body: dict[str, Any], path: str = "/v1/chat/completions") -> socket.socket:
    """Send a request and return the bare connection."""
    address = urlsplit(stack.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=20)
    data = json.dumps(body).encode()
    connection.sendall(
        b"POST %b HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n" % path.encode()
        + b"content-length: %d\r\n\r\n" % len(data)
        + data
    )
    return connection


async def pass_seconds(seconds: float) -> None:
    """Let time pass, which is what the test is about."""
    began = time.monotonic()
    await wait_until(lambda: time.monotonic() - began >= seconds, description="a moment")
