"""A real Redis with nothing but a registry in it."""

import io
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from localforge.config import RedisConfig
from localforge.contracts.cards import ModelCard, ReplicaState
from localforge.embedded import DataDir, LogForwarder, Supervisor, start_redis
from localforge.registry import RegistryStore, RegistryView


class Server:
    """A supervised redis-server; `config` is what a service would be configured with."""

    def __init__(self, supervisor: Supervisor, url: str) -> None:
        self.supervisor = supervisor
        self.config = RedisConfig(url=url, timeout_s=2)

    @property
    def pid(self) -> int:
        """Of the server; 0 while it is between two lives."""
        return self.supervisor.status["redis"].pid


@pytest.fixture(name="server")
async def _server(tmp_path: Path) -> AsyncIterator[Server]:
    supervisor = Supervisor(LogForwarder(io.BytesIO(), console=False))
    try:
        url = await start_redis(supervisor, DataDir(tmp_path / "data"))
        yield Server(supervisor, url)
    finally:
        await supervisor.stop()


@pytest.fixture(name="store")
async def _store(server: Server) -> AsyncIterator[RegistryStore]:
    store = RegistryStore(server.config)
    yield store
    await store.close()


@pytest.fixture(name="view")
async def _view(server: Server) -> AsyncIterator[RegistryView]:
    view = RegistryView(RegistryStore(server.config))
    yield view
    await view.close()


def card_of(name: str, backend: str = "b") -> ModelCard:
    """Return a local model's card."""
    return ModelCard(name=name, backend=backend, zone="local", price_in=0.25)


def state_of(replica: str, sent_at: float = 0.0) -> ReplicaState:
    """Return a heartbeat of the backend `b`, of now unless it says otherwise."""
    return ReplicaState(replica=replica, backend="b", zone="local", sent_at=sent_at or time.time())
