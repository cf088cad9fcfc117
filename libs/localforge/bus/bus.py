"""One service's connection to everything else."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js.errors import APIError

from localforge.bus import connection
from localforge.bus.facts import FactPublisher
from localforge.bus.refusal import NOTHING, end_with_error
from localforge.bus.wire import (
    MESSAGE_ID,
    NEVER_SENT,
    NO_RESPONDERS,
    NOBODY,
    Wire,
    status_of,
    wire_of,
)
from localforge.bus.work import Spent, ids_of
from localforge.config import NatsConfig
from localforge.contracts import subjects
from localforge.contracts.base import Contract
from localforge.contracts.live import DeadLetter
from localforge.contracts.problems import ContractViolation
from localforge.contracts.subjects import Durable
from localforge.errors import (
    ContractError,
    DependencyUnavailable,
    LocalforgeError,
    RequestRefused,
)
from localforge.telemetry import log

if TYPE_CHECKING:
    from localforge.bus.durable import ClientBroker, Delivery

_log = log.get("bus")

C = TypeVar("C", bound=Contract)
LiveHandler = Callable[[Any, str], None]
Refusal = Callable[[ContractViolation, str], None]
LocalHops = dict[str, LiveHandler]
"""Live subjects served in this process; shared by the services that live in it."""

PUBLISH_TIMEOUT_S = 5.0
RECONNECT_GRACE_S = 5.0
"""In which everybody who was connected has come back to a broker that was away."""
LEAVE_S = 2.0
"""For the broker to say that no more comes; a silent one holds up nobody's stop for longer."""
UNSERVED = ".unserved."


