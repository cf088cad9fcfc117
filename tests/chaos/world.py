"""The system under chaos: `localforge up` with a broker and a store that can be taken away."""

import asyncio
import io
import math
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from localforge.bus.permissions import permissions
from localforge.embedded import (
    Backoff,
    DataDir,
    LogForwarder,
    Supervisor,
    start_nats,
    start_redis,
)
from localforge.embedded.supervisor import ChildStatus
from tests.chaos.slow_redis import Way
from tests.e2e.stack import Provider, Stack
from tests.support import wait_until

SERVICES = ("edge", "profiler", "router", "sweeper", "evaluator", "executor-one", "executor-two")
MODELS = ("model-one", "model-two")
CONFIG = """\
[up]
# One process per service, so that each can die alone.
together = []

[edge]
deadline_s = 20

[[backends]]
name = "one"
kind = "openai"
url = "{url}"
slots = 8
[[backends.models]]
name = "model-one"
quality_prior = 0.5

[[backends]]
name = "two"
kind = "openai"
url = "{url}"
slots = 8
[[backends.models]]
name = "model-two"
quality_prior = 0.5
"""
BACKENDS = (("local", "one"), ("local", "two"))
NATS_AWAY_S = 10.0
BEGINS_S = 5.0
"""A process that is younger has not all of its memory yet, and would hide growth of the others."""


class World:
    """Everything that runs, and the hands that take parts of it away.

    Attributes:
        stack: `localforge up`.
        way: To the store.
        nats_away_s: The shortest time for which the broker was away.
    """

    def __init__(self, stack: Stack, brokers: Supervisor, stores: Supervisor, way: Way) -> None:
        self.stack = stack
        self.way = way
        self.nats_away_s = math.inf
        self._brokers = brokers
        self._stores = stores

    def kill(self, service: str) -> bool:
        """Kill one service the hard way; False while it is between two lives."""
        pid = self.stack.pid(service)
        if not pid:
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    async def without_nats(self) -> None:
        """Kill the broker, which comes back on its files after `NATS_AWAY_S`."""
        before = self._nats.restarts
        os.kill(self._nats.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        await wait_until(
            lambda: self._nats.restarts > before and self._nats.is_ready,
            timeout=NATS_AWAY_S + 30,
            description="the broker is back",
        )
        self.nats_away_s = round(min(self.nats_away_s, time.monotonic() - killed_at), 1)

    async def without_redis(self, seconds: float) -> None:
        """Close the way to the store for a while."""
        self.way.close_way()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.way.open_way()

    async def with_slow_redis(self, seconds: float, delay_s: float) -> None:
        """Make each command of the store take longer for a while."""
        self.way.delay_s = delay_s
        try:
            await asyncio.sleep(seconds)
        finally:
            self.way.delay_s = 0.0

    def memory_mb(self) -> dict[str, float]:
        """Return the resident memory of each process by name, 0 while it has just begun."""
        pids = {name: self.stack.pid(name) for name in SERVICES}
        pids |= {"localforge up": self.stack.own_pid, "nats": self._nats.pid}
        pids |= {"redis": self._stores.status["redis"].pid}
        return {name: _resident_mb(pid) for name, pid in pids.items()}

    @property
    def _nats(self) -> ChildStatus:
        return self._brokers.status["nats"]


@asynccontextmanager
async def running_world(folder: Path, provider: Provider) -> AsyncIterator[World]:
    """Start everything, and stop it at the end."""
    log = LogForwarder(io.BytesIO(), console=False)
    # Who starts it again waits for as long as it shall be away.
    brokers = Supervisor(log, backoff=Backoff(first_s=NATS_AWAY_S, last_s=NATS_AWAY_S))
    stores = Supervisor(log)
    data = DataDir(folder / "servers")
    try:
        nats_url = await start_nats(brokers, data, permissions(BACKENDS))
        redis = urlsplit(await start_redis(stores, data))
        way = Way(redis.hostname or "", redis.port or 0)
        port = await way.start()
        stack = Stack(
            folder,
            CONFIG.format(url=provider.url),
            {
                "LOCALFORGE_NATS_URL": nats_url,
                "LOCALFORGE_NATS__CREDENTIALS": str(data.credentials),
                "LOCALFORGE_REDIS_URL": f"redis://:{redis.password}@127.0.0.1:{port}/0",
            },
        )
        try:
            await asyncio.to_thread(stack.start)
            yield World(stack, brokers, stores, way)
            await asyncio.to_thread(stack.stop)
        finally:
            stack.crash()
            await way.stop()
    finally:
        await brokers.stop()
        await stores.stop()


def _resident_mb(pid: int) -> float:
    """Return the resident memory of a process that has had time to begin its work."""
    try:
        process = psutil.Process(pid or -1)
        if time.time() - process.create_time() < BEGINS_S:
            return 0.0
        return float(process.memory_info().rss) / 1e6
    except (psutil.NoSuchProcess, ValueError):
        return 0.0
