"""Wiring of the sweeper: looks through the work queue, and hears of used-up deliveries."""

import asyncio
import time

from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from localforge.bus.durable import Delivery
from localforge.bus.permissions import SWEEPER
from localforge.bus.work import Spent, request_id_of, spent_on, stamp
from localforge.config import Config
from localforge.contracts import subjects
from localforge.contracts.live import DeadLetter, DeliveriesExhausted
from localforge.errors import ContractError, DependencyUnavailable
from localforge.hosting import Host
from localforge.registry import RegistryView
from localforge.sweeper.service import Backlog, End, HandOn, conclude, exhausted
from localforge.telemetry import log, metrics

_log = log.get("sweeper")

SWEEP_S = 5.0
SETTLED_S = 15.0
"""Younger messages are most likely being handled, and are not looked at."""
STREAM = subjects.REQUESTS.name
EVERYTHING = ">"


def create(host: Host) -> "SweeperApp":
    """Build the sweeper of one process."""
    return SweeperApp(host)


class SweeperApp:
    """Several of them do no harm: a result is taken once, and a deleted message is gone."""

    def __init__(self, host: Host, *, sweep_s: float = SWEEP_S) -> None:
        self._host = host
        self._bus = host.bus(SWEEPER)
        self._configured = _subjects(host.config)
        self._registry: RegistryView
        self._backlog = Backlog()
        self._cursor = 0
        self._sweep_s = sweep_s
        self._is_away = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, hear of used-up deliveries, begin to sweep."""
        self._registry = await self._host.registry()
        await self._bus.connect()
        self._bus.on_durable(subjects.SWEEPER_DURABLE, DeliveriesExhausted, self.on_exhausted)
        await self._bus.start()
        self._task = asyncio.create_task(self._run(), name="sweep")

    async def stop(self) -> None:
        """Disconnect."""
        if self._task:
            self._task.cancel()
        await self._bus.close()

    async def reload(self, config: Config) -> None:
        """Take the changed backends; work for those that are gone is moved by the next sweeps."""
        self._configured = _subjects(config)

    async def on_exhausted(self, advisory: DeliveriesExhausted, _: Delivery) -> None:
        """Bury a message whose deliveries are used up, and end its request."""
        if advisory.stream != STREAM:
            return
        message = await self._get(advisory.stream_seq)
        if message is None:
            return
        error = exhausted(advisory.deliveries)
        subject, body = message.subject or "", message.data or b""
        letter = DeadLetter(
            service=advisory.consumer,
            subject=subject,
            code=error.code,
            reason=error.message,
            message_id=(message.headers or {}).get("Nats-Msg-Id", ""),
            deliveries=advisory.deliveries,
            body=body,
            failed_at=time.time(),
        )
        await self._bus.bury(
            subjects.dead(SWEEPER), letter, f"dead-{advisory.consumer}-{_stamp(message)}"
        )
        request_id = request_id_of(subject, body)
        if request_id:
            await self._bus.end(request_id, error, spent_on(subject, body))
        await self._delete(advisory.stream_seq)
        metrics.SWEPT.labels("dead").inc()
        _log.warning(
            "deliveries_exhausted",
            request_id=request_id,
            consumer=advisory.consumer,
            subject=subject,
            deliveries=advisory.deliveries,
        )

    async def sweep(self, now: float) -> None:
        """Look through the queue once.

        Raises:
            DependencyUnavailable: JetStream does not answer; the next sweep goes on from there.
        """
        await self._read_on(now - SETTLED_S)
        for sequence in self._backlog.due(now, self._is_served):
            try:
                message = await self._get(sequence)
                if message is not None:
                    await self._conclude(sequence, message, now)
            except DependencyUnavailable:
                raise
            except Exception:  # noqa: BLE001  # one message must not hold up all that come after it
                _log.exception("message_not_swept", sequence=sequence)
            else:
                self._backlog.forget(sequence)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_s)
            try:
                await self.sweep(time.time())
            except DependencyUnavailable as exc:
                if not self._is_away:
                    _log.warning("sweep_failed", reason=exc.message)
                self._is_away = True
            except Exception:  # noqa: BLE001  # nobody would sweep any more, and nobody notice
                _log.exception("sweep_failed")
            else:
                self._is_away = False

    async def _read_on(self, until: float) -> None:
        """Note what is new in the queue and was stored before `until`, in its order."""
        while (message := await self._next(self._cursor + 1)) is not None:
            stored_at = message.time.timestamp() if message.time else until
            if stored_at >= until:
                return
            self._cursor = message.seq or self._cursor + 1
            self._backlog.note(self._cursor, message.subject or "", message.data or b"", stored_at)

    async def _conclude(self, sequence: int, message: RawStreamMsg, now: float) -> None:
        ending = conclude(message.subject or "", message.data or b"", now, self._is_served)
        if ending is None:
            return
        if isinstance(ending, HandOn):
            try:
                await self._hand_on(ending, _stamp(message))
            except ContractError as exc:
                # It would be as large, or as wrong, at every sweep.
                ending = End(ending.call.call.request_id, exc)
        if isinstance(ending, End):
            await self._end(ending, spent_on(message.subject or "", message.data or b""))
        metrics.SWEPT.labels("handed_on" if isinstance(ending, HandOn) else "ended").inc()
        await self._delete(sequence)

    async def _hand_on(self, ending: HandOn, stamp: str) -> None:
        await self._bus.publish_durable(
            ending.subject, ending.call, message_id=ending.message_id(stamp)
        )
        _log.info(
            "work_handed_on",
            request_id=ending.call.call.request_id,
            decision_id=ending.call.decision_id,
            to=ending.call.target.model,
        )

    async def _end(self, ending: End, spent: Spent) -> None:
        if ending.request_id:
            await self._bus.end(ending.request_id, ending.error, spent)
        _log.info("work_ended", request_id=ending.request_id, code=ending.error.code)

    def _is_served(self, subject: str) -> bool:
        if subject in self._configured or self._registry.degraded:
            return True
        oldest = time.time() - self._host.config.router.heartbeat_timeout_s
        return any(
            subjects.work_execute(replica.zone, replica.backend) == subject
            and replica.sent_at >= oldest
            for replica in self._registry.snapshot.replicas.values()
        )

    async def _next(self, sequence: int) -> RawStreamMsg | None:
        return await self._read(sequence, EVERYTHING)

    async def _get(self, sequence: int) -> RawStreamMsg | None:
        return await self._read(sequence, None)

    async def _read(self, sequence: int, following: str | None) -> RawStreamMsg | None:
        try:
            return await self._bus.client.jetstream().get_msg(
                STREAM, seq=sequence, subject=following, direct=True, next=following is not None
            )
        except NotFoundError:
            return None
        except (NatsError, OSError, TimeoutError) as exc:
            raise DependencyUnavailable(f"cannot read {STREAM}: {exc}") from exc

    async def _delete(self, sequence: int) -> None:
        try:
            await self._bus.client.jetstream().delete_msg(STREAM, sequence)
        except NotFoundError:
            return
        except (NatsError, OSError, TimeoutError) as exc:
            raise DependencyUnavailable(f"a message of {STREAM} stays: {exc}") from exc


def _subjects(config: Config) -> frozenset[str]:
    return frozenset(subjects.work_execute(b.zone, b.name) for b in config.backends)


def _stamp(message: RawStreamMsg) -> str:
    return stamp(message.seq or 0, message.time.timestamp() if message.time else 0.0)
