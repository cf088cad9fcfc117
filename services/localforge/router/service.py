"""Which model answers: the router's logic, without a broker."""

import functools
from collections.abc import Mapping
from typing import Protocol

import msgspec

from localforge.bandit import (
    Eligibility,
    Fold,
    Limits,
    PolicyParameters,
    Preference,
    Registry,
    Requirements,
    complete,
    filter_models,
    named_preferences,
    parse_preference,
    refuse_ambiguous,
    refuse_empty,
    refuse_unread,
    spare,
)
from localforge.bandit.decide import MOST
from localforge.bandit.goal import CONTROLLER, forecasts_of
from localforge.bandit.provider import PREFERENCE_OF_SORT, KnownProviders, Ruled, apply_rules
from localforge.bandit.rules import appoint
from localforge.config import Config, PolicyConfig
from localforge.contracts.cards import Capability, ModelCard, RegistrySnapshot
from localforge.contracts.facts import NOTHING, Candidate, DecisionMade
from localforge.contracts.live import ChatCall, ExecuteCall, Operation, RouteCall
from localforge.contracts.openrouter import ProviderRules
from localforge.contracts.trust import Label
from localforge.errors import RequestRefused
from localforge.router.budgets import KeyBudgets
from localforge.router.companions import Companions
from localforge.router.conversations import Conversations
from localforge.router.execution import NO_RULES, execution, target
from localforge.router.stated_policy import policy_of

AUTO = "auto"


class RegistrySource(Protocol):
    """Where the latest snapshot of the registry is found."""

    @property
    def snapshot(self) -> RegistrySnapshot:
        """The latest one; immutable."""


class Routed(msgspec.Struct, frozen=True):
    """A decision and what is to be run; `execute` is None for a dry run."""

    decision: DecisionMade
    execute: ExecuteCall | None


