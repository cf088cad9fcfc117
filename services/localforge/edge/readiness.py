"""What readiness looks at, and what each loss means."""

import asyncio

from nats.errors import Error as NatsError

from localforge.bus.bus import Bus
from localforge.contracts.cards import Health
from localforge.edge.catalogue import Registry
from localforge.edge.delays import DelayedFacts
from localforge.edge.health import Dependency, State
from localforge.edge.service import EdgeService

JETSTREAM_PATIENCE_S = 1.0
_OK = Dependency(status=State.OK)


class ReadinessCheck:
    """The edge's dependencies.

    Args:
        bus: The edge's connection.
        registry: Its copy of the registry.
        service: Knows whether the live lane is served.
        delays: What the other services say of their facts.

    Without the broker, or any model to ask, no request can be answered. Without JetStream or Redis
    the edge serves what it can, and says what is missing.
    """

    def __init__(
        self, bus: Bus, registry: Registry, service: EdgeService, delays: DelayedFacts
    ) -> None:
        self._bus = bus
        self._delays = delays
        self._registry = registry
        self._service = service

    async def __call__(self) -> dict[str, Dependency]:
        """Look at all of them."""
        return {
            "nats": self._nats(),
            "jetstream": await self._jetstream(),
            "registry": self._redis(),
            "models": self._models(),
            "facts": self._facts(),
            "live_lane": self._live_lane(),
        }

    def _nats(self) -> Dependency:
        if self._bus.connected:
            return _OK
        return Dependency(status=State.DOWN, detail="the broker does not answer")

    async def _jetstream(self) -> Dependency:
        if self._bus.connected:
            try:
                js = self._bus.client.jetstream(timeout=JETSTREAM_PATIENCE_S)
                await asyncio.wait_for(js.account_info(), JETSTREAM_PATIENCE_S)
            except (NatsError, OSError, TimeoutError) as exc:
                reason = str(exc) or type(exc).__name__
                return Dependency(status=State.DEGRADED, detail=f"feedback is refused: {reason}")
            return _OK
        return Dependency(status=State.DEGRADED, detail="the broker does not answer")

    def _redis(self) -> Dependency:
        if self._registry.degraded:
            return Dependency(
                status=State.DEGRADED, detail="Redis does not answer; the last snapshot serves"
            )
        return _OK

    def _models(self) -> Dependency:
        snapshot = self._registry.snapshot
        if not any(card.enabled for card in snapshot.cards.values()):
            return Dependency(status=State.DOWN, detail="no model is registered and enabled")
        if all(replica.health is Health.DOWN for replica in snapshot.replicas.values()):
            # A request may still reach one that has come back since its last sign of life.
            return Dependency(
                status=State.DEGRADED, detail="no backend is up; see `localforge models`"
            )
        return _OK

    def _facts(self) -> Dependency:
        told = [
            f"{word.service} holds {word.pending}"
            + (f" and has dropped {word.dropped}" if word.dropped else "")
            for word in self._delays.current()
        ]
        if not told:
            return _OK
        return Dependency(
            status=State.DEGRADED,
            detail=f"facts wait for the feedback stream: {'; '.join(told)}",
        )

    def _live_lane(self) -> Dependency:
        if self._service.served:
            return _OK
        return Dependency(
            status=State.DEGRADED, detail="the last request found a hop that nobody serves"
        )
