"""How a child says, or is asked, whether it is ready.

A service of ours writes one byte to a pipe it inherited; its number is in `LOCALFORGE_READY_FD`.
Somebody else's server is asked in its own protocol.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

READY_FD = "LOCALFORGE_READY_FD"
PROBE_TIMEOUT_S = 1.0

Probe = Callable[[], Awaitable[bool]]


class _NatsInfo(msgspec.Struct):
    server_name: str = ""
    jetstream: bool = False


def notify_ready() -> None:
    """Tell the supervisor, if there is one, that this process serves; later calls do nothing."""
    descriptor = os.environ.pop(READY_FD, "")
    if descriptor:
        # A supervisor that has given up waiting has closed its end.
        with suppress(OSError):
            os.write(int(descriptor), b"1")
            os.close(int(descriptor))


def nats_answers(host: str, port: int, server_name: str) -> Probe:
    """Return a probe: the server with this name greets, and JetStream is up in it."""

    async def probe() -> bool:
        line = await _exchange(host, port, b"")
        if not line.startswith(b"INFO "):
            return False
        try:
            info = msgspec.json.decode(line[5:], type=_NatsInfo)
        except msgspec.DecodeError:
            return False
        return info.server_name == server_name and info.jetstream

    return probe


async def nats_serves(
    host: str, port: int, user: str, password: str, *, subject: str, inbox: str
) -> bool | None:
    """Publish an empty request as a user, and tell whether somebody answers.

    Args:
        host: Of the server.
        port: Of the server.
        user: May publish to `subject` and subscribe to `inbox`.
        password: The user's.
        subject: Where to.
        inbox: For the answer.

    Returns:
        False when the server says that nobody does; None when it does not know the user, or
        there is no answer in time.
    """
    login = {"user": user, "pass": password, "headers": True, "no_responders": True}
    connect = msgspec.json.encode(login | {"verbose": False}).decode()
    commands = f"CONNECT {connect}\r\nSUB {inbox} 1\r\nPUB {subject} {inbox} 0\r\n\r\n"
    # Ahead of the answer the server greets; an answer has its payload or its status on a line.
    lines = (await _exchange(host, port, commands.encode(), lines=3)).splitlines()
    if len(lines) < 3 or not lines[1].startswith((b"MSG ", b"HMSG ")):
        return None
    return not lines[2].startswith(b"NATS/1.0 503")


def redis_answers(host: str, port: int, password: str) -> Probe:
    """Return a probe: the server takes the password and has loaded its data."""

    async def probe() -> bool:
        command = f"AUTH {password}\r\nPING\r\n".encode()
        return await _exchange(host, port, command, lines=2) == b"+OK\r\n+PONG\r\n"

    return probe


def http_answers(host: str, port: int, path: str) -> Probe:
    """Return a probe: a GET of the path has status 200."""

    async def probe() -> bool:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        status = await _exchange(host, port, request)
        return status.split(b" ")[1:2] == [b"200"]

    return probe


async def _exchange(host: str, port: int, send: bytes, *, lines: int = 1) -> bytes:
    """Send bytes and return the first lines of the answer; empty when there is none in time."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(send)
                return b"".join([await reader.readline() for _ in range(lines)])
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return b""
