"""One pass of the router in cascade mode: who is asked, what is paid, what is learned.

The decision says whom to ask and whose answer to deliver when the pair agrees or not, as in the
service. Every call is paid for. Of the scores only that of the delivered answer is used; answers
are compared with one another, never with the right one.
"""

import msgspec

from localforge.bandit import Fold
from localforge.benchmark.online import TICK, Policy, Total, decide, feedback, outcome, tell
from localforge.benchmark.stream import Advance, Rows, Stream
from localforge.contracts.facts import CascadePlan, CascadeResult

LEAST_MODELS = 3
"""A pair and a model to escalate to."""


def for_cascade(stream: Stream) -> Stream | None:
    """Return the stream with the models a cascade can use; None where the file has too few.

    They are those whose answers the file tells: without them nothing can be compared.
    """
    known = [k for k, given in enumerate(stream.outcomes.answers) if given]
    if len(known) < LEAST_MODELS or stream.outcomes.strong not in known:
        return None
    return stream._replace(offers=tuple(stream.offers[k] for k in known))


def play_cascade(
    stream: Stream,
    policy: Policy,
    rows: Rows,
    cost_weight: float,
    *,
    number: int = 0,
    advance: Advance = lambda _: None,
) -> Total:
    """Run one pass with a fresh learner; the arguments are those of `online.play`."""
    outcomes = stream.outcomes
    index = {model: k for k, model in enumerate(outcomes.models)}
    fold = Fold(stream.feature_schema, stream.dim, stream.prior)
    score = cost = 0.0
    strong = 0
    for step, row in enumerate(rows.tolist()):
        decision = decide(
            fold,
            stream.feature_schema,
            stream.offers,
            policy,
            stream.questions[row],
            cost_weight=cost_weight,
            decision_id=f"{number}.{row}.{outcomes.query_ids[row]}",
            cascade=True,
        )
        plan = decision.cascade
        result = None
        asked = [decision.chosen]
        if plan is not None and plan.asks_pair:
            result = _run(plan, {m: outcomes.answers[index[m]][row] for m in plan.models})
            asked = list(plan.models if result.delivered == plan.models[-1] else plan.models[:-1])
        for place, model in enumerate(asked):
            fact = outcome(outcomes, decision, row, index[model])
            if result is not None and place == 1:
                # The executor compares when the second of the pair has answered.
                before = msgspec.structs.replace(result, compared=True, delivered="", same=())
                fact = msgspec.structs.replace(fact, cascade=before)
            tell(fold, fact)
            cost += float(outcomes.costs[row, index[model]])
        deliver = result.delivered if result is not None else decision.chosen
        earned = float(outcomes.scores[row, index[deliver]])
        verdict = feedback(decision, deliver, earned)
        tell(fold, msgspec.structs.replace(verdict, cascade=result))
        score += earned
        strong += index[deliver] == outcomes.strong
        if step % TICK == TICK - 1:
            advance(TICK)
    advance(len(rows) % TICK)
    return Total(questions=len(rows), cost=cost, score=score, strong=strong)


def _run(plan: CascadePlan, answers: dict[str, str | None]) -> CascadeResult:
    """Compare the pair and follow the plan; no answer at all is like no other."""
    first, second, last = plan.models
    agreed = answers[first] is not None and answers[first] == answers[second]
    delivered = plan.if_agreed if agreed else plan.if_split
    same = [m for m in (first, second) if answers[m] is not None and answers[m] == answers[last]]
    return CascadeResult(
        models=plan.models,
        qualities=plan.qualities,
        beliefs=plan.beliefs,
        agreed=agreed,
        delivered=delivered,
        same=tuple(same) if delivered == last else (),
    )
