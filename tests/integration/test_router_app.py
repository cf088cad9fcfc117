"""The router as the host runs it, on a real broker and a registry without models."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from localforge.bus.bus import Bus
from localforge.config import Config, KeyConfig, RedisConfig
from localforge.config.sections import GoalConfig, RouterConfig
from localforge.contracts import subjects
from localforge.contracts.live import Failed
from localforge.embedded import DataDir, start_redis
from localforge.errors import DependencyUnavailable
from localforge.hosting import Host
from localforge.router.app import RouterApp
from tests.routing import outcome, route_call
from tests.support import wait_until
from tests.support_nats import ProvisionedServer


@pytest.fixture(name="host")
async def _host(provisioned_server: ProvisionedServer, tmp_path: Path) -> AsyncIterator[Host]:
    redis = await start_redis(provisioned_server.supervisor, DataDir(tmp_path / "redis"))
    host = Host(Config(nats=provisioned_server.config, redis=RedisConfig(url=redis)), {})
    yield host
    await host.close()


async def test_a_router_that_stops_takes_nothing_new_while_it_stores_its_state(host: Host):
    router = RouterApp(host)
    await router.start()

    stopping = asyncio.create_task(router.stop())
    await asyncio.sleep(0)
    left = dict(host.local)
    await stopping

    assert subjects.ROUTE not in left


@pytest.mark.parametrize(
    "needing_the_stream",
    [
        {"router": RouterConfig(goal=GoalConfig(spend_usd=2, per="hour"))},
        {"keys": (KeyConfig(id="app", secret="env:KEY", budget_usd=1),)},
    ],
    ids=["goal", "budget"],
)
async def test_a_reload_without_the_stream_takes_what_does_not_need_it(
    host: Host, provisioned_server: ProvisionedServer, needing_the_stream: dict[str, object]
):
    admin, edge = await provisioned_server.connect("admin"), Bus(provisioned_server.config, "edge")
    profiler = Bus(provisioned_server.config, "profiler")
    learned = outcome("d-1", "m").encode()
    await admin.jetstream().publish(subjects.outcome("local", "m-backend"), learned)
    router = RouterApp(host)
    await router.start()
    await edge.connect()
    await profiler.connect()
    refusals: list[str] = []
    await edge.subscribe(
        subjects.inbox("edge1", "*"),
        lambda _, data, __: refusals.append(Failed.decode(data).error.code),
    )

    async def refusal() -> str:
        refusals.clear()
        call = route_call(model="mine")
        profiler.forward(subjects.ROUTE, call, reply=subjects.inbox("edge1", "r1"))
        return await wait_until(lambda: refusals and refusals[0], description="the refusal")

    before = await refusal()
    await admin.jetstream().delete_stream(subjects.FEEDBACK.name)
    changed = msgspec.structs.replace(host.config, aliases={"mine": "auto"}, **needing_the_stream)
    with pytest.raises(DependencyUnavailable, match=r"`router\.goal` or `budget_usd` newly ask"):
        await router.reload(changed)
    after = await refusal()
    await router.stop()
    await edge.close()
    await profiler.close()

    assert (before, after) == ("model_not_found", "no_eligible_model")
