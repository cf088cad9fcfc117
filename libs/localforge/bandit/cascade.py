"""Ask two cheap models first, and the strong one only when their answers do not convince.

Where there is only one cheap model it is asked twice, and takes both places of the pair.

Before anything is asked, `Cascade.plan` weighs asking any one model alone against asking the pair.
The value of the pair is what it is expected to lead to: in both cases, the pair agreeing or not,
the better of accepting and escalating. Once the pair has answered, `Cascade.verdict` accepts an
answer or escalates. The cost weight sets the threshold: to escalate, the last model must be better
by what it costs.

Learned is only what `localforge.bandit.belief` describes, on top of the qualities that the router
predicts anyway. Only the score of the delivered answer is ever seen; the same answers share it.
Choices are drawn by `localforge.bandit.policies.matching` with a keyed draw: exact probabilities,
repeatable.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from localforge.bandit.belief import (
    PRIOR_WEIGHT,
    UNLIKE_BAD,
    Acceptance,
    Belief,
    Correction,
    Qualities,
    RepeatQualities,
    probability,
)
from localforge.bandit.draw import keyed_uniform, pick
from localforge.bandit.policies import Outlook, matching
from localforge.contracts.facts import Candidate

CAUTION = 0.5
"""Standard deviations of its predicted quality that a model asked alone is marked down by: nothing
checks its answer, and the largest of several uncertain predictions is usually too large."""


CURIOSITY = 2.0
"""Standard deviations of its doubt by which escalating is favoured where the pair differs: what the
last model is worth there is seen by asking it only. So a cold start asks it on every difference."""


OWN_SHARE = 0.7
"""Share of what the last model's score differs from what was believed of it that is put down to the
model. The rest says how much harder the requests are that it is asked for."""


class Rates(NamedTuple):
    """What the caller gives up quality for."""

    cost: float
    """Utility per US dollar."""
    latency: float = 0.0
    """Utility per second."""

    def price(self, candidate: Candidate) -> float:
        """Return what asking a model takes off the quality of its answer."""
        return self.cost * candidate.cost_usd + self.latency * candidate.latency_s


class Chain(msgspec.Struct, frozen=True, array_like=True):
    """Three models: the pair to ask first, and the one to escalate to.

    One that is asked twice is both of the pair.
    """

    first: str
    second: str
    last: str

    @property
    def is_repeat(self) -> bool:
        """Whether one model is asked twice."""
        return self.first == self.second

    def qualities(self, first: float, second: float, last: float) -> Qualities:
        """Return the predictions for its models, with the rules that go with the chain."""
        kind = RepeatQualities if self.is_repeat else Qualities
        return kind(first, second, last)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask for one request, and what was believed when that was decided."""

    models: tuple[str, ...]
    """One to ask alone, or the pair."""
    chain: Chain
    qualities: Qualities
    beliefs: dict[Belief, float]
    escalation: float
    """Price of asking the last model, in units of quality."""
    probability: float
    """With which this plan was drawn."""
    probabilities: tuple[float, ...] = ()
    """Of asking each candidate alone, in their order, and then the pair."""

    @property
    def asks_pair(self) -> bool:
        """Whether answers are to be compared."""
        return len(self.models) > 1


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whose answer to deliver; the last model's means escalating."""

    agree: bool
    deliver: str
    probability: float
    """With which this verdict was drawn."""


class Credit(NamedTuple):
    """What one request says about one model of the chain."""

    model: str
    score: float
    """Seen, or expected where none could be seen; of the last model what its score comes to on
    requests of all kinds, which may be below 0 or above 1."""
    noticed: float | None = None
    """What tells of changes, where that is not `score`: of the last model the same with all of the
    difference. Its scores as they are would not do: they are lower than those of requests that it
    answers alone, and beginning to use cascades is no change of the model."""


class BeliefState(msgspec.Struct, frozen=True, array_like=True):
    """What was learned of one belief."""

    belief: Belief
    correction: Correction
    test: Acceptance = Acceptance.AGREEMENT