class RouterService:
    """Makes decisions on the registry's latest snapshot and the fold's present state.

    Args:
        config: Its `router`, `policy` and `aliases` sections are used.
        registry: Read at every decision.
        fold: The learner; folded by whoever owns it, between calls of `route`.
        companions: What keeps the goal and knows what keys have spent, folded likewise.
        conversations: Outlives a reload; a new memory when None.
    """

    def __init__(
        self,
        config: Config,
        registry: RegistrySource,
        fold: Fold,
        companions: Companions | None = None,
        conversations: Conversations | None = None,
    ) -> None:
        self._config = config.router
        self._zones = functools.lru_cache(maxsize=256)(
            functools.partial(_allowed_zones, config.policy)
        )
        self._aliases: Mapping[str, str] = config.aliases
        self._providers = KnownProviders(config.backends)
        self._preferences = named_preferences(config.router)
        self._parameters = PolicyParameters.from_config(config.router, fold.learner.prior_digest)
        self._policy_hash = self._parameters.policy_hash
        self._source = registry
        self._arrange(registry.snapshot)
        self.fold = fold
        self._goal = companions.goal if companions else None
        self._budgets = KeyBudgets(config.keys, companions.spending if companions else None)
        sticky = config.router.sticky
        self.conversations = conversations or Conversations(sticky.conversations, sticky.ttl_s)

    def route(self, call: RouteCall, now: float) -> Routed:
        """Decide one request.

        Args:
            call: The profiled request; it may only go to zones that the profile, the seal and
                today's policy allow.
            now: Unix seconds.

        Raises:
            RequestRefused: Unknown model (404), preference, policy or provider (400), no model may
                answer (400, 403, 503; see `localforge.bandit.eligible`), or the key's budget is
                spent (429).
        """
        chat, profile = call.call, call.profile
        rules = chat.provider or NO_RULES
        stated = chat.preference or PREFERENCE_OF_SORT.get(rules.sort or "", "")
        preference = parse_preference(stated, self._preferences, self._config.preference)
        registry = self._registry()
        self._providers.check(rules, registry.cards)
        cards, chosen_by_caller = self._asked_for(chat.model, registry)
        required = Requirements(
            zones=self._zones(call.seal.label, call.seal.zones, profile.zones),
            label=call.seal.label,
            needs=profile.needs,
            prompt_tokens=profile.longest_tokens or profile.prompt_tokens,
            max_tokens=profile.max_tokens,
        )
        if chat.operation is Operation.EMBEDDINGS:
            refuse_ambiguous(cards)
        eligible = filter_models(registry, cards, required, now)
        if not eligible.models:
            raise refuse_empty(registry, cards, required, now, eligible.exclusions)
        eligible = spare(eligible, chat.avoid)
        eligible, left_usd = self._budgets.apply(eligible, chat.key_id, now)
        eligible, tiers = _ruled(eligible, chat.provider)
        inputs = self._inputs(
            call,
            eligible,
            tiers=tiers,
            stated=stated,
            preference=preference,
            explore=not (chosen_by_caller or profile.in_tool_loop),
            zones=tuple(sorted(required.zones)),
            now=now,
        )
        if not chosen_by_caller:
            inputs = self._stay(inputs, call, eligible, now)
        inputs = appoint(inputs, self._config, self.fold.learner)
        limits = _tightest(preference.limits, chat, left_usd)
        decision = self._complete(inputs, limits, left_usd)
        if decision is None and left_usd and limits.max_cost_usd == left_usd:
            raise self._budgets.exhausted(chat.key_id, now)
        if decision is None:
            raise _over_limits(limits, eligible)
        if chat.dry_run:
            return Routed(decision, None)
        if self._config.sticky.enabled:
            self.conversations.remember(profile.conversation, decision.chosen, now)
        execute = execution(call, decision, self._targets)
        if decision.goal and self._goal and self._goal.on_quality:
            execute = msgspec.structs.replace(execute, forecasts=forecasts_of(decision))
        return Routed(decision, execute)

    def _complete(
        self, inputs: DecisionMade, limits: Limits, left_usd: float
    ) -> DecisionMade | None:
        decision = complete(inputs, self.fold.learner, limits)
        if decision is not None and left_usd and _cascade_usd(decision) > left_usd:
            # Each model is within what is left of the key's budget; all of them are not.
            inputs = msgspec.structs.replace(inputs, cascade_wanted=False)
            decision = complete(inputs, self.fold.learner, limits)
        return decision

    def _registry(self) -> Registry:
        snapshot = self._source.snapshot
        if not snapshot.cards and not snapshot.fresh:
            raise refuse_unread()
        if snapshot is not self._arranged.snapshot:
            self._arrange(snapshot)
        return self._arranged

    def _arrange(self, snapshot: RegistrySnapshot) -> None:
        """Make what depends on the registry alone, once for all requests."""
        self._arranged = Registry(snapshot, self._config.heartbeat_timeout_s)
        self._targets = {card.name: target(card) for card in self._arranged.cards}

    def _asked_for(self, name: str, registry: Registry) -> tuple[tuple[ModelCard, ...], bool]:
        model = self._aliases.get(name, name)
        if model == AUTO:
            return registry.cards, False
        card = registry.snapshot.cards.get(model)
        if card is None:
            known = ", ".join([AUTO, *self._aliases, *(c.name for c in registry.cards)])
            raise RequestRefused(
                f"the model {name!r} does not exist; known: {known}",
                code="model_not_found",
                param="model",
                status=404,
            )
        return (card,), True

    def _inputs(
        self,
        call: RouteCall,
        eligible: Eligibility,
        *,
        tiers: dict[str, int],
        stated: str,
        preference: Preference,
        explore: bool,
        zones: tuple[str, ...],
        now: float,
    ) -> DecisionMade:
        chat, profile = call.call, call.profile
        patience = 1.0
        if not stated:
            # Nobody said what a second is worth, so a caller who waits for no token pays less.
            patience -= min(max(profile.latency_tolerance, 0.0), 1.0)
        goal = self._goal
        if goal and goal.on_quality and (stated or chat.policy):
            # A caller who names a preference has said what quality is worth, and one who names a
            # policy wants its draws, which must not move everybody's price.
            goal = None
        cost_weight = goal.cost_weight(preference.cost) if goal else preference.cost
        return DecisionMade(
            decision_id=_decision_id(chat),
            request_id=chat.request_id,
            made_at=now,
            lane=chat.lane.value,
            policy=policy_of(chat.policy, self._config),
            policy_stated=bool(chat.policy),
            policy_hash=self._policy_hash,
            state_sequence=self.fold.sequence,
            registry_version=self._arranged.snapshot.version,
            feature_schema=profile.feature_schema,
            features=profile.features,
            prompt_tokens=profile.prompt_tokens,
            label=call.seal.label,
            zones=zones,
            requested_model=chat.model,
            preference=stated or self._config.preference,
            preference_stated=bool(stated),
            patience=patience,
            cost_weight=cost_weight,
            goal=str(goal.goal) if goal else "",
            goal_controller=CONTROLLER if goal else "",
            shadow_price=goal.shadow_price if goal else NOTHING,
            latency_weight=preference.latency * patience,
            explore=explore,
            seed=self._parameters.seed,
            gamma=self._parameters.gamma,
            width=self._parameters.width,
            exploration_floor=self._parameters.exploration_floor or NOTHING,
            max_tokens=profile.max_tokens,
            domain=profile.domain,
            complexity=profile.complexity,
            needs=tuple(sorted(profile.needs)),
            key_id=chat.key_id,
            cascade_wanted=explore and self._wants_cascade(call, stated, preference.limits),
            may_repeat=not profile.fixed,
            candidates=self._offers(eligible, tiers),
            exclusions=eligible.exclusions,
        )

    def _offers(self, eligible: Eligibility, tiers: Mapping[str, int]) -> tuple[Candidate, ...]:
        offers = [self._arranged.offer(card, backend) for card, backend in eligible.models]
        if any(tiers.values()):
            offers = [msgspec.structs.replace(o, tier=tiers[o.model]) for o in offers]
        return tuple(offers)

    def _wants_cascade(self, call: RouteCall, stated: str, limits: Limits) -> bool:
        chat = call.call
        wanted = chat.cascade
        if wanted is None:
            # A cascade draws in its own way, which is not what a caller who names a policy asked.
            wanted = not chat.policy and self._cascades_by_default(stated)
        if not wanted:
            return False
        # Several choices are not one answer; the caller's own order of models holds; and what a
        # cascade costs in all is only known when it has ended, so hard limits are for one model.
        is_one_answer = chat.operation is Operation.CHAT and Capability.N not in call.profile.needs
        is_free = chat.allow_fallback and chat.provider is None
        return is_one_answer and is_free and _tightest(limits, chat) == Limits()

    def _cascades_by_default(self, stated: str) -> bool:
        default = self._config.cascade
        if isinstance(default, bool):
            return default
        return (stated or self._config.preference).partition(",")[0] in default

    def _stay(
        self, inputs: DecisionMade, call: RouteCall, eligible: Eligibility, now: float
    ) -> DecisionMade:
        """Charge every model but the one that answered last for the cache that a switch loses."""
        profile, sticky = call.profile, self._config.sticky
        if not sticky.enabled:
            return inputs
        incumbent = self.conversations.incumbent(
            profile.continues, now, however_long=profile.in_tool_loop
        )
        if not incumbent:
            return inputs
        card = next((card for card, _ in eligible.models if card.name == incumbent), None)
        if card is None:
            return inputs
        cost = MOST
        if not profile.in_tool_loop:
            tokens = profile.prefix_tokens
            cached = card.price_cached
            if cached is None:
                cached = card.price_in * sticky.cached_share
            saved_usd = tokens * max(card.price_in - cached, 0.0) / 1_000_000
            saved_s = tokens / sticky.prefill_tokens_per_s
            cost = inputs.cost_weight * saved_usd + inputs.latency_weight * saved_s
        return msgspec.structs.replace(
            inputs,
            incumbent=incumbent,
            switching_cost=min(cost, MOST),
            explore=False,
            cascade_wanted=False,
        )


