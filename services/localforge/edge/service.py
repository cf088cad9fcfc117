"""The edge's logic, without HTTP and without a broker: requests out, frames in."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import msgspec

from localforge.config import EdgeConfig
from localforge.contracts import subjects
from localforge.contracts.cards import RegistrySnapshot
from localforge.contracts.live import ChatCall, Lane, Operation, Summary, decode_frame
from localforge.contracts.problems import reason_of
from localforge.edge.admission import Admission
from localforge.edge.body import read_chat, read_embeddings
from localforge.edge.catalogue import AUTO
from localforge.edge.dispatch import Dispatch
from localforge.edge.exchange import Exchange
from localforge.edge.ids import new_request_id
from localforge.edge.keys import ApiKey
from localforge.edge.options import Options, read_options
from localforge.edge.watch import HasSnapshot, Watch
from localforge.errors import LocalforgeError
from localforge.telemetry import log, metrics, tracing

_log = log.get("edge")

NO_HEADERS: Mapping[bytes, bytes] = {}
UNKNOWN = "<unknown>"
"""In logs and traces, in the place of a model's name that nothing has: it may be any text."""


class _NoRegistry:
    snapshot = RegistrySnapshot()


class EdgeService:
    """Accepts chat requests and brings every frame to the request it belongs to.

    Args:
        config: Deadline and patience.
        dispatch: The way into the live lane.
        edge_id: Unique per process; part of the reply subjects.
        registry: Says which executors there are; None where nothing is known of them.
        machine: Id of the machine this runs on.
        clock: Unix time in seconds, for the deadline that travels.
        new_id: Makes request ids.
        aliases: Returns the aliases in force; their names may be logged, as models' may.
    """

    def __init__(
        self,
        config: EdgeConfig,
        dispatch: Dispatch,
        edge_id: str,
        registry: HasSnapshot | None = None,
        machine: str = "",
        *,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = new_request_id,
        aliases: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.edge_id = edge_id
        self.new_id = new_id
        self.clock = clock
        self._config = config
        self._dispatch = dispatch
        self._admission = Admission(config.max_in_flight, config.queue_target_s)
        self._pending: dict[str, Exchange] = {}
        self._spans: dict[str, tracing.RequestSpan] = {}
        self._unserved = False
        self._registry = registry or _NoRegistry()
        self._aliases = aliases
        self._watch = Watch(dispatch, edge_id, self._registry, machine, self._on_lost)

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The one that serves; asked for once, since that is a system call."""
        return asyncio.get_running_loop()

    @property
    def in_flight(self) -> int:
        """Requests that are being answered now."""
        return len(self._pending)

    @property
    def served(self) -> bool:
        """False while the last thing heard of the live lane is that nobody serves it."""
        return not self._unserved

    def accept(
        self,
        body: bytes,
        headers: Mapping[bytes, bytes] = NO_HEADERS,
        key: ApiKey | None = None,
        *,
        dry_run: bool = False,
        may_stream: bool = True,
        operation: Operation = Operation.CHAT,
        request_id: str = "",
    ) -> Exchange:
        """Check a chat request and open its exchange; the caller dispatches and closes it.

        Args:
            body: JSON of an OpenAI chat completion request, or of one for embeddings.
            headers: Lower-case names.
            key: The caller's.
            dry_run: Decide and explain, do not run.
            may_stream: False where the caller can only take a whole answer.
            operation: What kind of request it is.
            request_id: Of the request; a new one is made where it has none yet.

        Raises:
            RequestRefused: Something in it is wrong; says what.
            Overloaded: Too many requests are under way.
        """
        chat = read_chat(body) if operation is Operation.CHAT else read_embeddings(body)
        options = read_options(chat, headers, key, self._config.deadline_s)
        stream_options = chat.stream_options
        ticket = self._admission.enter(chat.model, self._loop.time())
        request_id = request_id or self.new_id()
        requested = self._loggable(chat.model)
        call = ChatCall(
            request_id=request_id,
            lane=Lane.LIVE,
            body=body,
            deadline=self.clock() + options.deadline_s,
            model=chat.model,
            stream=may_stream and chat.stream is True,
            include_usage=stream_options is not None and stream_options.include_usage is True,
            preference=options.preference,
            declared_label=options.label,
            minimum_label=key.minimum_label if key else None,
            key_id=key.id if key else "",
            allow_fallback=options.allow_fallback,
            cascade=options.cascade,
            max_cost_usd=options.max_cost_usd,
            max_latency_s=options.max_latency_s,
            provider=options.provider,
            dry_run=dry_run,
            operation=operation,
            traceparent=self._begin_span(request_id, options, requested),
            tracestate=options.tracestate,
            policy=options.policy,
        )
        exchange = Exchange(
            self, call, options.deadline_s, self._config.progress_s, ticket, self._loop, requested
        )
        self._pending[call.request_id] = exchange
        return exchange

    def accept_all(
        self,
        bodies: Sequence[bytes],
        headers: Mapping[bytes, bytes],
        key: ApiKey | None,
        request_id: str,
    ) -> list[Exchange]:
        """Accept several chat requests or none; see `accept`. The first one gets the id."""
        accepted: list[Exchange] = []
        try:
            for number, body in enumerate(bodies):
                own_id = self.new_id() if number else request_id
                accepted.append(self.accept(body, headers, key, request_id=own_id))
        except LocalforgeError:
            for exchange in accepted:
                exchange.close()
            raise
        return accepted

    def on_frame(self, data: bytes) -> None:
        """Take one message from the inbox. Frames nobody waits for are counted and dropped."""
        try:
            frame = decode_frame(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            _log.warning("not_a_frame", reason=reason_of(exc))
            return
        exchange = self._pending.get(frame.request_id)
        if exchange is None:
            metrics.EDGE_FRAMES_IGNORED.inc()
            return
        self._unserved = False
        exchange.on_frame(frame)

    def on_no_responders(self, request_id: str, backend: str = "") -> None:
        """Take the broker's word that nobody serves a hop this request needs.

        Args:
            request_id: Whose.
            backend: Whose executors have all gone; empty when it is another hop.
        """
        exchange = self._pending.get(request_id)
        if exchange is not None:
            self._unserved = not backend
            exchange.on_unserved(backend=backend)

    def on_presence(self, name: str, *, nobody: bool) -> None:
        """Take the broker's word that an executor is gone, or its own that it is there."""
        self._watch.on_answer(name, nobody=nobody)

    def send(self, call: ChatCall) -> None:
        """Dispatch a request with its reply subject."""
        self._dispatch.send(call, subjects.inbox(self.edge_id, call.request_id))

    def cancel(self, request_id: str, decision_id: str, reason: str) -> None:
        """Call a request off; where that fails nobody can be told."""
        metrics.EDGE_CANCELLED.labels(reason).inc()
        try:
            self._dispatch.cancel(request_id)
        except LocalforgeError as exc:
            _log.warning(
                "cancel_failed",
                request_id=request_id,
                decision_id=decision_id,
                reason=exc.message,
            )

    def look_after(self, holder: Summary | None) -> None:
        """See whether the executor of a silent request is still there."""
        self._watch.look_after(holder)

    def retry(self, exchange: Exchange) -> None:
        """Dispatch an exchange again, with the next pass of the event loop."""
        self._loop.call_soon(exchange.dispatch)

    def forget(self, request_id: str) -> None:
        """Take no more frames for a request."""
        exchange = self._pending.pop(request_id, None)
        if exchange is not None:
            exchange.ticket.leave(self._loop.time())
        if span := self._spans.pop(request_id, None):
            span.end(**(exchange.outcome if exchange else {}))

    def close(self) -> None:
        """Ask after nobody any more."""
        self._watch.close()

    def _on_lost(self, backend: str, replica: str) -> None:
        for exchange in tuple(self._pending.values()):
            exchange.on_lost(backend, replica)

    def _loggable(self, model: str) -> str:
        is_known = (
            model == AUTO or model in self._aliases() or model in self._registry.snapshot.cards
        )
        return log.clipped(model) if is_known else UNKNOWN

    def _begin_span(self, request_id: str, options: Options, requested: str) -> str:
        if not tracing.enabled():
            return options.traceparent
        span = tracing.RequestSpan(
            "chat",
            options.traceparent,
            options.tracestate,
            request_id=request_id,
            requested=requested,
        )
        self._spans[request_id] = span
        return span.traceparent
