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
PATIENCE = 1000
"""Answers of other models after which one that failed may have been repaired."""
KEPT = 0.999
"""Of the share that failed, with every further one."""
MAX_MODELS = 256
"""The one that answered longest ago gives way to a new one beyond this many."""


class SoundnessEntry(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one model."""

    model: str
    broken: float
    weight: float
    tried: float
    idle: int
    """Checked answers since its last one."""


class _Known:
    """Of one model."""

    __slots__ = ("answered_at", "broken", "tried")

    def __init__(self) -> None:
        self.broken = RunningMean(FADING, PRIOR)
        self.tried = 0.0
        self.answered_at = 0


class Soundness:
    """Learns from checks. Not safe to share between threads."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._answers = 0

    def learn(self, model: str, broken: float) -> None:
        """Take one checked answer.

        Args:
            model: Who gave it.
            broken: How sure it is that it is bad, 0 (it passed) to 1.
        """
        self._answers += 1
        known = self._known.pop(model, None)
        if known is None:
            known = _Known()
            if len(self._known) >= MAX_MODELS:
                self.forget(next(iter(self._known)))
        elif not broken:
            # It was given another chance and took it.
            known.broken.mean = self._broken(known)
        known.broken.update(broken)
        known.tried += TRIED
        known.answered_at = self._answers
        self._known[model] = known

    def forget(self, model: str) -> None:
        """Begin anew with a model that has changed."""
        self._known.pop(model, None)

    def share(self, model: str) -> float:
        """Return the share of its answers that pass, 0 to 1; `SOUND` itself before one failed."""
        known = self._known.get(model)
        if known is None or not known.broken.mean:
            return SOUND
        return 1.0 - self._broken(known)

    def tried(self, model: str) -> float:
        """Return how much it was tried, in verdicts."""
        known = self._known.get(model)
        return known.tried if known else 0.0

    def state(self) -> tuple[SoundnessEntry, ...]:
        """Return what was learned, in its own order, which is part of it."""
        return tuple(
            SoundnessEntry(
                model,
                known.broken.mean,
                known.broken.weight,
                known.tried,
                self._answers - known.answered_at,
            )
            for model, known in self._known.items()
        )

    def restore(self, state: tuple[SoundnessEntry, ...]) -> None:
        """Take over a `state` into this fresh one."""
        for entry in state:
            known = self._known[entry.model] = _Known()
            known.broken.mean, known.broken.weight = entry.broken, entry.weight
            known.tried = entry.tried
            known.answered_at = self._answers - entry.idle

    def _broken(self, known: _Known) -> float:
        return share_left(known.broken.mean, self._answers - known.answered_at)


def share_left(share: float, idle: int) -> float:
    """Return what is left of a share of failures after so many answers of other models."""
    return share * (KEPT ** (idle - PATIENCE) if idle > PATIENCE else 1.0)
