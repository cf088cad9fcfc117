"""Publish facts to JetStream without making a request wait for the ack.

Facts are buffered up to a bound and published in the background; each is kept until JetStream has
acknowledged it and is published again when the ack does not come, at times without need.

What must not be there twice has a message id, by which the stream drops what it already has. The
broker holds each id in memory for as long as it compares, so that others have none: learners know
them by the id inside, and audits are given a decision once. Whoever may publish to the stream could
take another's message id first, and the stream would drop the fact; so ids begin with what nobody
else can know.
"""

import asyncio
import collections
import itertools
import secrets
import time
from contextlib import suppress

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError

from localforge.bus.connection import inbox_prefix
from localforge.bus.wire import NEVER_SENT, Wire, message_id, wire_of
from localforge.contracts.base import Contract
from localforge.contracts.live import FactsDelayed
from localforge.contracts.subjects import status
from localforge.telemetry import log, metrics

_log = log.get("bus.facts")

MAX_BUFFERED = 50_000
MAX_IN_FLIGHT = 1024
ACK_TIMEOUT_S = 5.0
GATHER_S = 0.025
"""Facts are gathered for this long: one write, and acks that come together."""
RETRY_PAUSE_S = 0.25
TELL_EVERY_S = 2.0
"""While facts are delayed the edges are told, for their readiness."""


class Fact(msgspec.Struct, gc=False):
    """One message on its way to the stream."""

    subject: str
    data: bytes
    message_id: str
    """Empty for none."""
    sent_at: float = 0.0


class FactPublisher:
    """A bounded buffer of facts and the task that publishes them.

    Args:
        user: NATS user, whose inbox takes the acks and which tells of delays.
        max_buffered: Facts held while JetStream is away; more are dropped and counted.
    """

    def __init__(self, user: str, *, max_buffered: int = MAX_BUFFERED) -> None:
        self._user = user
        self._ack_prefix = f"{inbox_prefix(user)}.facts"
        self._max_buffered = max_buffered
        self._waiting: collections.deque[Fact] = collections.deque()
        self._in_flight: dict[str, Fact] = {}
        self._refused: list[Fact] = []
        self._tokens = itertools.count()
        self._secret = secrets.token_urlsafe(8)
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._wire: Wire | None = None
        self._failing_since = 0.0
        self.dropped = 0
        metrics.FACTS_PENDING.labels(user).set_function(lambda: self.pending)

    @property
    def pending(self) -> int:
        """Facts that JetStream has not acknowledged yet."""
        return len(self._waiting) + len(self._in_flight) + len(self._refused)

    def record(self, subject: str, message: Contract, *, message_id: str = "") -> None:
        """Take one fact; returns at once.

        Args:
            subject: Of the stream.
            message: The fact.
            message_id: What the stream knows a repetition by; empty where readers see to that.
        """
        if self.pending >= self._max_buffered:
            self.dropped += 1
            metrics.FACTS_DROPPED.inc()
            return
        stamped = f"{self._secret}.{message_id}" if message_id else ""
        self._waiting.append(Fact(subject, message.encode(), stamped))
        self._wake.set()

    async def start(self, client: Client) -> None:
        """Begin to publish over a connected client."""
        self._wire = wire_of(client)
        await self._wire.take(f"{self._ack_prefix}.*", self._on_ack)
        self._task = asyncio.create_task(self._run(), name="facts")

    async def close(self, grace_s: float = 5.0) -> None:
        """Wait up to `grace_s` for the outstanding acks, then stop."""
        end = time.monotonic() + grace_s
        while self.pending and time.monotonic() < end:
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), max(0.01, end - time.monotonic()))
            except TimeoutError:
                break
        if self.pending:
            _log.error("facts_lost_at_shutdown", count=self.pending)
        for task in (self._task, self._telling):
            if task:
                task.cancel()

    async def _run(self) -> None:
        while True:
            if not self._waiting and not self._in_flight:
                await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            self._wake.clear()
            try:
                self._publish_waiting()
            except (NatsError, OSError) as exc:
                self._fail(str(exc))
                await asyncio.sleep(RETRY_PAUSE_S)
            await self._wait_for_work()
            self._requeue_overdue()

    def _publish_waiting(self) -> None:
        assert self._wire is not None
        now = time.monotonic()
        while self._waiting and len(self._in_flight) < MAX_IN_FLIGHT:
            fact = self._waiting[0]
            token = str(next(self._tokens))
            try:
                self._wire.send(
                    fact.subject,
                    fact.data,
                    reply=f"{self._ack_prefix}.{token}",
                    headers=message_id(fact.message_id) if fact.message_id else b"",
                )
            except NEVER_SENT as exc:
                # Kept, it would hold up all that come after it.
                self._drop(self._waiting.popleft(), exc)
                continue
            self._waiting.popleft()
            fact.sent_at = now
            self._in_flight[token] = fact

    def _drop(self, fact: Fact, reason: NatsError) -> None:
        self.dropped += 1
        metrics.FACTS_DROPPED.inc()
        _log.error("fact_not_sendable", subject=fact.subject, reason=type(reason).__name__)

    async def _wait_for_work(self) -> None:
        """Sleep until there is something to publish, or the oldest ack is overdue."""
        if self._waiting and len(self._in_flight) < MAX_IN_FLIGHT:
            return
        waker = self._wake if len(self._in_flight) < MAX_IN_FLIGHT else self._room
        self._room.clear()
        if not self._in_flight:
            return
        oldest = next(iter(self._in_flight.values())).sent_at
        patience = max(0.01, oldest + ACK_TIMEOUT_S - time.monotonic())
        try:
            await asyncio.wait_for(waker.wait(), patience)
        except TimeoutError:
            return

    def _requeue_overdue(self) -> None:
        limit = time.monotonic() - ACK_TIMEOUT_S
        overdue = [t for t, fact in self._in_flight.items() if fact.sent_at <= limit]
        if overdue:
            self._fail(f"{len(overdue)} facts not acknowledged within {ACK_TIMEOUT_S:g} s")
        for token in reversed(overdue):
            self._waiting.appendleft(self._in_flight.pop(token))

    def _on_ack(self, subject: str, _: str, data: bytes, __: bytes) -> None:
        token = subject.rpartition(".")[2]
        fact = self._in_flight.pop(token, None)
        self._room.set()
        if fact is None:
            return
        # A PubAck is `{"stream":…,"seq":…}`; anything else is an error or a 503 with no body.
        if data and b'"error"' not in data:
            self._failing_since = 0.0
            return
        self._fail(data.decode(errors="replace")[:200] or "no JetStream to take it")
        if not self._refused:
            asyncio.get_running_loop().call_later(RETRY_PAUSE_S, self._take_back)
        self._refused.append(fact)

    def _take_back(self) -> None:
        self._waiting.extend(self._refused)
        self._refused.clear()
        self._wake.set()

    def _fail(self, reason: str) -> None:
        if not self._failing_since:
            self._failing_since = time.monotonic()
            _log.warning("facts_delayed", reason=reason, pending=self.pending)
            # While the stream takes some and refuses others, the last word is still being told.
            if self._telling is None or self._telling.done():
                self._telling = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        assert self._wire is not None
        while self._failing_since:
            delayed = FactsDelayed(service=self._user, pending=self.pending, dropped=self.dropped)
            with suppress(NatsError):
                if self._wire.is_connected:
                    self._wire.send(status(self._user), delayed.encode())
            await asyncio.sleep(TELL_EVERY_S)
