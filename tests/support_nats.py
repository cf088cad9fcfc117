"""A real nats-server with the generated permissions, streams and consumers provisioned."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from localforge.bus.connection import options
from localforge.bus.permissions import ADMIN, permissions
from localforge.bus.provision import provision
from localforge.config import NatsConfig
from localforge.embedded import DataDir, LogForwarder, Supervisor, start_nats, update_nats_users

BACKENDS = (("local", "smollm"), ("cloud", "openai"))
"""(zone, backend): one on this site and one elsewhere."""


class ProvisionedServer:
    """A running server; `connect` gives clients of any user, closed with the server.

    Attributes:
        config: What a service would be configured with.
        data: Where the server's files are.
        supervisor: Runs the child `nats`; kill or restart it there.
    """

    def __init__(self, data: DataDir, supervisor: Supervisor, url: str) -> None:
        self.data = data
        self.supervisor = supervisor
        self.config = NatsConfig(url=url, credentials=str(data.credentials))
        self._clients = AsyncExitStack()

    async def connect(self, user: str, errors: list[str] | None = None) -> Client:
        """Connect as a user, the way the bus does.

        Args:
            user: NATS user.
            errors: Takes what the server says asynchronously, permission violations above all.
        """

        async def on_error(exc: Exception) -> None:
            if errors is not None:
                errors.append(str(exc))

        client = await nats.connect(
            self.config.url, error_cb=on_error, **options(self.config, user)
        )
        self._clients.push_async_callback(_close, client)
        return client

    async def change_backends(self, backends: Iterable[tuple[str, str]]) -> None:
        """Give the running server the users of other backends."""
        await update_nats_users(self.supervisor, self.data, permissions(backends), self.config.url)

    async def close(self) -> None:
        """Close every client."""
        await self._clients.aclose()


@asynccontextmanager
async def run_provisioned_server(
    folder: Path, backends: Iterable[tuple[str, str]] = BACKENDS
) -> AsyncIterator[ProvisionedServer]:
    """Run a server for the backends, with every stream, consumer and bucket in it."""
    backends = tuple(backends)
    data = DataDir(folder)
    supervisor = Supervisor(LogForwarder(io.BytesIO(), console=False))
    try:
        url = await start_nats(supervisor, data, permissions(backends))
        server = ProvisionedServer(data, supervisor, url)
        try:
            await provision(await server.connect(ADMIN), backends)
            yield server
        finally:
            await server.close()
    finally:
        await supervisor.stop()


@pytest.fixture(name="provisioned_server")
async def _provisioned_server(tmp_path: Path) -> AsyncIterator[ProvisionedServer]:
    async with run_provisioned_server(tmp_path / "data") as server:
        yield server


async def _close(client: Client) -> None:
    # Closing twice is an error in nats-py, and a test may have closed it.
    if not client.is_closed:
        await client.close()
    await asyncio.sleep(0)
