"""Wiring of the executor: one backend, both lanes, heartbeats."""

import asyncio
import secrets
import time
from collections.abc import Coroutine
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localforge.bus.connection import inbox_prefix
from localforge.bus.durable import Delivery
from localforge.bus.permissions import executor_user
from localforge.bus.refusal import refuse
from localforge.config import BackendConfig, Config
from localforge.contracts import subjects
from localforge.contracts.live import CancelCall, ExecuteCall, ProbeCall
from localforge.contracts.trust import LOCAL_ZONE
from localforge.errors import ConfigError, DependencyUnavailable, LocalforgeError
from localforge.executor.callers import Callers
from localforge.executor.heartbeat import Heartbeat
from localforge.executor.pool import build_pool
from localforge.executor.probing import probe_backend
from localforge.executor.service import ExecutorService
from localforge.executor.sinks import DurableSink, LiveSink
from localforge.executor.speed import Speed
from localforge.hosting import Host
from localforge.registry import RegistryStore
from localforge.telemetry import gen_ai, log, metrics, tracing

if TYPE_CHECKING:
    from localforge.trust import SealVerifier

_log = log.get("executor")

DRAIN_S = 8.0
PROGRESS_S = 3.0
"""Between two signs of progress on a durable delivery; well under the consumer's ack wait."""


def create(host: Host) -> "ExecutorApp":
    """Build the executor of one process.

    Raises:
        ConfigError: No backend is named, its key cannot be resolved, or a remote zone has no
            public key to verify seals with.
    """
    if host.backend is None:
        raise ConfigError("an executor serves one backend: add --backend NAME")
    return ExecutorApp(host, host.backend)