class Cascade:
    """Plans, accepts or escalates, and learns. Not safe to share between threads.

    Args:
        width: Exploration, in standard deviations of doubt, as for the router's own draw.
        seed: Of the keyed draws.
    """

    def __init__(self, width: float, seed: int) -> None:
        self._width = width
        self._seed = seed
        # Shared by all chains of a test: the rules know how good their models are.
        self._learned: dict[tuple[Acceptance, Belief], Correction] = {}

    def worth(
        self, candidates: Sequence[Candidate], chain: Chain, rates: Rates, hope: float
    ) -> float:
        """Return the utility that asking the pair of a chain may lead to.

        Args:
            candidates: The eligible models with their predictions, those of the chain among them.
            chain: The pair and the last.
            rates: Of the request.
            hope: By how much the last model may be better than predicted, at least 0. A cascade
                asks one model last, so that of the others nothing is learned: what they may be
                worth counts, too.
        """
        first, second, last = _of(chain, candidates)
        quality = min(last.quality + hope, 1.0)
        beliefs = self._beliefs(chain.qualities(first.quality, second.quality, quality))
        together = _expected(chain, beliefs, rates.price(last))
        return together - rates.price(first) - rates.price(second)

    def plan(
        self, candidates: Sequence[Candidate], chain: Chain, rates: Rates, decision_id: str
    ) -> Plan:
        """Choose between asking one candidate alone and asking the pair.

        Args:
            candidates: The eligible models with their predictions, those of the chain among them.
            chain: The pair and the last.
            rates: Of the request.
            decision_id: Keys the draw.
        """
        first, second, last = _of(chain, candidates)
        qualities = chain.qualities(first.quality, second.quality, last.quality)
        beliefs = self._beliefs(qualities)
        escalation = rates.price(last)
        together = _expected(chain, beliefs, escalation)
        if chain.is_repeat:
            # A model that repeats itself may repeat what is wrong with it, too.
            together -= CAUTION * first.quality_std
        alone = [
            candidate.quality - CAUTION * candidate.quality_std - rates.price(candidate)
            for candidate in candidates
        ]
        drawn, probabilities = self._draw(
            [*alone, together - rates.price(first) - rates.price(second)],
            [*(c.quality_std for c in candidates), self._doubt(qualities.test, Belief.AGREE)],
            f"{decision_id}.plan",
        )
        is_alone = drawn < len(candidates)
        return Plan(
            models=(candidates[drawn].model,) if is_alone else (chain.first, chain.second),
            chain=chain,
            qualities=qualities,
            beliefs=beliefs,
            escalation=escalation,
            probability=probabilities[drawn],
            probabilities=tuple(probabilities),
        )

    def verdict(self, plan: Plan, decision_id: str, *, agree: bool) -> Verdict:
        """Accept an answer of the pair, or escalate.

        Args:
            plan: One that asks the pair.
            decision_id: Keys the draw.
            agree: Whether the pair gave the same answer.
        """
        test = plan.qualities.test
        curiosity = 0.0 if agree else CURIOSITY * self._doubt(test, Belief.LAST_SPLIT)
        options = _options(plan.chain, plan.beliefs, plan.escalation - curiosity, agree=agree)
        by_model = _beliefs_by_model(plan.chain, agree=agree)
        drawn, probabilities = self._draw(
            [value for _, value in options],
            [self._doubt(test, by_model[model]) for model, _ in options],
            f"{decision_id}.verdict",
        )
        return Verdict(agree=agree, deliver=options[drawn][0], probability=probabilities[drawn])

    def learn_agreement(self, plan: Plan, *, agree: bool) -> None:
        """Take whether a pair agreed, which is known without any score."""
        self._learn(plan, Belief.AGREE, float(agree))

    def learn(
        self, plan: Plan, verdict: Verdict, score: float, same: Iterable[str] = ()
    ) -> tuple[Credit, ...]:
        """Take the score of the delivered answer.

        Args:
            plan: One that asks the pair.
            verdict: What was delivered.
            score: In [0, 1].
            same: Models of the pair that answered the same as the last one, when it was asked; of
                one that was asked twice, its first answer counts.

        Returns:
            What to tell the router's own learner. A cascade shows a model's score only where its
            answer is delivered, on requests that are easier or harder than the rest. So both of a
            pair get a credit whatever was delivered: where no score was seen, what the delivered
            answer's lets expect. The last model gets one where it was asked: its prediction moved
            by what its score says of it. Where it was not asked, what is believed of it is no
            evidence. A model that was asked twice gets one credit, for its first answer: the second
            tells no more of how good it is.

        Raises:
            ValueError: The score is out of range.
        """
        if not 0.0 <= score <= 1.0:
            raise ValueError(f"score must be in [0, 1], got {score}")
        chain = plan.chain
        belief = _beliefs_by_model(chain, agree=verdict.agree)[verdict.deliver]
        self._learn(plan, belief, score)
        seen = {verdict.deliver, *same}
        if verdict.agree and verdict.deliver != chain.last:
            seen |= {chain.first, chain.second}
        # It was given and differs, so that it is right only where the delivered one is wrong.
        unseen = (1.0 - score) * UNLIKE_BAD
        credits_ = [
            Credit(model, score if model in seen else unseen)
            for model in dict.fromkeys((chain.first, chain.second))
        ]
        if verdict.deliver == chain.last:
            expected, off = plan.qualities.last, score - plan.beliefs[belief]
            credits_.append(Credit(chain.last, expected + OWN_SHARE * off, noticed=expected + off))
        return tuple(credits_)

    def drawing(self, width: float, seed: int) -> "Cascade":
        """Return the same cascade, its knowledge shared, with other parameters of its draws."""
        other = Cascade(width, seed)
        other._learned = self._learned
        return other

    def state(self) -> tuple[BeliefState, ...]:
        """Return everything learned; equal histories give equal states."""
        return tuple(
            BeliefState(belief, correction, test)
            for (test, belief), correction in sorted(self._learned.items())
        )

    def restore(self, state: Iterable[BeliefState]) -> None:
        """Take over a `state` into this fresh cascade."""
        self._learned = {(entry.test, entry.belief): entry.correction for entry in state}

    def _beliefs(self, qualities: Qualities) -> dict[Belief, float]:
        beliefs: dict[Belief, float] = {}
        for belief in qualities.beliefs:
            learned = self._learned.get((qualities.test, belief))
            correction = learned.predict(qualities.level) if learned else 0.0
            beliefs[belief] = probability(qualities.rule(belief, beliefs), correction)
        return beliefs

    def _learn(self, plan: Plan, belief: Belief, value: float) -> None:
        qualities = plan.qualities
        residual = value - qualities.rule(belief, plan.beliefs)
        learned = self._learned.setdefault((qualities.test, belief), Correction())
        learned.learn(qualities.level, residual)

    def _doubt(self, test: Acceptance, belief: Belief) -> float:
        """Return the standard deviation of a belief: that of a mean of so many yes or no."""
        learned = self._learned.get((test, belief))
        return 0.5 / math.sqrt(PRIOR_WEIGHT + (learned.count if learned else 0))

    def _draw(
        self, utilities: Sequence[float], stds: Sequence[float], key: str
    ) -> tuple[int, list[float]]:
        probabilities = matching(
            Outlook(
                utilities=utilities,
                stds=stds,
                evidence=(),
                gamma=0.0,
                width=self._width,
                floor=0.0,
            )
        )
        drawn = pick(probabilities, keyed_uniform(self._seed, key))
        return drawn, probabilities


