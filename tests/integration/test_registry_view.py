"""A view of the registry: it follows within a second, and outlives the Redis it reads."""

import os
import signal
import time

import msgspec
import pytest
from redis.asyncio import Redis

from localforge.config import BackendConfig, RedisConfig
from localforge.registry import RegistryStore, RegistryView
from tests.support import Lateness, wait_until
from tests.support_redis import Server, _server, _store, _view, card_of, state_of  # noqa: F401  # fixtures


async def test_a_view_follows_the_registry(store: RegistryStore, view: RegistryView):
    await view.start()
    assert (view.snapshot.cards, view.degraded) == ({}, False)

    await store.register("b", [card_of("m1")])
    await store.beat(state_of("r1"))
    await wait_until(lambda: view.snapshot.replicas, description="the heartbeat")

    assert set(view.snapshot.cards) == {"m1"}
    first = view.snapshot
    await store.switch("m1", enabled=False)
    await wait_until(lambda: not view.snapshot.cards["m1"].enabled, description="the switch")
    assert first.cards["m1"].enabled, "a snapshot does not change under its readers"
    assert view.snapshot.version == first.version + 1


async def test_every_kind_of_change_reaches_every_view_within_a_second(
    server: Server, store: RegistryStore
):
    views = [RegistryView(RegistryStore(server.config)) for _ in range(4)]
    for view in views:
        await view.start()
    changes = {
        "registered": (store.register("b", [card_of("m1")]), lambda cards: "m1" in cards),
        "disabled": (store.switch("m1", enabled=False), lambda cards: not cards["m1"].enabled),
        "enabled": (store.switch("m1", enabled=True), lambda cards: cards["m1"].enabled),
        "added": (store.add(card_of("mine")), lambda cards: "mine" in cards),
        "changed": (
            store.add(msgspec.structs.replace(card_of("mine"), price_in=9.0)),
            lambda cards: cards["mine"].price_in == 9.0,
        ),
        "removed": (store.remove("mine"), lambda cards: "mine" not in cards),
        "replaced": (store.register("b", [card_of("m2")]), lambda cards: set(cards) == {"m2"}),
        "dropped": (store.drop("b"), lambda cards: not cards),
    }
    seconds = {}
    async with Lateness() as late:
        for name, (change, is_seen) in changes.items():
            await change
            changed_at = time.monotonic()
            await wait_until(
                lambda seen=is_seen: all(seen(view.snapshot.cards) for view in views),
                timeout=20,
                description=f"all have seen what was {name}",
            )
            seconds[name] = time.monotonic() - changed_at
    for view in views:
        await view.close()

    assert max(seconds.values()) < late.allowed(1, at_most=5), (seconds, late.worst_s)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_view_keeps_what_it_knew_when_redis_is_lost(
    server: Server, store: RegistryStore, view: RegistryView, how: signal.Signals
):
    await store.register("b", [card_of("m1")])
    await store.beat(state_of("r1"))
    await view.start()
    before = view.snapshot

    if how is signal.SIGKILL:
        await server.supervisor.remove("redis")
    else:
        os.kill(server.pid, signal.SIGSTOP)
    try:
        await wait_until(lambda: view.degraded, timeout=20, description="the loss is noticed")
    finally:
        if how is signal.SIGSTOP:
            os.kill(server.pid, signal.SIGCONT)

    assert view.snapshot == msgspec.structs.replace(before, fresh=False)


async def test_a_view_that_starts_without_redis_is_degraded_and_empty():
    view = RegistryView(RegistryStore(RedisConfig(url="redis://127.0.0.1:9/0", timeout_s=0.3)))
    await view.start()

    assert (view.degraded, view.snapshot.cards) == (True, {})
    await view.close()


async def test_after_a_silence_heartbeats_count_again_when_one_has_come(
    server: Server, store: RegistryStore, view: RegistryView
):
    """Until then old ones say nothing of the executors: Redis was away, not they."""
    await store.register("b", [card_of("m1")])
    await store.beat(state_of("r1"))
    await view.start()
    os.kill(server.pid, signal.SIGSTOP)
    await wait_until(lambda: view.degraded, timeout=20, description="the loss is noticed")
    os.kill(server.pid, signal.SIGCONT)
    await store.register("b", [card_of("m1"), card_of("m2")])
    await wait_until(
        lambda: "m2" in view.snapshot.cards, timeout=20, description="it is read again"
    )
    waiting = view.degraded

    await store.beat(state_of("r1"))
    await wait_until(lambda: not view.degraded, timeout=20, description="the view is fresh")

    assert waiting


async def test_an_emptied_redis_is_not_taken_for_the_wish_to_have_no_models(
    server: Server, store: RegistryStore, view: RegistryView
):
    await store.register("b", [card_of("m1")])
    await view.start()
    redis = Redis.from_url(server.config.url)
    await redis.flushall()
    await redis.aclose()
    await wait_until(lambda: view.degraded, timeout=20, description="the loss is noticed")
    kept = set(view.snapshot.cards)

    await store.register("b", [card_of("m1")])
    await store.beat(state_of("r1"))
    await wait_until(lambda: not view.degraded, timeout=8, description="executors are back")

    assert kept == {"m1"}
    assert set(view.snapshot.cards) == {"m1"}


async def test_an_entry_nobody_can_read_does_not_take_the_others_away(
    server: Server, store: RegistryStore, view: RegistryView
):
    await store.register("b", [card_of("m1")])
    await store.beat(state_of("r1"))
    await view.start()
    redis = Redis.from_url(server.config.url)
    await redis.hset("lf:cards:b", "m2", "{broken")  # type: ignore[misc]
    await redis.hset("lf:replicas:b", "r2", "{broken")  # type: ignore[misc]
    await redis.hset("lf:added", "m3", "{broken")  # type: ignore[misc]
    await redis.sadd("lf:backends", b"\xff")  # type: ignore[misc]
    await redis.aclose()
    await store.register("b2", [card_of("m4", "b2")])
    await store.beat(state_of("r1"))
    await wait_until(
        lambda: "m4" in view.snapshot.cards and not view.degraded,
        timeout=20,
        description="it is read, and fresh",
    )

    assert set(view.snapshot.cards) == {"m1", "m4"}
    assert set(view.snapshot.replicas) == {"local.b.r1"}
    assert await store.switch("m1", enabled=False)


async def test_a_view_follows_a_changed_configuration(store: RegistryStore, view: RegistryView):
    await store.register("b", [card_of("m1")])
    other = BackendConfig(name="other", kind="vllm")
    view.configure([other])
    await view.start()
    before = set(view.snapshot.cards)

    view.configure([other, BackendConfig(name="b", kind="openai")])
    await wait_until(lambda: view.snapshot.cards, timeout=20, description="it is read again")

    assert (before, set(view.snapshot.cards)) == (set(), {"m1"})


async def test_a_view_outlives_what_it_cannot_make_sense_of(
    server: Server, store: RegistryStore, view: RegistryView
):
    await store.register("b", [card_of("m1")])
    await view.start()
    redis = Redis.from_url(server.config.url)
    await redis.set("lf:version", "a word")
    await wait_until(lambda: view.degraded, description="the trouble is noticed")
    kept = set(view.snapshot.cards)

    await redis.set("lf:version", 7)
    await redis.aclose()
    await wait_until(lambda: not view.degraded, description="it reads again")

    assert (kept, view.snapshot.version) == ({"m1"}, 7)
