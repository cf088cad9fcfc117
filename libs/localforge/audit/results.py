"""What came of every decision: its verdicts, and what all its attempts cost and took."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from localforge.contracts.chat import Usage
from localforge.contracts.facts import CHECKS, FeedbackGiven, OutcomeObserved

SECONDS_PER_HOUR = 3600
MILLION = 1_000_000


class Tariff(NamedTuple):
    """The new and the old prices of the attempts at one model of one decision.

    Prices are US dollars per million prompt and completion tokens, and per hour for the share of
    the machine's time that the request was to bear.
    """

    price_in: float
    price_out: float
    hourly: float
    price_cached: float | None
    """Of prompt tokens read from a cache, None where it is not known: they then keep the discount
    of the log, which is in it only as what was charged."""
    old_in: float
    old_out: float
    old_hourly: float

    @property
    def differs(self) -> bool:
        """False where the new prices are the old ones."""
        return (self.price_in, self.price_out, self.hourly) != (
            self.old_in,
            self.old_out,
            self.old_hourly,
        )

    def charge(self, usage: Usage, seconds: float, charged: float) -> float:
        """Return the new cost of an attempt: what it was charged, and what the prices add.

        So discounts, and what a vendor itself told that the answer cost, stay. Tokens written to a
        cache become dearer by as much as the prompt's others.

        Args:
            usage: Its tokens.
            seconds: It took.
            charged: What it was charged; what that was above the old price of its tokens was the
                machine's time.
        """
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        read, written = usage.prompt_tokens - cached, usage.completion_tokens
        by_token = read * self.old_in + written * self.old_out
        old_cached = self._old_cached(cached, charged * MILLION - by_token)
        by_token = (by_token + cached * old_cached) / MILLION
        more = (
            read * (self.price_in - self.old_in)
            + cached * (self._new_cached(old_cached) - old_cached)
            + written * (self.price_out - self.old_out)
        ) / MILLION
        if self.old_hourly > 0:
            more += max(charged - by_token, 0.0) * (self.hourly / self.old_hourly - 1.0)
        else:
            more += max(seconds, 0.0) * self.hourly / SECONDS_PER_HOUR
        return max(charged + more, 0.0)

    def _old_cached(self, cached: int, left: float) -> float:
        """Return what a million cached tokens cost in the log.

        Args:
            cached: Tokens.
            left: Of what was charged, without all other tokens, in millionths of a US dollar.
        """
        if self.price_in == self.old_in or self.old_hourly > 0 or not cached:
            # It stays with the price of the others; beside the machine's time nothing tells it.
            return self.old_in if self.price_cached is None else min(self.price_cached, self.old_in)
        return min(max(left / cached, 0.0), self.old_in)

    def _new_cached(self, old_cached: float) -> float:
        if self.price_cached is not None:
            return self.price_cached
        return old_cached * self.price_in / self.old_in if self.old_in > 0 else self.price_in


Tariffs = Mapping[str, Tariff]
"""By model; one that is not in it is charged what it was."""
AS_CHARGED: Tariffs = {}


class _Result:
    """Of one decision."""

    __slots__ = ("answered_by", "attempts", "score", "weight")

    def __init__(self) -> None:
        self.score = 0.0
        self.weight = 0.0
        self.answered_by = ""
        self.attempts: list[OutcomeObserved] = []


class Results:
    """Collects outcomes and feedback by decision, each fact once.

    Facts may come before the record of their decision.
    """

    def __init__(self) -> None:
        self._results: dict[str, _Result] = {}
        self._seen: set[str] = set()

    def outcome(self, fact: OutcomeObserved) -> None:
        """Take what one attempt cost; an attempt that failed costs, and delays the answer."""
        if not self._new(fact.identity):
            return
        result = self._of(fact.decision_id)
        result.attempts.append(fact)
        if fact.status == "ok" and not result.answered_by:
            result.answered_by = fact.model

    def feedback(self, fact: FeedbackGiven) -> None:
        """Take a verdict; several of one decision are averaged by weight.

        What checks say is none: nearly every answer passes, and would count as a good one.
        """
        if fact.source == CHECKS or not (0 <= fact.score <= 1 and 0 < fact.weight <= 1):
            return
        if self._new(f"feedback {fact.feedback_id}"):
            result = self._of(fact.decision_id)
            result.score += fact.weight * fact.score
            result.weight += fact.weight

    def quality(self, decision_id: str) -> float | None:
        """Return the mean verdict, 0 to 1; None without one."""
        result = self._results.get(decision_id)
        return result.score / result.weight if result and result.weight else None

    def answered_by(self, decision_id: str) -> str:
        """Return the model that answered; empty without an answer."""
        result = self._results.get(decision_id)
        return result.answered_by if result else ""

    def cost_usd(
        self,
        decision_id: str,
        tariffs: Tariffs = AS_CHARGED,
        models: Collection[str] | None = None,
    ) -> float | None:
        """Return the cost of all attempts in US dollars; None when none was observed.

        Args:
            decision_id: Of the decision.
            tariffs: What to charge instead of what was charged.
            models: Whose attempts count; None for all.
        """
        result = self._results.get(decision_id)
        if result is None or not result.attempts:
            return None
        return sum(
            tariffs[fact.model].charge(fact.usage, fact.total_s, fact.cost_usd)
            if fact.model in tariffs
            else fact.cost_usd
            for fact in result.attempts
            if models is None or fact.model in models
        )

    def latency_s(self, decision_id: str, models: Collection[str] | None = None) -> float | None:
        """Return the seconds all attempts took, queues included; None without an answer.

        Args:
            decision_id: Of the decision.
            models: Whose attempts count; None for all.
        """
        result = self._results.get(decision_id)
        if result is None or not result.answered_by:
            return None
        return sum(
            max(fact.queue_s, 0.0) + max(fact.total_s, 0.0)
            for fact in result.attempts
            if models is None or fact.model in models
        )

    def _of(self, decision_id: str) -> _Result:
        result = self._results.get(decision_id)
        if result is None:
            result = self._results[decision_id] = _Result()
        return result

    def _new(self, identity: str) -> bool:
        if identity in self._seen:
            return False
        self._seen.add(identity)
        return True
