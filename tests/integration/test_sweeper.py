"""The sweeper on a real nats-server and a real Redis: no accepted work stays without a result."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from localforge.bus.bus import Bus
from localforge.bus.provision import ensure_consumer
from localforge.config import BackendConfig, Config, ModelConfig, RedisConfig
from localforge.config.sections import RouterConfig
from localforge.contracts import subjects
from localforge.contracts.cards import ReplicaState
from localforge.contracts.chat import ChatCompleted, ChatRequested
from localforge.contracts.live import ChatCall, DeadLetter, ExecuteCall, Lane, Target
from localforge.contracts.trust import Label, Seal
from localforge.embedded import DataDir, start_redis
from localforge.errors import ContractError
from localforge.hosting import Host
from localforge.registry import RegistryStore
from localforge.sweeper.app import SETTLED_S, SweeperApp
from localforge.sweeper.service import ORPHAN_S
from tests.support import wait_until
from tests.support_nats import ProvisionedServer

DEADLINE_S = 600.0


@pytest.fixture(name="host")
async def _host(provisioned_server: ProvisionedServer, tmp_path: Path) -> AsyncIterator[Host]:
    redis = await start_redis(provisioned_server.supervisor, DataDir(tmp_path / "redis"))
    config = Config(
        nats=provisioned_server.config,
        redis=RedisConfig(url=redis),
        backends=(
            BackendConfig(
                name="smollm",
                kind="openai",
                url="http://127.0.0.1:9/v1",
                models=(ModelConfig(name="m"),),
            ),
        ),
    )
    host = Host(config, {})
    yield host
    await host.close()


@pytest.fixture(name="sweeper")
async def _sweeper(host: Host) -> AsyncIterator[SweeperApp]:
    app = SweeperApp(host, sweep_s=3600)
    await app.start()
    yield app
    await app.stop()


def _work(request_id: str, *backends: str) -> ExecuteCall:
    return ExecuteCall(
        call=ChatCall(
            request_id=request_id,
            lane=Lane.DURABLE,
            body=b"{}",
            deadline=time.time() + DEADLINE_S,
        ),
        seal=Seal(
            request_id=request_id,
            body_sha256=b"",
            label=Label.INTERNAL,
            zones=("local",),
            expires_at=0,
            signature=b"",
        ),
        decision_id=f"d-{request_id}",
        plan=tuple(
            Target(model=b, backend=b, zone="local", upstream="", price_in=0, price_out=0)
            for b in backends
        ),
    )


def _failing_at(sequence: int) -> Any:
    """Return a `get_msg` that fails for one message as uvloop does where a connection is gone."""
    get_msg = JetStreamContext.get_msg

    async def get(self: JetStreamContext, stream: str, *, seq: int, **options: Any) -> Any:
        if seq == sequence:
            raise RuntimeError("unable to perform operation; the handler is closed")
        return await get_msg(self, stream, seq=seq, **options)

    return get


async def _result(admin: Client, request_id: str) -> ChatCompleted:
    stored = await admin.jetstream().get_last_msg(
        subjects.RESULTS.name, subjects.result(request_id), direct=True
    )
    return ChatCompleted.decode(stored.data or b"")


async def _left(admin: Client) -> dict[str, int]:
    info = await admin.jetstream().stream_info(subjects.REQUESTS.name, subjects_filter=">")
    return dict(info.state.subjects or {})


async def test_work_for_a_removed_backend_is_handed_on_or_ends(
    provisioned_server: ProvisionedServer, sweeper: SweeperApp
):
    admin = await provisioned_server.connect("admin")
    gone, stays = (subjects.work_execute("local", name) for name in ("gone", "smollm"))
    for request_id, plan in (("moves", ("gone", "smollm")), ("ends", ("gone",))):
        await admin.jetstream().publish(gone, _work(request_id, *plan).encode())
    now = time.time() + SETTLED_S + 1

    await sweeper.sweep(now)
    before = await _left(admin)
    await sweeper.sweep(now + ORPHAN_S)

    ended = await _result(admin, "ends")
    assert before == {gone: 2}
    assert await _left(admin) == {stays: 1}
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (502, "backend_removed")


async def test_work_that_can_never_be_handed_on_ends(
    provisioned_server: ProvisionedServer, sweeper: SweeperApp, monkeypatch: pytest.MonkeyPatch
):
    """As when the next step's account makes it larger than the broker takes."""
    admin = await provisioned_server.connect("admin")
    gone = subjects.work_execute("local", "gone")
    await admin.jetstream().publish(gone, _work("grows", "gone", "smollm").encode())
    now = time.time() + SETTLED_S + 1
    publish_durable = Bus.publish_durable

    async def publish(self: Bus, subject: str, *args: Any, **options: Any) -> bool:
        if subject.startswith("lf.work.exec."):
            raise ContractError("larger than the broker takes", code="too_large")
        return await publish_durable(self, subject, *args, **options)

    monkeypatch.setattr(Bus, "publish_durable", publish)
    await sweeper.sweep(now)
    await sweeper.sweep(now + ORPHAN_S)

    ended = await _result(admin, "grows")
    assert ended.error is not None
    assert ended.error.code == "too_large"
    assert await _left(admin) == {}


