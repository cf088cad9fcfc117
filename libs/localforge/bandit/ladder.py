"""Whom a decision asks one after the other when a cascade is wanted.

Where answers will be short enough to be compared, `cascade.Cascade` weighs asking a pair of cheap
models, or the only cheap one twice, against asking any one alone. Elsewhere the model that was
drawn anyway is asked, the form of its answer is checked, and what is not accepted then goes to the
model with the best prediction; `checked.Checked` says what passing and failing are worth.
"""

import math
from collections.abc import Mapping

import msgspec

from localforge.bandit.belief import Acceptance
from localforge.bandit.cascade import Cascade, Chain, Credit, Plan, Rates, Verdict
from localforge.bandit.checked import Checked, Estimate, is_accepted
from localforge.bandit.learner import Learner
from localforge.contracts.facts import (
    CHECKS,
    Candidate,
    CascadePlan,
    CascadeResult,
    DecisionMade,
    FeedbackGiven,
)
from localforge.scoring.verdict import FAILED_BELOW

COMPARABLE_TOKENS = 64.0
"""Longer answers are hardly ever the same, however right both are."""
CHEAP = 0.5
"""Share of the last model's predicted cost that one of the pair may have."""
TRUSTED = 0.5
"""Least weight of a verdict that cascades learn from."""


def with_cascade(
    record: DecisionMade, learner: Learner, whole: Mapping[str, float]
) -> DecisionMade:
    """Return a complete decision with its cascade; unchanged where none fits.

    Args:
        record: Complete; its draw was on models alone.
        learner: At the state the decision is made on. Not changed.
        whole: Quality predicted of each model's answers that pass their checks.
    """
    if len(record.candidates) < 2 or len({c.tier for c in record.candidates}) > 1:
        return record
    cascade = learner.cascade.drawing(record.width, record.seed)
    rates = Rates(record.cost_weight, record.latency_weight)
    chains = {chain: last for last in record.candidates if (chain := _chain(record, last))}
    # Two models say more than one twice, so that a pair comes first wherever there is one.
    pairs = {chain: last for chain, last in chains.items() if not chain.is_repeat} or chains
    worth = {
        chain: cascade.worth(record.candidates, chain, rates, _doubt(last))
        for chain, last in pairs.items()
    }
    if not worth:
        best = min(record.candidates, key=lambda c: (-c.quality, c.cost_usd))
        return _checked(record, best, learner.checked, whole)
    chain = max(worth, key=worth.__getitem__)
    plan = cascade.plan(record.candidates, chain, rates, record.decision_id)
    *alone, pair = plan.probabilities
    asked = (chain.first, chain.second, chain.last) if plan.asks_pair else plan.models
    agreed = cascade.verdict(plan, record.decision_id, agree=True)
    split = cascade.verdict(plan, record.decision_id, agree=False)
    return msgspec.structs.replace(
        record,
        candidates=tuple(
            msgspec.structs.replace(candidate, probability=probability)
            for candidate, probability in zip(record.candidates, alone, strict=True)
        ),
        chosen=asked[0],
        propensity=plan.probability,
        plan=_in_order(record, asked),
        cascade=CascadePlan(
            test=plan.qualities.test.value,
            models=(chain.first, chain.second, chain.last),
            asks_pair=plan.asks_pair,
            probability=pair,
            qualities=(plan.qualities.first, plan.qualities.second, plan.qualities.last),
            beliefs={belief.value: value for belief, value in plan.beliefs.items()},
            escalation=plan.escalation,
            if_agreed=agreed.deliver,
            if_agreed_probability=agreed.probability,
            if_split=split.deliver,
            if_split_probability=split.probability,
        ),
    )


def learn_agreement(cascade: Cascade, result: CascadeResult) -> None:
    """Take whether a pair agreed.

    Raises:
        ValueError: The result is not one of a pair.
    """
    cascade.learn_agreement(_plan(result), agree=result.agreed)


