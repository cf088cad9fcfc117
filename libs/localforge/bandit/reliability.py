"""How often attempts at a model fail, and how long a failed one keeps the caller waiting.

What breakers do not notice: a model that fails now and then is asked, waited for, and followed by
the next one of the plan. So the utility of a model is that of its answer as often as it answers,
and else that of the best other model, less the time lost (`with_failures`).

Only the model's own failures count. A request that the model server refuses says nothing of other
requests, and servers give their refusals any code; a full queue is known by its depth.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from localforge.bandit.running import RunningMean
from localforge.bandit.soundness import share_left
from localforge.bandit.usage import LONGEST_S, Key
from localforge.contracts.facts import NOTHING, OutcomeObserved

FADING = 1 / 100
"""Least share of a new attempt."""
PRIOR = 20.0
"""Successful attempts that every model is given beforehand."""
LOST_FADING = 1 / 20
"""Least share of a new failure in the seconds that one takes."""
MAX_MODELS = 256
"""The one that was asked longest ago gives way to a new one beyond this many."""
OWN_FAULT = "backend_"
"""How the codes of failures begin that the model server is to blame for."""
FURTHER_FAULTS = frozenset({"stream_broken", "deadline_exceeded"})
LEAST_DEADLINE_S = 10.0
"""A caller who waits less has wished for too much; nobody else's model is the worse for it."""
NO_FAULT = frozenset({"backend_refused", "backend_cannot"})
"""The request is wrong, or the server's format has no words for it."""


class Risk(NamedTuple):
    """What is expected of one attempt."""

    share: float
    """Probability that it fails, 0 to 1."""
    lost_s: float
    """Seconds until it has failed."""


NONE = Risk(NOTHING, NOTHING)


class ReliabilityEntry(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one model at one backend."""

    place: Key
    failed: float
    weight: float
    lost_s: float
    failures: float
    idle: int
    """Attempts at others since the last one at it."""


class _Known:
    """Of one model at one backend."""

    __slots__ = ("asked_at", "failed", "lost_s")

    def __init__(self) -> None:
        self.failed = RunningMean(FADING, PRIOR)
        self.lost_s = RunningMean(LOST_FADING)
        self.asked_at = 0


def is_own_failure(outcome: OutcomeObserved) -> bool:
    """Return whether a model failed an attempt, through no fault of the request or its caller."""
    # What takes no time at all never began: the request came too late, or waited too long.
    if outcome.status != "error" or outcome.total_s == 0.0:
        return False
    code = outcome.error_code
    if code == "deadline_exceeded" and outcome.total_s < LEAST_DEADLINE_S:
        return False
    return code in FURTHER_FAULTS or (code.startswith(OWN_FAULT) and code not in NO_FAULT)


class Reliability:
    """Learns from attempts that answered or failed. Not safe to share between threads."""

    def __init__(self) -> None:
        self._known: dict[Key, _Known] = {}
        self._attempts = 0

    def learn(self, outcome: OutcomeObserved) -> bool:
        """Take one attempt that answered or failed; False when its time makes no sense."""
        if not 0.0 <= outcome.total_s <= LONGEST_S:
            return False
        failed = outcome.status != "ok"
        self._attempts += 1
        place = (outcome.backend, outcome.model)
        known = self._known.pop(place, None)
        if known is None:
            known = _Known()
            if len(self._known) >= MAX_MODELS:
                del self._known[next(iter(self._known))]
        elif not failed:
            # It was given another chance and took it.
            known.failed.mean = self._share(known)
        known.failed.update(float(failed))
        if failed:
            known.lost_s.update(outcome.total_s)
        known.asked_at = self._attempts
        self._known[place] = known
        return True

    def risk(self, place: Key) -> Risk:
        """Return what is expected of an attempt at a backend's model; `NONE` before it failed."""
        known = self._known.get(place)
        if known is None or not known.failed.mean:
            return NONE
        return Risk(self._share(known), known.lost_s.mean)

    def state(self) -> tuple[ReliabilityEntry, ...]:
        """Return what was learned, in its own order, which is part of it."""
        return tuple(
            ReliabilityEntry(
                place,
                known.failed.mean,
                known.failed.weight,
                known.lost_s.mean,
                known.lost_s.weight,
                self._attempts - known.asked_at,
            )
            for place, known in self._known.items()
        )

    def restore(self, state: tuple[ReliabilityEntry, ...]) -> None:
        """Take over a `state` into this fresh one."""
        for entry in state:
            known = self._known[entry.place] = _Known()
            known.failed.mean, known.failed.weight = entry.failed, entry.weight
            known.lost_s.mean, known.lost_s.weight = entry.lost_s, entry.failures
            known.asked_at = self._attempts - entry.idle

    def _share(self, known: _Known) -> float:
        return share_left(known.failed.mean, self._attempts - known.asked_at)


def with_failures(
    utilities: Sequence[float], risks: Sequence[Risk], latency_weight: float
) -> list[float]:
    """Return the utility of asking each model first, and another where it fails.

    The other is the one that is worth most with its own failures, whatever comes after those;
    where there is none, a failure is worth nothing and costs its time. No model gains by that a
    better one follows its failures: whoever wants that one asks it.

    Args:
        utilities: Of each model's answer.
        risks: Of each model.
        latency_weight: Utility per second.
    """
    alone = [
        (1.0 - risk.share) * utility - risk.share * latency_weight * risk.lost_s
        for utility, risk in zip(utilities, risks, strict=True)
    ]
    if len(alone) == 1:
        return [min(utilities[0], alone[0])]
    second, first = sorted(alone)[-2:]
    best = alone.index(first)
    return [
        min(utility, value + risk.share * (second if index == best else first))
        for index, (utility, value, risk) in enumerate(zip(utilities, alone, risks, strict=True))
    ]