class ExecutorApp:
    """Decode, run, answer."""

    def __init__(self, host: Host, backend: BackendConfig) -> None:
        self._backend = backend
        self._provider = gen_ai.provider_name(backend.addresses[0])
        self._bus = host.bus(executor_user(backend.zone, backend.name), "executor")
        self._pool = build_pool(backend, host.secret(backend.api_key))
        self._replica = f"{backend.name}-{secrets.token_hex(3)}"
        self._service = ExecutorService(
            backend,
            self._pool,
            replica=self._replica,
            verifier=_verifier(host.config, backend),
            policy=host.config.policy,
        )
        self._speed = Speed()
        self._heartbeat = Heartbeat(
            backend,
            self._replica,
            RegistryStore(host.config.redis),
            self._pool,
            self._service,
            self._speed,
        )
        self._pool.on_change = self._on_change
        metrics.EXECUTOR_IN_FLIGHT.set_function(lambda: self._service.load().in_flight)
        metrics.EXECUTOR_WAITING.set_function(lambda: self._service.load().waiting)
        self._consumer = subjects.executor_durable(backend.zone, backend.name)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._edges = f"{inbox_prefix(self._bus.user)}.edge."
        self._callers = Callers(self._ask_after_edge, self._service.cancel)

    async def start(self) -> None:
        """Start the backend, serve both lanes, and say so in the registry."""
        await self._pool.start()
        await self._bus.connect()
        await self._bus.on_live(subjects.CANCEL, CancelCall, self.on_cancel)
        await self._bus.answer_alive(
            subjects.alive(self._backend.zone, self._backend.name, self._replica)
        )
        await self._bus.subscribe(f"{self._edges}*", self._on_edge)
        # Before the first request: who dies with it must be known to its edge.
        await self._heartbeat.start()
        await self._bus.on_live(
            self._backend.subject, ExecuteCall, self.on_live, queue=self._backend.name
        )
        await self._bus.on_live(
            subjects.probe(self._backend.zone, self._backend.name), ProbeCall, self.on_probe
        )
        self._bus.on_durable(
            self._consumer, ExecuteCall, self.on_durable, workers=self._consumer.max_ack_pending
        )
        await self._bus.start()

    async def stop(self) -> None:
        """Leave the registry, take nothing new, finish what is in flight, disconnect."""
        await self._heartbeat.stop()
        await self._bus.leave(self._backend.subject)
        await asyncio.gather(self._bus.finish_durable(), self._service.drain(DRAIN_S))
        self._callers.close()
        await self._bus.close()
        await self._pool.close()

    async def reload(self, config: Config) -> None:
        """Take the changed policy and models; address and key need a restart."""
        self._service.clearance.policy = config.policy
        if self._backend.name in config.names:
            await self._heartbeat.replace(config.backend(self._backend.name))

    def on_live(self, call: ExecuteCall, reply: str) -> None:
        """Run one live call beside the others.

        Only for an edge: what is said of the call would otherwise go, with this executor's
        permissions, to any subject that an executor elsewhere has named.
        """
        if not reply.startswith(f"{subjects.INBOX_PREFIX}."):
            _log.warning(
                "reply_to_no_edge", request_id=call.call.request_id, decision_id=call.decision_id
            )
            return
        self._spawn(self._run_live(call, reply), call.call.request_id, call.decision_id)

    async def _run_live(self, call: ExecuteCall, reply: str) -> None:
        try:
            with (
                self._span(call),
                self._callers.waiting(subjects.edge_of(reply), call.call.request_id),
            ):
                await self._service.run(call, LiveSink(self._bus, self._speed, reply))
        except LocalforgeError as exc:
            _log.warning(
                "call_refused",
                request_id=call.call.request_id,
                decision_id=call.decision_id,
                code=exc.code,
                reason=exc.message,
            )
            refuse(self._bus, call.call, reply, exc)
        except Exception:  # noqa: BLE001  # nobody awaits this task, and the caller needs an answer
            _log.exception(
                "run_failed", request_id=call.call.request_id, decision_id=call.decision_id
            )
            error = LocalforgeError("the request could not be run; retry")
            refuse(self._bus, call.call, reply, error)

    async def on_durable(self, call: ExecuteCall, delivery: Delivery) -> None:
        """Run one durable call, and keep its delivery alive meanwhile.

        Raises:
            DependencyUnavailable: It is not its turn yet.
        """
        early_s = call.not_before - time.time()
        if early_s > 0:
            raise DependencyUnavailable(
                "it was put back after a failure", code="not_yet", retry_after_s=early_s
            )
        progress = asyncio.create_task(_keep_alive(delivery))
        try:
            with self._span(call):
                await self._service.run(
                    call, DurableSink(self._bus, self._speed, call, delivery, self._consumer)
                )
        finally:
            progress.cancel()

    def on_cancel(self, call: CancelCall, _: str) -> None:
        """Stop one request; the others' cancels are heard too and mean nothing here."""
        self._service.cancel(call.request_id)

    def on_probe(self, call: ProbeCall, reply: str) -> None:
        """Answer who asks by hand, beside the requests."""
        self._spawn(self._answer_probe(call, reply), "probe")

    async def _answer_probe(self, call: ProbeCall, reply: str) -> None:
        answer = await probe_backend(call, self._backend, self._pool, self._replica)
        self._bus.publish(reply, answer)

    def _ask_after_edge(self, edge_id: str) -> bool:
        if not self._bus.can_ask_alive:
            return False
        return self._bus.ask_alive(subjects.edge_alive(edge_id), f"{self._edges}{edge_id}")

    def _on_edge(self, subject: str, _: bytes, nobody: bool) -> None:
        self._callers.on_answer(subject.removeprefix(self._edges), nobody=nobody)

    def _on_change(self) -> None:
        """Use what servers there are now, and tell the routers at once."""
        self._service.resize()
        self._heartbeat.hurry()

    def _span(self, call: ExecuteCall) -> AbstractContextManager[Any]:
        if not tracing.enabled() or not 0 <= call.step < len(call.plan):
            # The service refuses a step that no plan has.
            return nullcontext()
        target = call.target
        return tracing.span(
            f"{gen_ai.OPERATION} {target.upstream or target.model}",
            call.call.traceparent,
            call.call.tracestate,
            is_client=True,
            request_id=call.call.request_id,
            decision_id=call.decision_id,
            model=target.model,
            zone=target.zone,
            step=call.step,
            **gen_ai.request_attributes(target.upstream or target.model, self._provider),
        )

    def _spawn(
        self, work: Coroutine[Any, Any, None], request_id: str, decision_id: str = ""
    ) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, request_id, decision_id))

    def _ended(self, request_id: str, decision_id: str, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()):
            _log.error("run_failed", request_id=request_id, decision_id=decision_id, exc_info=exc)


async def _keep_alive(delivery: Delivery) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S)
        try:
            await delivery.in_progress()
        except Exception as exc:  # noqa: BLE001  # without the next, the work is done and paid twice
            _log.warning("progress_not_told", reason=type(exc).__name__)


def _verifier(config: Config, backend: BackendConfig) -> "SealVerifier | None":
    path = config.seal.public_key_file
    if backend.zone == LOCAL_ZONE or not path:
        # This site's executors share the machine with the profiler; the zone check stays.
        return None
    # cryptography and NumPy are behind it, which an executor of the local zone does without.
    from localforge.trust import SealVerifier, load_public_key  # noqa: PLC0415

    return SealVerifier(load_public_key(Path(path)))
