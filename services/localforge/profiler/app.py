"""Wiring of the profiler: live and durable lane in front of one `ProfilerService`."""

import asyncio
import hashlib
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec

from localforge.bus.durable import Delivery
from localforge.bus.refusal import refuse
from localforge.bus.work import REQUEST_ID
from localforge.config import Config
from localforge.contracts import subjects
from localforge.contracts.chat import ChatRequested
from localforge.contracts.live import ChatCall, RouteCall
from localforge.errors import ConfigError, ContractError, LocalforgeError, RequestRefused
from localforge.hosting import Host
from localforge.profiler.durable_request import call_of
from localforge.profiler.service import ProfilerService
from localforge.request.strict import StrictChatRequested
from localforge.telemetry import log, tracing
from localforge.trust import Sealer, ZonePolicy, load_private_key

BIG_BODY = 128 * 1024
"""Bytes. Below, profiling takes less than a hop to a thread is worth; 15 MB take seconds."""
STOP_GRACE_S = 10.0

_log = log.get("profiler")


def create(host: Host) -> "ProfilerApp":
    """Build the profiler of one process."""
    return ProfilerApp(host)


class ProfilerApp:
    """Decode, profile, hand on."""

    def __init__(self, host: Host) -> None:
        config = host.config
        self._bus = host.bus("profiler")
        if not config.seal.private_key_file:
            raise ConfigError(
                "`seal.private_key_file` is not set: `localforge provision --seal-keys DIR` makes "
                "a pair; the profiler gets the private one, executors the public one"
            )
        self._sealer = Sealer(load_private_key(Path(config.seal.private_key_file)))
        self._message_key = self._sealer.derived_key(b"message ids")
        self._service = self._build(config)
        # One at a time: more of them would only take turns, and starve the event loop longer.
        self._big_body = asyncio.Semaphore(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def _build(self, config: Config) -> ProfilerService:
        zones = frozenset(backend.zone for backend in config.backends)
        return ProfilerService(
            policy=config.policy,
            zones=ZonePolicy(config.policy, zones),
            sealer=self._sealer,
            seal_ttl_s=config.seal.ttl_s,
        )

    async def start(self) -> None:
        """Connect and serve both lanes."""
        await self._bus.connect()
        await self._bus.on_live(subjects.PROFILE, ChatCall, self.on_live, queue="profiler")
        self._bus.on_durable(subjects.PROFILER_DURABLE, StrictChatRequested, self.on_durable)
        await self._bus.start()

    async def stop(self) -> None:
        """Take nothing new, let big requests finish within a grace time, then disconnect."""
        await self._bus.leave(subjects.PROFILE)
        await asyncio.gather(self._bus.finish_durable(), self._finish_big())
        await self._bus.close()

    async def _finish_big(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_GRACE_S)
        for task in self._tasks:
            task.cancel()

    async def reload(self, config: Config) -> None:
        """Take the changed policy and zones."""
        self._service = self._build(config)

    def on_live(self, call: ChatCall, reply: str) -> None:
        """Profile one live request and hand it to the router; a big one in a thread.

        The connection's reader, or an edge in this process, waits for this method.
        """
        if len(call.body) <= BIG_BODY:
            try:
                with _span(call):
                    routed = self._service.profile(call, time.time())
                self._bus.forward(subjects.ROUTE, routed, reply=reply)
            except LocalforgeError as exc:
                refuse(self._bus, call, reply, exc)
            except Exception:  # noqa: BLE001  # the caller needs an answer
                self._refuse_unforeseen(call, reply)
            return
        task = asyncio.create_task(self._serve_big(call, reply), name=f"profile-{call.request_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve_big(self, call: ChatCall, reply: str) -> None:
        try:
            with _span(call):
                routed = await self._profile(call)
            self._bus.forward(subjects.ROUTE, routed, reply=reply)
        except LocalforgeError as exc:
            refuse(self._bus, call, reply, exc)
        except Exception:  # noqa: BLE001  # nobody awaits this task, and the caller needs an answer
            self._refuse_unforeseen(call, reply)

    def _refuse_unforeseen(self, call: ChatCall, reply: str) -> None:
        _log.exception("profile_failed", request_id=call.request_id)
        refuse(self._bus, call, reply, LocalforgeError("the request could not be profiled; retry"))

    async def _profile(self, call: ChatCall) -> RouteCall:
        """Profile here, or in a thread when the body is so big that others would notice."""
        if len(call.body) <= BIG_BODY:
            return self._service.profile(call, time.time())
        async with self._big_body:
            return await asyncio.to_thread(self._service.profile, call, time.time())

    async def on_durable(self, request: ChatRequested, delivery: Delivery) -> None:
        """Profile one durable request; a refused one gets the refusal as its result."""
        if not REQUEST_ID.fullmatch(request.id):
            raise ContractError("`id` must be 1 to 64 of A-Z a-z 0-9 _ -; choose another")
        try:
            asked = call_of(request, delivery.accepted_at)
        except RequestRefused as exc:
            await self._bus.end(request.id, exc)
            return
        tracestate = tracing.tracestate_of(delivery.headers.get(tracing.STATE_HEADER, ""))
        # Nothing came before on this lane, so the later stages' spans hang below this one.
        span = tracing.RequestSpan(
            "profile",
            tracing.traceparent_of(delivery.headers.get(tracing.HEADER, "")),
            tracestate,
            request_id=request.id,
        )
        call = msgspec.structs.replace(asked, traceparent=span.traceparent, tracestate=tracestate)
        try:
            routed = await self._profile(call)
        except LocalforgeError as exc:
            span.end(**{tracing.ERROR_TYPE: exc.code})
            await self._bus.end(call.request_id, exc)
            return
        finally:
            span.end()
        await self._bus.publish_durable(
            subjects.WORK_ROUTE, routed, message_id=self._message_id(request.id)
        )

    def _message_id(self, request_id: str) -> str:
        """Name a request's next message: the same for all profilers, and known to nobody else.

        A second message with the request's id, whatever its own, is the same request.
        """
        keyed = hashlib.blake2b(request_id.encode(), key=self._message_key, digest_size=16)
        return keyed.hexdigest()


def _span(call: ChatCall) -> AbstractContextManager[Any]:
    return tracing.span("profile", call.traceparent, call.tracestate, request_id=call.request_id)
