"""One run: load on both lanes, one fault after another, then the count of what became of it."""

import asyncio
import collections
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from localforge.bus.pull import Pulled
from localforge.bus.tail import read_all
from localforge.contracts import subjects
from localforge.contracts.chat import ChatCompleted
from tests.chaos.asking import ASKED
from tests.chaos.load import DurableLoad, LiveLoad, is_whole
from tests.chaos.memory import Memory
from tests.chaos.slow_redis import SLOW_S
from tests.chaos.world import NATS_AWAY_S, SERVICES, World, running_world
from tests.e2e.durable import application, dead_letters
from tests.e2e.stack import Provider
from tests.fakes.openai_server import Behaviour
from tests.support import wait_until

CLIENTS = 6
CLIENT_PAUSE_S = 0.1
PUBLISH_PAUSE_S = 0.1
MODEL_S = 0.05
WARM_UP_S = 4.0
BETWEEN_S = 2.0
"""Between two faults, for the system to get up in; some do not wait for that."""
REDIS_AWAY_S = 5.0
SETTLE_S = 90.0
"""For the last accepted request to get its result."""
GROWTH_MB = 40.0
"""Of all processes together, between the first third of the run and the last."""
NATS_FAULT = "NATS away for 10 s"
REDIS_AWAY = "Redis away for 5 s"
REDIS_SLOW = "Redis slow, 2 s a command"
KILLS = {service: f"kill {service}" for service in SERVICES}
FAULTS = frozenset({NATS_FAULT, REDIS_AWAY, REDIS_SLOW, *KILLS.values()})


class Figures(msgspec.Struct, kw_only=True):
    """What a run found."""

    seconds: float
    faults: dict[str, int]
    nats_away_s: float
    """The shortest time."""
    redis_refused: int
    """Connections to Redis that were cut or refused."""
    redis_delayed: int
    """Commands, or several at once, that took `SLOW_S` longer."""
    live: dict[str, int]
    """How live requests ended."""
    live_whole: dict[str, int]
    """Whole answers by API, streamed and not."""
    live_p50_s: float
    live_p99_s: float
    durable_accepted: int
    durable_results: dict[str, int]
    """By status."""
    lost: int
    """Accepted requests without a result."""
    stored_twice: int
    heard_twice: int
    dead_letters: int
    memory_mb: dict[str, tuple[float, float]]
    """By process, in the first third of the run and in the last."""

    @property
    def memory_of_all_mb(self) -> tuple[float, float]:
        """All processes together, in the first third of the run and in the last."""
        first, last = zip(*self.memory_mb.values(), strict=True)
        return sum(first), sum(last)

    @property
    def broken(self) -> list[str]:
        """The promises that did not hold."""
        first_mb, last_mb = self.memory_of_all_mb
        grown = last_mb - first_mb
        checks = {
            f"{self.lost} accepted requests have no result": self.lost,
            f"{self.stored_twice} requests have two results": self.stored_twice,
            f"of {self.heard_twice} requests two results were heard": self.heard_twice,
            f"{self.dead_letters} messages could not be handled": self.dead_letters,
            f"{self.live.get('wrong', 0)} answers were not what the model said": self.live.get(
                "wrong", 0
            ),
            f"{self.live.get('hang', 0)} clients waited beyond the deadline": self.live.get(
                "hang", 0
            ),
            f"durable requests ended with errors: {self.durable_results}": len(
                self.durable_results.keys() - {"200"}
            ),
            f"memory grew by {grown:.0f} MB": grown > GROWTH_MB,
            f"never struck: {sorted(FAULTS - self.faults.keys())}": FAULTS - self.faults.keys(),
            f"NATS was away for {self.nats_away_s} s only": self.nats_away_s < NATS_AWAY_S,
            "nobody missed Redis": not self.redis_refused,
            "nobody waited for Redis": not self.redis_delayed,
            "of some API no answer was whole": {a.name for a in ASKED} - self.live_whole.keys(),
            "no durable request was accepted": not self.durable_accepted,
        }
        return [what for what, is_so in checks.items() if is_so]


async def run(
    folder: Path, seconds: float, seed: int, tell: Callable[[str], None] = lambda _: None
) -> Figures:
    """Run chaos for so many seconds, start and end not counted.

    Args:
        folder: For configuration, data and logs.
        seconds: Of faults.
        seed: Which faults come in which order.
        tell: Called with each fault.
    """
    provider = Provider()
    try:
        pace = Behaviour(first_s=MODEL_S)
        with provider.behaving(model_one=pace, model_two=pace):
            async with running_world(folder, provider) as world:
                return await _run(world, seconds, random.Random(seed), tell)
    finally:
        provider.close()