def _allowed_zones(
    policy: PolicyConfig, label: Label, sealed: tuple[str, ...], profiled: tuple[str, ...]
) -> frozenset[str]:
    """Return where a request may go: sealed work may be older than the policy."""
    both = frozenset(sealed).intersection(profiled)
    return frozenset(zone for zone in both if policy.allows(label, zone))


def _cascade_usd(decision: DecisionMade) -> float:
    """Return what all calls of a cascade are predicted to cost; 0 where there is none."""
    if decision.cascade is None:
        return 0.0
    costs = {candidate.model: candidate.cost_usd for candidate in decision.candidates}
    return sum(costs[model] for model in decision.cascade.models)


def _tightest(limits: Limits, chat: ChatCall, left_usd: float = 0.0) -> Limits:
    if not chat.max_cost_usd and not chat.max_latency_s and not left_usd:
        return limits
    return Limits(
        max_cost_usd=_least(_least(limits.max_cost_usd, chat.max_cost_usd), left_usd),
        max_latency_s=_least(limits.max_latency_s, chat.max_latency_s),
    )


def _least(one: float, other: float) -> float:
    """Return the tighter of two limits of which 0 is none."""
    return min(one, other) if one and other else one or other


def _decision_id(chat: ChatCall) -> str:
    return f"{chat.request_id}-{chat.attempt}" if chat.attempt else chat.request_id


def _ruled(eligible: Eligibility, rules: ProviderRules | None) -> Ruled:
    if rules is None:
        return Ruled(eligible, {})
    ruled = apply_rules(eligible, rules)
    if not ruled.eligible.models:
        raise _ruled_out(ruled.eligible)
    return ruled


def _ruled_out(eligible: Eligibility) -> RequestRefused:
    told = "; ".join(f"{e.model}: {e.reason} ({e.detail})" for e in eligible.exclusions)
    return RequestRefused(
        f"no model is left under the request's `provider` rules. {told}.",
        code="no_eligible_model",
        param="provider",
    )


def _over_limits(limits: Limits, eligible: Eligibility) -> RequestRefused:
    names = ", ".join(card.name for card, _ in eligible.models)
    told = "".join(f"; {e.model}: {e.reason} ({e.detail})" for e in eligible.exclusions)
    return RequestRefused(
        f"every eligible model ({names}) is predicted to be over the limits: {_asked(limits)}; "
        f"raise them{told}",
        code="no_eligible_model",
        param="preference",
    )


def _asked(limits: Limits) -> str:
    named = (
        ("max_cost_usd", limits.max_cost_usd),
        ("max_latency_s", limits.max_latency_s),
    )
    return ", ".join(f"{name}={value:g}" for name, value in named if value)
