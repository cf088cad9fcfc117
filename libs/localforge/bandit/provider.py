"""A request's own rules about who may answer, in the words of OpenRouter's `provider` object."""

from collections.abc import Iterable
from typing import NamedTuple

from localforge.bandit.eligible import Backend, Eligibility
from localforge.config import BackendConfig, find_vendor
from localforge.contracts.cards import ModelCard
from localforge.contracts.facts import Exclusion
from localforge.contracts.openrouter import ProviderRules
from localforge.contracts.trust import LOCAL_ZONE
from localforge.errors import RequestRefused

PREFERENCE_OF_SORT = {"price": "cheap", "throughput": "fast", "latency": "fast"}


class KnownProviders:
    """The names that a request may ignore: of backends and of zones.

    Args:
        backends: As configured. With one at OpenRouter every name is known, because it may be that
            of a provider there.
    """

    def __init__(self, backends: Iterable[BackendConfig]) -> None:
        named = [*backends]
        self._configured = frozenset(
            name for backend in named for name in (backend.name, backend.zone)
        )
        self._asks_providers = any(
            "provider" in find_vendor(backend.vendor, address).knows
            for backend in named
            if backend.kind == "openai"
            for address in backend.addresses
        )

    def check(self, rules: ProviderRules, cards: Iterable[ModelCard]) -> None:
        """Refuse to ignore what nobody is called: a misspelt name would not be ignored.

        Args:
            rules: The request's.
            cards: What is registered; backends may be there that are not configured.

        Raises:
            RequestRefused: 400; names what is known.
        """
        if not rules.ignore or self._asks_providers:
            return
        registered = {name for card in cards for name in (card.backend, card.zone)}
        known = {LOCAL_ZONE, *self._configured, *registered}
        lowered = {name.lower() for name in known}
        for name in rules.ignore:
            if name.lower() not in lowered:
                raise RequestRefused(
                    f"`provider.ignore`: no backend and no zone is called {name!r}; known: "
                    f"{', '.join(sorted(known))}",
                    code="invalid_value",
                    param="provider.ignore",
                )


class Ruled(NamedTuple):
    """What is left under the rules."""

    eligible: Eligibility
    tiers: dict[str, int]
    """Model -> place of its backend in `order`; models without one come last, and behind all of
    them those of backends that are slower than was wished."""


def apply_rules(eligible: Eligibility, rules: ProviderRules) -> Ruled:
    """Exclude the models that the rules do not allow and put the others in order.

    Rules can only take away: what was excluded before stays so.
    """
    models = []
    exclusions = []
    order = _names(rules.order)
    tiers: dict[str, int] = {}
    for card, backend in eligible.models:
        objection = _objection(card, rules, order)
        if objection:
            reason, detail = objection
            exclusions.append(Exclusion(model=card.name, reason=reason, detail=detail))
        else:
            models.append((card, backend))
            late = len(order) + 1 if _is_slower(backend, rules) else 0
            tiers[card.name] = _place(card, order) + late
    return Ruled(Eligibility(tuple(models), eligible.exclusions + tuple(exclusions)), tiers)


def _objection(
    card: ModelCard, rules: ProviderRules, order: tuple[str, ...]
) -> tuple[str, str] | None:
    where = f"backend {card.backend} in zone {card.zone}"
    if rules.only is not None and not _is_named(card, _names(rules.only)):
        return "provider", f"{where} is not in provider.only"
    if _is_named(card, _names(rules.ignore)):
        return "provider", f"{where} is in provider.ignore"
    if order and rules.allow_fallbacks is False and not _is_named(card, order):
        return "provider", f"{where} is not in provider.order and allow_fallbacks is false"
    if (rules.data_collection == "deny" or rules.zdr) and card.zone != LOCAL_ZONE:
        told = "provider.zdr" if rules.zdr else "provider.data_collection is deny"
        return "data_collection", f"{where}; {told} allows {LOCAL_ZONE}"
    if rules.max_price:
        asked = (
            ("prompt", card.price_in, rules.max_price.prompt),
            ("completion", card.price_out, rules.max_price.completion),
        )
        for name, price, most in asked:
            if most is not None and price > most:
                return "max_price", f"{price:g} USD per million {name} tokens, limit {most:g}"
    return None


def _is_slower(backend: Backend, rules: ProviderRules) -> bool:
    """Whether what its replicas have learned of their speed misses a wish at every one of them.

    Nothing is held against a replica that has not learned it yet.
    """
    least, latest = rules.min_tokens_per_s, rules.max_first_token_s
    return bool(least or latest) and all(
        0 < replica.tokens_per_s < least or (latest and replica.first_token_s > latest)
        for replica in backend.live
    )


def _place(card: ModelCard, order: tuple[str, ...]) -> int:
    for place, name in enumerate(order):
        if name in (card.backend.lower(), card.zone.lower()):
            return place
    return len(order)


def _is_named(card: ModelCard, names: tuple[str, ...]) -> bool:
    return card.backend.lower() in names or card.zone.lower() in names


def _names(names: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(name.lower() for name in names or ())
