"""What a pair of answers says about the answers: prior rules, and what is learned on top of them.

Each belief is a probability. It starts at a rule over the qualities that the router predicts for
the three models anyway, and is corrected by a ridge regression of two weights, so that some dozens
of verdicts are enough to be right on the average and some hundreds to be right for easy and for
hard requests.

The pair is two models, or one that is asked twice. Each has rules, and corrections, of its own.
"""

import enum
from collections.abc import Mapping
from typing import ClassVar

import msgspec

PRIOR_WEIGHT = 20.0
"""How many answers a rule counts for."""
SLOPE_WEIGHT = 1.0
"""Prior precision of the slope."""
BESIDE_GOOD = 0.2
"""Share of its doubt that is left of the last model where the pair agrees on a good answer."""
BESIDE_BAD = 0.45
"""Share of its quality that is left of it where the pair agrees on a bad one."""
UNLIKE_BAD = 0.35
"""How often an answer is good that differs from a bad one."""
REPEAT_BESIDE_GOOD = 0.5
"""`BESIDE_GOOD` of a model that agrees with itself: that tells less of the request."""
REPEAT_BESIDE_BAD = 0.75
"""`BESIDE_BAD` of a model that agrees with itself: its own mistake is not everybody's."""
REPEAT_SPLIT = 0.875
"""Share of the last model's quality that is left where the first contradicts itself."""
_LEAST = 0.02
"""No belief is nearer to certainty than this."""


class Belief(enum.StrEnum):
    """What is estimated of a pair and the model to escalate to."""

    AGREE = "agree"
    """The pair gives the same answer."""
    AGREED = "agreed"
    """An answer that the pair agrees on is good."""
    LAST_AGREED = "last_agreed"
    """The last model's answer is good where the pair agrees."""
    FIRST_SPLIT = "first_split"
    """The first model's answer is good where the pair differs."""
    SECOND_SPLIT = "second_split"
    LAST_SPLIT = "last_split"


class Acceptance(enum.StrEnum):
    """How an answer of a cascade is judged, as records name it."""

    AGREEMENT = "agreement"
    """Two models are asked and compared."""
    SELF_CONSISTENCY = "self-consistency"
    """One model is asked twice and compared with itself."""
    CHECKS = "checks"
    """The form of one answer is looked at."""


class Qualities(msgspec.Struct, frozen=True, array_like=True):
    """Predicted probability that each model's answer is good, before any is asked."""

    first: float
    second: float
    last: float

    test: ClassVar[Acceptance] = Acceptance.AGREEMENT
    beliefs: ClassVar[tuple[Belief, ...]] = tuple(Belief)
    """What is believed, in the order in which one rests on another."""

    @property
    def level(self) -> float:
        """Their mean, centred: how hard the request looks, -0.5 (hard) to 0.5."""
        return (self.first + self.second + self.last) / 3 - 0.5

    def rule(self, belief: Belief, known: Mapping[Belief, float]) -> float:
        """Return a belief before any evidence on it.

        Models err together, so agreement only halves the doubt, and disagreement halves the trust;
        the last model is hit by half of that.

        Args:
            belief: Which one.
            known: The beliefs before it, in the order of `Belief`, as corrected by evidence.
        """
        pair = (self.first + self.second) / 2
        match belief:
            case Belief.AGREE:
                return pair
            case Belief.AGREED:
                return (pair + 1.0) / 2
            case Belief.LAST_AGREED:
                return self.last_beside(known[Belief.AGREED])
            case Belief.FIRST_SPLIT:
                return self.first / 2
            case Belief.SECOND_SPLIT:
                return self.second / 2
            case Belief.LAST_SPLIT:
                return 0.75 * self.last

    def last_beside(self, agreed: float) -> float:
        """Return how good the last model's answer is where the pair agrees.

        Args:
            agreed: How good the answer is expected to be that the pair agrees on.
        """
        beside_good = 1.0 - BESIDE_GOOD * (1.0 - self.last)
        return agreed * beside_good + (1.0 - agreed) * BESIDE_BAD * self.last


class RepeatQualities(Qualities, frozen=True, array_like=True):
    """The same of one model that is asked twice, as `first` and `second`.

    Derived, not fitted: the outcome files have one answer per model. A model that is right says so
    again, and one that is wrong repeats itself half of the time; contradicting itself halves the
    trust in it as it does with a pair; and what agreement says is what then makes the model as good
    as it is predicted to be.
    """

    test: ClassVar[Acceptance] = Acceptance.SELF_CONSISTENCY
    beliefs: ClassVar[tuple[Belief, ...]] = tuple(
        # Both answers are the model's own; the first is the one that the caller asked for.
        belief
        for belief in Belief
        if belief is not Belief.SECOND_SPLIT
    )

    @property
    def level(self) -> float:
        """The mean of the two models, centred."""
        return (self.first + self.last) / 2 - 0.5

    def rule(self, belief: Belief, known: Mapping[Belief, float]) -> float:
        """Return a belief before any evidence on it; see `Qualities.rule`."""
        agree = (1.0 + self.first) / 2
        match belief:
            case Belief.AGREE:
                return agree
            case Belief.AGREED:
                return self.first * (1.0 - (1.0 - agree) / 2) / agree
            case Belief.LAST_AGREED:
                return self.last_beside(known[Belief.AGREED])
            case Belief.LAST_SPLIT:
                return REPEAT_SPLIT * self.last
            case _:
                return self.first / 2

    def last_beside(self, agreed: float) -> float:
        """Return how good the last model's answer is where the first agrees with itself."""
        beside_good = 1.0 - REPEAT_BESIDE_GOOD * (1.0 - self.last)
        return agreed * beside_good + (1.0 - agreed) * REPEAT_BESIDE_BAD * self.last


class Correction(msgspec.Struct, array_like=True):
    """A ridge regression of what a rule leaves over on 1 and the level. Exact, no inverse kept."""

    count: int = 0
    ones: float = PRIOR_WEIGHT
    mixed: float = 0.0
    squares: float = SLOPE_WEIGHT
    moment: float = 0.0
    slope_moment: float = 0.0

    def learn(self, level: float, residual: float) -> None:
        """Take one value minus its rule."""
        self.count += 1
        self.ones += 1.0
        self.mixed += level
        self.squares += level * level
        self.moment += residual
        self.slope_moment += level * residual

    def predict(self, level: float) -> float:
        """Return what is to be added to the rule."""
        determinant = self.ones * self.squares - self.mixed * self.mixed
        shift = (self.squares * self.moment - self.mixed * self.slope_moment) / determinant
        slope = (self.ones * self.slope_moment - self.mixed * self.moment) / determinant
        return shift + slope * level


def probability(rule: float, correction: float) -> float:
    """Return a corrected rule as a probability away from 0 and 1."""
    return min(max(rule + correction, _LEAST), 1.0 - _LEAST)
