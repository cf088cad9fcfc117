"""The registry on a real Redis: cards, switches, heartbeats, and what was added by hand."""

import time

import msgspec
import pytest
from redis.asyncio import Redis

from localforge.config import RedisConfig
from localforge.errors import DependencyUnavailable
from localforge.registry import RegistryStore
from localforge.registry import store as store_module
from localforge.registry.store import FORGET_REPLICA_S
from tests.support_redis import Server, _server, _store, card_of, state_of  # noqa: F401  # fixtures


async def test_cards_are_read_as_they_were_registered(store: RegistryStore):
    changed = await store.register("b", [card_of("m1"), card_of("m2")])
    snapshot = await store.read()

    assert changed
    assert snapshot.cards == {"m1": card_of("m1"), "m2": card_of("m2")}
    assert snapshot.fresh


async def test_registering_the_same_cards_again_is_no_change(store: RegistryStore):
    await store.register("b", [card_of("m1")])
    before = (await store.read()).version

    assert not await store.register("b", [card_of("m1")])
    assert (await store.read()).version == before


async def test_registering_replaces_the_cards_of_one_backend_only(store: RegistryStore):
    await store.register("b", [card_of("m1"), card_of("m2")])
    await store.register("other", [card_of("m3", "other")])

    await store.register("b", [msgspec.structs.replace(card_of("m2"), price_in=7.0)])
    snapshot = await store.read()

    assert set(snapshot.cards) == {"m2", "m3"}
    assert snapshot.cards["m2"].price_in == 7.0
    assert snapshot.version == 3


async def test_a_backend_that_is_gone_takes_its_cards_with_it(store: RegistryStore):
    await store.register("b", [card_of("m1")])

    assert await store.register("b", ())
    assert (await store.read()).cards == {}


async def test_a_model_switched_off_stays_off_when_its_executor_registers_again(
    store: RegistryStore,
):
    await store.register("b", [card_of("m1")])

    assert await store.switch("m1", enabled=False)
    await store.register("b", [msgspec.structs.replace(card_of("m1"), price_in=1.0)])
    off = (await store.read()).cards["m1"].enabled
    assert await store.switch("m1", enabled=True)
    on = (await store.read()).cards["m1"].enabled

    assert (off, on) == (False, True)


async def test_a_model_that_is_not_known_cannot_be_switched(store: RegistryStore):
    assert not await store.switch("nothing", enabled=False)


async def test_heartbeats_come_and_go(store: RegistryStore):
    first, second = state_of("r1"), state_of("r2")
    await store.beat(first)
    await store.beat(second)
    both = (await store.read()).replicas
    await store.leave("b", "r1")

    assert both == {"local.b.r1": first, "local.b.r2": second}
    assert (await store.read()).replicas == {"local.b.r2": second}


async def test_a_replica_that_is_silent_for_long_is_forgotten(store: RegistryStore):
    await store.beat(state_of("old", time.time() - FORGET_REPLICA_S - 1))
    await store.beat(state_of("new"))

    assert set((await store.read()).replicas) == {"local.b.new"}


class Clock:
    """Stands where the store has the module `time`."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now


async def test_a_heartbeat_that_cannot_be_read_stays_while_it_changes(
    server: Server, store: RegistryStore, monkeypatch: pytest.MonkeyPatch
):
    clock = Clock()
    monkeypatch.setattr(store_module, "time", clock)
    redis = Redis.from_url(server.config.url)

    async def after(seconds: float) -> set[bytes]:
        clock.now += seconds
        await store.beat(state_of("r1", clock.now))
        return set(await redis.hkeys("lf:replicas:b"))  # type: ignore[misc]

    while_it_beats = []
    for number in range(3):
        newer = b'{"type":"replica_state.v2","beat":%d}' % number
        await redis.hset("lf:replicas:b", "newer", newer)  # type: ignore[misc]
        while_it_beats.append(await after(FORGET_REPLICA_S - 1))
    silent = [await after(FORGET_REPLICA_S - 1), await after(2), await after(0)]
    await redis.aclose()

    both = {b"r1", b"newer"}
    assert while_it_beats == [both] * 3
    assert silent == [both, {b"r1"}, {b"r1"}]
    assert store._unread == {}, "what is gone takes no room"


async def test_two_prefixes_are_two_registries(server: Server, store: RegistryStore):
    other = RegistryStore(msgspec.structs.replace(server.config, prefix="other"))
    await store.register("b", [card_of("m1")])
    try:
        assert (await other.read()).cards == {}
    finally:
        await other.close()


async def test_a_store_without_redis_says_so():
    store = RegistryStore(RedisConfig(url="redis://127.0.0.1:9/0", timeout_s=0.3))

    calls = (
        store.read(),
        store.register("b", ()),
        store.beat(state_of("r")),
        store.leave("b", "r"),
    )
    for call in calls:
        with pytest.raises(DependencyUnavailable, match="Redis does not answer"):
            await call
    await store.close()


async def test_a_card_of_another_backend_does_not_count(store: RegistryStore):
    await store.register("b", [card_of("m1"), card_of("theirs", "other")])

    assert set((await store.read()).cards) == {"m1"}


async def test_a_card_added_by_hand_stays_until_it_is_removed(store: RegistryStore):
    await store.register("b", [card_of("m1")])
    await store.add(card_of("m2"))
    await store.add(msgspec.structs.replace(card_of("m1"), price_in=9.0))
    await store.register("b", [card_of("m1")])

    cards = (await store.read()).cards
    assert (set(cards), cards["m1"].price_in) == ({"m1", "m2"}, 9.0)
    assert await store.added() == {"m1", "m2"}
    assert await store.remove("m1")
    assert not await store.remove("m1")
    assert (await store.read()).cards["m1"].price_in == 0.25
    await store.drop("b")
    assert (await store.read()).cards == {}
