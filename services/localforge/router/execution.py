"""A decision as work: the plan with what executors need to know of each model."""

from collections.abc import Mapping

from localforge.contracts.cards import ModelCard
from localforge.contracts.facts import DecisionMade
from localforge.contracts.live import CascadeCall, ExecuteCall, RouteCall, Target
from localforge.contracts.openrouter import ProviderRules

NO_RULES = ProviderRules()


def execution(
    call: RouteCall, decision: DecisionMade, targets: Mapping[str, Target]
) -> ExecuteCall:
    """Return what executors are told.

    Args:
        call: The request.
        decision: Complete.
        targets: By name, every model in the decision's plan.
    """
    chat, profile = call.call, call.profile
    rules = chat.provider or NO_RULES
    # With an order, whom to ask instead is said there.
    may_fall_back = chat.allow_fallback and (rules.allow_fallbacks is not False or rules.order)
    names = decision.plan if may_fall_back else decision.plan[:1]
    return ExecuteCall(
        call=chat,
        seal=call.seal,
        decision_id=decision.decision_id,
        plan=tuple([targets[name] for name in names]),
        propensity=decision.propensity,
        prompt_tokens=profile.prompt_tokens,
        domain=profile.domain,
        needs=profile.needs,
        max_tokens=profile.max_tokens,
        cascade=_cascade(decision),
    )


def _cascade(decision: DecisionMade) -> CascadeCall | None:
    plan = decision.cascade
    if plan is None or (plan.test != "checks" and not plan.asks_pair):
        return None
    return CascadeCall(plan=plan)


def target(card: ModelCard) -> Target:
    """Return what executors need to know of a model."""
    return Target(
        model=card.name,
        backend=card.backend,
        zone=card.zone,
        upstream=card.upstream_name,
        price_in=card.price_in,
        price_out=card.price_out,
        price_cached=card.price_cached,
        price_cache_write=card.price_cache_write,
        price_cache_write_1h=card.price_cache_write_1h,
    )
