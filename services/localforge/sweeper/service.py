"""Which waiting work nobody will finish, and how it ends. No broker here."""

from collections.abc import Callable

import msgspec

from localforge.bus.work import is_execute, request_id_of
from localforge.contracts import subjects
from localforge.contracts.chat import ChatRequested
from localforge.contracts.live import ExecuteCall, RouteCall
from localforge.contracts.problems import ContractViolation
from localforge.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    LocalforgeError,
    PermanentError,
)

LATE_S = 30.0
"""After the deadline: whoever works on it has said so by then."""
ORPHAN_S = 15.0
"""A backend is missed for this long first: its executor may be finishing what it had."""

IsServed = Callable[[str], bool]
"""Tells whether a backend's subject is configured, or has a live executor."""


class Waiting(msgspec.Struct):
    """One message of the work queue, without its content."""

    subject: str
    deadline: float
    """Unix time in seconds."""


class HandOn(msgspec.Struct, frozen=True):
    """Give the request to the next target of its plan."""

    call: ExecuteCall

    @property
    def subject(self) -> str:
        """Where the target's executors take durable work."""
        return subjects.work_execute(self.call.target.zone, self.call.target.backend)

    def message_id(self, stamp: str) -> str:
        """Return the id that an executor would have handed it on under.

        Args:
            stamp: Of the message that is ended.
        """
        return f"{self.call.call.request_id}.execute.{self.call.step}.{stamp}"


class End(msgspec.Struct, frozen=True):
    """Make an error the request's result; an empty request id has nobody to tell."""

    request_id: str
    error: LocalforgeError


class Backlog:
    """What waits in the work queue, by its sequence in the stream.

    Each message is noted once, when it has waited for a while; what was finished since then is
    found to be gone when its turn comes.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, Waiting] = {}
        self._missed_since: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def note(self, sequence: int, subject: str, body: bytes, stored_at: float) -> None:
        """Note one message; what has no deadline to be read is left to its own consumer."""
        deadline = _deadline(subject, body, stored_at)
        if deadline is not None:
            self._waiting[sequence] = Waiting(subject, deadline)

    def forget(self, sequence: int) -> None:
        """Drop a message that is gone or has been ended."""
        self._waiting.pop(sequence, None)

    def due(self, now: float, is_served: IsServed) -> list[int]:
        """Return what nobody will finish: past its deadline, or for a backend that is gone."""
        gone = self._gone(now, is_served)
        return [
            sequence
            for sequence, waiting in self._waiting.items()
            if now > waiting.deadline + LATE_S or waiting.subject in gone
        ]

    def _gone(self, now: float, is_served: IsServed) -> set[str]:
        used = {w.subject for w in self._waiting.values() if is_execute(w.subject)}
        missed = {subject for subject in used if not is_served(subject)}
        self._missed_since = {s: self._missed_since.get(s, now) for s in missed}
        return {s for s, since in self._missed_since.items() if now - since >= ORPHAN_S}


def conclude(subject: str, body: bytes, now: float, is_served: IsServed) -> HandOn | End | None:
    """Decide how one piece of waiting work ends; None when it is better left alone.

    Args:
        subject: It waits on.
        body: The message.
        now: Unix time in seconds.
        is_served: Whether a backend of the plan may still take it.
    """
    request_id = request_id_of(subject, body)
    if not is_execute(subject):
        return End(request_id, _too_late())
    try:
        call = ExecuteCall.decode(body)
    except ContractViolation:
        return None
    if not 0 <= call.step < len(call.plan):
        # Any executor may publish one; its own consumer would refuse it too.
        return End(request_id, _wrong_step(call))
    if now > call.call.deadline:
        return End(request_id, _too_late())
    if call.call.allow_fallback:
        for step in range(call.step + 1, len(call.plan)):
            target = call.plan[step]
            if is_served(subjects.work_execute(target.zone, target.backend)):
                following = msgspec.structs.replace(call, step=step, deliveries=0, not_before=0.0)
                return HandOn(following)
    return End(
        request_id,
        BackendUnavailable(
            f"the backend `{subject.rpartition('.')[2]}` was removed before it answered, and no "
            "other model of the plan is left; send the request again under another id",
            code="backend_removed",
        ),
    )


def exhausted(deliveries: int) -> LocalforgeError:
    """Return the error of a request whose handler died on it every time."""
    return LocalforgeError(
        f"the request could not be handled: {deliveries} deliveries ended without a word",
        code="undeliverable",
    )


def _deadline(subject: str, body: bytes, stored_at: float) -> float | None:
    try:
        if subject == subjects.REQUEST_CHAT:
            return stored_at + ChatRequested.decode(body).deadline_s
        if subject == subjects.WORK_ROUTE:
            return RouteCall.decode(body).call.deadline
        if is_execute(subject):
            return ExecuteCall.decode(body).call.deadline
    except ContractViolation:
        # Its consumer will say so in a dead letter.
        return None
    return None


def _wrong_step(call: ExecuteCall) -> PermanentError:
    return PermanentError(
        f"step {call.step} of a plan with {len(call.plan)} steps; send the request again under "
        "another id",
        code="wrong_step",
    )


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "the request's deadline passed before anybody could answer it; allow more time with "
        "`deadline_s`, or see whether a part of LocalForge is away"
    )
