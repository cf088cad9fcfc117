"""One service's connection to everything else."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from faststream.nats import NatsBroker, NatsUserPassword
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js.errors import APIError

from localforge.bus import connection, durable
from localforge.bus.durable import Delivery
from localforge.bus.facts import MESSAGE_ID, FactPublisher
from localforge.bus.refusal import NOTHING, end_with_error
from localforge.bus.work import Spent
from localforge.config import NatsConfig
from localforge.contracts import subjects
from localforge.contracts.base import Contract
from localforge.contracts.live import DeadLetter
from localforge.contracts.problems import ContractViolation
from localforge.contracts.subjects import Durable
from localforge.errors import DependencyUnavailable, LocalforgeError, RequestRefused
from localforge.telemetry import log

_log = log.get("bus")

C = TypeVar("C", bound=Contract)
LiveHandler = Callable[[Any, str], Awaitable[None]]
Refusal = Callable[[ContractViolation, str], Awaitable[None]]
LocalHops = dict[str, LiveHandler]
"""Live subjects served in this process; shared by the services that live in it."""

PUBLISH_TIMEOUT_S = 5.0
RECONNECT_GRACE_S = 5.0
"""In which everybody who was connected has come back to a broker that was away."""
NO_RESPONDERS = "503"
UNSERVED = ".unserved."
_NOBODY = {"Status": NO_RESPONDERS}


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
        options = connection.options(config, user)
        password = options.pop("password", None)
        self._broker = NatsBroker(
            config.url,
            security=NatsUserPassword(options.pop("user"), password) if password else None,
            apply_types=False,
            logger=None,
            graceful_timeout=10,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            **options,
        )
        self._client: Client | None = None
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
                self._client = await self._broker.connect()
        except (NatsError, OSError, TimeoutError) as exc:
            reason = self._last_error or str(exc) or "no answer"
            raise DependencyUnavailable(f"NATS at {_without_secret(self._url)}: {reason}") from exc
        await self.facts.start(self._client)
        for hop in ("", ".to.*"):
            await self._client.subscribe(f"{self._inbox}{hop}{UNSERVED}>", cb=self._on_unserved)

    async def start(self) -> None:
        """Start the durable consumers registered with `on_durable`."""
        await self._broker.start()

    async def close(self) -> None:
        """Stop the consumers, flush the facts, disconnect."""
        if self._client is None:
            return
        await self.facts.close()
        self._closing = True
        # A drain needs the broker; without it there is nobody to say goodbye to. uvloop raises a
        # RuntimeError where nats-py writes to a connection that is gone.
        with suppress(NatsError, OSError, TimeoutError, RuntimeError):
            await self._broker.stop()
        await connection.end(self._client)

    async def forward(
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
            await handler(message, reply)
            return
        if reply:
            reply = f"{self._inbox}{f'.to.{backend}' if backend else ''}{UNSERVED}{reply}"
        try:
            await self.client.publish(subject, message.encode(), reply=reply)
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

    async def publish(self, subject: str, message: Contract, *, reply: str = "") -> None:
        """Publish on core NATS; nobody promises that it arrives."""
        await self.client.publish(subject, message.encode(), reply=reply)

    async def ask_alive(self, subject: str, reply: str) -> None:
        """Have `reply` told whether anybody serves `subject`, by itself or by the broker.

        The broker's word that nobody does is an empty message of status 503.
        """
        await self.client.publish(subject, reply=reply)

    async def answer_alive(self, subject: str) -> None:
        """Serve a subject to show that this process is there."""

        async def answer(msg: Msg) -> None:
            if msg.reply:
                await self.client.publish(msg.reply)

        await self.client.subscribe(subject, cb=answer)
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
            handler: Called with the message and the reply subject, one message at a time; slow
                work belongs in a task of its own.
            queue: Queue group; empty means every subscriber gets every message.
            refuse: Called with what is wrong with a message and its reply subject.
        """

        async def on_message(msg: Msg) -> None:
            try:
                message = contract.decode(msg.data)
            except ContractViolation as exc:
                _log.warning(
                    "not_a_message",
                    subject=msg.subject,
                    request_id=_request_of(msg.reply),
                    reason=str(exc),
                )
                if refuse is not None and msg.reply:
                    await refuse(exc, msg.reply)
                return
            try:
                await handler(message, msg.reply.partition(UNSERVED)[2] or msg.reply)
            except Exception:  # noqa: BLE001  # one bad message must not end the subscription
                _log.exception("handler_failed", subject=msg.subject, **durable.ids_of(message))

        self._live[subject] = await self.client.subscribe(subject, queue=queue, cb=on_message)
        await self._settle()
        self._local[subject] = handler

    async def leave(self, *subjects_: str) -> None:
        """Take no more from these live subjects; what has arrived is handed to its handler."""
        for subject in subjects_:
            self._local.pop(subject, None)
            subscription = self._live.pop(subject, None)
            if subscription is not None:
                with suppress(NatsError, OSError, TimeoutError):
                    await subscription.drain()  # type: ignore[no-untyped-call]

    async def subscribe(
        self, subject: str, callback: Callable[[str, bytes, bool], Awaitable[None]]
    ) -> None:
        """Take raw messages: subject, data, and whether it says that nobody serves a subject."""

        async def on_message(msg: Msg) -> None:
            headers = msg.headers
            nobody = headers is not None and headers.get("Status") == NO_RESPONDERS
            await callback(msg.subject, msg.data, nobody)

        await self.client.subscribe(subject, cb=on_message)
        await self._settle()

    def on_durable(
        self,
        consumer: Durable,
        contract: type[C],
        handler: Callable[[C, Delivery], Awaitable[None]],
        *,
        workers: int = 64,
    ) -> None:
        """Serve a durable consumer; call before `start`."""
        durable.subscribe(
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
        with suppress(NatsError, OSError, TimeoutError):
            await asyncio.gather(*(each.stop() for each in self._broker.subscribers))

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

    async def _on_unserved(self, msg: Msg) -> None:
        hop, _, reply = msg.subject.partition(UNSERVED)
        backend = hop.removeprefix(self._inbox).removeprefix(".to.")
        await self.client.publish(reply, backend.encode(), headers=_NOBODY)

    async def _on_error(self, exc: Exception) -> None:
        # While the broker is away nats-py says so four times a second.
        reason = str(exc) or type(exc).__name__
        if reason != self._last_error:
            _log.warning("nats_error", user=self.user, reason=reason)
        self._last_error = reason

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


_MAX_PER_SUBJECT = 10077
"""JetStream: maximum messages per subject exceeded."""


def _without_secret(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if rest else url
