"""One attempt at one target: its clock, its signs of life, and the frames and facts it makes."""

import asyncio
import time
from collections.abc import Callable

import msgspec

from localforge.contracts.chat import Usage
from localforge.contracts.facts import OutcomeObserved
from localforge.contracts.live import (
    Accepted,
    Completed,
    Delta,
    EvaluateCall,
    ExecuteCall,
    Failed,
    Lane,
    Operation,
    Summary,
)
from localforge.contracts.trust import LOCAL_ZONE
from localforge.errors import DependencyUnavailable, LocalforgeError
from localforge.executor.cascade import failed_before, is_held, is_second_ask
from localforge.executor.pacing import FramePacer
from localforge.executor.resample import repeats, resampled
from localforge.executor.sink import Sink
from localforge.inference import Completion, Reply
from localforge.inference.answers import render_answer
from localforge.inference.chunks import closing_events
from localforge.inference.failures import code_or
from localforge.inference.usage import cost_usd, settle_usage
from localforge.telemetry import log

ACCEPTED_AFTER_S = 0.2
"""Silence before the first sign of life; shorter answers need none."""
PROGRESS_EVERY_S = 2.0
"""Silence before each later one; well under the edge's `progress_s`."""
TIMER_SLACK_S = 0.001
"""The loop's timers may fire a little early."""
MAX_EVALUATED_BYTES = 256 * 1024
"""Larger requests and answers are not scored: no score is no update, and streams stay small."""

_log = log.get("executor")


