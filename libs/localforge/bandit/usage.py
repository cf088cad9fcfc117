"""Learned answer length per model and domain, first-token time and speed per backend and model.

Each figure is a mean with the interface of River's statistics, blended from the general to the
special: everything, then the model (or backend), then the pair, so that a figure nobody has seen
starts at what is known of its kind. Only successful answers teach.

The time per token is a mean in which an answer counts by its tokens, and so a ratio of means: the
many short answers, whose time is mostly what surrounds the tokens, must not set the pace of the
long ones. Where an answer does not tell its first token's time, that is taken to be as expected.

How far single values lie from their mean is followed and blended alike. Of everything that includes
how far models are apart, and so it is what is not known of a new one.
"""

import math
from collections.abc import Iterable, Sequence

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
_ROOT_HALF = math.sqrt(0.5)


Spread = tuple[float, float]
"""Mean of the values that are expected, and their standard deviation. A plain tuple: there are
dozens in every decision."""


class RecentMean(Univariate):
    """A plain mean of the first values that turns into an exponentially weighted one.

    Their variance is weighted likewise (Finch, "Incremental calculation of weighted mean and
    variance", 2009). A value may be a ratio and count by its size, the denominator: then the mean
    is that of the numerators over that of the sizes.

    River's `EWMean` starts at its first value and keeps `(1 - fading)^n` of it; here that first
    value is often a model being loaded.

    Args:
        fading: Least weight of a new value, in (0, 1].
    """

    def __init__(self, fading: float = FADING) -> None:
        self.fading = fading
        self.count = 0
        self.mean = 0.0
        self.size = 0.0
        """Mean of the sizes."""
        self.variance = 0.0
        self.std = 0.0
        """Standard deviation of the values, not of their mean."""
        self.share = 0.0
        """How far this mean is trusted over a more general one, 0 to 1."""
        self._most = 1.0 / fading
        """Values from which on that does not grow any more."""

    def update(self, x: float, size: float = 1.0) -> None:
        """Take one value; its size is above 0."""
        self.count = count = self.count + 1
        share = max(self.fading, 1.0 / count)
        self.size += share * (size - self.size)
        weight = share * size / self.size
        off = x - self.mean
        step = off * weight
        self.mean += step
        self._spread((1.0 - weight) * (self.variance + step * off))
        if count <= self._most:
            self.share = count / (count + BLEND)

    def restore(self, count: int, mean: float, variance: float, size: float) -> None:
        """Stand where `count` values with this mean, variance and mean size have led to."""
        self.count, self.mean, self.size = count, mean, size
        self._spread(variance)
        seen = min(count, self._most)
        self.share = seen / (seen + BLEND)

    def get(self) -> float:
        """Return the mean; 0 before the first value."""
        return self.mean

    def _spread(self, variance: float) -> None:
        self.variance = variance
        # A state from elsewhere may hold anything; no update comes below 0.
        self.std = math.sqrt(variance) if variance > 0.0 else 0.0


class MeanEntry(msgspec.Struct, frozen=True, array_like=True):
    """One stored mean."""

    key: Key
    count: int
    mean: float
    variance: float = 0.0
    size: float = 1.0


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

    def update(self, keys: Sequence[Key], value: float, size: float = 1.0) -> None:
        """Take one value under every one of the keys; its size is above 0."""
        for key in keys:
            mean = self._means.pop(key, None)
            if mean is None:
                mean = RecentMean(self.fading)
                if len(self._means) >= MAX_KEYS:
                    del self._means[next(iter(self._means))]
            mean.update(value, size)
            self._means[key] = mean

    def blend(self, keys: Sequence[Key]) -> Spread:
        """Return what is expected; the keys go from general to special."""
        return self.blend_each((keys,))[0]

    def blend_each(
        self, wanted: Iterable[Sequence[Key]], common: Sequence[Key] = ()
    ) -> list[Spread]:
        """Return what is expected of several.

        Args:
            wanted: The keys of each, from general to special.
            common: More general ones, of all of them.
        """
        (expected,) = self.blend_each((common,)) if common else (self.prior,)
        known = self._means
        found = []
        for keys in wanted:
            value, std = expected
            for key in keys:
                mean = known.get(key)
                if mean is not None:
                    share = mean.share
                    value += share * (mean.mean - value)
                    std += share * (mean.std - std)
            found.append((value, std))
        return found

    def entries(self) -> list[MeanEntry]:
        """Return the state in its own order, which is part of it."""
        return [
            MeanEntry(key, mean.count, mean.mean, mean.variance, mean.size)
            for key, mean in self._means.items()
        ]

    def restore(self, entries: Sequence[MeanEntry]) -> None:
        """Take over a state from `entries`."""
        for entry in entries:
            mean = self._means[entry.key] = RecentMean(self.fading)
            mean.restore(entry.count, entry.mean, entry.variance, entry.size)