def _of(chain: Chain, candidates: Sequence[Candidate]) -> tuple[Candidate, Candidate, Candidate]:
    by_name = {candidate.model: candidate for candidate in candidates}
    return by_name[chain.first], by_name[chain.second], by_name[chain.last]


def _expected(chain: Chain, beliefs: Mapping[Belief, float], escalation: float) -> float:
    """Return what comes of a pair that has been paid for, whether it agrees or not."""
    agree = beliefs[Belief.AGREE]
    return sum(
        share * max(value for _, value in _options(chain, beliefs, escalation, agree=agrees))
        for agrees, share in ((True, agree), (False, 1.0 - agree))
    )


def _beliefs_by_model(chain: Chain, *, agree: bool) -> dict[str, Belief]:
    """Return for each model of a chain the belief about its answer, its first where it has two."""
    if agree:
        return {
            chain.first: Belief.AGREED,
            chain.second: Belief.AGREED,
            chain.last: Belief.LAST_AGREED,
        }
    if chain.is_repeat:
        return {chain.first: Belief.FIRST_SPLIT, chain.last: Belief.LAST_SPLIT}
    return {
        chain.first: Belief.FIRST_SPLIT,
        chain.second: Belief.SECOND_SPLIT,
        chain.last: Belief.LAST_SPLIT,
    }


def _options(
    chain: Chain, beliefs: Mapping[Belief, float], escalation: float, *, agree: bool
) -> list[tuple[str, float]]:
    """Return whose answer may be delivered, with its utility once the pair is paid for."""
    by_model = _beliefs_by_model(chain, agree=agree)
    if agree and not chain.is_repeat:
        # Both have the same answer.
        del by_model[chain.second]
    return [
        (model, beliefs[belief] - (escalation if model == chain.last else 0.0))
        for model, belief in by_model.items()
    ]
