"""What came of every decision: its verdicts, and what all its attempts cost and took."""

from collections.abc import Mapping
from typing import NamedTuple

from localforge.contracts.chat import Usage
from localforge.contracts.facts import CHECKS, FeedbackGiven, OutcomeObserved

SECONDS_PER_HOUR = 3600


class Tariff(NamedTuple):
    """What the attempts at one model of one decision are charged, in place of what they were.

    Prices are US dollars per million prompt and completion tokens, and per hour for the share of
    the machine's time that the request was to bear.
    """

    price_in: float
    price_out: float
    hourly: float
    old_in: float
    old_out: float
    old_hourly: float

    @property
    def differs(self) -> bool:
        """False where the new prices are the old ones."""
        return self[:3] != self[3:]

    def charge(self, usage: Usage, seconds: float, charged: float) -> float:
        """Return the new cost of an attempt.

        Args:
            usage: Its tokens.
            seconds: It took.
            charged: What it was charged; what that was above the old price of its tokens was the
                machine's time.
        """
        by_token = _tokens_usd(usage, self.price_in, self.price_out)
        if self.old_hourly > 0:
            spent = max(charged - _tokens_usd(usage, self.old_in, self.old_out), 0.0)
            return by_token + spent * self.hourly / self.old_hourly
        return by_token + max(seconds, 0.0) * self.hourly / SECONDS_PER_HOUR


Tariffs = Mapping[str, Tariff]
"""By model; one that is not in it is charged what it was."""
AS_CHARGED: Tariffs = {}


class _Result:
    """Of one decision."""

    __slots__ = ("answered", "attempts", "score", "seconds", "weight")

    def __init__(self) -> None:
        self.score = 0.0
        self.weight = 0.0
        self.seconds = 0.0
        self.answered = False
        self.attempts: list[tuple[str, Usage, float, float]] = []
        """Model, tokens, seconds and what was charged, of each."""


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
        result.attempts.append((fact.model, fact.usage, fact.total_s, fact.cost_usd))
        result.seconds += max(fact.queue_s, 0.0) + max(fact.total_s, 0.0)
        result.answered |= fact.status == "ok"

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

    def cost_usd(self, decision_id: str, tariffs: Tariffs = AS_CHARGED) -> float | None:
        """Return the cost of all attempts in US dollars; None when none was observed.

        Args:
            decision_id: Of the decision.
            tariffs: What to charge instead of what was charged.
        """
        result = self._results.get(decision_id)
        if result is None or not result.attempts:
            return None
        return sum(
            tariffs[model].charge(usage, seconds, charged) if model in tariffs else charged
            for model, usage, seconds, charged in result.attempts
        )

    def latency_s(self, decision_id: str) -> float | None:
        """Return the seconds all attempts took, queues included; None without an answer."""
        result = self._results.get(decision_id)
        return result.seconds if result and result.answered else None

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


def _tokens_usd(usage: Usage, price_in: float, price_out: float) -> float:
    return (usage.prompt_tokens * price_in + usage.completion_tokens * price_out) / 1_000_000
