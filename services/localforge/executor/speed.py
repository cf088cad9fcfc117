"""How fast one server answers, learned with River from its own outcomes.

It decides which of several servers is asked, and people read it in the registry. What a model's
latency is for the choice among models, the router learns for itself from the feedback stream.
"""

# River's mean without the package around it, whose import brings pandas and 200 modules more.
from river._river_rust.stats import RsEWMean

from localforge.contracts.facts import OutcomeObserved

WEIGHT = 0.1
"""Of the newest outcome in the running means."""


class RunningMean:
    """River's exponentially weighted mean; it starts at its first value."""

    def __init__(self) -> None:
        self._mean = RsEWMean(WEIGHT)

    def update(self, value: float) -> None:
        """Take one value."""
        self._mean.update(value)

    @property
    def value(self) -> float:
        """The mean; 0 until there was a value."""
        return float(self._mean.get())


class Speed:
    """Exponentially weighted means over complete answers."""

    def __init__(self) -> None:
        self._first_token_s = RunningMean()
        self._tokens_per_s = RunningMean()

    @property
    def first_token_s(self) -> float:
        """Seconds to the first token of a stream; 0 until there was one."""
        return self._first_token_s.value

    @property
    def tokens_per_s(self) -> float:
        """Completion tokens per second of an answer; 0 until there was one."""
        return self._tokens_per_s.value

    def learn(self, fact: OutcomeObserved) -> None:
        """Take one outcome; failed and cancelled ones say nothing about speed."""
        if fact.status == "ok":
            self.note(fact.first_token_s, fact.usage.completion_tokens, fact.total_s)

    def note(self, first_token_s: float, tokens: int, total_s: float) -> None:
        """Take the times of one complete answer, in seconds; 0 where there is none."""
        if first_token_s > 0:
            self._first_token_s.update(first_token_s)
        if total_s > 0 and tokens:
            self._tokens_per_s.update(tokens / total_s)
