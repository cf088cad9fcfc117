"""The decision: predictions, utility, draw, plan.

`complete` is the whole rule and depends on nothing but a record's inputs and the learner's state.
The router makes a decision with it and a replay makes the decision again with it, so that the two
cannot differ.
"""

import functools
import math
from collections.abc import Sequence

import msgspec

from localforge.bandit.draw import keyed_uniform, pick
from localforge.bandit.ladder import with_cascade
from localforge.bandit.learner import Learner
from localforge.bandit.parameters import PolicyParameters, rule_of
from localforge.bandit.policies import Outlook, greedy
from localforge.bandit.prior import level_of
from localforge.bandit.reliability import NONE, Risk, with_failures
from localforge.bandit.rules import settled
from localforge.contracts.facts import Candidate, DecisionMade, Exclusion

SECONDS_PER_HOUR = 3600
MOST = 1e9
"""Bound on predicted dollars and seconds, and on a loss of utility: all figures stay finite."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Hard limits on the predicted cost and time of one answer; 0 means none."""

    max_cost_usd: float = 0.0
    max_latency_s: float = 0.0


NO_LIMITS = Limits()


def complete(
    inputs: DecisionMade, learner: Learner, limits: Limits = NO_LIMITS
) -> DecisionMade | None:
    """Predict for every candidate, draw one and order the rest.

    Args:
        inputs: A record whose candidates have at least their input fields (model, backend, zone,
            prices, queue depth, price of time, quality prior, tier); all other fields of a
            candidate, and `chosen`, `propensity` and `plan`, are made anew.
        learner: At the state the decision is made on. Not changed.
        limits: Candidates predicted to be over a limit become exclusions before the quality of
            the others is predicted, which depends on who else is a candidate. So a replay needs
            no limits: the record has just the candidates that are within them.

    Returns:
        The complete record; None when no candidate is within the limits.

    Raises:
        ValueError: `inputs` has no candidate, or a policy that this program does not know.
    """
    if not inputs.candidates:
        raise ValueError(f"decision {inputs.decision_id} has no candidate to choose from")
    expenses = _expenses(inputs, learner)
    if limits is not NO_LIMITS:
        over = [_over(expense, limits) for expense in expenses]
        if any(over):
            inputs = _without(inputs, over)
            expenses = [expense for expense, why in zip(expenses, over, strict=True) if why is None]
        if not inputs.candidates:
            return None
    offers = inputs.candidates
    forecasts = _predict(inputs, learner, expenses)
    tiers = [offer.tier for offer in offers]
    probabilities = _probabilities(inputs, tiers, forecasts)
    drawn = pick(probabilities, keyed_uniform(inputs.seed, inputs.decision_id))
    decided = msgspec.structs.replace(
        inputs,
        policy_hash=_hash(
            inputs.policy,
            inputs.gamma,
            inputs.exploration_floor,
            inputs.width,
            inputs.seed,
            learner.prior_digest,
        ),
        candidates=tuple(map(_candidate, offers, expenses, forecasts, probabilities)),
        chosen=offers[drawn].model,
        propensity=probabilities[drawn],
        plan=_plan(offers, drawn, tiers, forecasts),
        cascade=None,
    )
    if not inputs.cascade_wanted:
        return decided
    whole = {
        offer.model: min(max(forecast.mean, 0.0), 1.0)
        for offer, forecast in zip(offers, forecasts, strict=True)
    }
    return with_cascade(decided, learner, whole)


def redecide(record: DecisionMade, learner: Learner) -> DecisionMade:
    """Make a logged decision again from its inputs and the learner at its `state_sequence`.

    Raises:
        ValueError: The record has no candidate.
    """
    again = complete(record, learner)
    assert again is not None  # only limits can leave nothing
    return again


class _Expense(msgspec.Struct, frozen=True, gc=False):
    """What is predicted of one candidate's cost and time, whoever else is a candidate."""

    completion_tokens: float
    cost_usd: float
    cost_std: float
    latency_s: float
    latency_std: float


