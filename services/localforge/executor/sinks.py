"""The sinks of the two lanes: frames to an edge's inbox, or one result on a stream."""

import secrets
import time

import msgspec

from localforge.bus.bus import Bus
from localforge.bus.durable import Delivery
from localforge.contracts import subjects
from localforge.contracts.chat import ChatCompleted
from localforge.contracts.facts import OutcomeObserved
from localforge.contracts.live import (
    Accepted,
    Completed,
    Delta,
    EvaluateCall,
    ExecuteCall,
    Failed,
    Summary,
)
from localforge.errors import DependencyUnavailable, RetryableError
from localforge.executor.cascade import NextStep
from localforge.executor.speed import Speed
from localforge.telemetry import gen_ai, log, metrics, tracing

_log = log.get("executor")

WORTH_ANOTHER_TRY = frozenset({429, 502, 503})
LAST_RESORT_DELIVERIES = 3
"""The last deliveries before the consumer gives up end with a result, not with another try."""


class LiveSink:
    """Frames go to the edge as they come.

    Args:
        bus: The executor's connection.
        speed: Learns from the outcomes.
        reply: The edge's inbox for this request.
    """

    def __init__(self, bus: Bus, speed: Speed, reply: str) -> None:
        self._bus = bus
        self._speed = speed
        self._reply = reply

    @property
    def delivery(self) -> int:
        """Always the first."""
        return 1

    async def accepted(self, frame: Accepted) -> None:
        """Pass on a sign of life."""
        self._bus.publish(self._reply, frame)

    async def delta(self, frame: Delta) -> None:
        """Pass on a piece of a streamed answer."""
        self._bus.publish(self._reply, frame)

    async def completed(self, frame: Completed) -> None:
        """Pass on the end of an answer."""
        self._bus.publish(self._reply, frame)

    async def failed(self, frame: Failed) -> None:
        """Tell that there will be no answer, or no more of it."""
        self._bus.publish(self._reply, frame)

    async def hand_on(self, call: ExecuteCall, reason: RetryableError) -> None:
        """Give the request to the executor of its next target, and tell that it is not here."""
        _tell_hand_on(call, reason)
        target = call.target
        nobodys = Summary(decision_id=call.decision_id, model=target.model, zone=target.zone)
        request = call.call
        self._bus.publish(
            self._reply,
            Accepted(request_id=request.request_id, attempt=request.attempt, summary=nobodys),
        )
        self._bus.forward(
            subjects.execute(target.zone, target.backend),
            call,
            reply=self._reply,
            backend=target.backend,
        )

    def outcome(self, fact: OutcomeObserved) -> None:
        """Record what an attempt cost and how long it took."""
        _record_outcome(self._bus, self._speed, fact)

    async def evaluate(self, call: EvaluateCall) -> None:
        """Offer an answer to be scored; nobody waits for it to arrive."""
        self._bus.publish(subjects.EVALUATE, call)