async def test_how_long_a_silent_executor_counts_follows_a_reload(
    provisioned_server: ProvisionedServer, tmp_path: Path
):
    redis = RedisConfig(
        url=await start_redis(provisioned_server.supervisor, DataDir(tmp_path / "redis"))
    )
    config = Config(
        nats=provisioned_server.config, redis=redis, router=RouterConfig(heartbeat_timeout_s=600)
    )
    host = Host(config, {})
    app, store = SweeperApp(host, sweep_s=3600), RegistryStore(redis)
    await app.start()
    registry = await host.registry()
    beat = ReplicaState(replica="r", backend="elsewhere", zone="local", sent_at=time.time())
    await store.beat(beat)
    await wait_until(lambda: registry.snapshot.replicas, description="the heartbeat is read")
    admin = await provisioned_server.connect("admin")
    subject = subjects.work_execute("local", "elsewhere")
    await admin.jetstream().publish(subject, _work("r1", "elsewhere").encode())
    now = time.time() + SETTLED_S + 1
    await app.sweep(now)
    await app.sweep(now + ORPHAN_S)
    before = await _left(admin)

    shorter = RouterConfig(heartbeat_timeout_s=0.001)
    host.reload(msgspec.structs.replace(config, router=shorter))
    await app.sweep(now)
    await app.sweep(now + ORPHAN_S)
    after = await _left(admin)
    await app.stop()
    await store.close()
    await host.close()

    assert (before, after) == ({subject: 1}, {})


async def test_work_past_its_deadline_ends_in_a_result_in_every_stage(
    provisioned_server: ProvisionedServer, sweeper: SweeperApp
):
    admin = await provisioned_server.connect("admin")
    asked = ChatRequested(id="asked", request=msgspec.Raw(b"{}"), deadline_s=DEADLINE_S)
    js = admin.jetstream()
    await js.publish(subjects.REQUEST_CHAT, asked.encode())
    await js.publish(subjects.work_execute("local", "smollm"), _work("work", "smollm").encode())

    await sweeper.sweep(time.time() + DEADLINE_S)
    before = await _left(admin)
    await sweeper.sweep(time.time() + DEADLINE_S + 60)

    results = [await _result(admin, request_id) for request_id in ("asked", "work")]
    assert sum(before.values()) == 2
    assert {(r.status, r.error and r.error.code) for r in results} == {(504, "deadline_exceeded")}
    assert await _left(admin) == {}


async def test_a_message_that_cannot_be_swept_holds_up_no_other(
    provisioned_server: ProvisionedServer, sweeper: SweeperApp, monkeypatch: pytest.MonkeyPatch
):
    admin = await provisioned_server.connect("admin")
    gone = subjects.work_execute("local", "gone")
    for request_id in ("stumbles", "ends"):
        await admin.jetstream().publish(gone, _work(request_id, "gone").encode())
    now = time.time() + SETTLED_S + 1
    await sweeper.sweep(now)

    with monkeypatch.context() as broken:
        broken.setattr(JetStreamContext, "get_msg", _failing_at(1))
        await sweeper.sweep(now + ORPHAN_S)
    left = await _left(admin)
    await sweeper.sweep(now + ORPHAN_S)

    assert left == {gone: 1}
    assert [(await _result(admin, r)).status for r in ("ends", "stumbles")] == [502, 502]
    assert await _left(admin) == {}


async def test_a_sweep_that_fails_unexpectedly_is_not_the_last(
    host: Host, monkeypatch: pytest.MonkeyPatch
):
    sweeps: list[int] = []

    async def get_msg(_: Any, __: str, *, seq: int, **___: Any) -> None:
        sweeps.append(seq)
        raise RuntimeError("unable to perform operation; the handler is closed")

    monkeypatch.setattr(JetStreamContext, "get_msg", get_msg)
    app = SweeperApp(host, sweep_s=0.01)
    await app.start()
    try:
        await wait_until(lambda: len(sweeps) > 2, description="sweep after sweep")
    finally:
        await app.stop()


async def test_a_message_that_kills_its_handler_every_time_is_buried_and_its_request_ends(
    provisioned_server: ProvisionedServer, sweeper: SweeperApp
):
    admin = await provisioned_server.connect("admin")
    js = admin.jetstream()
    await js.delete_consumer(subjects.REQUESTS.name, subjects.PROFILER_DURABLE.name)
    hasty = ConsumerConfig(
        name=subjects.PROFILER_DURABLE.name,
        durable_name=subjects.PROFILER_DURABLE.name,
        filter_subject=subjects.REQUEST_CHAT,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=0.2,
        max_deliver=2,
    )
    await js.add_consumer(subjects.REQUESTS.name, config=hasty)
    poison = ChatRequested(id="poison", request=msgspec.Raw(b"{}"))
    await js.publish(subjects.REQUEST_CHAT, poison.encode())
    pull = await js.pull_subscribe(subjects.REQUEST_CHAT, hasty.name, stream="LF_REQUESTS")

    async def nobody_acks() -> bool:
        try:
            await pull.fetch(1, timeout=0.3)
        except NatsTimeoutError:
            return not await _left(admin)
        return False

    await wait_until(nobody_acks, timeout=20, description="the message is buried")

    result = await _result(admin, "poison")
    letter = DeadLetter.decode((await js.get_msg(subjects.DEAD.name, 1)).data or b"")
    assert result.error is not None
    assert (result.status, result.error.code) == (500, "undeliverable")
    assert (letter.service, letter.code, letter.deliveries) == ("profiler-chat", "undeliverable", 2)
    assert ChatRequested.decode(letter.body).id == "poison"


async def test_the_sweepers_consumer_is_provisioned(provisioned_server: ProvisionedServer):
    admin = await provisioned_server.connect("admin")

    change = await ensure_consumer(admin.jetstream(), subjects.SWEEPER_DURABLE)

    assert change.action == "unchanged"