class Attempt:
    """What is known of one attempt while it runs and when it has ended.

    Args:
        call: The request; its `step` names the target.
        sink: Where frames go.
        replica: Name of this process.
        loop: The running one.
        retry: How many attempts at this target there were before.
        tried: Names of the backend's servers that have failed the request.
        resample: A second ask may differ from the caller's request, so that its answer may.
    """

    def __init__(
        self,
        call: ExecuteCall,
        sink: Sink,
        replica: str,
        loop: asyncio.AbstractEventLoop,
        retry: int = 0,
        tried: frozenset[str] = frozenset(),
        *,
        resample: bool = True,
    ) -> None:
        self.call = call
        self.retry = retry
        self.chat = call.call
        self.target = call.target
        self.run_id = f"{call.decision_id}.{call.step}"
        """Id of the step of the plan, which all its attempts share."""
        is_second = is_second_ask(call)
        self.is_resampled = resample and is_second
        """It asks otherwise than the caller did."""
        body = resampled(self.chat.body) if self.is_resampled else self.chat.body
        self.is_repeat = is_second and repeats(self.chat.body, body)
        """The model must say the same again, so that its saying so tells nothing."""
        # What may not be delivered must be whole before anything of it goes out.
        streams = self.chat.stream and not is_held(call)
        self._pacer = FramePacer(self._send) if streams else None
        self.reply = Reply(self._pacer.write if self._pacer else _nothing_streams)
        self.completion = Completion(
            completion_id=f"chatcmpl-{call.decision_id}",
            model=self.target.model,
            upstream=self.target.upstream,
            body=body,
            stream=streams,
            include_usage=self.chat.include_usage,
            tried=tried,
            deadline=self.chat.deadline,
        )
        self._sink = sink
        self._replica = replica
        self._loop = loop
        self._arrived = time.monotonic()
        self._began = 0.0
        self._ended = 0.0
        self.usage = Usage()
        """What it used, counted or estimated; known when it has ended."""
        self.cost_usd = 0.0
        """What it cost; likewise."""
        self.finish_reason = ""
        """As a code; likewise."""
        self._spoke_at = loop.time()
        self._patience_s = ACCEPTED_AFTER_S
        self._deltas = 0
        self._queue_position = 0
        self._until = 0.0
        self._give_up: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sign: asyncio.Task[None] | None = None

    def outcome_id(self, status: str) -> str:
        """Return the id of its outcome: that of the step, and what tells it from other attempts.

        On the durable lane an answer has the same id at whatever delivery: one that was stored, but
        whose delivery comes again because nobody heard of it, is not counted twice.
        """
        if status == "ok" and self.chat.lane is Lane.DURABLE:
            return f"{self.run_id}-ok"
        retry = f"-{self.retry}" if self.retry else ""
        delivery = self._sink.delivery
        return self.run_id + retry + (f"-d{delivery}" if delivery > 1 else "")

    def again(self, *, resample: bool = True) -> "Attempt":
        """Return the next attempt at the same target, with what this one has cost."""
        call = msgspec.structs.replace(
            self.call, spent_usd=self.spent_usd(), spent_usage=self.spent_usage()
        )
        tried = self.completion.tried | {self.reply.server}
        resample = resample and self.is_resampled
        return Attempt(
            call,
            self._sink,
            self._replica,
            self._loop,
            self.retry + 1,
            tried,
            resample=resample,
        )

    def wait(self, queue_position: int, time_left_s: float, give_up: Callable[[], None]) -> None:
        """Begin to give signs of life, whenever nothing else was said for a while.

        Args:
            queue_position: How many are before it.
            time_left_s: Until its deadline.
            give_up: Called then, unless it has ended.
        """
        self._queue_position = queue_position
        now = self._loop.time()
        self._until = now + time_left_s
        self._give_up = give_up
        self._set_timer(now, self._spoke_at + self._patience_s)

    def begin(self) -> None:
        """Note that it has its slot."""
        self._began = time.monotonic()

    def end(self) -> None:
        """Note that it is over; no more signs of life, and nothing more goes out by itself."""
        self._ended = time.monotonic()
        if self._pacer is not None:
            self._pacer.stop()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._give_up = None
        reply = self.reply
        self.usage = settle_usage(reply, self.call.prompt_tokens)
        told = reply.cost_usd
        by_tokens = cost_usd(self.usage, self.target) if told is None else told
        self.cost_usd = reply.time_usd + by_tokens
        self.finish_reason = code_or("other", reply.finish_reason)

    async def settle_stream(self, *, flush: bool) -> None:
        """Wait for what is on its way to the caller.

        Args:
            flush: Send what is held too. Else it goes with the last frame, from `completed`.
        """
        if self._pacer is None:
            return
        if flush:
            await self._pacer.flush()
        else:
            await self._pacer.sent()

    def spent_usd(self) -> float:
        """Return what this attempt and all before it cost, in US dollars."""
        return self.call.spent_usd + self.cost_usd

    def spent_usage(self) -> Usage:
        """Return the tokens of this attempt and all before it."""
        return self.call.spent_usage.plus(self.usage)

    def summary(self, *, ended: bool = False, prompt: Usage | None = None) -> Summary:
        """Return what the client is told.

        Args:
            ended: This attempt's cost and usage are known; else they are those before it.
            prompt: What is known of the prompt's tokens before the answer has ended.
        """
        until = self.reply.first_content_at or self._ended or time.monotonic()
        return Summary(
            decision_id=self.call.decision_id,
            model=self.target.model,
            zone=self.target.zone,
            backend=self.target.backend,
            replica=self._replica,
            fallbacks=failed_before(self.call),
            cost_usd=self.spent_usd() if ended else self.call.spent_usd,
            used=self.spent_usage() if ended else None,
            upstream_s=until - self._began if self._began else 0.0,
            prompt=prompt,
        )

    def completed(self) -> Completed:
        """Return the last frame of a whole answer."""
        pacer = self._pacer
        return Completed(
            request_id=self.chat.request_id,
            attempt=self.chat.attempt,
            summary=self.summary(ended=True),
            body=render_answer(self.reply, self.usage) if pacer is None else b"",
            data=(
                pacer.close() + closing_events(self.completion, self.reply, self.usage)
                if pacer is not None
                else b""
            ),
            deltas=self._deltas,
            usage=self.usage,
        )

    def failed(self, error: LocalforgeError) -> Failed:
        """Return the last frame of an answer that will not come, or not wholly."""
        return Failed(
            request_id=self.chat.request_id,
            attempt=self.chat.attempt,
            status=error.status,
            error=error.as_api_error(),
            retry_after_s=error.retry_after_s,
            summary=self.summary(ended=True),
        )

    async def tell_stopped(self) -> None:
        """End a stream that has begun; what has no content yet, its edge gives to another."""
        if self.completion.stream and self.reply.started:
            error = DependencyUnavailable(
                "LocalForge, or this model's part of it, is shutting down in the middle of the "
                "answer; send the request again",
                code="shutting_down",
            )
            await self.settle_stream(flush=True)
            await self._sink.failed(self.failed(error))

    def outcome(self, status: str, observed_at: float, error_code: str = "") -> OutcomeObserved:
        """Return the fact; `status` is `ok`, `error` or `cancelled`."""
        began, ended = self._began, self._ended
        first = self.reply.first_content_at
        return OutcomeObserved(
            outcome_id=self.outcome_id(status),
            decision_id=self.call.decision_id,
            request_id=self.chat.request_id,
            model=self.target.model,
            backend=self.target.backend,
            zone=self.target.zone,
            replica=f"{self._replica}/{self.reply.server}".rstrip("/"),
            status=status,
            finish_reason=self.finish_reason,
            error_code=error_code,
            usage=self.usage,
            cost_usd=self.cost_usd,
            queue_s=(began or ended) - self._arrived,
            first_token_s=first - began if first else 0.0,
            total_s=ended - began if began else 0.0,
            streamed=self.completion.stream,
            domain=self.call.domain,
            counted_tokens=self.call.prompt_tokens,
            max_tokens=self.call.max_tokens,
            observed_at=observed_at,
            key_id=self.chat.key_id,
            forecasts=self.call.forecasts,
            seal=None if self.target.zone == LOCAL_ZONE else self.call.seal,
        )

    def text(self) -> str:
        """Return the first choice's content."""
        return "".join(self.reply.text)

    def evaluation(self) -> EvaluateCall | None:
        """Return the answer to be scored; None when there is too much of it, or it is vectors."""
        if self.chat.operation is not Operation.CHAT:
            return None
        answer = self.text()
        if len(self.chat.body) + len(answer) > MAX_EVALUATED_BYTES:
            return None
        return EvaluateCall(
            decision_id=self.call.decision_id,
            request_id=self.chat.request_id,
            model=self.target.model,
            body=self.chat.body,
            answer=answer,
            finish_reason=self.finish_reason,
            tool_calls=self.reply.tool_calls,
            propensity=self.call.propensity,
            traceparent=self.chat.traceparent,
            tracestate=self.chat.tracestate,
        )

    def _prompt(self) -> Usage:
        told = self.reply.prompt
        return told or Usage(prompt_tokens=self.call.prompt_tokens, estimated=True)

    async def _send(self, data: bytes) -> None:
        summary = None if self._deltas else self.summary(prompt=self._prompt())
        self._deltas += 1
        self._spoke_at = self._loop.time()
        await self._sink.delta(
            Delta(
                request_id=self.chat.request_id,
                attempt=self.chat.attempt,
                data=data,
                summary=summary,
                number=self._deltas,
            )
        )

    def _set_timer(self, now: float, due: float) -> None:
        self._timer = self._loop.call_later(min(due, self._until) - now, self._on_timer)

    def _on_timer(self) -> None:
        now = self._loop.time()
        if now + TIMER_SLACK_S >= self._until:
            self._timer = None
            if self._give_up is not None:
                self._give_up()
            return
        due = self._spoke_at + self._patience_s
        if now + TIMER_SLACK_S >= due:
            self._patience_s = PROGRESS_EVERY_S
            self._spoke_at = now
            self._sign = self._loop.create_task(self._give_sign())
            due = now + PROGRESS_EVERY_S
        self._set_timer(now, due)

    async def _give_sign(self) -> None:
        if self._ended:  # between the timer and its task
            return
        frame = Accepted(
            request_id=self.chat.request_id,
            attempt=self.chat.attempt,
            summary=self.summary(),
            queue_position=0 if self._began else self._queue_position,
        )
        try:
            await self._sink.accepted(frame)
        except Exception as exc:  # noqa: BLE001  # the answer itself will meet the same trouble
            _log.warning(
                "sign_of_life_lost",
                request_id=self.chat.request_id,
                decision_id=self.call.decision_id,
                reason=type(exc).__name__,
            )


async def _nothing_streams(_: bytes) -> None:
    raise AssertionError("an adapter streamed an answer that was to be whole")