async def _run(
    world: World, seconds: float, rng: random.Random, tell: Callable[[str], None]
) -> Figures:
    async with application(world.stack) as app, aiohttp.ClientSession() as session:
        live, durable = LiveLoad(session, world.stack.url), DurableLoad(app)
        tasks = [
            asyncio.create_task(live.client(number, CLIENT_PAUSE_S)) for number in range(CLIENTS)
        ]
        tasks.append(asyncio.create_task(durable.publish(PUBLISH_PAUSE_S)))
        await asyncio.sleep(WARM_UP_S)
        memory = Memory(world.memory_mb)
        watch = asyncio.create_task(memory.watch())
        faults = await _faults(world, seconds, rng, tell)
        watch.cancel()
        tell("load stops")
        live.stop()
        durable.stop()
        await asyncio.gather(*tasks)
        stored = await _settled(world, durable)
    results = [ChatCompleted.decode(m.data) for m in stored]
    count = collections.Counter(m.subject for m in stored)
    wanted = {subjects.result(i) for i in durable.accepted}
    statuses = collections.Counter(
        "200" if is_whole(r) else f"{r.status} {r.error.code if r.error else 'wrong'}"
        for r in results
    )
    seconds_of = sorted(live.seconds) or [0.0]
    return Figures(
        seconds=seconds,
        faults=dict(faults),
        nats_away_s=world.nats_away_s,
        redis_refused=world.way.refused,
        redis_delayed=world.way.delayed,
        live=dict(live.ends),
        live_whole=dict(live.whole),
        live_p50_s=round(seconds_of[len(seconds_of) // 2], 3),
        live_p99_s=round(seconds_of[int(len(seconds_of) * 0.99)], 3),
        durable_accepted=len(durable.accepted),
        durable_results=dict(statuses),
        lost=len(wanted - count.keys()),
        stored_twice=sum(number > 1 for number in count.values()),
        heard_twice=len(durable.heard_twice()),
        dead_letters=len(await dead_letters(world.stack)),
        memory_mb=memory.by_process(),
    )


async def _faults(
    world: World, seconds: float, rng: random.Random, tell: Callable[[str], None]
) -> collections.Counter[str]:
    """Bring one fault after another, each once before any comes again, and at least once."""
    done: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        round_ = [*_others(world), *((KILLS[s], _killing(world, s)) for s in SERVICES)]
        rng.shuffle(round_)
        for name, fault in round_:
            if time.monotonic() >= end and done.keys() >= FAULTS:
                break
            tell(name)
            done[name] += 1
            await fault()
            await asyncio.sleep(rng.uniform(0, BETWEEN_S))
    return done


Fault = Callable[[], Coroutine[Any, Any, None]]


def _others(world: World) -> list[tuple[str, Fault]]:
    return [
        (NATS_FAULT, world.without_nats),
        (REDIS_AWAY, lambda: world.without_redis(REDIS_AWAY_S)),
        (REDIS_SLOW, lambda: world.with_slow_redis(REDIS_AWAY_S, SLOW_S)),
    ]


def _killing(world: World, service: str) -> Fault:
    async def kill() -> None:
        await wait_until(
            lambda: world.kill(service), timeout=60, description=f"{service} runs and is killed"
        )

    return kill


async def _settled(world: World, durable: DurableLoad) -> list[Pulled]:
    """Wait until everything accepted has its result and all is well; returns the results."""
    wanted = {subjects.result(i) for i in durable.accepted}
    end = time.monotonic() + SETTLE_S
    stored: list[Pulled] = []
    while time.monotonic() < end:
        with suppress(OSError):
            stored = await _results(world)
            ready = await asyncio.to_thread(world.stack.readiness)
            if wanted <= {m.subject for m in stored} and set(ready.values()) == {"ok"}:
                break
        await asyncio.sleep(0.5)
    # A second result would come by now.
    await asyncio.sleep(BETWEEN_S)
    return await _results(world)


async def _results(world: World) -> list[Pulled]:
    found: list[Pulled] = []

    async def take(batch: list[Pulled]) -> None:
        found.extend(batch)

    async with world.stack.nats("admin") as client:
        await read_all(client, "admin", subjects.RESULTS.name, take)
    return found
