"""The durable lane: FastStream pull consumers, and how errors become acks.

returns               ack
RetryableError        nack after the error's delay; dead letter when deliveries are used up
PermanentError        dead letter, term
ContractError         dead letter, term
anything else         logged and counted, left to the consumer's back-off; dead letter at last

A dead letter of a request whose id can be read also gives that request its result, an error.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from nats.aio.client import Client
from structlog.contextvars import bind_contextvars, bound_contextvars

from localforge.bus.work import Spent, ids_of, request_id_of, spent_on, stamp
from localforge.contracts.base import Contract
from localforge.contracts.live import DeadLetter
from localforge.contracts.problems import ContractViolation
from localforge.contracts.subjects import Durable, dead
from localforge.errors import ContractError, LocalforgeError, RetryableError
from localforge.telemetry import log, metrics

_log = log.get("bus.durable")

C = TypeVar("C", bound=Contract)
FETCH_BATCH = 64
FETCH_WAIT_S = 5.0
LEAST_DELAY_S = 0.1
GRACE_S = 10
"""For handlers at work when the service stops."""


class Undertaker(Protocol):
    """What becomes of a message that cannot be handled; each call waits for JetStream's ack."""

    async def bury(self, subject: str, letter: DeadLetter, message_id: str) -> None:
        """Store a dead letter."""

    async def end(self, request_id: str, error: LocalforgeError, spent: Spent) -> None:
        """Make an error the one result of a request."""


class Delivery:
    """One delivery of a durable message: what a handler may know and do besides its content."""

    def __init__(self, message: NatsMessage) -> None:
        self._message = message
        raw = message.raw_message
        self._metadata = raw.metadata
        self.headers: dict[str, str] = dict(message.headers)

    @property
    def number(self) -> int:
        """1 for the first delivery."""
        return int(self._metadata.num_delivered or 1)

    @property
    def sequence(self) -> int:
        """Sequence in the stream."""
        return int(self._metadata.sequence.stream)

    @property
    def accepted_at(self) -> float:
        """When the stream took the message, unix time in seconds."""
        return float(self._metadata.timestamp.timestamp())

    @property
    def stamp(self) -> str:
        """The same at every delivery of this message, and of no other."""
        return stamp(self.sequence, self.accepted_at)

    @property
    def subject(self) -> str:
        """The subject it was published to."""
        return str(self._message.raw_message.subject)

    @property
    def message_id(self) -> str:
        """What the publisher told JetStream to recognise repetitions by; may be empty."""
        return self.headers.get("Nats-Msg-Id", "")

    @property
    def body(self) -> bytes:
        """The raw bytes, for a dead letter."""
        return bytes(self._message.body)

    async def in_progress(self) -> None:
        """Tell JetStream that the work goes on, which starts the ack wait anew."""
        await self._message.in_progress()

    async def ack(self) -> None:
        """Done."""
        await self._message.ack()

    async def nack(self, delay_s: float) -> None:
        """Deliver again after a delay in seconds."""
        await self._message.nack(delay=delay_s)

    async def term(self) -> None:
        """Never deliver again."""
        await self._message.reject()