class DurableSink:
    """The answer becomes the request's one result; everything is acked before the delivery is.

    Args:
        bus: The executor's connection.
        speed: Learns from the outcomes.
        call: What was delivered.
        delivery: Of it.
        consumer: The durable it came from.
    """

    def __init__(
        self,
        bus: Bus,
        speed: Speed,
        call: ExecuteCall,
        delivery: Delivery,
        consumer: subjects.Durable,
    ) -> None:
        self._bus = bus
        self._speed = speed
        self._call = call
        self._delivery = delivery
        self._backoff_s = consumer.backoff_s
        self._last_try = consumer.max_deliver - LAST_RESORT_DELIVERIES

    @property
    def delivery(self) -> int:
        """1, and more when it comes again."""
        return self._call.deliveries + self._delivery.number

    async def accepted(self, frame: Accepted) -> None:  # noqa: ARG002  # part of the protocol
        """Extend the ack wait."""
        await self._delivery.in_progress()

    async def delta(self, frame: Delta) -> None:
        """Nothing streams on the durable lane.

        Raises:
            AssertionError: Always.
        """
        raise AssertionError(f"request {frame.request_id} of the durable lane streamed")

    async def completed(self, frame: Completed) -> None:
        """Store the answer; a second one for the same request is refused by the stream."""
        summary = frame.summary
        await self._store(
            ChatCompleted(
                id=frame.request_id,
                decision_id=summary.decision_id,
                response=msgspec.Raw(frame.body),
                model=summary.model,
                zone=summary.zone,
                cost_usd=summary.cost_usd,
                usage=summary.used or frame.usage,
                completed_at=time.time(),
            )
        )

    async def failed(self, frame: Failed) -> None:
        """Store the error, unless another try may help.

        What costs something is put back as a message that has it on its account; the broker cannot
        add to the one that it delivers again.

        Raises:
            DependencyUnavailable: The delivery shall come again.
        """
        summary = frame.summary
        if frame.status in WORTH_ANOTHER_TRY and self.delivery < self._last_try:
            if summary is not None and _has_cost_more(summary, self._call):
                await self._put_back(summary, frame.retry_after_s)
                return
            raise DependencyUnavailable(
                frame.error.message,
                code=frame.error.code or "",
                retry_after_s=frame.retry_after_s,
            )
        await self._store(
            ChatCompleted(
                id=frame.request_id,
                decision_id=summary.decision_id if summary else "",
                status=frame.status,
                error=frame.error,
                model=summary.model if summary else "",
                zone=summary.zone if summary else "",
                cost_usd=summary.cost_usd if summary else self._call.spent_usd,
                usage=(summary.used if summary else None) or self._call.spent_usage,
                completed_at=time.time(),
            )
        )

    async def hand_on(self, call: ExecuteCall, reason: RetryableError) -> None:
        """Give the request to the executor of its next target."""
        _tell_hand_on(call, reason)
        target = call.target
        await self._bus.publish_durable(
            subjects.work_execute(target.zone, target.backend),
            call,
            message_id=f"{call.call.request_id}.execute.{call.step}.{self._delivery.stamp}",
        )

    def outcome(self, fact: OutcomeObserved) -> None:
        """Record what an attempt cost and how long it took."""
        _record_outcome(self._bus, self._speed, fact)

    async def evaluate(self, call: EvaluateCall) -> None:
        """Offer an answer to be scored."""
        self._bus.publish(subjects.EVALUATE, call)

    async def _put_back(self, summary: Summary, retry_after_s: float) -> None:
        number = self.delivery
        step = min(number, len(self._backoff_s)) - 1
        delay = max(retry_after_s, self._backoff_s[step])
        call = msgspec.structs.replace(
            self._call,
            spent_usd=summary.cost_usd,
            spent_usage=summary.used or self._call.spent_usage,
            deliveries=number,
            not_before=time.time() + delay,
        )
        request_id = call.call.request_id
        await self._bus.publish_durable(
            self._delivery.subject,
            call,
            message_id=f"{request_id}.execute.{call.step}.{number}.{self._delivery.stamp}",
        )
        _log.info(
            "put_back",
            request_id=request_id,
            decision_id=call.decision_id,
            delivery=number,
            delay_s=round(delay, 1),
        )

    async def _store(self, result: ChatCompleted) -> None:
        # The stream takes one message on the subject, whatever its id.
        stored = await self._bus.publish_durable(
            subjects.answer(result.id), result, message_id=secrets.token_hex(16)
        )
        if not stored:
            _log.info("result_already_there", request_id=result.id, decision_id=result.decision_id)


def _has_cost_more(summary: Summary, call: ExecuteCall) -> bool:
    used = summary.used or call.spent_usage
    return summary.cost_usd > call.spent_usd or used != call.spent_usage


def _record_outcome(bus: Bus, speed: Speed, fact: OutcomeObserved) -> None:
    speed.learn(fact)
    metrics.EXECUTOR_ATTEMPTS.labels(fact.model, fact.status).inc()
    if tracing.enabled():
        tracing.annotate(gen_ai.outcome_attributes(fact))
    subject = subjects.outcome(fact.zone, fact.backend)
    if fact.status == "ok" and not _is_first_step(fact):
        subject = subjects.fallback_outcome(fact.zone, fact.backend, fact.decision_id)
    bus.facts.record(subject, fact, message_id=fact.outcome_id)


def _is_first_step(fact: OutcomeObserved) -> bool:
    """Whether the model that was chosen answered, at its first attempt or a later one."""
    return fact.outcome_id.removeprefix(f"{fact.decision_id}.").partition("-")[0] == "0"


def _tell_hand_on(call: ExecuteCall, reason: RetryableError) -> None:
    """Log which model is followed by which; a plan is gone through step by step."""
    if not isinstance(reason, NextStep):
        metrics.EXECUTOR_FALLBACKS.labels(reason.code).inc()
    _log.info(
        "fallback",
        request_id=call.call.request_id,
        decision_id=call.decision_id,
        code=reason.code,
        model=call.plan[call.step - 1].model,
        to=call.target.model,
        step=call.step,
    )