class Effort(msgspec.Struct, frozen=True, gc=False):
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
        length_keys = [_length_keys(model, domain) for _, model in models]
        speed_keys = [((place[0], ""), place) for place in models]
        # What is common to all models is blended once: this runs in every decision.
        lengths = self.lengths.blend_each(length_keys, common=(EVERYTHING,))
        starts = self.first_token.blend_each(speed_keys, common=(EVERYTHING,))
        paces = self.per_token.blend_each(speed_keys, common=(EVERYTHING,))
        if max_tokens > 0:
            cap = float(max_tokens)
            lengths = [_capped(mean, std, cap) for mean, std in lengths]
        found = []
        for (tokens, tokens_std), (start, start_std), (pace, pace_std) in zip(
            lengths, starts, paces, strict=True
        ):
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
        length_keys = (EVERYTHING, *_length_keys(outcome.model, outcome.domain))
        # Embeddings have no end and no length.
        if tokens > 0 or outcome.finish_reason != "":
            # A bound of the backend's own is how long its answers are.
            is_cut = outcome.finish_reason == "length" and outcome.max_tokens > 0
            self._learn_length(length_keys, float(tokens), is_cut)
        speed_keys = (EVERYTHING, (outcome.backend, ""), (outcome.backend, outcome.model))
        if tokens and total > 0:
            streamed = 0 < first < total
            if not streamed:
                first = min(self.first_token.blend(speed_keys)[0], total)
            # An answer that came whole only tells that its first token was no later than its last.
            if streamed or first == total:
                self.first_token.update(speed_keys, first)
            self.per_token.update(speed_keys, (total - first) / tokens, float(tokens))
        return True

    def _learn_length(self, keys: Sequence[Key], tokens: float, is_cut: bool) -> None:
        if is_cut:
            # It would have been longer, by as much as is expected of any answer, for all we know.
            # Not more than twice as long: nothing tells when all answers are cut.
            expected = self.lengths.blend(keys)[0]
            tokens += min(expected, tokens)
            if tokens <= expected:
                return
        self.lengths.update(keys, tokens)


def _capped(mean: float, std: float, cap: float) -> Spread:
    """Return mean and standard deviation of `min(x, cap)` for a log-normal `x`.

    Lengths of answers have long tails: what a bound cuts off is mostly theirs.
    """
    if mean <= 0.0 or std <= 0.0:
        return min(mean, cap), 0.0
    square = 1.0 + (std / mean) * (std / mean)
    if square == 1.0:
        return min(mean, cap), 0.0
    variance = math.log(square)
    width = math.sqrt(variance)
    # From the cap to the mean of the logarithm, in its standard deviations.
    over = (math.log(mean / cap) - 0.5 * variance) / width
    above = cap * 0.5 * math.erfc(-over * _ROOT_HALF)
    first = mean * 0.5 * math.erfc((over + width) * _ROOT_HALF) + above
    second = mean * mean * square * 0.5 * math.erfc((over + 2.0 * width) * _ROOT_HALF)
    # Below 0 by rounding only.
    return first, math.sqrt(max(second + cap * above - first * first, 0.0))


def _length_keys(model: str, domain: str) -> tuple[Key, ...]:
    return ((model, ""), (model, domain)) if domain else ((model, ""),)
