"""A backend's servers as one adapter: chooses the server of each request and watches them all."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from localforge.config import BackendConfig
from localforge.contracts.cards import BreakerState, FoundModel, Health, ServerState
from localforge.errors import BackendUnavailable
from localforge.executor.affinity import conversation_key, first_within_bound, order
from localforge.executor.breaker import Breaker
from localforge.executor.server import Server, server_names
from localforge.inference import Completion, Embedder, Probe, Reply, build_adapter
from localforge.inference.protocol import BackendLoad
from localforge.telemetry import log, metrics

_log = log.get("executor.pool")

FULL_KV_CACHE = 0.8
"""Share in use from which a server gets nothing new while another has less: it would have to drop
what it has computed for others. The default of Kubernetes' Gateway API inference extension."""
_BEST = (Health.UP, Health.DEGRADED, Health.DOWN)
_BEST_BREAKER = (BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN)


class Pool:
    """The servers of one backend.

    Args:
        servers: At least one; not started.

    Attributes:
        on_change: Called when a breaker has changed its state.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self.on_change: Callable[[], None] = _nobody
        self._servers = tuple(servers)
        self._told = {server.name: server.breaker.state for server in self._servers}
        """What was said last of each breaker: all requests in flight see the same change."""
        self._watch: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()

    @property
    def slots(self) -> int:
        """Requests that the servers in use can run at the same time; at least 1."""
        return max(sum(s.adapter.slots for s in self._servers if not s.is_open), 1)

    @property
    def breaker(self) -> BreakerState:
        """The best of the servers' states."""
        return min((s.breaker.state for s in self._servers), key=_BEST_BREAKER.index)

    @property
    def states(self) -> tuple[ServerState, ...]:
        """What the registry is told of the servers."""
        return tuple(server.state for server in self._servers)

    async def start(self) -> None:
        """Start every adapter, and the watch over the breakers."""
        for server in self._servers:
            await server.adapter.start()
            metrics.EXECUTOR_BREAKER.labels(server.name).set(0)
        self._watch = asyncio.create_task(self._probe_open_ones(), name="breakers")

    async def close(self) -> None:
        """Stop everything."""
        if self._watch is not None:
            self._watch.cancel()
        for server in self._servers:
            await server.adapter.close()

    async def probe(self) -> Probe:
        """Ask every server how it is; the backend is as well as the best of them."""
        probes = await asyncio.gather(*(server.probe() for server in self._servers))
        best = min(probes, key=lambda probe: _BEST.index(probe.health))
        if len(probes) == 1:
            return best
        best = msgspec.structs.replace(best, found=_union(self._servers))
        ill = [f"{s.name}: {s.detail or s.health}" for s in self._servers if s.health != Health.UP]
        return msgspec.structs.replace(best, detail="; ".join(ill))

    async def load(self) -> BackendLoad:
        """Ask every server how busy it is; returns the sum."""
        loads = await asyncio.gather(*(server.load() for server in self._servers))
        return BackendLoad(
            running=sum(load.running for load in loads),
            waiting=sum(load.waiting for load in loads),
            kv_cache_use=sum(load.kv_cache_use for load in loads) / len(loads),
            loaded=tuple(sorted({name for load in loads for name in load.loaded})),
        )

    def has_other(self, tried: frozenset[str]) -> bool:
        """Whether a server that is in use has not been tried."""
        return any(s.name not in tried and s.breaker.allows for s in self._servers)

    async def complete(self, request: Completion, reply: Reply) -> None:
        """Run one completion at the server that suits it best; see `Adapter.complete`.

        Raises:
            BackendUnavailable: Also `breaker_open`, when no server is in use.
        """
        server = self._take(request, reply)
        await self._watched(server, server.complete(request, reply))

    def _take(self, request: Completion, reply: Reply) -> Server:
        server = self._choose(request)
        reply.server = server.name
        return server

    async def _watched(self, server: Server, work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            self._tell(server)

    def _choose(self, request: Completion) -> Server:
        usable = [s for s in self._servers if s.breaker.allows]
        if not usable:
            waits = [s.breaker.remaining_s for s in self._servers]
            error = BackendUnavailable(
                "every server of the backend has failed too often and is left alone for a while",
                code="breaker_open",
                retry_after_s=max(min(waits), 1.0),
            )
            error.status = 503
            raise error
        if len(usable) == 1:
            return usable[0]
        for wanted in (
            _serves(request),
            _untried(request),
            _is_well,
            _has_memory,
            _has_it_loaded(request),
        ):
            usable = [s for s in usable if wanted(s)] or usable
        if len(usable) == 1:
            return usable[0]
        return self._by_affinity(usable, request.body) or min(
            usable, key=_expected_wait(usable, request.upstream)
        )

    def _by_affinity(self, usable: list[Server], body: bytes) -> Server | None:
        key = conversation_key(body)
        if not key:
            return None
        free = [s for s in usable if s.in_flight < s.adapter.slots]
        weights = [float(s.adapter.slots) for s in free]
        places = order(key, [s.name for s in free], weights)
        place = first_within_bound(places, [s.in_flight + s.foreign for s in free], weights)
        return None if place is None else free[place]

    def _tell(self, server: Server) -> None:
        state, before = server.breaker.state, self._told[server.name]
        if state is before:
            return
        self._told[server.name] = state
        _log.warning("breaker", server=server.name, state=state, was=before)
        metrics.EXECUTOR_BREAKER.labels(server.name).set(_BEST_BREAKER.index(state))
        if state is BreakerState.OPEN:
            metrics.EXECUTOR_BREAKER_OPENED.labels(server.name).inc()
            self._opened.set()
        self.on_change()

    async def _probe_open_ones(self) -> None:
        """Half-open each breaker whose time is up and whose server says that it is well."""
        while True:
            open_ones = [s for s in self._servers if s.is_open]
            if not open_ones:
                self._opened.clear()
                await self._opened.wait()
                continue
            await asyncio.sleep(min(s.breaker.remaining_s for s in open_ones))
            for server in open_ones:
                if server.is_open and not server.breaker.remaining_s:
                    await self._try_again(server)

    async def _try_again(self, server: Server) -> None:
        probe = await server.probe()
        if probe.health is Health.DOWN:
            server.breaker.open()
        else:
            server.breaker.half_open()
        self._tell(server)


class EmbeddingPool(Pool):
    """Servers that also turn texts into vectors."""

    async def embed(self, request: Completion, reply: Reply) -> None:
        """Embed at the server that suits it best; see `Embedder.embed`."""
        server = self._take(request, reply)
        await self._watched(server, server.embed(request, reply))


def build_pool(backend: BackendConfig, api_key: str) -> Pool:
    """Return the servers of a backend, not started.

    Args:
        backend: Checked configuration.
        api_key: The secret that `backend.api_key` refers to; empty for none.
    """
    servers = []
    for name, address in zip(server_names(backend), backend.addresses, strict=True):
        one = msgspec.structs.replace(backend, url=address, urls=())
        breaker = Breaker(backend.breaker_failures, backend.breaker_open_s)
        adapter = build_adapter(one, api_key)
        servers.append(Server(name, adapter, breaker, backend.hourly_usd, api_key))
    embeds = isinstance(servers[0].adapter, Embedder)
    return EmbeddingPool(servers) if embeds else Pool(servers)


def _union(servers: Sequence[Server]) -> tuple[FoundModel, ...] | None:
    """Return what any of the servers serves; what two have is described by the first."""
    told = [server.found for server in servers if server.found is not None]
    if not told:
        return None
    return tuple({model.name: model for found in reversed(told) for model in found}.values())


def _serves(request: Completion) -> Callable[[Server], bool]:
    return lambda server: server.serves(request.upstream)


def _untried(request: Completion) -> Callable[[Server], bool]:
    return lambda server: server.name not in request.tried


def _is_well(server: Server) -> bool:
    return server.health is not Health.DOWN


def _has_memory(server: Server) -> bool:
    return server.kv_cache_use < FULL_KV_CACHE


def _has_it_loaded(request: Completion) -> Callable[[Server], bool]:
    """A model that is in memory begins at once, as long as there is a slot beside it."""
    return lambda server: (
        server.in_flight < server.adapter.slots and server.has_loaded(request.upstream)
    )


def _expected_wait(servers: Sequence[Server], upstream: str) -> Callable[[Server], float]:
    """Return what to compare servers by: requests there for each slot, over learned speed.

    That is the speed of the model that is asked for or, as long as no server has answered with it,
    of all that each has. A server of which it is not known is taken to be as fast as the others.
    """
    speeds = {s.name: s.tokens_per_s(upstream) for s in servers}
    if not any(speeds.values()):
        speeds = {s.name: s.speed.tokens_per_s for s in servers}
    known = [speed for speed in speeds.values() if speed]
    usual = sum(known) / len(known) if known else 1.0

    def wait(server: Server) -> float:
        requests = server.in_flight + server.foreign + 1
        return requests / (server.adapter.slots * (speeds[server.name] or usual))

    return wait


def _nobody() -> None:
    return
