"""A configuration as a decision rule: what it would have done at a logged decision."""

import functools

import msgspec

from localforge.audit.results import AS_CHARGED, Tariff, Tariffs
from localforge.bandit import (
    Learner,
    PolicyParameters,
    Preference,
    complete,
    named_preferences,
    parse_preference,
)
from localforge.bandit.rules import appoint
from localforge.config import Config
from localforge.contracts.cards import ModelCard
from localforge.contracts.facts import Candidate, DecisionMade
from localforge.errors import LocalforgeError
from localforge.registry.cards import cards_of
from localforge.trust import ZonePolicy


class TargetPolicy:
    """The rule that a configuration asks for, on the learner and the requests of the log.

    What it takes over is what deploying the file would: exploration, preferences, the zones of each
    label, and, when the file has backends, its models with their prices, priors and zones; a model
    that it leaves out or disables is gone. What a request stated for itself stays.

    Args:
        config: The whole configuration, defaults included.

    Raises:
        ConfigError: A remote model has no price.
    """

    def __init__(self, config: Config) -> None:
        self._default = config.router.preference
        self._router = config.router
        self._parameters = PolicyParameters.from_config(config.router)
        self._named = named_preferences(config.router)
        cards = [card for backend in config.backends for card in cards_of(backend)]
        self.cards: dict[str, ModelCard] | None = (
            {card.name: card for card in cards} if config.backends else None
        )
        """By model; None when the file leaves the log's models as they are."""
        self._zones = ZonePolicy(config.policy, {backend.zone for backend in config.backends})
        self._preference = functools.lru_cache(maxsize=1024)(self._parse)

    def decide(self, record: DecisionMade, learner: Learner) -> DecisionMade | None:
        """Make the decision as this rule would have.

        Args:
            record: As logged.
            learner: At the record's `state_sequence`.

        Returns:
            The decision; None where no candidate is left and the request would be refused.

        Raises:
            ValueError: The record's preference cannot be read.
        """
        offers = tuple(
            offer for logged in record.candidates if (offer := self._offer(record, logged))
        )
        if not offers:
            return None
        preference = self._preference(record.preference if record.preference_stated else "")
        parameters = self._parameters
        inputs = msgspec.structs.replace(
            record,
            candidates=offers,
            policy=record.policy if record.policy_stated else parameters.policy,
            gamma=parameters.gamma,
            width=parameters.width,
            exploration_floor=parameters.exploration_floor,
            seed=parameters.seed,
            cascade_wanted=False,
            cost_weight=_cost_weight(record, preference),
            latency_weight=preference.latency * record.patience,
        )
        return complete(appoint(inputs, self._router, learner), learner, preference.limits)

    def tariffs(self, record: DecisionMade) -> Tariffs:
        """Return what the file charges for answers to this decision, where its prices differ."""
        if self.cards is None:
            return AS_CHARGED
        found = {
            logged.model: tariff
            for logged in record.candidates
            if (card := self.cards.get(logged.model)) and (tariff := _tariff(card, logged)).differs
        }
        return found or AS_CHARGED

    def _offer(self, record: DecisionMade, logged: Candidate) -> Candidate | None:
        if self.cards is None:
            return logged
        card = self.cards.get(logged.model)
        if card is None or not card.enabled or card.zone not in self._zones.zones_for(record.label):
            return None
        return msgspec.structs.replace(
            logged,
            zone=card.zone,
            price_in=card.price_in,
            price_out=card.price_out,
            usd_per_hour=_hourly(card, logged),
            quality_prior=card.quality_prior,
            published_score=card.published_score,
        )

    def _parse(self, text: str) -> Preference:
        try:
            return parse_preference(text, self._named, self._default)
        except LocalforgeError as exc:
            raise ValueError(exc.message) from exc


def _cost_weight(record: DecisionMade, preference: Preference) -> float:
    """Return what a dollar weighs, with the goal's price as it was in the log."""
    if not record.goal:
        return preference.cost
    if record.goal.startswith("spend "):
        return preference.cost + record.shadow_price
    # The price of a goal for quality stands in place of the preference's.
    return record.cost_weight


def _hourly(card: ModelCard, logged: Candidate) -> float:
    """Return the share of the file's price by the hour that the request was to bear."""
    # An older log does not say what share that was: the machine's price is taken for unchanged.
    return card.usd_per_hour * logged.hour_share if logged.hour_share else logged.usd_per_hour


def _tariff(card: ModelCard, logged: Candidate) -> Tariff:
    return Tariff(
        price_in=card.price_in,
        price_out=card.price_out,
        hourly=_hourly(card, logged),
        price_cached=card.price_cached,
        old_in=logged.price_in,
        old_out=logged.price_out,
        old_hourly=logged.usd_per_hour,
    )
