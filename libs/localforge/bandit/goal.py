"""A goal kept by a controller: the cost weight at which spending or quality comes out as asked.

The weight is the Lagrange multiplier of the goal. For spending it is estimated by online mirror
descent with the entropic mirror map, which multiplies it by ``exp(step * deviation)`` after every
answer: Balseiro, Lu and Mirrokni, "The Best of Many Worlds: Dual Mirror Descent for Online
Allocation Problems", Operations Research 71(1), 2023. For quality it is read off what every price
would have bought so far (`localforge.bandit.price_curve`). An integral part pays the deviation that
has piled up back over `HORIZON` answers, so that the mean comes out as asked and not only the
present rate.

The state is a fold of the feedback stream, of `OutcomeObserved` and `FeedbackGiven`: same stream
and goal, same weight. Nothing here reads a clock.
"""

import calendar
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from localforge.bandit.ids import RecentIds
from localforge.bandit.price_curve import HIGHEST, LOWEST, PriceCurve
from localforge.bandit.running import RunningMean
from localforge.config.sections import GoalConfig
from localforge.contracts.facts import (
    CHECKS,
    DecisionMade,
    FeedbackGiven,
    Forecast,
    OutcomeObserved,
    outcome_on,
)
from localforge.contracts.problems import ContractViolation
from localforge.contracts.subjects import FEEDBACK_PREFIX, OUTCOME_PREFIX

