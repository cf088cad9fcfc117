"""One pass of the router over a stream: decide, observe the chosen model, learn, next.

The decision is `bandit.complete` on a `DecisionMade` record and learning is `bandit.Fold` on the
facts that the executor and the evaluator publish: what the router service runs, without the bus.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from localforge.bandit import Fold, PolicyParameters, complete
from localforge.bandit.rules import appoint
from localforge.benchmark.frontier import Point
from localforge.benchmark.outcomes import Outcomes
from localforge.benchmark.stream import ZONE, Advance, Question, Rows, Stream
from localforge.config import RouterConfig
from localforge.contracts.chat import Usage
from localforge.contracts.facts import Candidate, DecisionMade, FeedbackGiven, OutcomeObserved
from localforge.contracts.trust import Label

TICK = 100
"""Questions between two reports of progress."""


class Total(NamedTuple):
    """What some questions cost and earned; totals of several streams add up."""

    questions: int
    cost: float
    """US dollars."""
    score: float
    strong: int
    """Questions whose answer came from the strong model."""

    def point(self) -> Point:
        """Return the means."""
        return Point(
            self.cost / self.questions, self.score / self.questions, self.strong / self.questions
        )


def add(totals: Iterable[Total]) -> Total:
    """Return the total over several streams."""
    return Total(*(sum(values) for values in zip(*totals, strict=True)))


class Play(NamedTuple):
    """What a policy chose in one pass."""

    rows: Rows
    """Questions in the order they came."""
    chosen: NDArray[np.intp]
    """Model of each."""

    def total(self, outcomes: Outcomes) -> Total:
        """Return cost, score and strong answers of the whole pass."""
        return Total(
            questions=len(self.rows),
            cost=float(outcomes.costs[self.rows, self.chosen].sum()),
            score=float(outcomes.scores[self.rows, self.chosen].sum()),
            strong=int((self.chosen == outcomes.strong).sum()),
        )


class Policy(NamedTuple):
    """A policy under the name it has in the report, as the configuration sets it up."""

    name: str
    router: RouterConfig


def play(
    stream: Stream,
    policy: Policy,
    rows: Rows,
    cost_weight: float,
    *,
    number: int = 0,
    advance: Advance = lambda _: None,
) -> Play:
    """Run one pass with a fresh learner.

    Args:
        stream: Questions and offers.
        policy: Which one decides.
        rows: Order of the questions.
        cost_weight: Utility per US dollar.
        number: Of the order; the draws depend on it, because it is part of every decision's id.
        advance: Called with the number of questions done since the last call.
    """
    fold = Fold(stream.feature_schema, stream.dim, stream.prior)
    index = {offer.model: k for k, offer in enumerate(stream.offers)}
    chosen = np.empty(len(rows), dtype=np.intp)
    for step, row in enumerate(rows.tolist()):
        decision = decide(
            fold,
            stream.feature_schema,
            stream.offers,
            policy,
            stream.questions[row],
            cost_weight=cost_weight,
            decision_id=f"{number}.{row}.{stream.outcomes.query_ids[row]}",
        )
        chosen[step] = k = index[decision.chosen]
        tell(fold, outcome(stream.outcomes, decision, row, k))
        tell(fold, feedback(decision, decision.chosen, float(stream.outcomes.scores[row, k])))
        if step % TICK == TICK - 1:
            advance(TICK)
    advance(len(rows) % TICK)
    return Play(rows, chosen)


def decide(
    fold: Fold,
    feature_schema: str,
    offers: tuple[Candidate, ...],
    policy: Policy,
    question: Question,
    *,
    cost_weight: float,
    decision_id: str,
    cascade: bool = False,
) -> DecisionMade:
    """Make one decision as the router service does for a request without a preference of its own.

    Args:
        fold: The learner, not changed.
        feature_schema: Of the question's features.
        offers: The models that may answer.
        policy: How it is configured.
        question: What the profiler says of the prompt.
        cost_weight: Utility per US dollar. Files of outcomes have no times, so a second is free.
        decision_id: Unique within a pass.
        cascade: Whether cheap models may be asked first.
    """
    inputs = DecisionMade(
        decision_id=decision_id,
        request_id=decision_id,
        made_at=0.0,
        lane="live",
        policy=PolicyParameters.from_config(policy.router).policy,
        policy_hash="",
        state_sequence=fold.sequence,
        registry_version=1,
        feature_schema=feature_schema,
        features=question.features,
        prompt_tokens=question.prompt_tokens,
        label=Label.PUBLIC,
        zones=(offers[0].zone,),
        requested_model="auto",
        preference="",
        cost_weight=cost_weight,
        latency_weight=0.0,
        explore=True,
        seed=policy.router.seed,
        gamma=float(policy.router.gamma),
        width=float(policy.router.width),
        exploration_floor=float(policy.router.exploration_floor),
        domain=question.domain,
        complexity=question.complexity,
        candidates=offers,
        cascade_wanted=cascade,
    )
    decision = complete(appoint(inputs, policy.router, fold.learner), fold.learner)
    assert decision is not None, "there are no limits"
    return decision


def feedback(decision: DecisionMade, model: str, score: float) -> FeedbackGiven:
    """Return the verdict on a model's answer, as the evaluator gives it."""
    return FeedbackGiven(
        feedback_id=f"{decision.decision_id}.{model}",
        decision_id=decision.decision_id,
        model=model,
        score=score,
        source="test",
        feature_schema=decision.feature_schema,
        features=decision.features,
        propensity=decision.propensity,
    )


def outcome(outcomes: Outcomes, decision: DecisionMade, row: int, k: int) -> OutcomeObserved:
    """Return what one call used, as the executor reports it; no tokens where none are recorded."""
    tokens = outcomes.prompt_tokens[row, k], outcomes.completion_tokens[row, k]
    known = bool(np.isfinite(tokens).all())
    model = outcomes.models[k]
    return OutcomeObserved(
        outcome_id=f"{decision.decision_id}.{model}",
        decision_id=decision.decision_id,
        request_id=decision.request_id,
        model=model,
        backend=model,
        zone=ZONE,
        replica=model,
        status="ok",
        finish_reason="stop",
        usage=Usage(prompt_tokens=round(tokens[0]), completion_tokens=round(tokens[1]))
        if known
        else Usage(),
        cost_usd=float(outcomes.costs[row, k]),
        domain=decision.domain,
        # With two models all calls are priced alike: there is nothing to learn of their lengths.
        counted_tokens=decision.prompt_tokens if len(outcomes.models) > 2 else 0,
    )


def tell(fold: Fold, fact: OutcomeObserved | FeedbackGiven) -> None:
    """Let the learner read one fact, as the next of its stream."""
    fold.apply(fold.sequence + 1, fact)
