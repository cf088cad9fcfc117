"""Turn answers and users' verdicts into `FeedbackGiven`. No broker, no clock, no state."""

import msgspec

from localforge.contracts.chat import FeedbackSubmitted
from localforge.contracts.facts import CHECKS, CascadeResult, DecisionMade, FeedbackGiven
from localforge.contracts.live import EvaluateCall
from localforge.errors import RequestRefused
from localforge.scoring.verdict import judge

SOURCES = ("user", "test")
"""Who may submit a verdict; `checks` is this service's own."""


class EvaluatorService:
    """Scores answers and joins users' verdicts with the decisions they are about."""

    def score(self, call: EvaluateCall, now: float) -> FeedbackGiven | None:
        """Return what the checks say of an answer, or None when they say nothing.

        Args:
            call: The answer and what it was asked for.
            now: Unix time in seconds.
        """
        verdict = judge(call)
        if verdict is None:
            return None
        return FeedbackGiven(
            feedback_id=f"{call.decision_id}:checks",
            decision_id=call.decision_id,
            model=call.model,
            score=verdict.score,
            weight=verdict.weight,
            source=CHECKS,
            propensity=call.propensity,
            checks=verdict.checks,
            given_at=now,
        )

    def user_feedback(
        self,
        submitted: FeedbackSubmitted,
        decision: DecisionMade,
        now: float,
        *,
        answered_by: str = "",
        cascade: CascadeResult | None = None,
    ) -> FeedbackGiven:
        """Return a user's verdict with all it takes to learn from it.

        Args:
            submitted: As it came from the client.
            decision: The one that the completion was made by.
            now: Unix time in seconds.
            answered_by: Model that answered where it was not the chosen one, after a fallback.
            cascade: What came of a pair that was compared; its `delivered` gave the answer. One of
                other models than the decision's is not believed.

        Raises:
            RequestRefused: The score is not in 0 to 1, the source is unknown, `answered_by` is not
                in the decision's plan, or the completion is another key's.
        """
        if submitted.key_id and submitted.key_id != decision.key_id:
            raise RequestRefused(
                f"the completion {submitted.completion_id!r} was not made for the key "
                f"{submitted.key_id!r}",
                code="completion_not_found",
                status=404,
            )
        # Written so that a score that is not a number fails.
        if not 0.0 <= submitted.score <= 1.0:
            raise RequestRefused(
                f"`score` must be from 0 to 1, got {submitted.score}",
                code="invalid_score",
                param="score",
            )
        if submitted.source not in SOURCES:
            raise RequestRefused(
                f"`source` must be one of {', '.join(SOURCES)}, got {submitted.source!r}",
                code="invalid_source",
                param="source",
            )
        plan = decision.cascade
        if cascade is not None and (plan is None or plan.models != cascade.models):
            cascade = None
        if cascade is not None and plan is not None:
            # What was believed is the router's to say; an executor elsewhere tells what came of it.
            cascade = msgspec.structs.replace(
                cascade, qualities=plan.qualities, beliefs=plan.beliefs
            )
            # Nobody's, when a model that was then asked has failed: the first one's was at hand.
            answered_by = cascade.delivered
            cascade = cascade if cascade.delivered else None
        model = answered_by or decision.chosen
        if answered_by and answered_by not in decision.plan:
            raise RequestRefused(
                f"model {answered_by!r} is not in the plan of decision {decision.decision_id}",
                code="invalid_model",
            )
        return FeedbackGiven(
            # Whoever says it again, or otherwise, says it in vain: an answer is one observation.
            feedback_id=f"{decision.decision_id}:{submitted.source}",
            decision_id=decision.decision_id,
            model=model,
            score=submitted.score,
            weight=1.0,
            source=submitted.source,
            feature_schema=decision.feature_schema,
            features=decision.features,
            # A fallback answered by failure, not by the draw: its probability is not known.
            propensity=decision.propensity if model == decision.chosen else 0.0,
            given_at=now,
            cascade=cascade,
        )