HORIZON = 1000.0
"""Answers over which a deviation is paid back, in the long run; a tenth at first."""
STEP = 0.03
"""Change of the weight's logarithm for a deviation of one scale, in the long run."""
EAGER, SETTLED = 8.0, 20.0
"""The first step is so many times `STEP`; after so many answers the excess has halved."""
MOST_ERROR = 4.0
"""Scales; a larger deviation of one answer waits in the integral part."""
MOST_PAYBACK = 0.05
"""Quality by which the integral part may change what is asked for."""
LEVEL_FADING = 1 / 2000
"""Least share of an answer in a model's mean prediction."""
BIAS_WEIGHT, BIAS_FADING = 1000.0, 1 / 5000
"""How firmly predictions are believed to be right on the mean, in verdicts; least share of one."""
TRUSTED = 0.025
"""Standard error of a mean score from which on a model's predictions are trusted: 400 verdicts."""
LONGEST_GAP = 1 / 6
"""Share of the period that a gap between two answers counts for at most, or ten mean gaps where
those are longer."""
PENDING = 4096
"""Answers that a verdict may still come for."""
PER_THOUSAND = "1000 requests"
CONTROLLER = "dual.v4"
"""Name and version of the arithmetic: a change of it is a new version."""
MOST = 1e9
"""Forecasts beyond this are not believed."""


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be kept: one of the three figures is given."""

    spend_usd: float | None = None
    per: str = "day"
    """`1000 requests`, `hour`, `day` or `month` (UTC), for `spend_usd`."""
    max_loss: float | None = None
    """Most quality lost on average against always asking the best model, 0 to 1."""
    min_quality: float | None = None
    """Least mean quality, 0 to 1."""

    @classmethod
    def from_config(cls, config: GoalConfig) -> "Goal | None":
        """Return the configured goal; None when none is."""
        if not config.figures:
            return None
        return cls(
            spend_usd=config.spend_usd or None,
            per=config.per,
            max_loss=config.max_loss or None,
            min_quality=config.min_quality or None,
        )

    def __str__(self) -> str:
        """Return the goal in words; equal goals have equal words."""
        if self.spend_usd is not None:
            return f"spend {_exact(self.spend_usd)} USD per {self.per}"
        if self.max_loss is not None:
            return f"lose at most {_exact(self.max_loss)} against the best model"
        assert self.min_quality is not None
        return f"quality of at least {_exact(self.min_quality)}"

    @classmethod
    def from_words(cls, words: str) -> "Goal":
        """Return the goal that has these words, as a decision's record gives them.

        Raises:
            ValueError: No goal has them.
        """
        for pattern, make in _WORDS.items():
            if found := pattern.fullmatch(words):
                goal = make(*found.groups())
                if str(goal) == words:
                    return goal
        raise ValueError(f"{words!r} is no goal")


_FIGURE = r"([0-9.e+-]+)"
_WORDS: Mapping[re.Pattern[str], Callable[..., Goal]] = {
    re.compile(f"spend {_FIGURE} USD per (.+)"): lambda usd, per: Goal(
        spend_usd=float(usd), per=per
    ),
    re.compile(f"lose at most {_FIGURE} against the best model"): lambda loss: Goal(
        max_loss=float(loss)
    ),
    re.compile(f"quality of at least {_FIGURE}"): lambda least: Goal(min_quality=float(least)),
}


class Expected(NamedTuple):
    """What was predicted of an answer that may still be judged."""

    model: str
    quality: float
    bias: float


class GoalController:
    """Keeps one goal. Feed it every outcome and verdict in stream order; ask it before a decision.

    Args:
        goal: What to keep.
    """

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self.sequence = 0
        """Stream sequence of the last message read."""
        self.answers = 0
        self.log_weight = 0.0
        self.owed = 0.0
        """Deviation to be paid back: US dollars overspent, or quality lost beyond the goal."""
        self.spent_usd = 0.0
        """In the present period, or in all when the goal counts requests."""
        self.period = (0.0, 0.0)
        """Begin and end, in Unix seconds."""
        self.last_at = 0.0
        self.gap = RunningMean(1 / 200)
        """Seconds between two answers."""
        self.levels: dict[str, RunningMean] = {}
        """Mean predicted quality of each model, to know the best."""
        self.doubts: dict[str, RunningMean] = {}
        """Mean standard deviation of the same."""
        self.curve = PriceCurve()
        self.judged: dict[str, float] = {}
        """Weight of the verdicts on each model."""
        self.bias = RunningMean(BIAS_FADING, prior=BIAS_WEIGHT)
        """By how much predictions of the answers are above their verdicts."""
        self.expected: dict[str, Expected] = {}
        self.ids = RecentIds()
        self.answered = RecentIds()
        """Requests that have had their allowance, where the goal counts requests."""

    @property
    def on_quality(self) -> bool:
        """True when outcomes must carry the predicted qualities."""
        return self.goal.spend_usd is None

    @property
    def shadow_price(self) -> float:
        """The controller's present figure, in utility per US dollar."""
        return math.exp(self.log_weight)

    def cost_weight(self, preferred: float) -> float:
        """Return the cost weight of the next decision.

        Args:
            preferred: What the request's own preference says. A limit on spending adds to it; a
                goal for quality stands in its place.
        """
        return self.shadow_price if self.on_quality else preferred + self.shadow_price

    def observe(self, fact: OutcomeObserved | FeedbackGiven) -> None:
        """Take one fact. What makes no sense, or came before, changes nothing."""
        if isinstance(fact, FeedbackGiven):
            if self.on_quality:
                self._judge(fact)
        elif self.ids.add(fact.identity):
            if self.on_quality:
                self._count_quality(fact)
            elif 0 <= fact.cost_usd < math.inf:
                self._count_cost(fact)

    def apply_bytes(self, sequence: int, subject: str, data: bytes) -> None:
        """Take one message as it is on the stream; other subjects and repeats change nothing."""
        if sequence <= self.sequence:
            return
        self.sequence = sequence
        try:
            if subject.startswith(OUTCOME_PREFIX + "."):
                self.observe(outcome_on(subject, data))
            elif self.on_quality and subject.startswith(FEEDBACK_PREFIX + "."):
                self.observe(FeedbackGiven.decode(data))
        except ContractViolation:
            return

    def _count_cost(self, fact: OutcomeObserved) -> None:
        self.spent_usd += fact.cost_usd
        found = self._allowance(fact)
        if found is None:
            return
        usual, allowed = found
        self._move((fact.cost_usd - allowed) / usual)

    def _allowance(self, fact: OutcomeObserved) -> tuple[float, float] | None:
        """Return what one answer may cost at the goal's mean pace, and what it may cost now."""
        amount = self.goal.spend_usd
        assert amount is not None
        if self.goal.per == PER_THOUSAND:
            usual = max(amount / 1000, 1e-12)
            # A cascade leaves several answers, of one request.
            earns = fact.status == "ok" and self.answered.add(fact.decision_id)
            most = self._horizon * usual
            self.owed += fact.cost_usd - (usual if earns else 0.0)
            self.owed = min(max(self.owed, -most), most)
            return usual, usual * (1.0 - _clip(self.owed / most, 0.5)) if earns else 0.0
        now = fact.observed_at
        if not 0 < now < 1e11:
            return None
        if now >= self.period[1]:
            self.period = period_of(self.goal.per, now)
            self.spent_usd = fact.cost_usd
        if self.last_at:
            # A night without requests is no pace: counted in full it would set the price of a
            # thousand answers of the morning. Batches that come every few minutes are one.
            longest = max(LONGEST_GAP * (self.period[1] - self.period[0]), 10.0 * self.gap.mean)
            self.gap.update(min(max(now - self.last_at, 0.0), longest))
        self.last_at = max(now, self.last_at)
        begin, end = self.period
        pace = amount / (end - begin)
        self.owed = self.spent_usd - pace * (now - begin)
        usual = pace * self.gap.mean
        if usual <= 0:
            return None
        # Near the end what is left must not set the pace alone: a cent over would stop everything.
        left_s = max(end - now, 0.02 * (end - begin))
        share = (amount - self.spent_usd) / (left_s * pace)
        return usual, usual * min(max(share, 0.1), 3.0)

    def _count_quality(self, fact: OutcomeObserved) -> None:
        forecasts = fact.forecasts
        if fact.status != "ok" or fact.model not in forecasts:
            return
        if not all(map(_is_sane, forecasts.values())):
            return
        if before := self.expected.get(fact.decision_id):
            self._answer_instead(before, fact)
            return
        self.answers += 1
        for model, forecast in forecasts.items():
            _of(self.levels, model).update(forecast.quality)
            _of(self.doubts, model).update(forecast.quality_std)
        self.curve.update(
            [forecast.quality for forecast in forecasts.values()],
            [forecast.toll for forecast in forecasts.values()],
            [forecast.cost_usd for forecast in forecasts.values()],
        )
        quality = forecasts[fact.model].quality
        best = max(forecasts, key=lambda model: self.levels[model].mean)
        doubt = self._doubt(best)
        self._owe(self._asked(forecasts[best].quality + doubt) - quality + self.bias.mean)
        if len(self.expected) >= PENDING:
            del self.expected[next(iter(self.expected))]
        self.expected[fact.decision_id] = Expected(fact.model, quality, self.bias.mean)
        asked = self._asked(self.levels[best].mean + doubt) + self.bias.mean
        payback = _clip(self.owed / self._horizon, MOST_PAYBACK)
        self.log_weight = self.curve.log_price(asked + payback)

    def _answer_instead(self, before: Expected, fact: OutcomeObserved) -> None:
        """Take a cascade's further answer: it is delivered, unless it says that another was."""
        model = (fact.cascade.delivered if fact.cascade else "") or fact.model
        if model == before.model or model not in fact.forecasts:
            return
        quality = fact.forecasts[model].quality
        self._owe(before.quality - quality)
        self.expected[fact.decision_id] = Expected(model, quality, before.bias)

    def _asked(self, best: float) -> float:
        """Return the quality that the goal asks for where the best model has the given one."""
        if self.goal.max_loss is not None:
            return best - self.goal.max_loss
        assert self.goal.min_quality is not None
        return self.goal.min_quality

    def _doubt(self, model: str) -> float:
        """Return by how much better than predicted a model may be on the mean, for all we know.

        Without it a model that is never asked would look as bad as its prior, nothing would seem
        lost by not asking it, and it would never be asked.
        """
        by_verdicts = 0.5 / math.sqrt(4.0 + self.judged.get(model, 0.0))
        return max(min(by_verdicts, self.doubts[model].mean) - TRUSTED, 0.0)

    def _judge(self, fact: FeedbackGiven) -> None:
        """Correct what was predicted of an answer by what a verdict says of it.

        The best model's prediction stands: what its answer would have been worth is known only
        where it was drawn, and weighting those by one over the propensity has a standard error
        above what is to be corrected (docs/learning.md).
        """
        if fact.source == CHECKS or not (0 <= fact.score <= 1 and 0 < fact.weight <= 1):
            return
        if not self.ids.add(f"feedback {fact.feedback_id}"):
            return
        self.judged[fact.model] = self.judged.get(fact.model, 0.0) + fact.weight
        seen = self.expected.get(fact.decision_id)
        if seen is None or seen.model != fact.model:
            return
        missing = seen.quality - fact.score
        self.bias.update(missing, fact.weight)
        self._owe(fact.weight * (missing - seen.bias))

    def _owe(self, deviation: float) -> None:
        # More could not be paid back at once; what is beyond is forgotten (anti-windup).
        most = self._horizon * MOST_PAYBACK
        self.owed = min(max(self.owed + deviation, -most), most)

    @property
    def _horizon(self) -> float:
        # Costs are known to the cent at once; what an answer lost is known in part, and later.
        longest = HORIZON if self.on_quality else HORIZON / 4
        return min(longest, HORIZON / 10 + self.answers / 4)

    def _move(self, error: float) -> None:
        step = STEP * (1.0 + (EAGER - 1.0) * SETTLED / (SETTLED + self.answers))
        self.answers += 1
        moved = self.log_weight + step * _clip(error, MOST_ERROR)
        self.log_weight = min(max(moved, LOWEST), HIGHEST)


