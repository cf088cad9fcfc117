"""Wiring of the evaluator: content to score, and users' verdicts to join with their decisions."""

import asyncio
import time

from nats.errors import Error as NatsError

from localforge.bus.decision_log import read_decision, read_last
from localforge.bus.durable import Delivery
from localforge.bus.provision import ensure_consumer, ensure_stream
from localforge.bus.pull import Pulled, Puller
from localforge.config import Config
from localforge.contracts import subjects
from localforge.contracts.chat import FeedbackSubmitted
from localforge.contracts.facts import DecisionMade, FeedbackGiven, OutcomeObserved, outcome_on
from localforge.contracts.live import EvaluateCall
from localforge.contracts.problems import ContractViolation
from localforge.errors import DependencyUnavailable, RequestRefused
from localforge.evaluator.service import EvaluatorService
from localforge.hosting import Host
from localforge.telemetry import log, tracing

_log = log.get("evaluator")

RETRY_S = 0.5
COMPLETION_PREFIX = "chatcmpl-"
PATIENT_DELIVERIES = subjects.FEEDBACK_DURABLE.max_deliver - 1
"""Of a verdict before its decision, in two and a half minutes. The edge, which refuses ids that
nobody knows, has accepted it: facts are delayed. One is left in case the dead letter fails."""


def create(host: Host) -> "EvaluatorApp":
    """Build the evaluator of one process."""
    return EvaluatorApp(host)


class EvaluatorApp:
    """Content in batches, verdicts one by one; both end as `FeedbackGiven`."""

    def __init__(self, host: Host) -> None:
        self._bus = host.bus("evaluator")
        self._service = EvaluatorService()
        self._content: Puller | None = None

    async def start(self) -> None:
        """Connect and serve both consumers."""
        await self._bus.connect()
        self._bus.on_durable(subjects.FEEDBACK_DURABLE, FeedbackSubmitted, self.on_verdict)
        await self._bus.start()
        await self._consume_content()

    async def stop(self) -> None:
        """Disconnect."""
        if self._content:
            await self._content.stop()
        await self._bus.close()

    async def reload(self, config: Config) -> None:
        """Nothing here is configured."""

    async def on_content(self, batch: list[Pulled]) -> None:
        """Score a batch of answers. Delivered is done: a lost score is no update, not harm."""
        now = time.time()
        for message in batch:
            try:
                given = self._score(EvaluateCall.decode(message.data), now)
            except ContractViolation as exc:
                _log.warning("not_a_message", subject=message.subject, reason=str(exc))
                continue
            if given is not None:
                # Learners ignore a repetition.
                self._bus.facts.record(subjects.feedback(given.source), given)

    def _score(self, call: EvaluateCall, now: float) -> FeedbackGiven | None:
        with tracing.span(
            "evaluate",
            call.traceparent,
            call.tracestate,
            request_id=call.request_id,
            decision_id=call.decision_id,
            model=call.model,
        ):
            return self._service.score(call, now)

    async def on_verdict(self, submitted: FeedbackSubmitted, delivery: Delivery) -> None:
        """Join one verdict with its decision; acked when the stream has the result."""
        decision_id = submitted.completion_id.removeprefix(COMPLETION_PREFIX)
        decided = await read_decision(self._bus.client, decision_id)
        if decided is None:
            if delivery.number < PATIENT_DELIVERIES:
                raise DependencyUnavailable("the decision is not in the stream yet")
            raise RequestRefused(
                f"no decision is known for the completion {submitted.completion_id!r}",
                code="completion_not_found",
                status=404,
            )
        answered = await self._find_fallback(decision_id)
        given = self._service.user_feedback(
            submitted,
            DecisionMade.decode(decided),
            time.time(),
            answered_by=answered.model if answered else "",
            cascade=answered.cascade if answered else None,
        )
        await self._bus.publish_durable(
            subjects.feedback(given.source),
            given,
            message_id=f"{given.feedback_id}.{delivery.stamp}",
        )

    async def _find_fallback(self, decision_id: str) -> OutcomeObserved | None:
        """Return what another model's answer in the chosen one's place came to, if one gave it."""
        found = await read_last(self._bus.client, subjects.fallback_outcome("*", "*", decision_id))
        if found is None:
            return None
        try:
            return outcome_on(found.subject, found.data)
        except ContractViolation as exc:
            # An executor may write what it likes on its subject.
            _log.warning("not_a_message", subject=found.subject, reason=str(exc))
            return None

    async def _ensure_stream(self) -> None:
        """Make the stream anew that a restarted broker has forgotten; it is in memory."""
        js = self._bus.client.jetstream()
        try:
            await ensure_stream(js, subjects.EVALUATION)
            await ensure_consumer(js, subjects.EVALUATOR_DURABLE)
        except (NatsError, OSError, TimeoutError) as exc:
            # The next silence is the next try.
            _log.info("content_stream_unavailable", reason=str(exc) or type(exc).__name__)

    async def _consume_content(self) -> None:
        durable = subjects.EVALUATOR_DURABLE
        self._content = Puller(
            self._bus.client,
            self._bus.user,
            durable.stream,
            durable.name,
            self.on_content,
            self._on_silence,
        )
        await self._content.start()

    async def _on_silence(self, reason: str) -> None:
        _log.info("content_consumer_silent", reason=reason)
        if self._content:
            await self._content.stop()
        await asyncio.sleep(RETRY_S)
        await self._ensure_stream()
        await self._consume_content()