def learn_score(cascade: Cascade, fact: FeedbackGiven) -> tuple[Credit, ...]:
    """Take a verdict on the answer that a pair's cascade delivered.

    Args:
        cascade: Learns.
        fact: A trusted verdict with a `cascade`, its score in [0, 1].

    Returns:
        Model and score for the regressions of quality; see `Cascade.learn`.

    Raises:
        ValueError: The result is not one of a pair, or delivers another model than those.
    """
    result = fact.cascade
    if result is None or result.delivered not in result.models:
        raise ValueError("a verdict on an answer that no model of the chain gave")
    verdict = Verdict(agree=result.agreed, deliver=result.delivered, probability=1.0)
    return cascade.learn(_plan(result), verdict, fact.score, result.same)


def learn_check(checked: Checked, fact: FeedbackGiven) -> None:
    """Take what a verdict, whoever gave it, says of what the checks of an answer are worth.

    Args:
        checked: Learns.
        fact: With its score in [0, 1]. Where answers were compared it teaches nothing: those that
            were delivered then had passed another test.
    """
    if fact.source == CHECKS:
        if fact.score < FAILED_BELOW:
            checked.note_failure(fact.decision_id, fact.model)
    elif fact.weight >= TRUSTED and fact.cascade is None:
        checked.learn(fact.decision_id, fact.model, fact.score)


def _doubt(candidate: Candidate) -> float:
    """Return the standard deviation of a model's level, without that of the request."""
    return min(candidate.quality_std, 0.5 / math.sqrt(1.0 + candidate.evidence))


def _chain(record: DecisionMade, last: Candidate) -> Chain | None:
    cheap = [
        c
        for c in record.candidates
        if c.cost_usd < CHEAP * last.cost_usd and c.completion_tokens <= COMPARABLE_TOKENS
    ]
    if len(cheap) == 1 and record.may_repeat:
        (alone,) = cheap
        return Chain(alone.model, alone.model, last.model)
    if len(cheap) < 2:
        return None
    best = sorted(cheap, key=lambda c: (-c.utility, c.model))[:2]
    # By price, so that the same three models are the same chain whatever is predicted of them.
    first, second = sorted(best, key=lambda c: (c.price_in + c.price_out, c.model))
    return Chain(first.model, second.model, last.model)


def _checked(
    record: DecisionMade, last: Candidate, checked: Checked, whole: Mapping[str, float]
) -> DecisionMade:
    if record.chosen == last.model:
        return record
    first = next(c for c in record.candidates if c.model == record.chosen)
    models = (first.model, last.model)
    escalation = Rates(record.cost_weight, record.latency_weight).price(last)
    other = Estimate(last.quality - escalation, last.quality_std)
    passed = checked.estimate(first.model, whole[first.model], passed=True)
    failed = checked.estimate(first.model, first.quality, passed=False)
    return msgspec.structs.replace(
        record,
        plan=_in_order(record, models),
        cascade=CascadePlan(
            test=Acceptance.CHECKS.value,
            models=models,
            qualities=(first.quality, last.quality),
            beliefs={"passed": passed.quality, "failed": failed.quality},
            escalation=escalation,
            if_passed=models[not is_accepted(passed, other, passed=True)],
            if_failed=models[not is_accepted(failed, other, passed=False)],
        ),
    )


def _in_order(record: DecisionMade, first: tuple[str, ...]) -> tuple[str, ...]:
    rest = sorted((c for c in record.candidates if c.model not in first), key=lambda c: -c.utility)
    return (*first, *(c.model for c in rest))


def _plan(result: CascadeResult) -> Plan:
    if len(result.models) != 3 or len(result.qualities) != 3:
        raise ValueError(f"a pair's cascade has three models, got {result.models}")
    # Written so that what is not a number fails.
    if not all(0.0 <= value <= 1.0 for value in (*result.qualities, *result.beliefs.values())):
        raise ValueError("qualities and beliefs of a cascade are probabilities")
    chain = Chain(*result.models)
    qualities = chain.qualities(*result.qualities)
    return Plan(
        models=result.models[:2],
        chain=chain,
        qualities=qualities,
        beliefs={belief: result.beliefs[belief.value] for belief in qualities.beliefs},
        escalation=0.0,
        probability=1.0,
    )