def forecasts_of(decision: DecisionMade) -> dict[str, Forecast]:
    """Return what a goal for quality must be told of a decision, with the outcome.

    Only of the models that it was drawn from, whatever the price: one of a later tier of the
    caller's order answers where those failed, and its answer says nothing about prices.
    """
    first = min((c.tier for c in decision.candidates), default=0)
    return {
        c.model: Forecast(
            quality=c.quality,
            quality_std=c.quality_std,
            cost_usd=c.cost_usd,
            toll=decision.latency_weight * (c.latency_s + c.failed_share * c.lost_s)
            + (0.0 if decision.incumbent in ("", c.model) else decision.switching_cost),
        )
        for c in decision.candidates
        if c.tier == first
    }


def _is_sane(forecast: Forecast) -> bool:
    # Written so that what is not a number fails.
    return (
        0 <= forecast.quality <= 1
        and 0 <= forecast.quality_std <= MOST
        and 0 <= forecast.cost_usd <= MOST
        and -MOST <= forecast.toll <= MOST
    )


def _of(means: dict[str, RunningMean], model: str) -> RunningMean:
    return means.setdefault(model, RunningMean(LEVEL_FADING))


def _exact(figure: float) -> str:
    short = f"{figure:g}"
    return short if float(short) == figure else repr(figure)


def _clip(value: float, most: float) -> float:
    return min(max(value, -most), most)


def period_of(per: str, at: float) -> tuple[float, float]:
    """Return begin and end of the `hour`, `day` or `month` (UTC) that `at` falls into."""
    if per == "month":
        moment = datetime.fromtimestamp(at, UTC)
        begin = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
        return begin, begin + 86_400.0 * calendar.monthrange(moment.year, moment.month)[1]
    length = 3600.0 if per == "hour" else 86_400.0
    begin = at // length * length
    return begin, begin + length
