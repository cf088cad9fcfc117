"""The router as the host runs it, on a real broker; nobody answers as the registry."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from localforge.config import Config, RedisConfig
from localforge.contracts import subjects
from localforge.hosting import Host
from localforge.router.app import RouterApp
from tests.support_nats import ProvisionedServer

NOBODY = "redis://127.0.0.1:1"


@pytest.fixture(name="host")
async def _host(provisioned_server: ProvisionedServer) -> AsyncIterator[Host]:
    host = Host(Config(nats=provisioned_server.config, redis=RedisConfig(url=NOBODY)), {})
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
