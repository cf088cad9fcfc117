"""What the registry takes from executors that may have been taken over, and what it does not."""

import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import structlog
from redis.asyncio import Redis

from localforge.bandit.eligible import Registry
from localforge.config import BackendConfig, ModelConfig
from localforge.contracts.cards import Health, ModelCard, ReplicaState
from localforge.embedded.redis_acl import acl_users, executor_url
from localforge.errors import DependencyUnavailable
from localforge.registry import RegistryStore
from localforge.registry.users import set_users
from tests.support import wait_until
from tests.support_redis import Server, _server, _store, card_of, state_of  # noqa: F401  # fixtures

PASSWORDS = {"executor-cloud-b": "secret-b", "executor-local-other": "secret-other"}
LOCAL = BackendConfig(name="other", kind="vllm", models=(ModelConfig(name="m3"),), discover=True)
CLOUD = BackendConfig(name="b", kind="openai", zone="cloud")
LATE = ModelConfig(name="late")


@pytest.fixture(name="executor")
async def _executor(server: Server) -> AsyncIterator[RegistryStore]:
    """The store as the executor of backend `b` has it."""
    users = acl_users("lf", [("cloud", "b"), ("local", "other")], PASSWORDS)
    await set_users(server.config.url, users)
    url = executor_url(server.config.url, "executor-cloud-b", PASSWORDS["executor-cloud-b"])
    store = RegistryStore(msgspec.structs.replace(server.config, url=url))
    yield store
    await store.close()


async def test_an_executor_keeps_its_own_backends_entries(
    executor: RegistryStore, store: RegistryStore
):
    assert await executor.register("b", [card_of("m1"), card_of("m2")])
    await executor.register("b", [card_of("m1")])
    await executor.beat(state_of("r1"))
    await executor.beat(state_of("r2"))
    await executor.leave("b", "r1")

    snapshot = await store.read()
    assert (set(snapshot.cards), set(snapshot.replicas)) == ({"m1"}, {"local.b.r2"})


async def test_an_executor_can_touch_nothing_else(executor: RegistryStore, store: RegistryStore):
    await store.register("other", [card_of("m3", "other")])
    attempts = (
        executor.register("other", ()),
        executor.beat(msgspec.structs.replace(state_of("r"), backend="other")),
        executor.leave("other", "r"),
        executor.drop("b"),
        executor.add(card_of("m4")),
        executor.remove("m4"),
        executor.switch("m3", enabled=False),
        executor.read(),
    )

    for attempt in attempts:
        with pytest.raises(DependencyUnavailable, match="permissions"):
            await attempt

    assert set((await store.read()).cards) == {"m3"}


async def test_an_executors_user_outlives_a_restart_of_redis(
    executor: RegistryStore, server: Server
):
    os.kill(server.pid, signal.SIGKILL)

    async def beats() -> bool:
        try:
            await executor.beat(state_of("r1"))
        except DependencyUnavailable:
            return False
        return True

    await wait_until(beats, timeout=10, description="the executor is let in again")


@pytest.fixture(name="guarded")
async def _guarded(server: Server) -> AsyncIterator[RegistryStore]:
    """The store as a router has it, which knows the configuration."""
    store = RegistryStore(server.config, [LOCAL, CLOUD])
    yield store
    await store.close()


def _remote(name: str, **values: Any) -> ModelCard:
    return msgspec.structs.replace(card_of(name), **({"zone": "cloud"} | values))


@pytest.mark.parametrize(
    "card",
    [
        _remote("m3"),
        _remote("found"),
        _remote("late"),
        _remote("local", zone="local"),
        _remote("away", zone="moon"),
        _remote("red\x1b[31m"),
        _remote("two\nlines"),
        _remote(""),
        _remote("long" * 100),
    ],
    ids=[
        "a configured name", "a local model's name", "a configured model that is not there yet",
        "zone local", "another zone", "escape", "newline", "empty", "long",
    ],
)  # fmt: skip
async def test_a_taken_over_executor_takes_no_models_place_and_no_zone(
    executor: RegistryStore, guarded: RegistryStore, card: ModelCard
):
    guarded.configure([msgspec.structs.replace(LOCAL, models=(*LOCAL.models, LATE)), CLOUD])
    await guarded.register("other", [card_of("m3", "other"), card_of("found", "other")])

    await executor.register("b", [_remote("honest"), card])

    cards = (await guarded.read()).cards
    assert {name: found.backend for name, found in cards.items()} == {
        "m3": "other",
        "found": "other",
        "honest": "b",
    }
    assert await guarded.switch("honest", enabled=False)


@pytest.mark.parametrize(
    "state",
    [
        ReplicaState(replica="r1", backend="b", zone="cloud"),
        ReplicaState(replica="r1", backend="b", zone="local"),
        ReplicaState(replica="r1", backend="other", zone="local"),
        ReplicaState(replica="other.r1", backend="b", zone="cloud"),
        ReplicaState(replica="*", backend="b", zone="cloud"),
    ],
    ids=["its id", "its zone", "its backend", "a dot", "a wildcard"],
)
async def test_a_taken_over_executor_takes_no_replicas_place(
    executor: RegistryStore, guarded: RegistryStore, server: Server, state: ReplicaState
):
    await guarded.register("other", [card_of("m3", "other")])
    await guarded.beat(msgspec.structs.replace(state_of("r1"), backend="other"))
    await executor.register("b", [_remote("honest")])
    forged = msgspec.structs.replace(state, health=Health.DOWN, sent_at=time.time())
    redis = Redis.from_url(server.config.url)
    await redis.hset("lf:replicas:b", "any", forged.encode())  # type: ignore[misc]
    await redis.aclose()

    snapshot = await guarded.read()

    assert snapshot.replicas["local.other.r1"].health is Health.UP
    assert set(snapshot.replicas) - {"local.other.r1"} <= {"cloud.b.r1"}
    assert len(Registry(snapshot, 6).backend("other", time.time()).live) == 1


async def test_what_is_not_configured_does_not_count(guarded: RegistryStore):
    await guarded.register("gone", [card_of("old", "gone")])
    await guarded.beat(msgspec.structs.replace(state_of("r1"), backend="gone"))
    await guarded.add(card_of("by-hand", "other"))
    await guarded.add(card_of("by-hand-gone", "gone"))
    before = await guarded.read()

    guarded.configure([LOCAL, BackendConfig(name="gone", kind="openai")])
    after = await guarded.read()

    assert (set(before.cards), set(before.replicas)) == ({"by-hand"}, set())
    assert set(after.cards) == {"by-hand", "by-hand-gone", "old"}
    assert set(after.replicas) == {"local.gone.r1"}
    assert await guarded.backends() == {"gone"}


async def test_a_refused_entry_is_logged_once(executor: RegistryStore, guarded: RegistryStore):
    await executor.register("b", [_remote("m3"), _remote("local", zone="local")])

    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            await guarded.read()

    assert [(line["event"], line["backend"], line["entries"]) for line in lines] == [
        ("entries_refused", "b", 2)
    ]
