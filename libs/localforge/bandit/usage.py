"""Learned answer length per model and domain, first-token time and speed per backend and model.

Each figure is a mean with the interface of River's statistics, blended from the general to the
special: everything, then the model (or backend), then the pair, so that a figure nobody has seen
starts at what is known of its kind. Only successful answers teach.

How far single values lie from their mean is followed and blended alike. Of everything that includes
how far models are apart, and so it is what is not known of a new one.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from river.stats.base import Univariate

from localforge.contracts.facts import OutcomeObserved

Key = tuple[str, str]

FADING = 0.05
"""Weight of a new value once twenty are known."""
BLEND = 4.0
"""How many values the more general figure counts for."""
MAX_KEYS = 4096
LENGTH_PRIOR = 256.0
"""Completion tokens."""
FIRST_TOKEN_PRIOR = 0.6
"""Seconds."""
TOKEN_PRIOR = 1 / 40
"""Seconds per completion token."""
MOST_TOKENS = 10_000_000
LONGEST_S = 86_400.0
EVERYTHING: Key = ("", "")


Spread = tuple[float, float]
"""Mean of the values that are expected, and their standard deviation. A plain tuple: there are
dozens in every decision."""


class RecentMean(Univariate):
    """A plain mean of the first values that turns into an exponentially weighted one.

    Their variance is weighted likewise (Finch, "Incremental calculation of weighted mean and
    variance", 2009).

    River's `EWMean` starts at its first value and keeps `(1 - fading)^n` of it; here that first
    value is often a model being loaded.

    Args:
        fading: Least weight of a new value, in (0, 1].
    """

    def __init__(self, fading: float = FADING) -> None:
        self.fading = fading
        self.count = 0
        self.mean = 0.0
        self.variance = 0.0
        self.std = 0.0
        """Standard deviation of the values, not of their mean."""
        self.share = 0.0
        """How far this mean is trusted over a more general one, 0 to 1."""

    def update(self, x: float) -> None:
        """Take one value."""
        count = self.count + 1
        weight = max(self.fading, 1.0 / count)
        off = x - self.mean
        step = off * weight
        self.restore(count, self.mean + step, (1.0 - weight) * (self.variance + step * off))

    def restore(self, count: int, mean: float, variance: float) -> None:
        """Stand where `count` values with this mean and variance have led to."""
        self.count, self.mean, self.variance = count, mean, variance
        # A state from elsewhere may hold anything; no update comes below 0.
        self.std = math.sqrt(max(variance, 0.0))
        seen = min(count, 1.0 / self.fading)
        self.share = seen / (seen + BLEND)

    def get(self) -> float:
        """Return the mean; 0 before the first value."""
        return self.mean


class MeanEntry(msgspec.Struct, frozen=True, array_like=True):
    """One stored mean."""

    key: Key
    count: int
    mean: float
    variance: float = 0.0


class MeanTable:
    """Means by key; the one updated longest ago gives way beyond `MAX_KEYS`.

    Args:
        prior: What is expected before the first value. It is taken to spread as widely as an
            exponential distribution does: its standard deviation is its mean.
        fading: Least weight of a new value, in (0, 1].
    """

    def __init__(self, prior: float, fading: float = FADING) -> None:
        self.fading = fading
        self.prior: Spread = (prior, prior)
        self._means: dict[Key, RecentMean] = {}

    def update(self, keys: Sequence[Key], value: float) -> None:
        """Take one value under every one of the keys."""
        for key in keys:
            mean = self._means.pop(key, None)
            if mean is None:
                mean = RecentMean(self.fading)
                if len(self._means) >= MAX_KEYS:
                    del self._means[next(iter(self._means))]
            mean.update(value)
            self._means[key] = mean

    def blend(self, keys: Sequence[Key], expected: Spread | None = None) -> Spread:
        """Return what is expected; the keys go from general to special.

        Args:
            keys: What it is wanted for.
            expected: Of the more general ones; the prior when None.
        """
        value, std = expected or self.prior
        for key in keys:
            mean = self._means.get(key)
            if mean is not None:
                share = mean.share
                value += share * (mean.mean - value)
                std += share * (mean.std - std)
        return value, std

    def entries(self) -> list[MeanEntry]:
        """Return the state in its own order, which is part of it."""
        return [
            MeanEntry(key, mean.count, mean.mean, mean.variance)
            for key, mean in self._means.items()
        ]

    def restore(self, entries: Sequence[MeanEntry]) -> None:
        """Take over a state from `entries`."""
        for entry in entries:
            mean = self._means[entry.key] = RecentMean(self.fading)
            mean.restore(entry.count, entry.mean, entry.variance)


class Effort(NamedTuple):
    """What one answer is expected to take, without queueing.

    Its seconds are ``first + tokens * pace``, with the three independent of each other. So they
    have the variance ``(pace * tokens_std)^2 + timing_variance``.
    """

    tokens: float
    """Completion tokens."""
    tokens_std: float
    """Standard deviation of single answers."""
    seconds: float
    pace: float
    """Seconds per completion token."""
    timing_variance: float
    """Of single answers' seconds, as far as it does not come from the number of tokens."""


class UsageModel:
    """What answers cost in tokens and time. Owned by one learner."""

    def __init__(self) -> None:
        self.lengths = MeanTable(LENGTH_PRIOR)
        self.first_token = MeanTable(FIRST_TOKEN_PRIOR)
        self.per_token = MeanTable(TOKEN_PRIOR)

    @property
    def tables(self) -> tuple[MeanTable, MeanTable, MeanTable]:
        """The whole state, in a fixed order."""
        return self.lengths, self.first_token, self.per_token

    def predict(self, models: Sequence[Key], domain: str, max_tokens: int) -> list[Effort]:
        """Return what an answer of each model is expected to take.

        Args:
            models: Backend and name of each.
            domain: Domain of the request.
            max_tokens: The request's own bound, 0 for none.
        """
        # What is common to all models is blended once: this runs in every decision.
        lengths, first_token, per_token = self.tables
        length, first, each = (table.blend((EVERYTHING,)) for table in self.tables)
        found = []
        for place in models:
            backend, model = place
            length_keys = ((model, ""), (model, domain)) if domain else ((model, ""),)
            tokens, tokens_std = lengths.blend(length_keys, length)
            if max_tokens > 0:
                tokens_std = _capped_std(tokens, tokens_std, max_tokens)
                tokens = min(tokens, float(max_tokens))
            keys = ((backend, ""), place)
            start, start_std = first_token.blend(keys, first)
            pace, pace_std = per_token.blend(keys, each)
            square = tokens * tokens + tokens_std * tokens_std
            timing = start_std * start_std + square * pace_std * pace_std
            found.append(Effort(tokens, tokens_std, start + tokens * pace, pace, timing))
        return found

    def learn(self, outcome: OutcomeObserved) -> bool:
        """Take a successful outcome; return False when its numbers make no sense."""
        tokens = outcome.usage.completion_tokens
        total, first = outcome.total_s, outcome.first_token_s
        if not (0 <= tokens <= MOST_TOKENS and 0 <= total <= LONGEST_S and 0 <= first <= LONGEST_S):
            return False
        length_keys = _length_keys(outcome.model, outcome.domain)
        # An answer cut at the caller's bound only says that it would have been at least so long.
        if outcome.finish_reason != "length" or tokens > self.lengths.blend(length_keys)[0]:
            self.lengths.update(length_keys, float(tokens))
        speed_keys = _speed_keys(outcome.model, outcome.backend)
        # Without a first-token time of its own the whole span is put down to the tokens.
        waited = 0 < first < total and tokens > 1
        if waited:
            self.first_token.update(speed_keys, first)
        if tokens and total > 0:
            per_token = (total - first) / (tokens - 1) if waited else total / tokens
            self.per_token.update(speed_keys, per_token)
        return True


def _capped_std(mean: float, std: float, cap: float) -> float:
    """Return the standard deviation of a Gaussian with everything above `cap` moved to it.

    Never more than half the cap: what lies between 0 and it cannot spread further.
    """
    if std <= 0:
        return 0.0
    # Of ``max(cap - x, 0)``, which varies alike.
    room = cap - mean
    z = room / std
    below = 0.5 * math.erfc(-z * math.sqrt(0.5))
    edge = std * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    left = room * below + edge
    variance = (room * room + std * std) * below + room * edge - left * left
    # Below 0 by rounding only.
    return min(math.sqrt(max(variance, 0.0)), cap / 2)


def _length_keys(model: str, domain: str) -> tuple[Key, ...]:
    return (EVERYTHING, (model, ""), (model, domain)) if domain else (EVERYTHING, (model, ""))


def _speed_keys(model: str, backend: str) -> tuple[Key, ...]:
    return EVERYTHING, (backend, ""), (backend, model)