class ClientBroker(NatsBroker):
    """FastStream on a connection that is there already.

    Args:
        client: Connected. Drained by `stop`.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(apply_types=False, logger=None, graceful_timeout=GRACE_S)
        self._client = client

    async def _connect(self) -> Client:
        self.config.connect(self._client)
        return self._client


def subscribe(
    broker: NatsBroker,
    durable: Durable,
    contract: type[C],
    handler: Callable[[C, Delivery], Awaitable[None]],
    *,
    service: str,
    undertaker: Undertaker,
    workers: int,
    inbox: str,
) -> None:
    """Register a handler for one durable consumer; it starts with the broker.

    Args:
        broker: Connected or not.
        durable: Settings, which `localforge provision` has put on the server.
        contract: What the messages are.
        handler: Gets the message and its delivery.
        service: Names the dead-letter subject and the metrics.
        undertaker: Takes what cannot be handled.
        workers: Deliveries handled at the same time. At least the consumer's `max_ack_pending`
            where handlers are slow, so that no fetched message waits unseen.
        inbox: Prefix of the subjects on which deliveries come.
    """

    async def decode(message: NatsMessage) -> Delivery:
        return Delivery(message)

    async def handle(delivery: Delivery) -> None:
        # Every line that is logged meanwhile carries the ids, the handler's own too.
        with bound_contextvars(
            message_id=log.clipped(delivery.message_id), request_id="", decision_id=""
        ):
            await handle_one(delivery)

    async def handle_one(delivery: Delivery) -> None:
        started = time.perf_counter()
        try:
            message = _decode(contract, delivery.body)
            bind_contextvars(**ids_of(message))
            await handler(message, delivery)
            await delivery.ack()
            metrics.DURABLE_HANDLED.labels(service, "ok").inc()
        except asyncio.CancelledError:
            # The service is stopping: somebody else shall have it at once.
            await delivery.nack(0)
            raise
        except RetryableError as exc:
            await _retry_or_bury(durable, delivery, exc, service, undertaker)
        except LocalforgeError as exc:
            await _bury(delivery, exc, exc.message, service, undertaker)
        except Exception:  # noqa: BLE001  # the bus boundary: logged, counted, redelivered
            metrics.DURABLE_HANDLED.labels(service, "crash").inc()
            _log.exception("handler_failed", subject=delivery.subject, delivery=delivery.number)
            if delivery.number >= durable.max_deliver:
                failed = LocalforgeError("the handler failed every time")
                await _bury(delivery, failed, failed.message, service, undertaker)
        finally:
            metrics.DURABLE_SECONDS.labels(service).observe(time.perf_counter() - started)

    decorate: Any = broker.subscriber(
        durable.subject,
        durable=durable.name,
        stream=JStream(durable.stream, declare=False),
        pull_sub=PullSub(batch_size=min(FETCH_BATCH, workers), timeout=FETCH_WAIT_S),
        ack_policy=AckPolicy.MANUAL,
        max_workers=workers,
        decoder=decode,
        no_reply=True,
        inbox_prefix=inbox.encode(),
    )
    decorate(handle)


def _decode(contract: type[C], body: bytes) -> C:
    try:
        return contract.decode(body)
    except ContractViolation as exc:
        raise ContractError(str(exc)) from exc


async def _retry_or_bury(
    durable: Durable,
    delivery: Delivery,
    exc: RetryableError,
    service: str,
    undertaker: Undertaker,
) -> None:
    if delivery.number >= durable.max_deliver:
        reason = f"{exc.message} (gave up after {delivery.number} deliveries)"
        await _bury(delivery, exc, reason, service, undertaker)
        return
    metrics.DURABLE_HANDLED.labels(service, "retry").inc()
    _log.info("retry", code=exc.code, reason=exc.message, delivery=delivery.number)
    step = min(delivery.number, len(durable.backoff_s)) - 1
    wanted = max(exc.retry_after_s, durable.backoff_s[step])
    # The server counts a nack's delay on top of what the back-off adds to the ack wait.
    await delivery.nack(max(LEAST_DELAY_S, wanted - durable.backoff_s[step] + durable.ack_wait_s))


async def _bury(
    delivery: Delivery, error: LocalforgeError, reason: str, service: str, undertaker: Undertaker
) -> None:
    code = error.code
    letter = DeadLetter(
        service=service,
        subject=delivery.subject,
        code=code,
        reason=reason,
        message_id=delivery.message_id,
        deliveries=delivery.number,
        body=delivery.body,
        failed_at=time.time(),
    )
    # Only a buried message may be given up: without the dead letter it would be lost.
    await undertaker.bury(dead(service), letter, f"dead-{service}-{delivery.stamp}")
    if request_id := request_id_of(delivery.subject, delivery.body):
        await undertaker.end(request_id, error, spent_on(delivery.subject, delivery.body))
    await delivery.term()
    metrics.DURABLE_HANDLED.labels(service, "dead").inc()
    _log.warning("dead_letter", subject=delivery.subject, code=code, reason=reason)
