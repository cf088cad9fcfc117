"""How large a model is, and what that lets expect of it before its first score."""

import math
import re

AT_ONE_BILLION = 0.39
"""Expected mean score of a model with a billion parameters."""
PER_DECADE = 0.10
"""By how much it grows with each tenfold of parameters."""
LEAST, MOST = 0.2, 0.7

_BILLIONS = re.compile(
    r"(?<![a-z0-9.])(?:(\d{1,3})x)?(\d{1,4}(?:\.\d+)?)b(?![a-z0-9])", re.IGNORECASE
)
_MILLIONS = re.compile(r"(?<![a-z0-9.])(\d{2,4}(?:\.\d+)?)m(?![a-z0-9])", re.IGNORECASE)


def prior_of_size(parameters_b: float) -> float:
    """Return the mean score that a model's size lets expect, 0.2 to 0.7.

    ``0.39 + 0.10 log10(billions)``: 0.30 for 135 million, 0.48 for 8, 0.58 for 70 billion. A modest
    guess, to be outvoted by a few verdicts: models of one size differ as much as those of
    neighbouring ones.

    The slope was fitted in November 2026 by least squares to 34 scores of open models in five
    lists, with an intercept for each list: the published MMLU scores in
    `localforge/benchmark/data/cards.toml` (10 models) and the mean scores in the outcome files
    mmlu_helm (3), mmlu_pro (7), mmlu_redux (10) and zeroeval_mix (4). It is 0.105 a decade, with a
    standard error of 0.018 and a spread of 0.053 around it. The intercept puts such a model beside
    those of which only a price is known, where their scores in the same four files are: 0.39
    relative to the guess that `localforge.bandit.prior` makes from a price.

    Args:
        parameters_b: Billions of parameters, all experts of a mixture counted.
    """
    return min(max(AT_ONE_BILLION + PER_DECADE * math.log10(parameters_b), LEAST), MOST)


def size_in_name(name: str) -> float | None:
    """Return the billions of parameters that a model's name tells; None where it tells none.

    The usual forms: ``llama3.1:8b``, ``Qwen2.5-72B-Instruct``, ``smollm2-135m``, and ``8x7B``,
    which is 56: all experts, whose common parts are then counted more than once. The first figure
    counts, so that ``Qwen3-30B-A3B`` has 30. A million alone (``-1m``) is a length of context.
    """
    found = _BILLIONS.search(name)
    if found:
        size = float(found[1] or 1) * float(found[2])
    else:
        found = _MILLIONS.search(name)
        size = float(found[1]) / 1000 if found else 0.0
    return size or None
