"""How many of a model's answers are whole, by the checks that every answer gets.

Checks see that an answer is broken, hardly ever that it is good. So what passes them says nothing
of quality: taken for good, it would draw every model to 1, and those most that nobody judges. What
fails is bad, and so no model is predicted to be better than the share of its answers that pass.

That a model was tried is remembered, too: where nobody judges answers there is nothing to be found
out by asking further models, and the curiosity about them has to come to an end.
"""

import msgspec

from localforge.bandit.running import RunningMean
from localforge.contracts.facts import SOUND

FADING = 1 / 100
"""Least share of a new answer: a model that begins to fail is known after dozens of answers."""
PRIOR = 20.0
"""Whole answers that every model is given beforehand."""
TRIED = 0.1
"""Verdicts that a checked answer counts for where it is asked how much is known of a model."""
KEPT = 0.999
"""Of the share that failed, with every answer of whichever model: one that is not asked any more
may have been repaired."""
MAX_MODELS = 256
"""The one that answered longest ago gives way to a new one beyond this many."""


class SoundnessEntry(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one model."""

    model: str
    broken: float
    weight: float
    tried: float


class Soundness:
    """Learns from checks. Not safe to share between threads."""

    def __init__(self) -> None:
        self._broken: dict[str, RunningMean] = {}
        self._tried: dict[str, float] = {}

    def learn(self, model: str, broken: float) -> None:
        """Take one checked answer.

        Args:
            model: Who gave it.
            broken: How sure it is that it is bad, 0 (it passed) to 1.
        """
        for other in self._broken.values():
            other.mean *= KEPT
        mean = self._broken.pop(model, None)
        if mean is None:
            mean = RunningMean(FADING, PRIOR)
            if len(self._broken) >= MAX_MODELS:
                self.forget(next(iter(self._broken)))
        mean.update(broken)
        self._broken[model] = mean
        self._tried[model] = self._tried.get(model, 0.0) + TRIED

    def forget(self, model: str) -> None:
        """Begin anew with a model that has changed."""
        self._broken.pop(model, None)
        self._tried.pop(model, None)

    def share(self, model: str) -> float:
        """Return the share of its answers that pass, 0 to 1; `SOUND` itself before one failed."""
        mean = self._broken.get(model)
        return SOUND if mean is None or not mean.mean else 1.0 - mean.mean

    def tried(self, model: str) -> float:
        """Return how much it was tried, in verdicts."""
        return self._tried.get(model, 0.0)

    def state(self) -> tuple[SoundnessEntry, ...]:
        """Return what was learned, in its own order, which is part of it."""
        return tuple(
            SoundnessEntry(model, mean.mean, mean.weight, self._tried[model])
            for model, mean in self._broken.items()
        )

    def restore(self, state: tuple[SoundnessEntry, ...]) -> None:
        """Take over a `state` into this fresh one."""
        for entry in state:
            mean = self._broken[entry.model] = RunningMean(FADING, entry.weight)
            mean.mean = entry.broken
            self._tried[entry.model] = entry.tried
