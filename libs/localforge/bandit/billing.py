"""How many prompt tokens a backend bills for one that the profiler counted.

The profiler counts what it sees, with one tokenizer. A model has its own, and what is sent around a
prompt (a chat template, a system prompt, examples that a gateway adds) goes by the kind of request.
So the share is learned twice: per domain over all models, and per model over what its domains let
expect. Each is a mean of tokens over a mean of tokens, so that long prompts, where the money is,
count for more than greetings. Backends that do not say what they bill teach nothing.
"""

from collections.abc import Sequence

from localforge.bandit.usage import EVERYTHING, MOST_TOKENS, Key, MeanTable
from localforge.contracts.facts import OutcomeObserved

FADING = 0.01
"""Weight of a new value once a hundred are known: tokenizers and templates hardly ever change."""
MOST = 4.0
"""Bound on the share of one answer, and its inverse below: an attachment that the profiler cannot
count must not set the price of the next requests."""
TOKENS_PRIOR = 100.0
"""Tokens that are taken for billed as they were counted before the first answer."""


class Share:
    """A ratio of two means under the same keys."""

    def __init__(self) -> None:
        self.billed = MeanTable(TOKENS_PRIOR, FADING)
        self.counted = MeanTable(TOKENS_PRIOR, FADING)

    def predict(self, wanted: Sequence[Sequence[Key]]) -> list[float]:
        """Return expected ratios, above 0; the keys of each go from general to special."""
        means = zip(self.billed.blend_each(wanted), self.counted.blend_each(wanted), strict=True)
        return [billed / counted for (billed, _), (counted, _) in means]

    def learn(self, keys: Sequence[Key], billed: float, counted: float) -> None:
        """Take the tokens of one answer."""
        self.billed.update(keys, billed)
        self.counted.update(keys, counted)


class Billing:
    """Learned shares of billed over counted prompt tokens. Owned by one learner."""

    def __init__(self) -> None:
        self.by_domain = Share()
        self.by_model = Share()

    @property
    def tables(self) -> tuple[MeanTable, ...]:
        """The whole state, in a fixed order."""
        shares = (self.by_domain, self.by_model)
        return tuple(table for share in shares for table in (share.billed, share.counted))

    def predict(self, models: Sequence[str], domain: str) -> list[float]:
        """Return the expected share for each model.

        Args:
            models: Names.
            domain: Domain of the request; empty for unknown.
        """
        (common,) = self.by_domain.predict((_domain_keys(domain),))
        own = self.by_model.predict([((model, ""),) for model in models])
        return [common * share for share in own]

    def learn(self, outcome: OutcomeObserved) -> None:
        """Take a successful outcome; without both counts it says nothing."""
        told, counted = outcome.usage.prompt_tokens, min(outcome.counted_tokens, MOST_TOKENS)
        if outcome.usage.estimated or told <= 0 or counted <= 0:
            return
        billed = min(max(told, counted / MOST), counted * MOST)
        keys = _domain_keys(outcome.domain)
        (common,) = self.by_domain.predict((keys,))
        expected = counted * common
        self.by_model.learn(((outcome.model, ""),), billed, expected)
        self.by_domain.learn(keys, billed, counted)


def _domain_keys(domain: str) -> tuple[Key, ...]:
    return (EVERYTHING, ("", domain)) if domain else (EVERYTHING,)