class _Forecast(msgspec.Struct, frozen=True, gc=False):
    """What is predicted of one candidate among the others, and what it is worth."""

    quality: float
    quality_std: float
    evidence: float
    utility: float
    doubt: float
    """Standard deviation that exploration goes by; not recorded, a replay computes it again."""
    known: float
    """Evidence that exploration goes by, with what was tried and not judged; likewise."""
    sound: float
    mean: float
    """Quality without the bound of `sound`."""
    risk: Risk


def _expenses(inputs: DecisionMade, learner: Learner) -> list[_Expense]:
    offers = inputs.candidates
    efforts = learner.usage.predict(
        [(offer.backend, offer.model) for offer in offers], inputs.domain, inputs.max_tokens
    )
    shares = learner.billing.predict([offer.model for offer in offers], inputs.domain)
    found = []
    prompt_tokens = inputs.prompt_tokens
    for offer, effort, share in zip(offers, efforts, shares, strict=True):
        tokens, seconds, timing_variance = effort.tokens, effort.seconds, effort.timing_variance
        price_out, usd_per_hour = offer.price_out, offer.usd_per_hour
        billed = prompt_tokens * share
        by_token = (billed * offer.price_in + tokens * price_out) / 1_000_000
        per_second = usd_per_hour / SECONDS_PER_HOUR
        by_length = (price_out / 1_000_000 + effort.pace * per_second) * effort.tokens_std
        cost_variance = by_length * by_length + per_second * per_second * timing_variance
        slowed = effort.pace * effort.tokens_std
        # Whoever is ahead in the queue takes as long, and as surely.
        turns = 1.0 + offer.queue_depth
        cost = by_token + seconds * usd_per_hour / SECONDS_PER_HOUR
        cost_std = math.sqrt(cost_variance)
        latency = turns * seconds
        latency_std = turns * math.sqrt(slowed * slowed + timing_variance)
        # One look at all four, and no call: this runs for every candidate. NaN is not below either.
        if not cost + cost_std + latency + latency_std < MOST:
            cost, cost_std = _bounded(cost), _bounded(cost_std)
            latency, latency_std = _bounded(latency), _bounded(latency_std)
        found.append(_Expense(tokens, cost, cost_std, latency, latency_std))
    return found


def _predict(
    inputs: DecisionMade, learner: Learner, expenses: Sequence[_Expense]
) -> list[_Forecast]:
    offers = inputs.candidates
    tried = [learner.soundness.tried(offer.model) for offer in offers]
    qualities, stds, evidence, doubts = learner.arms.predict(
        [offer.model for offer in offers],
        [
            level_of(offer.published_score, offer.quality_prior, offer.price_in, offer.price_out)
            for offer in offers
        ],
        learner.design(inputs.feature_schema, inputs.features),
        tried,
    )
    cost_weight, latency_weight = inputs.cost_weight, inputs.latency_weight
    incumbent, switching_cost = inputs.incumbent, inputs.switching_cost
    worth, sounds = [], []
    for offer, expense, mean in zip(offers, expenses, qualities, strict=True):
        sound = learner.soundness.share(offer.model)
        quality = mean if 0.0 < mean < sound else min(max(mean, 0.0), sound)
        loss = (
            cost_weight * expense.cost_usd
            + latency_weight * expense.latency_s
            + (switching_cost if incumbent and offer.model != incumbent else 0.0)
        )
        if not loss < MOST:
            loss = _bounded(loss)
        sounds.append((sound, quality))
        worth.append(quality - loss)
    risks = [learner.reliability.risk((offer.backend, offer.model)) for offer in offers]
    if any(risk is not NONE for risk in risks):
        answers, worth = worth, with_failures(worth, risks, latency_weight)
        risks = [
            risk if utility < answer else NONE
            for risk, utility, answer in zip(risks, worth, answers, strict=True)
        ]
    return [
        _Forecast(quality, std, seen, utility, doubt, seen + further, sound, mean, risk)
        for (sound, quality), mean, std, seen, doubt, further, utility, risk in zip(
            sounds, qualities, stds, evidence, doubts, tried, worth, risks, strict=True
        )
    ]


