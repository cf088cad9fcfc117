"""What an answer is worth whose form was checked, and whether that is enough.

Checks see whether an answer is broken, hardly ever whether it is good. What passing or failing them
says of a model's answers is learned from the trusted verdicts on that model, whoever asked for it:
for each of the two, by how much they are better or worse than its answers on the whole. Added to
the predicted quality of a request, that is weighed against the best model and its price.

Until a difference is sure, the plain rule holds: what passes is accepted, and what fails goes on.
"""

import math
from typing import NamedTuple

import msgspec

from localforge.bandit.ids import RecentIds

SHRINKAGE = 20.0
"""Verdicts that a difference between passing, or failing, and all answers is shrunk by."""
KEPT = 0.998
"""Of what is known of a model, with each further answer of it, judged or not. Answers may change;
and one that is sent on is never judged, so without this a model would be sent on for ever."""
SURE = 2.0
"""Standard deviations by which the plain rule must be wrong to be left."""
LATEST = 4096
"""Failed checks, of all models, that are remembered until a verdict on the same answer comes; a
later one takes the answer for one that passed."""
MAX_MODELS = 256
"""Further ones are not learned of."""


class Tally(msgspec.Struct, array_like=True):
    """Trusted verdicts on one model's answers: their weights, and those of the good ones."""

    model: str
    passed: float = 0.0
    passed_good: float = 0.0
    failed: float = 0.0
    failed_good: float = 0.0


class CheckedState(msgspec.Struct, frozen=True, array_like=True):
    """Everything learned."""

    tallies: tuple[Tally, ...] = ()


class Estimate(NamedTuple):
    """What an answer is worth."""

    quality: float
    """Probability that it is good, 0 to 1."""
    std: float
    """Of what is known of answers that fared like it; infinite before the first verdict."""


class Checked:
    """Learns of each model what its checks say. Not safe to share between threads."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}
        self.failing = RecentIds(LATEST)
        """Answers whose failed checks wait for a verdict: of one stream, so nothing to export."""

    def note_failure(self, decision_id: str, model: str) -> None:
        """Remember that a delivered answer has failed its checks."""
        self.failing.add(f"{decision_id} {model}")

    def note_answer(self, model: str) -> None:
        """Take that a model has answered, whatever became of it."""
        tally = self._tallies.get(model)
        if tally is not None:
            tally.passed *= KEPT
            tally.passed_good *= KEPT
            tally.failed *= KEPT
            tally.failed_good *= KEPT

    def learn(self, decision_id: str, model: str, score: float) -> None:
        """Take a trusted verdict on a delivered answer, in [0, 1]."""
        tally = self._tallies.get(model)
        if tally is None:
            if len(self._tallies) >= MAX_MODELS:
                return
            tally = self._tallies[model] = Tally(model)
        if f"{decision_id} {model}" in self.failing:
            tally.failed += 1.0
            tally.failed_good += score
        else:
            tally.passed += 1.0
            tally.passed_good += score

    def estimate(self, model: str, quality: float, *, passed: bool) -> Estimate:
        """Return what an answer is worth given its checks.

        Args:
            model: Who gave it.
            quality: Predicted of the model before it was asked.
            passed: What the checks say.
        """
        tally = self._tallies.get(model) or Tally(model)
        seen, good = (
            (tally.passed, tally.passed_good) if passed else (tally.failed, tally.failed_good)
        )
        if not seen:
            return Estimate(quality, math.inf)
        mean = (tally.passed_good + tally.failed_good) / (tally.passed + tally.failed)
        lift = (good - seen * mean) / (seen + SHRINKAGE)
        return Estimate(min(max(quality + lift, 0.0), 1.0), 0.5 / math.sqrt(seen))

    def state(self) -> CheckedState:
        """Return what was learned; equal histories give equal states."""
        return CheckedState(tuple(tally for _, tally in sorted(self._tallies.items())))

    def restore(self, state: CheckedState) -> None:
        """Take over a `state` into this fresh one."""
        self._tallies = {tally.model: tally for tally in state.tallies}


def is_accepted(answer: Estimate, other: Estimate, *, passed: bool) -> bool:
    """Say whether an answer is enough.

    Args:
        answer: What it is worth.
        other: What the answer of the model to be asked next is worth, less its price.
        passed: What the checks say, which decides where the difference is not sure.
    """
    gain = answer.quality - other.quality
    margin = SURE * math.hypot(answer.std, other.std)
    return gain >= -margin if passed else gain > margin
