"""What an executor tells the registry: its models' cards, and every two seconds how it is."""

import asyncio
import time
from contextlib import suppress

from localforge.config import BackendConfig
from localforge.contracts.cards import Health, ReplicaState
from localforge.contracts.problems import ContractViolation
from localforge.errors import DependencyUnavailable
from localforge.executor.inventory import Inventory
from localforge.executor.pool import Pool
from localforge.executor.service import ExecutorService
from localforge.executor.speed import Speed
from localforge.hosting.machine import machine_id
from localforge.registry import RegistryStore
from localforge.telemetry import log

_log = log.get("executor.heartbeat")

BEAT_S = 2.0


class Heartbeat:
    """Registers one executor process.

    Args:
        backend: Whose cards are registered.
        replica: Name of this process.
        store: The registry.
        pool: The backend's servers: probed, and asked for their load and breakers.
        service: Says how busy it is.
        speed: Says how fast it has been.
    """

    def __init__(
        self,
        backend: BackendConfig,
        replica: str,
        store: RegistryStore,
        pool: Pool,
        service: ExecutorService,
        speed: Speed,
    ) -> None:
        self._backend = backend
        self._replica = replica
        self._store = store
        self._pool = pool
        self._service = service
        self._speed = speed
        self._inventory = Inventory(backend)
        self._machine = machine_id()
        self._health = Health.UP
        self._detail = ""
        self._taken: frozenset[str] = frozenset()
        self._reachable = True
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Register and beat once, then keep beating; Redis may be away."""
        await self._beat(look=True)
        self._task = asyncio.create_task(self._run(), name="heartbeat")

    async def stop(self) -> None:
        """Leave the registry; the cards stay, without a replica."""
        if self._task:
            self._task.cancel()
        try:
            await self._store.leave(self._backend.name, self._replica)
        except DependencyUnavailable as exc:
            _log.warning("not_left", reason=exc.message)
        await self._store.close()

    async def replace(self, backend: BackendConfig) -> None:
        """Take changed models."""
        self._inventory.replace(backend)
        self._backend = backend
        await self._beat(look=True)

    def hurry(self) -> None:
        """Beat now: something has changed that routers should know."""
        self._hurry.set()

    async def _run(self) -> None:
        looked_at = time.monotonic()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), BEAT_S)
            self._hurry.clear()
            now = time.monotonic()
            look = now - looked_at >= self._backend.probe_s
            looked_at = now if look else looked_at
            await self._beat(look=look)

    async def _beat(self, *, look: bool) -> None:
        try:
            await self._report(look=look)
        except Exception:  # noqa: BLE001  # the next beat may do; without any, routers miss it
            _log.exception("beat_failed")

    async def _report(self, *, look: bool) -> None:
        if look:
            await self._probe()
        load, reported = self._service.load(), await self._pool.load()
        state = ReplicaState(
            replica=self._replica,
            backend=self._backend.name,
            zone=self._backend.zone,
            health=self._health,
            detail=self._detail,
            in_flight=load.in_flight,
            slots=load.slots,
            sent_at=time.time(),
            models=self._inventory.served,
            first_token_s=self._speed.first_token_s,
            tokens_per_s=self._speed.tokens_per_s,
            backend_running=reported.running,
            backend_waiting=reported.waiting,
            kv_cache_use=reported.kv_cache_use,
            loaded=reported.loaded,
            breaker=self._pool.breaker,
            servers=self._pool.states,
            machine=self._machine,
        )
        try:
            cards = self._inventory.cards
            if await self._store.register(self._backend.name, cards):
                _log.info("cards_registered", models=[card.name for card in cards])
            await self._store.beat(state)
        except DependencyUnavailable as exc:
            if self._reachable:
                _log.warning("registry_away", reason=exc.message)
            self._reachable = False
        else:
            self._reachable = True

    async def _probe(self) -> None:
        probe = await self._pool.probe()
        if probe.health is not self._health:
            _log.warning("backend_health", health=probe.health, detail=probe.detail)
        self._health, self._detail = probe.health, probe.detail
        self._inventory.take(probe, await self._others())
        if self._health is not Health.DOWN and self._inventory.is_bare:
            self._health, self._detail = Health.DOWN, "it serves none of the models configured"

    async def _others(self) -> frozenset[str]:
        """Return the names of other backends' models, which a discovered one must not take."""
        if not self._inventory.discovers:
            return frozenset()
        with suppress(DependencyUnavailable, ContractViolation):
            cards = (await self._store.read()).cards.values()
            self._taken = frozenset(c.name for c in cards if c.backend != self._backend.name)
        return self._taken