def _probabilities(
    inputs: DecisionMade, tiers: Sequence[int], forecasts: Sequence[_Forecast]
) -> list[float]:
    """Return the probability of each candidate; behind the lowest tier it is 0."""
    offers = inputs.candidates
    lowest = min(tiers)
    if lowest == max(tiers):
        return _drawn_from(inputs, offers, forecasts)
    first = [index for index, tier in enumerate(tiers) if tier == lowest]
    probabilities = [0.0] * len(offers)
    drawn_from = _drawn_from(
        inputs, [offers[index] for index in first], [forecasts[index] for index in first]
    )
    for index, probability in zip(first, drawn_from, strict=True):
        probabilities[index] = probability
    return probabilities


def _drawn_from(
    inputs: DecisionMade, offers: Sequence[Candidate], forecasts: Sequence[_Forecast]
) -> list[float]:
    weights = settled(inputs, [offer.model for offer in offers]) if inputs.weights else ()
    rule = rule_of(inputs.policy) if inputs.explore or any(weights) else greedy
    return rule(
        Outlook(
            [forecast.utility for forecast in forecasts],
            [forecast.doubt for forecast in forecasts],
            [forecast.known for forecast in forecasts],
            inputs.gamma,
            inputs.width,
            inputs.exploration_floor if inputs.explore else 0.0,
            weights,
        )
    )


def _plan(
    offers: Sequence[Candidate], drawn: int, tiers: Sequence[int], forecasts: Sequence[_Forecast]
) -> tuple[str, ...]:
    """Return the drawn model, then the others by tier and utility."""
    utilities = [forecast.utility for forecast in forecasts]
    order = sorted(range(len(offers)), key=utilities.__getitem__, reverse=True)
    order.sort(key=tiers.__getitem__)
    order.remove(drawn)
    return tuple([offers[index].model for index in (drawn, *order)])


def _candidate(
    offer: Candidate, expense: _Expense, forecast: _Forecast, probability: float
) -> Candidate:
    return msgspec.structs.replace(
        offer,
        quality=forecast.quality,
        quality_std=forecast.quality_std,
        evidence=forecast.evidence,
        completion_tokens=expense.completion_tokens,
        cost_usd=expense.cost_usd,
        cost_std=expense.cost_std,
        latency_s=expense.latency_s,
        latency_std=expense.latency_std,
        utility=forecast.utility,
        probability=probability,
        sound=forecast.sound,
        failed_share=forecast.risk.share,
        lost_s=forecast.risk.lost_s,
    )


def _over(expense: _Expense, limits: Limits) -> tuple[str, str] | None:
    """Return the reason and detail when what is predicted is over a limit."""
    if 0 < limits.max_cost_usd < expense.cost_usd:
        return "price", f"predicted {expense.cost_usd:.6f} USD, limit {limits.max_cost_usd:g}"
    if 0 < limits.max_latency_s < expense.latency_s:
        return "latency", f"predicted {expense.latency_s:.2f} s, limit {limits.max_latency_s:g}"
    return None


def _without(inputs: DecisionMade, over: Sequence[tuple[str, str] | None]) -> DecisionMade:
    """Make exclusions of the candidates that have a reason."""
    judged = tuple(zip(inputs.candidates, over, strict=True))
    return msgspec.structs.replace(
        inputs,
        candidates=tuple(offer for offer, why in judged if why is None),
        exclusions=(
            *inputs.exclusions,
            *(Exclusion(model=o.model, reason=why[0], detail=why[1]) for o, why in judged if why),
        ),
    )


def _bounded(value: float) -> float:
    # In this order NaN becomes the bound too.
    return min(MOST, value)


@functools.lru_cache(maxsize=64)
def _hash(policy: str, gamma: float, floor: float, width: float, seed: int, prior: str) -> str:
    return PolicyParameters(
        policy=policy,
        gamma=gamma,
        exploration_floor=floor,
        width=width,
        seed=seed,
        prior=prior,
    ).policy_hash
