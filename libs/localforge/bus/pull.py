"""Continuous pull from a JetStream consumer, in batches.

For the streams that carry one message or more per request (facts, content to score), where a
fetch, a middleware stack and a task per message would cost more than the work. A message that
comes after a pause is waited for alone; then, every few milliseconds, everything that the server
has meanwhile is fetched at once, so that both sides wake up once for many messages.
Protocol: NATS ADR-37.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

import msgspec
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from localforge.bus.connection import inbox_prefix
from localforge.bus.wire import status_of, wire_of
from localforge.telemetry import log

_log = log.get("bus.pull")

GATHER_S = 0.05
"""Between two fetches, while messages keep coming."""
MAX_BATCH = 512
EXPIRES_S = 30.0
HEARTBEAT_S = 5.0
LOOK_S = 0.5
"""Between two looks at whether the server is still there."""
FAILED_PAUSE_S = 1.0
"""After a handler failed: so that one that always does is no busy loop."""
_counter = itertools.count()


class Pulled(msgspec.Struct, frozen=True, gc=False):
    """One message of a stream."""

    sequence: int
    """In the stream."""
    subject: str
    data: bytes
    pending: int
    """Messages of this consumer still on the server behind this one."""
    consumer_sequence: int
    deliveries: int


class Puller:
    """Keeps one consumer's messages coming and hands them over in batches.

    Args:
        client: Connected.
        user: NATS user, whose inbox takes the messages.
        stream: Stream name.
        consumer: Consumer name; it exists.
        handle: Called with each batch, in order, one at a time. What it raises is logged and ends
            this puller like a silent server does.
        silent: Called, with the reason, when no more will come: the server was not heard of for
            three heartbeats, says that the consumer is gone, or was away and forgot what it was
            asked. The owner stops this one and starts another.
        pace: Called with the stream sequence of the last message while messages keep coming; the
            next fetch waits until it returns.
    """

    def __init__(
        self,
        client: Client,
        user: str,
        stream: str,
        consumer: str,
        handle: Callable[[list[Pulled]], Awaitable[None]],
        silent: Callable[[str], Awaitable[None]],
        *,
        pace: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self._client = client
        self._wire = wire_of(client)
        self._inbox = f"{inbox_prefix(user)}.pull.{next(_counter)}"
        self._request_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._handle = handle
        self._silent = silent
        self._pace = pace
        self._arrived: list[Pulled] = []
        self._wanted = 0
        """Messages of the present fetch that are still to come, at most."""
        self._heard_at = 0.0
        self._fetches = 0
        self._fetched = asyncio.Event()
        self._gone = ""
        self._stopped = False
        self._subscription: Subscription | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Subscribe and ask for the first messages."""
        self._heard_at = time.monotonic()
        self._subscription = await self._wire.take(f"{self._inbox}.*", self._on_message)
        self._tasks = [
            asyncio.create_task(self._deliver(), name=f"pull {self._inbox}"),
            asyncio.create_task(self._watch(), name=f"pull-watch {self._inbox}"),
        ]

    async def stop(self) -> None:
        """Stop; a batch being handled is broken off at its next pause, which is not waited for.

        Stopping twice is stopping once.
        """
        self._stopped = True
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        subscription, self._subscription = self._subscription, None
        if subscription and not self._client.is_closed:
            await self._wire.drop(subscription)

    async def _fetch(self, batch: int, *, wait: bool) -> None:
        """Ask for messages and wait until they are here, or there are none, or all is over."""
        request: dict[str, int | bool] = {"batch": batch}
        if wait:
            request |= {"expires": int(EXPIRES_S * 1e9), "idle_heartbeat": int(HEARTBEAT_S * 1e9)}
        else:
            request["no_wait"] = True
        self._fetches += 1
        self._wanted = batch
        self._fetched.clear()
        # An inbox of its own: the end of one fetch must not be taken for that of the next.
        reply = f"{self._inbox}.{self._fetches}"
        try:
            self._wire.send(self._request_subject, msgspec.json.encode(request), reply=reply)
        except NatsError as exc:
            self._gone = str(exc)
            await asyncio.sleep(FAILED_PAUSE_S)
        if not self._gone:
            await self._fetched.wait()

    def _on_message(self, subject: str, reply: str, data: bytes, headers: bytes) -> None:
        self._heard_at = time.monotonic()
        if not reply:
            self._on_status(subject, headers)
            return
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>;
        # newer servers put domain and account hash before the stream.
        tokens = reply.split(".")
        if len(tokens) > 9:
            tokens = tokens[2:]
        pending = int(tokens[8])
        self._arrived.append(
            Pulled(
                sequence=int(tokens[5]),
                subject=subject,
                data=data,
                pending=pending,
                consumer_sequence=int(tokens[6]),
                deliveries=int(tokens[4]),
            )
        )
        self._wanted -= 1
        if self._wanted <= 0 or pending == 0:
            self._fetched.set()

    def _on_status(self, subject: str, headers: bytes) -> None:
        status, description = status_of(headers)
        if status == "100" or subject != f"{self._inbox}.{self._fetches}":
            return
        if status not in ("404", "408") and "Batch Completed" not in description:
            self._gone = f"{status} {description or 'no responders'}".strip()
        self._fetched.set()

    async def _deliver(self) -> None:
        idle = True
        while not self._stopped:
            await self._fetch(1 if idle else MAX_BATCH, wait=idle)
            batch, self._arrived = self._arrived, []
            idle = not batch
            if batch:
                await self._hand_over(batch)
            if self._gone and not self._stopped:
                reason, self._gone = self._gone, ""
                await self._silent(reason)
            elif batch and not self._stopped:
                if batch[-1].pending == 0:
                    await asyncio.sleep(GATHER_S)
                if self._pace:
                    await self._pace(batch[-1].sequence)

    async def _hand_over(self, batch: list[Pulled]) -> None:
        try:
            await self._handle(batch)
        except Exception:  # noqa: BLE001  # logged; the owner decides where to go on
            _log.exception("batch_failed", first=batch[0].sequence, messages=len(batch))
            await asyncio.sleep(FAILED_PAUSE_S)
            self._gone = self._gone or "the handler failed"

    async def _watch(self) -> None:
        reconnects = self._client.stats["reconnects"]
        while True:
            await asyncio.sleep(LOOK_S)
            if self._client.stats["reconnects"] != reconnects:
                self._gone = "reconnected"
            elif time.monotonic() - self._heard_at > 3 * HEARTBEAT_S and self._client.is_connected:
                self._gone = "no heartbeat"
            else:
                continue
            self._fetched.set()
            return
