"""A live lane in memory for the edge: what it sends is recorded, what comes back is scripted."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from localforge.contracts.chat import ApiError
from localforge.contracts.facts import Candidate, DecisionMade, Exclusion
from localforge.contracts.live import ChatCall, Completed, Delta, Failed, Frame, Summary
from localforge.contracts.trust import Label
from localforge.edge.service import EdgeService

CHAT = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
BODY = msgspec.json.encode(CHAT)


class Lane:
    """Profiler, router and executor in one: answers a call with the frames of `script`."""

    def __init__(self) -> None:
        self.sent: list[ChatCall] = []
        self.replies: list[str] = []
        self.cancelled: list[str] = []
        self.asked_alive: list[str] = []
        self.script: Callable[[Lane, ChatCall], Awaitable[None] | None] = whole
        self.refusal: Exception | None = None
        self.service: EdgeService
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, call: ChatCall, reply: str) -> None:
        self.sent.append(call)
        self.replies.append(reply)
        if self.refusal:
            raise self.refusal
        work = self.script(self, call)
        if work is not None:
            task = asyncio.ensure_future(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def cancel(self, request_id: str) -> None:
        self.cancelled.append(request_id)

    can_ask_alive = True

    def ask_alive(self, subject: str, reply: str) -> bool:
        self.asked_alive.append(subject)
        return True

    def emit(self, frame: Frame) -> None:
        self.service.on_frame(frame.encode())


def summary(call: ChatCall, **changes: Any) -> Summary:
    values = {
        "decision_id": call.request_id,
        "model": "tiny",
        "zone": "local",
        "cost_usd": 0.00012,
        "upstream_s": 0.0,
    }
    return Summary(**values | changes)


def completion(call: ChatCall, text: str = "hi there") -> bytes:
    return msgspec.json.encode(
        {
            "id": f"chatcmpl-{call.request_id}",
            "object": "chat.completion",
            "created": 1,
            "model": "tiny",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
    )


def chunk(call: ChatCall, text: str, finish: str | None = None) -> bytes:
    event = {
        "id": f"chatcmpl-{call.request_id}",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "tiny",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
    }
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def delta(call: ChatCall, text: str, *, first: bool = False) -> Delta:
    return Delta(
        request_id=call.request_id,
        attempt=call.attempt,
        data=chunk(call, text),
        summary=summary(call) if first else None,
    )


def completed(call: ChatCall, *, body: bytes = b"", data: bytes = b"") -> Completed:
    return Completed(
        request_id=call.request_id,
        attempt=call.attempt,
        summary=summary(call),
        body=body,
        data=data,
    )


def failed(call: ChatCall, status: int = 502, **changes: Any) -> Failed:
    error = ApiError(message="the model is on fire", type="api_error", code="backend_unavailable")
    return Failed(
        request_id=call.request_id, attempt=call.attempt, status=status, error=error, **changes
    )


def whole(lane: Lane, call: ChatCall) -> None:
    """Answer at once, streamed when that was asked for."""
    if not call.stream:
        lane.emit(completed(call, body=completion(call)))
        return
    lane.emit(delta(call, "hi", first=True))
    lane.emit(delta(call, " there"))
    lane.emit(completed(call, data=chunk(call, "", "stop") + b"data: [DONE]\n\n"))


def silent(lane: Lane, call: ChatCall) -> None:
    """Never answer."""


def decided(decision_id: str, **changes: Any) -> DecisionMade:
    made = DecisionMade(
        decision_id=decision_id,
        request_id=decision_id,
        made_at=1.0,
        lane="live",
        policy="igw.v1",
        policy_hash="h",
        state_sequence=4,
        registry_version=2,
        feature_schema="f1",
        features=b"\x00" * 8,
        prompt_tokens=9,
        label=Label.CONFIDENTIAL,
        zones=("local",),
        requested_model="auto",
        preference="balanced",
        cost_weight=20,
        latency_weight=0.003,
        explore=True,
        seed=0,
        candidates=(
            Candidate(
                model="tiny", backend="b", zone="local", price_in=0, price_out=0, probability=1
            ),
        ),
        exclusions=(Exclusion(model="big", reason="zone", detail="eu is not allowed"),),
        chosen="tiny",
        propensity=1.0,
        plan=("tiny",),
    )
    return msgspec.structs.replace(made, **changes)
