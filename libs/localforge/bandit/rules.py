"""Models that the configuration appoints: a static split, and rules over a request's profile.

Rules also stand in for a learned policy while it knows nothing: no shipped prior, no card with a
score, and hardly a verdict on any of the candidates. Not where a request names its policy.
"""

from collections.abc import Iterable, Sequence

import msgspec

from localforge.bandit.learner import Learner
from localforge.config.sections import RouterConfig, RuleConfig
from localforge.contracts.facts import DecisionMade

STATIC, RULES = "static", "rules"
KNOWN_FROM = 30.0
"""Verdicts on the candidates, by weight, from which on the learned policy decides."""


def appoint(inputs: DecisionMade, router: RouterConfig, learner: Learner) -> DecisionMade:
    """Return a decision's inputs with the models that the configuration appoints for it.

    Args:
        inputs: Complete but for `rule` and `weights`.
        router: The configuration.
        learner: At the state the decision is made on.
    """
    name, _, version = inputs.policy.partition(".")
    if name == STATIC:
        return msgspec.structs.replace(
            inputs, rule="", weights=dict(router.static), cascade_wanted=False
        )
    if name == RULES:
        rule = first_rule(router.rules, inputs)
    elif router.rules and not inputs.policy_stated and _knows_nothing(inputs, learner):
        rule = first_rule(router.rules, inputs)
        if rule:
            inputs = msgspec.structs.replace(inputs, policy=f"{RULES}.{version}")
    else:
        rule = None
    if rule is None:
        return msgspec.structs.replace(inputs, rule="", weights={}) if inputs.weights else inputs
    return msgspec.structs.replace(
        inputs, rule=rule.name, weights=dict(rule.models), cascade_wanted=False
    )


def first_rule(rules: Iterable[RuleConfig], inputs: DecisionMade) -> RuleConfig | None:
    """Return the first rule that holds for a request; None when none does."""
    return next((rule for rule in rules if _holds(rule, inputs)), None)


def settled(inputs: DecisionMade, models: Sequence[str]) -> list[float]:
    """Return the weight of each model; all 0 where none is appointed.

    Where nothing may be explored one has all the weight: the one that the conversation is with,
    else the first of the heaviest.
    """
    if not inputs.weights or inputs.policy.partition(".")[0] not in (STATIC, RULES):
        return [0.0] * len(models)
    weights = [inputs.weights.get(model, 0.0) for model in models]
    if inputs.explore or not any(weights):
        return weights
    stays = inputs.incumbent if inputs.weights.get(inputs.incumbent) else ""
    kept = models.index(stays) if stays in models else weights.index(max(weights))
    return [1.0 if index == kept else 0.0 for index in range(len(models))]


def _holds(rule: RuleConfig, inputs: DecisionMade) -> bool:
    return (
        (not rule.domains or inputs.domain in rule.domains)
        and rule.min_complexity <= inputs.complexity <= rule.max_complexity
        and inputs.prompt_tokens >= rule.min_prompt_tokens
        and (not rule.max_prompt_tokens or inputs.prompt_tokens <= rule.max_prompt_tokens)
        and set(rule.needs) <= set(inputs.needs)
    )


def _knows_nothing(inputs: DecisionMade, learner: Learner) -> bool:
    models = {candidate.model for candidate in inputs.candidates}
    has_card = any(
        candidate.published_score is not None or candidate.quality_prior is not None
        for candidate in inputs.candidates
    )
    if has_card or (learner.prior and not models.isdisjoint(learner.prior.rows)):
        return False
    arms = learner.arms
    verdicts = sum(
        weight for model, weight in zip(arms.names, arms.weights, strict=True) if model in models
    )
    return verdicts < KNOWN_FROM
