"""How a service connects: its own NATS user, its own inbox prefix, endless reconnects."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError

from localforge.config import NatsConfig
from localforge.errors import ConfigError

PENDING_BYTES = 64 * 1024 * 1024
"""What the client buffers while the broker is away; more is refused to the caller."""

_CANCEL_AGAIN_S = 0.1


def inbox_prefix(user: str) -> str:
    """Where replies to this user come. No other user may subscribe there."""
    return f"_INBOX_{user}"


def options(config: NatsConfig, user: str) -> dict[str, Any]:
    """Return nats-py connect options for one user.

    Raises:
        ConfigError: The credentials file cannot be read or does not know the user.
    """
    found: dict[str, Any] = {
        "name": f"localforge-{user}",
        "inbox_prefix": inbox_prefix(user).encode(),
        "connect_timeout": config.connect_timeout_s,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.25,
        "ping_interval": 10,
        "max_outstanding_pings": 2,
        "pending_size": PENDING_BYTES,
        "allow_reconnect": True,
    }
    if config.credentials:
        found |= {"user": user, "password": _password(config.credentials, user)}
    return found


async def settle(client: Client) -> None:
    """Return when the broker has acted on everything sent so far, subscriptions above all.

    nats-py writes the PING of a flush ahead of what still waits in its buffer, so the first round
    proves that the buffer was written and the second that the broker has read it.

    Raises:
        nats.errors.Error: The broker does not answer.
    """
    await client.flush()
    await client.flush()


async def end(client: Client) -> None:
    """Close a client, whatever its state, and see that it has given up reconnecting.

    A drain fails while the broker is away and leaves the endless reconnecting at work, and nats-py
    takes the one cancel that an event loop sends at its end for an end of something else, so that
    the process would never exit.
    """
    reconnecting = client._reconnection_task  # noqa: SLF001  # nats-py has no other way to it
    if not client.is_closed:
        with suppress(NatsError, OSError, RuntimeError):
            await client.close()
    while reconnecting is not None and not reconnecting.done():
        reconnecting.cancel()
        await asyncio.wait((reconnecting,), timeout=_CANCEL_AGAIN_S)


def _password(path: str, user: str) -> str:
    try:
        passwords = msgspec.json.decode(Path(path).read_bytes(), type=dict[str, str])
    except OSError as exc:
        raise ConfigError(f"`nats.credentials`: cannot read {path}: {exc.strerror}") from exc
    except msgspec.DecodeError as exc:
        raise ConfigError(f"`nats.credentials`: {path} is not a JSON object: {exc}") from exc
    if user not in passwords:
        raise ConfigError(f"`nats.credentials`: {path} has no NATS user `{user}`")
    return passwords[user]
