"""Wiring of the router: both lanes in front of a `RouterService` that learns from the stream."""

import time

import msgspec

from localforge.bandit import FACT_SUBJECTS, Fold
from localforge.bus.durable import Delivery
from localforge.bus.pull import Pulled
from localforge.bus.refusal import refuse
from localforge.bus.tail import Tail, read_all
from localforge.config import Config
from localforge.contracts import subjects
from localforge.contracts.live import Explained, RouteCall
from localforge.errors import DependencyUnavailable, LocalforgeError
from localforge.features import SCHEMA
from localforge.hosting import Host
from localforge.router.catch_up import Folded, Latecomer
from localforge.router.checkpoints import Checkpoints
from localforge.router.companions import Companions
from localforge.router.learning import Learning
from localforge.router.service import Routed, RouterService
from localforge.router.shadow import Shadow
from localforge.telemetry import log, tracing

_log = log.get("router")

UNAVAILABLE = 503
LAST_DELIVERY = subjects.ROUTER_DURABLE.max_deliver - 3
"""From here on a request that cannot be placed ends with an error as its result."""


def create(host: Host) -> "RouterApp":
    """Build the router of one process."""
    return RouterApp(host)


class RouterApp:
    """Decode, decide, record, hand on; and fold the feedback stream."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._bus = host.bus("router")
        self._fold: Fold
        self._learning: Learning
        self._service: RouterService
        self._tail: Tail
        self._checkpoints: Checkpoints
        self._companions = Companions()
        self._shadow: Shadow | None = None

    async def start(self) -> None:
        """Restore, catch up with the stream, then serve both lanes."""
        config = self._host.config
        registry = await self._host.registry()
        await self._bus.connect()
        self._checkpoints = Checkpoints(self._bus.client, config.router.checkpoint_every)
        self._fold = await self._checkpoints.restore(SCHEMA.name, SCHEMA.dim, config.router.prior)
        self._learning = Learning(self._fold, self._companions)
        self._tail = Tail(
            self._bus.client,
            self._bus.user,
            subjects.FEEDBACK.name,
            FACT_SUBJECTS,
            self.on_facts,
        )
        await self._tail.start(after=self._fold.sequence)
        await self._tail.caught_up()
        await self._companions.configure(config, self._checkpoints, self._fold, self._catch_up)
        self._service = RouterService(config, registry, self._fold, companions=self._companions)
        self._shadow = Shadow(config.router) if config.router.shadow.enabled else None
        _log.info("learner_ready", sequence=self._fold.sequence, state_hash=self._fold.state_hash())
        await self._bus.on_live(subjects.ROUTE, RouteCall, self.on_live, queue="router")
        self._bus.on_durable(subjects.ROUTER_DURABLE, RouteCall, self.on_durable)
        await self._bus.start()

    async def stop(self) -> None:
        """Take nothing new, store the state and disconnect."""
        await self._bus.leave(subjects.ROUTE)
        await self._bus.finish_durable()
        await self._tail.stop()
        await self._checkpoints.write(self._fold, self._companions.dump())
        await self._bus.close()

    async def reload(self, config: Config) -> None:
        """Take changed preferences, goals, limits and aliases; the learned state stays.

        Raises:
            DependencyUnavailable: The feedback stream cannot be read, from which a new goal or the
                first budget of a key begins. The rest is in force.
        """
        registry = await self._host.registry()
        try:
            await self._companions.configure(config, self._checkpoints, self._fold, self._catch_up)
        except DependencyUnavailable as exc:
            raise DependencyUnavailable(
                "what `router.goal` or `budget_usd` newly ask for is not in force: "
                f"{exc.message}; reload again"
            ) from exc
        finally:
            # At once: a goal that was replaced gets no more facts.
            conversations = self._service.conversations.resized(config.router.sticky)
            self._service = RouterService(
                config,
                registry,
                self._fold,
                companions=self._companions,
                conversations=conversations,
            )
            self._shadow = Shadow(config.router) if config.router.shadow.enabled else None

    def on_live(self, call: RouteCall, reply: str) -> None:
        """Decide one live request and hand it to the chosen backend's executors."""
        try:
            with tracing.span(
                "decide",
                call.call.traceparent,
                call.call.tracestate,
                request_id=call.call.request_id,
            ):
                routed = self._service.route(call, time.time())
            self._answer(call, routed, reply)
        except LocalforgeError as exc:
            refuse(self._bus, call.call, reply, exc)
        except Exception:  # noqa: BLE001  # the caller needs an answer
            _log.exception("route_failed", request_id=call.call.request_id)
            error = LocalforgeError("the request could not be routed; retry")
            refuse(self._bus, call.call, reply, error)
        else:
            self._decide_in_shadow(routed)

    def _answer(self, call: RouteCall, routed: Routed, reply: str) -> None:
        """Explain a dry run; record any other decision and hand the request on."""
        if routed.execute is None:
            explained = Explained(
                request_id=call.call.request_id,
                attempt=call.call.attempt,
                decision=routed.decision,
                findings=call.profile.findings,
            )
            self._bus.publish(reply, explained)
            return
        self._record(routed)
        target = routed.execute.target
        subject = subjects.execute(target.zone, target.backend)
        self._bus.forward(subject, routed.execute, reply=reply, backend=target.backend)

    async def on_durable(self, call: RouteCall, delivery: Delivery) -> None:
        """Decide one durable request.

        A repeated delivery is a decision of its own, with its own id; the stream takes only one
        of their messages to an executor.
        """
        request = msgspec.structs.replace(call.call, attempt=delivery.number - 1)
        call = msgspec.structs.replace(call, call=request)
        now = time.time()
        may_wait = now < request.deadline and delivery.number < LAST_DELIVERY
        try:
            with tracing.span(
                "decide", request.traceparent, request.tracestate, request_id=request.request_id
            ):
                routed = self._service.route(call, now)
        except LocalforgeError as exc:
            if exc.status == UNAVAILABLE and may_wait:
                # Accepted work waits for a replica; a live caller would not.
                raise DependencyUnavailable(exc.message, code=exc.code) from exc
            await self._bus.end(request.request_id, exc)
            return
        assert routed.execute is not None, "a dry run has no durable lane"
        self._record(routed)
        target = routed.execute.target
        await self._bus.publish_durable(
            subjects.work_execute(target.zone, target.backend),
            routed.execute,
            message_id=f"{request.request_id}.execute.{delivery.stamp}",
        )
        self._decide_in_shadow(routed)

    async def on_facts(self, batch: list[Pulled]) -> None:
        """Learn from a batch of the stream, in its order."""
        learned = await self._learning.take(batch)
        if self._checkpoints.due(learned):
            await self._checkpoints.write(self._fold, self._companions.dump())

    async def _catch_up(self, folded: Folded) -> None:
        """Feed something the stream until it is as far as the learner, which goes on meanwhile."""
        latecomer = Latecomer(folded, self._fold)
        while not latecomer.is_level():
            target = self._fold.sequence
            await read_all(
                self._bus.client,
                self._bus.user,
                subjects.FEEDBACK.name,
                latecomer.take,
                subjects=FACT_SUBJECTS,
                after=latecomer.read,
            )
            latecomer.read = max(latecomer.read, target)

    def _decide_in_shadow(self, routed: Routed) -> None:
        """Record what the shadow would have done; the request is on its way already."""
        if self._shadow is None or routed.execute is None:
            return
        decision = routed.decision
        try:
            decided = self._shadow.decide(decision, self._fold.learner, self._fold.sequence)
        except Exception:  # noqa: BLE001  # it must not end a request that somebody works on
            _log.exception("shadow_failed", decision_id=decision.decision_id)
            return
        if decided:
            subject = subjects.shadow_decision(decision.decision_id)
            self._bus.facts.record(subject, decided)

    def _record(self, routed: Routed) -> None:
        decision = routed.decision
        self._bus.facts.record(subjects.decision(decision.decision_id), decision)
