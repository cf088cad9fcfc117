"""Compare the policy in shadow with the live one: how often they differ, what is expected of each.

Expectations are over each policy's own draw and use the predictions of the live record for both, so
that they differ by the choice alone. For what would have been earned on recorded verdicts, judge
the shadow's parameters with the counterfactual.
"""

from collections import Counter, OrderedDict
from typing import TypeVar

import msgspec

from localforge.bandit.ids import RecentIds
from localforge.contracts.facts import CHECKS, DecisionMade, FeedbackGiven, ShadowDecided
from localforge.contracts.problems import ContractViolation
from localforge.contracts.subjects import DECISION_PREFIX, FEEDBACK_PREFIX, SHADOW

T = TypeVar("T")

WAITING = 20_000
"""Records that wait for their other half."""
MOST_PAIRS = 20


class Expected(msgspec.Struct, kw_only=True):
    """Means per request."""

    quality: float = 0.0
    cost_usd: float = 0.0
    latency_s: float = 0.0


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """How often the live policy chose one model and the shadow another."""

    live: str
    shadow: str
    decisions: int


class ShadowReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison found."""

    decisions: int
    """In the log."""
    compared: int
    """With a record of the shadow."""
    differ: int
    """Where the two drew different models."""
    policies: tuple[str, ...]
    """Hashes of the shadow's parameters; more than one when it was changed."""
    live: Expected
    shadow: Expected
    pairs: tuple[Pair, ...]
    """The most frequent differences."""
    score_agreed: float | None
    """Mean verdict on answers where both chose the same model; None without any."""
    score_differed: float | None
    """Mean verdict on the live answers where the shadow chose another."""


class ShadowComparison:
    """A comparison in progress: `feed` it the stream in order, then `finish`."""

    def __init__(self, since: float = 0.0) -> None:
        self._since = since
        self._decisions: OrderedDict[str, DecisionMade] = OrderedDict()
        self._shadows: OrderedDict[str, ShadowDecided] = OrderedDict()
        self._agreed: OrderedDict[str, bool] = OrderedDict()
        self._count = self._compared = self._differ = 0
        self._ids = RecentIds()
        self._policies: dict[str, None] = {}
        self._live, self._shadow = Expected(), Expected()
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._scores: dict[bool, list[float]] = {True: [0.0, 0.0], False: [0.0, 0.0]}

    def feed(self, _: int, subject: str, data: bytes) -> None:
        """Take the next message; what cannot be read is for the replay to report."""
        try:
            if subject.startswith(FEEDBACK_PREFIX + "."):
                self._judge(FeedbackGiven.decode(data))
            elif not subject.startswith(DECISION_PREFIX + "."):
                return
            elif subject.endswith("." + SHADOW):
                self._take_shadow(ShadowDecided.decode(data))
            else:
                self._take_decision(DecisionMade.decode(data))
        except ContractViolation:
            return

    def finish(self) -> ShadowReport:
        """Return the report."""
        for expected in (self._live, self._shadow):
            count = max(self._compared, 1)
            expected.quality /= count
            expected.cost_usd /= count
            expected.latency_s /= count
        means = {
            agreed: total / weight if weight else None
            for agreed, (total, weight) in self._scores.items()
        }
        return ShadowReport(
            decisions=self._count,
            compared=self._compared,
            differ=self._differ,
            policies=tuple(self._policies),
            live=self._live,
            shadow=self._shadow,
            pairs=tuple(
                Pair(live=live, shadow=shadow, decisions=count)
                for (live, shadow), count in self._pairs.most_common(MOST_PAIRS)
            ),
            score_agreed=means[True],
            score_differed=means[False],
        )

    def _take_decision(self, record: DecisionMade) -> None:
        if record.made_at < self._since:
            return
        self._count += 1
        shadow = self._shadows.pop(record.decision_id, None)
        if shadow is None:
            _keep(self._decisions, record.decision_id, record)
        else:
            self._compare(record, shadow)

    def _take_shadow(self, shadow: ShadowDecided) -> None:
        if shadow.made_at < self._since:
            return
        record = self._decisions.pop(shadow.decision_id, None)
        if record is None:
            _keep(self._shadows, shadow.decision_id, shadow)
        else:
            self._compare(record, shadow)

    def _compare(self, record: DecisionMade, shadow: ShadowDecided) -> None:
        self._compared += 1
        self._policies[shadow.policy_hash] = None
        agreed = record.chosen == shadow.chosen
        if not agreed:
            self._differ += 1
            self._pairs[record.chosen, shadow.chosen] += 1
        _keep(self._agreed, record.decision_id, agreed)
        for candidate in record.candidates:
            shares = candidate.probability, shadow.probabilities.get(candidate.model, 0.0)
            for expected, share in zip((self._live, self._shadow), shares, strict=True):
                expected.quality += share * candidate.quality
                expected.cost_usd += share * candidate.cost_usd
                expected.latency_s += share * candidate.latency_s

    def _judge(self, verdict: FeedbackGiven) -> None:
        if verdict.source == CHECKS or not self._ids.add(verdict.feedback_id):
            return
        agreed = self._agreed.get(verdict.decision_id)
        if agreed is not None and 0 <= verdict.score <= 1 and 0 < verdict.weight <= 1:
            self._scores[agreed][0] += verdict.weight * verdict.score
            self._scores[agreed][1] += verdict.weight


def _keep(kept: OrderedDict[str, T], key: str, value: T) -> None:
    kept[key] = value
    if len(kept) > WAITING:
        kept.popitem(last=False)
