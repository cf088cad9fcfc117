"""Whose request a message is; of one on the work queue, read as leniently as can be.

A message that no handler can take still belongs to somebody who waits for its result.
"""

import re

import msgspec

from localforge.contracts import subjects
from localforge.contracts.base import Contract
from localforge.contracts.chat import ChatRequested, Usage
from localforge.contracts.live import CancelCall, ChatCall, EvaluateCall, ExecuteCall, RouteCall
from localforge.telemetry import log

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What an application may choose as the id of a request."""
_EXECUTE_PREFIX = subjects.work_execute("", "").rstrip(".") + "."


class _Asked(msgspec.Struct):
    id: str


class _Call(msgspec.Struct):
    request_id: str


class _Wrapped(msgspec.Struct):
    call: _Call


def stamp(sequence: int, stored_at: float) -> str:
    """Return what tells one stored message from all others, and nobody can know beforehand.

    Ids of messages that come of it end so: one that could be told from the request alone might be
    taken by somebody else first, and the stream would drop the message.

    Args:
        sequence: In its stream.
        stored_at: Unix time in seconds.
    """
    return f"{sequence}-{int(stored_at * 1000)}"


class Spent(msgspec.Struct, frozen=True):
    """What the attempts at a request have cost so far."""

    spent_usd: float = 0.0
    spent_usage: Usage = Usage()


_asked = msgspec.json.Decoder(_Asked)
_wrapped = msgspec.msgpack.Decoder(_Wrapped)
_spent = msgspec.msgpack.Decoder(Spent)


def is_execute(subject: str) -> bool:
    """Tell whether a subject of the durable lane is some backend's."""
    return subject.startswith(_EXECUTE_PREFIX)


def spent_on(subject: str, body: bytes) -> Spent:
    """Return what a message of the work queue has on its account; nothing if it cannot be read."""
    if not is_execute(subject):
        return Spent()
    try:
        return _spent.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Spent()


def request_id_of(subject: str, body: bytes) -> str:
    """Return the id under which a result is waited for; empty when there is none to be read.

    Args:
        subject: Of the message in the work queue.
        body: The message, whatever it is.
    """
    try:
        if subject == subjects.REQUEST_CHAT:
            found = _asked.decode(body).id
        elif subject == subjects.WORK_ROUTE or is_execute(subject):
            found = _wrapped.decode(body).call.request_id
        else:
            return ""
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return found if REQUEST_ID.fullmatch(found) else ""


def ids_of(message: Contract) -> dict[str, str]:
    """Return the ids that every log line about a message carries."""
    if isinstance(message, ChatRequested):
        return {"request_id": log.clipped(message.id)}
    if isinstance(message, ChatCall | CancelCall):
        return {"request_id": message.request_id}
    if isinstance(message, RouteCall):
        return {"request_id": message.call.request_id}
    if isinstance(message, ExecuteCall):
        return {"request_id": message.call.request_id, "decision_id": message.decision_id}
    if isinstance(message, EvaluateCall):
        return {"request_id": message.request_id, "decision_id": message.decision_id}
    return {}
