"""Keep the registry to what is configured, in a process of its own.

Executors register their own cards and leave them behind when they stop, so that a restart shows
no gap. Nobody but who stops an executor for good knows that it will not come back.

The process that runs all others needs Redis for a moment only; its client would stay in memory.
Run as `python -m localforge.cli.registered` with a `Wanted` in JSON on standard input.
"""

import asyncio
import sys

import msgspec

from localforge.config import RedisConfig
from localforge.errors import LocalforgeError
from localforge.lean import import_lean


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the registry is to be like."""

    redis: RedisConfig
    """With a password that may."""
    users: dict[str, tuple[str, ...]] | None = None
    """The executors' users, name -> rules; all others are taken away. None leaves them alone."""
    only: frozenset[str] | None = None
    """Backends whose cards stay, if they have any; None keeps those of all."""
    gone: frozenset[str] = frozenset()
    """Backends whose cards are removed."""


async def apply(wanted: Wanted) -> None:
    """Make it so.

    Raises:
        DependencyUnavailable: Redis does not answer.
    """
    import_lean()

    from localforge.registry import RegistryStore
    from localforge.registry.users import set_users

    if wanted.users is not None:
        await set_users(wanted.redis.url, wanted.users)
    store = RegistryStore(wanted.redis)
    try:
        # Asked in every case: a server of somebody else's may not be there.
        known = await store.backends()
        gone = wanted.gone
        if wanted.only is not None:
            gone |= known.difference(wanted.only)
        for backend in gone:
            await store.drop(backend)
    finally:
        await store.close()


def main() -> None:
    """Read what is wanted and make it so; an error becomes one line and exit code 1."""
    try:
        asyncio.run(apply(msgspec.json.decode(sys.stdin.buffer.read(), type=Wanted)))
    except LocalforgeError as exc:
        sys.exit(f"error: {exc.message}")


if __name__ == "__main__":
    main()