class Bus:
    """Publish, forward and subscribe as one NATS user.

    Args:
        config: Where the broker is.
        user: NATS user, for example `router` or `executor-local-embedded`.
        service: Names dead letters and metrics; the user when empty.
        local: Shared by the services of one process, so that a hop between them is a call.
    """

    def __init__(
        self,
        config: NatsConfig,
        user: str,
        *,
        service: str = "",
        local: LocalHops | None = None,
    ) -> None:
        self.user = user
        self.service = service or user
        self.facts = FactPublisher(user)
        self._url = config.url
        self._patience_s = config.connect_timeout_s
        self._inbox = connection.inbox_prefix(user)
        self._local = local if local is not None else {}
        self._options = connection.options(config, user)
        self._client: Client | None = None
        self._broker: ClientBroker | None = None
        self._wire: Wire
        self._live: dict[str, Subscription] = {}
        self._closing = False
        self._reconnected_at = float("-inf")
        self._last_error = ""

    @property
    def client(self) -> Client:
        """The nats-py client; only after `connect`."""
        assert self._client is not None, "Bus.connect() comes first"
        return self._client

    @property
    def connected(self) -> bool:
        """True while the broker answers."""
        return self._client is not None and self._client.is_connected

    async def connect(self) -> None:
        """Connect and start the fact publisher.

        Raises:
            DependencyUnavailable: Nobody answers at the url in `nats.connect_timeout_s`, or it
                refuses the user.
        """
        try:
            # Reconnects are endless, and to nats-py the first connect is one of them.
            async with asyncio.timeout(self._patience_s):
                self._client = await nats.connect(
                    self._url,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                    **self._options,
                )
        except (NatsError, OSError, TimeoutError) as exc:
            reason = self._last_error or str(exc) or "no answer"
            raise DependencyUnavailable(f"NATS at {_without_secret(self._url)}: {reason}") from exc
        self._wire = wire_of(self._client)
        await self.facts.start(self._client)
        for hop in ("", ".to.*"):
            await self._wire.take(f"{self._inbox}{hop}{UNSERVED}>", self._on_unserved)

    async def start(self) -> None:
        """Start the durable consumers registered with `on_durable`."""
        if self._broker:
            await self._broker.start()

    async def close(self) -> None:
        """Take nothing more, flush the facts, disconnect."""
        if self._client is None:
            return
        # Handlers record facts to their end.
        await self.leave(*self._live)
        await self.finish_durable()
        await self.facts.close()
        self._closing = True
        # A drain needs the broker; without it there is nobody to say goodbye to.
        with suppress(*_AWAY):
            await asyncio.wait_for(self._client.drain(), LEAVE_S)
        await connection.end(self._client)

    def forward(
        self, subject: str, message: Contract, *, reply: str = "", backend: str = ""
    ) -> None:
        """Hand a live message on: a call when this process serves the subject, else a publish.

        When nobody serves the subject, `reply` is told with a message of status 503 that has
        nothing in it but `backend`. The broker tells only the connection that published, so each
        hop names an inbox of its own that ends in `reply`, and passes the word on.

        Raises:
            RequestRefused: The message is larger than the broker takes (413).
            DependencyUnavailable: The broker is away and the buffer for it is full.
        """
        handler = self._local.get(subject)
        if handler is not None:
            handler(message, reply)
            return
        if reply:
            reply = f"{self._inbox}{f'.to.{backend}' if backend else ''}{UNSERVED}{reply}"
        try:
            self._wire.send(subject, message.encode(), reply=reply)
        except MaxPayloadError as exc:
            raise RequestRefused(
                f"the request is larger than the broker takes ({self.client.max_payload} bytes "
                "with what travels beside it); raise its `max_payload`",
                code="body_too_large",
                status=413,
            ) from exc
        except NatsError as exc:
            raise DependencyUnavailable(
                f"the broker did not take the request: {exc}", code="broker_unavailable"
            ) from exc

    def publish(self, subject: str, message: Contract, *, reply: str = "") -> None:
        """Publish on core NATS; nobody promises that it arrives.

        Raises:
            nats.errors.Error: It is larger than the broker takes, or too much waits for it.
        """
        self._wire.send(subject, message.encode(), reply=reply)

    def ask_alive(self, subject: str, reply: str) -> bool:
        """Have `reply` told whether anybody serves `subject`, by itself or by the broker.

        The broker's word that nobody does is an empty message of status 503.

        Returns:
            False when it cannot be asked now.
        """
        try:
            self._wire.send(subject, reply=reply)
        except NatsError:
            return False
        return True

    async def answer_alive(self, subject: str) -> None:
        """Serve a subject to show that this process is there."""

        def answer(_: str, reply: str, __: bytes, ___: bytes) -> None:
            if reply:
                self._wire.send(reply)

        await self._wire.take(subject, answer)
        await self._settle()

    @property
    def can_ask_alive(self) -> bool:
        """False without a broker, and right after a reconnect: others may be on their way back."""
        return self.connected and time.monotonic() - self._reconnected_at > RECONNECT_GRACE_S

    async def publish_durable(self, subject: str, message: Contract, *, message_id: str) -> bool:
        """Publish to a stream and wait for its ack.

        Returns:
            False when the stream already had the message id, or a message on a subject that takes
            only one.

        Raises:
            ContractError: It can never be sent: it is larger than the broker takes, or the subject
                is none.
            DependencyUnavailable: No ack within 5 s, or the stream refuses.
        """
        try:
            ack = await self.client.jetstream().publish(
                subject,
                message.encode(),
                timeout=PUBLISH_TIMEOUT_S,
                headers={MESSAGE_ID: message_id},
            )
        except APIError as exc:
            if exc.err_code == _MAX_PER_SUBJECT:
                return False
            raise DependencyUnavailable(f"JetStream refused {subject}: {exc.description}") from exc
        except NEVER_SENT as exc:
            raise ContractError(f"the message for {subject!r} cannot be sent: {exc}") from exc
        except (NatsError, OSError, TimeoutError) as exc:
            raise DependencyUnavailable(f"JetStream did not take {subject}: {exc}") from exc
        return not ack.duplicate

    async def on_live(
        self,
        subject: str,
        contract: type[C],
        handler: LiveHandler,
        *,
        queue: str = "",
        refuse: Refusal | None = None,
    ) -> None:
        """Serve a live subject; the broker has the subscription when this returns.

        Args:
            subject: Core NATS subject.
            contract: What the messages are; others are logged, counted and dropped.
            handler: Called with the message and the reply subject, one message at a time, while
                the connection is being read: slow work belongs in a task of its own.
            queue: Queue group; empty means every subscriber gets every message.
            refuse: Called with what is wrong with a message and its reply subject.
        """

        def on_message(subject: str, reply: str, data: bytes, _: bytes) -> None:
            try:
                message = contract.decode(data)
            except ContractViolation as exc:
                _log.warning(
                    "not_a_message",
                    subject=subject,
                    request_id=_request_of(reply),
                    reason=str(exc),
                )
                if refuse is not None and reply:
                    refuse(exc, reply)
                return
            try:
                handler(message, reply.partition(UNSERVED)[2] or reply)
            except Exception:  # noqa: BLE001  # one bad message must not end the subscription
                _log.exception("handler_failed", subject=subject, **ids_of(message))

        self._live[subject] = await self._wire.take(subject, on_message, queue=queue)
        await self._settle()
        self._local[subject] = handler

    async def leave(self, *subjects_: str) -> None:
        """Take no more from these live subjects; what has arrived is handed to its handler."""
        leaving = []
        for subject in subjects_:
            self._local.pop(subject, None)
            subscription = self._live.pop(subject, None)
            if subscription is not None:
                leaving.append(asyncio.create_task(self._leave(subscription)))
        if leaving:
            await asyncio.wait(leaving, timeout=LEAVE_S)

    async def _leave(self, subscription: Subscription) -> None:
        with suppress(*_AWAY):
            await self._wire.leave(subscription)

    async def subscribe(self, subject: str, callback: Callable[[str, bytes, bool], None]) -> None:
        """Take raw messages: subject, data, and whether it says that nobody serves a subject."""

        def on_message(found: str, _: str, data: bytes, headers: bytes) -> None:
            nobody = headers != b"" and status_of(headers)[0] == NO_RESPONDERS
            callback(found, data, nobody)

        await self._wire.take(subject, on_message)
        await self._settle()

    def on_durable(
        self,
        consumer: Durable,
        contract: type[C],
        handler: "Callable[[C, Delivery], Awaitable[None]]",
        *,
        workers: int = 64,
    ) -> None:
        """Serve a durable consumer; call after `connect` and before `start`."""
        # FastStream is 14 MiB, which a service without a durable consumer does without.
        from localforge.bus.durable import ClientBroker, subscribe  # noqa: PLC0415

        self._broker = self._broker or ClientBroker(self.client)
        subscribe(
            self._broker,
            consumer,
            contract,
            handler,
            service=self.service,
            undertaker=self,
            workers=workers,
            inbox=f"{connection.inbox_prefix(self.user)}.",
        )

    async def finish_durable(self) -> None:
        """Take no more from the durable consumers, and wait for the handlers at work."""
        subscribers = self._broker.subscribers if self._broker else ()
        with suppress(*_AWAY):
            await asyncio.gather(*(each.stop() for each in subscribers))

    async def bury(self, subject: str, letter: DeadLetter, message_id: str) -> None:
        """Store a dead letter."""
        await self.publish_durable(subject, letter, message_id=message_id)

    async def end(self, request_id: str, error: LocalforgeError, spent: Spent = NOTHING) -> None:
        """Make an error the one result of a durable request."""
        await end_with_error(self, request_id, error, spent)

    async def _settle(self) -> None:
        # A broker that went away meanwhile is told of the subscription when it is back.
        with suppress(NatsError):
            await connection.settle(self.client)

    def _on_unserved(self, subject: str, _: str, __: bytes, ___: bytes) -> None:
        hop, _, reply = subject.partition(UNSERVED)
        backend = hop.removeprefix(self._inbox).removeprefix(".to.")
        self._wire.send(reply, backend.encode(), headers=NOBODY)

    async def _on_error(self, exc: Exception) -> None:
        # While the broker is away nats-py says so four times a second.
        reason = str(exc) or type(exc).__name__
        if reason != self._last_error:
            _log.warning("nats_error", user=self.user, reason=reason)
        self._last_error = reason
        if self._client is None and _REFUSED in reason.lower():
            # nats-py would try again for ever.
            raise exc

    async def _on_disconnected(self) -> None:
        if not self._closing:
            _log.warning("nats_disconnected", user=self.user)

    async def _on_reconnected(self) -> None:
        self._reconnected_at = time.monotonic()
        self._last_error = ""
        _log.info("nats_reconnected", user=self.user)


def _request_of(reply: str) -> str:
    """The request that an edge's inbox is for; other inboxes say nothing about it."""
    inbox = reply.partition(UNSERVED)[2] or reply
    return inbox.rpartition(".")[2] if inbox.startswith(f"{subjects.INBOX_PREFIX}.") else ""


_AWAY = (NatsError, OSError, TimeoutError, RuntimeError)
"""Raised without a broker; a RuntimeError by uvloop, where nats-py writes to a lost connection."""
_REFUSED = "authorization violation"
_MAX_PER_SUBJECT = 10077
"""JetStream: maximum messages per subject exceeded."""


def _without_secret(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if rest else url
