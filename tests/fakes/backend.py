"""A fake adapter and a sink that keeps what it gets, for tests of the executor without I/O."""

import asyncio
from typing import Any

import msgspec

from localforge.contracts.cards import Health
from localforge.contracts.chat import Usage
from localforge.contracts.facts import OutcomeObserved
from localforge.contracts.live import EvaluateCall, ExecuteCall
from localforge.errors import RetryableError
from localforge.inference import Completion, Probe, Reply


class FakeAdapter:
    """Answers with `words`, fails with `error`, and waits for `gate` before its last word."""

    def __init__(self, slots: int = 2) -> None:
        self.slots = slots
        self.words = ["one", " two"]
        self.usage: Usage | None = Usage(prompt_tokens=10, completion_tokens=2)
        self.finish_reason = "stop"
        self.error: Exception | None = None
        self.error_after: int = 0
        self.gate: asyncio.Event | None = None
        self.running = 0
        self.most_running = 0
        self.requests: list[Completion] = []
        self.cancelled = 0

    async def start(self) -> None:
        return

    async def close(self) -> None:
        return

    async def probe(self) -> Probe:
        return Probe(health=Health.UP)

    async def complete(self, request: Completion, reply: Reply) -> None:
        self.requests.append(request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self._complete(request, reply)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def _complete(self, request: Completion, reply: Reply) -> None:
        for number, word in enumerate([*self.words, None]):
            if self.error is not None and number == self.error_after:
                raise self.error
            if self.gate is not None and number == max(0, len(self.words) - 1):
                await self.gate.wait()
            if word is None:
                break
            reply.accepted = True
            reply.text.append(word)
            if request.stream:
                reply.note_content()
                await reply.write(b"data: %b\n\n" % word.encode())
        reply.usage = self.usage
        reply.finish_reason = self.finish_reason
        reply.created = 1
        reply.answer = {"choices": msgspec.Raw(b"[]")}


class KeepingSink:
    """Keeps everything an executor says, in order."""

    delivery = 1

    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.outcomes: list[OutcomeObserved] = []
        self.handed_on: list[tuple[ExecuteCall, RetryableError]] = []
        self.evaluations: list[EvaluateCall] = []

    async def _keep(self, frame: Any) -> None:
        self.frames.append(frame)

    accepted = delta = completed = failed = _keep

    async def hand_on(self, call: ExecuteCall, reason: RetryableError) -> None:
        self.handed_on.append((call, reason))

    def outcome(self, fact: OutcomeObserved) -> None:
        self.outcomes.append(fact)

    async def evaluate(self, call: EvaluateCall) -> None:
        self.evaluations.append(call)

    @property
    def kinds(self) -> list[str]:
        return [type(frame).__name__ for frame in self.frames]
