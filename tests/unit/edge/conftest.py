"""An edge to test: the real service and the real HTTP server in front of a scripted live lane."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from localforge.config import EdgeConfig, KeyConfig
from localforge.contracts.cards import Capability, ModelCard, RegistrySnapshot
from localforge.contracts.chat import FeedbackSubmitted
from localforge.edge.app import create_app
from localforge.edge.health import Dependency, State
from localforge.edge.keys import KeyRing
from localforge.edge.server import serve_http
from localforge.edge.service import EdgeService
from localforge.errors import LocalforgeError
from tests.unit.edge.lane import Lane


class FixedRegistry:
    degraded = False
    snapshot = RegistrySnapshot(
        version=1,
        fresh=True,
        cards={
            "tiny": ModelCard(name="tiny", backend="embedded", zone="local", context_tokens=2048),
            "org/big": ModelCard(
                name="org/big",
                backend="cloud",
                zone="eu",
                price_in=1.5,
                price_out=6,
                capabilities=frozenset({Capability.TOOLS}),
            ),
            "off": ModelCard(name="off", backend="cloud", zone="eu", enabled=False),
        },
    )


class Running:
    """An edge: its application and what it was wired to."""

    def __init__(self, service: EdgeService, lane: Lane, config: EdgeConfig, ring: KeyRing) -> None:
        self.service = service
        self.lane = lane
        self.published: list[FeedbackSubmitted] = []
        self.log: dict[str, bytes] = {}
        """Decision id -> record."""
        self.fetched: list[str] = []
        self.is_delayed = False
        self.publish_error: LocalforgeError | None = None
        self.health: dict[str, Dependency] = {"nats": Dependency(status=State.OK)}
        self.url = ""
        self.shut_down: Callable[[], Awaitable[None]]
        self.app = create_app(
            config,
            service,
            FixedRegistry(),
            self._check,
            self._publish,
            self._fetch,
            is_delayed=lambda: self.is_delayed,
            keys=lambda: ring,
            aliases=lambda: {"smart": "org/big", "any": "auto", "dangling": "off"},
        )

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def _check(self) -> dict[str, Dependency]:
        return self.health

    async def _fetch(self, decision_id: str) -> bytes | None:
        self.fetched.append(decision_id)
        return self.log.get(decision_id)

    async def _publish(self, verdict: FeedbackSubmitted) -> None:
        if self.publish_error:
            raise self.publish_error
        self.published.append(verdict)


@pytest.fixture
def lane():
    return Lane()


@pytest.fixture
def make_service(lane):
    def make(registry: Any = None, machine: str = "", **config: Any) -> EdgeService:
        lane.service = EdgeService(EdgeConfig(**config), lane, "e1", registry, machine)
        return lane.service

    return make


@pytest.fixture
def make_edge(make_service, lane):
    """Return a function that builds an edge without a server."""

    def make(
        keys: tuple[KeyConfig, ...] = (), secrets: dict[str, str] | None = None, **config: Any
    ) -> Running:
        ring = KeyRing(keys, lambda reference: (secrets or {})[reference])
        return Running(make_service(**config), lane, EdgeConfig(**config), ring)

    return make


@pytest.fixture
async def run_edge(make_edge):
    """Return a function that starts an edge with real HTTP; all are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def start(*, grace_s: float = 1, **options: Any) -> Running:
            running = make_edge(**options)
            serving = AsyncExitStack()
            stack.push_async_callback(serving.aclose)
            running.url = await serving.enter_async_context(
                serve_http(running.app, "127.0.0.1", 0, grace_s=grace_s)
            )
            running.shut_down = serving.aclose
            return running

        yield start


@pytest.fixture
async def edge(run_edge):
    return await run_edge()
