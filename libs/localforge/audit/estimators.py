"""What another policy would have earned, from the log of this one: IPS, SNIPS, doubly robust.

Every decision `i` chose one action with a known probability. With `ratio_i`, the probability of
that action under the other policy over the logged one, and `reward_i`, what came of it:

- IPS (inverse propensity scoring): ``mean(ratio * reward)``; unbiased.
- SNIPS (Swaminathan and Joachims, "The Self-Normalized Estimator for Counterfactual Learning",
  NeurIPS 2015): ``sum(ratio * reward) / sum(ratio)``; a small bias for much less variance.
- DR (Dudik, Langford and Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011):
  ``mean(expected + ratio * (reward - predicted))``, with predictions that were made before the
  reward was known; unbiased however wrong they are, and the more precise the better they are.

Intervals are normal approximations from the empirical variance of the terms (for SNIPS of the
linearised terms), at 95 %. They need many effective samples, which `Overlap` measures, and no
terms that dwarf all others: where `Estimate.leading` is near 1, the variance is not known.
"""

import math
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

CONFIDENCE = 0.95
FEW = 5
"""Terms whose share of the sum of squares is told."""
ROUNDING = 1e-9
"""Standard deviations below this share of the value are rounding."""
_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A mean and its 95 % confidence interval."""

    value: float
    low: float
    high: float
    leading: float = 0.0
    """Share of the sum of squared deviations that the `FEW` largest hold, 0 to 1."""


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """How well the log covers the other policy."""

    decisions: int
    effective: float
    """Kish's effective sample size of the ratios drawn, ``sum(ratio)^2 / sum(ratio^2)``."""
    expected_effective: float
    """The same from the probabilities alone: it also sees rare actions that were never drawn."""
    mean_ratio: float
    """1 in expectation."""
    mean_ratio_error: float
    """Standard error of `mean_ratio` if the log was drawn with the probabilities it states."""

    @property
    def size(self) -> float:
        """The lesser of both effective sample sizes."""
        return min(self.effective, self.expected_effective)


def overlap(ratio: Vector, second_moment: Vector) -> Overlap:
    """Measure the overlap of two policies on logged decisions.

    Args:
        ratio: Per decision, target probability over logged probability of the logged action.
        second_moment: Per decision, ``sum over actions of target^2 / logged``: the expectation of
            the squared ratio.
    """
    count = len(ratio)
    if not count:
        return Overlap(
            decisions=0, effective=0, expected_effective=0, mean_ratio=0, mean_ratio_error=0
        )
    squares, expected = float(np.sum(ratio**2)), float(np.sum(second_moment))
    return Overlap(
        decisions=count,
        effective=float(np.sum(ratio)) ** 2 / squares if squares else 0.0,
        expected_effective=count**2 / expected if expected else 0.0,
        mean_ratio=float(np.mean(ratio)),
        mean_ratio_error=math.sqrt(float(np.sum(np.maximum(second_moment - 1.0, 0.0)))) / count,
    )


def mean(values: Vector) -> Estimate:
    """Return the mean with its interval: what the logged policy earned, or a mean difference."""
    value = float(np.mean(values))
    return _around(value, values - value)


def ips(ratio: Vector, reward: Vector) -> Estimate:
    """Inverse propensity scoring."""
    return mean(ratio * reward)


def snips(ratio: Vector, reward: Vector) -> Estimate:
    """Self-normalised inverse propensity scoring.

    Raises:
        ZeroDivisionError: No logged action has a probability under the target.
    """
    value = float(np.sum(ratio * reward)) / float(np.sum(ratio))
    return _around(value, ratio * (reward - value) / float(np.mean(ratio)))


def doubly_robust_terms(
    ratio: Vector, reward: Vector, predicted: Vector, expected: Vector
) -> Vector:
    """Return the terms whose mean is the doubly robust estimate.

    Args:
        ratio: As for `overlap`.
        reward: What came of the logged action.
        predicted: What was predicted of the logged action, without knowledge of `reward`.
        expected: The predictions of all actions, weighted with the target's probabilities.
    """
    return expected + ratio * (reward - predicted)


def _around(value: float, deviations: Vector) -> Estimate:
    count = len(deviations)
    squares = np.sort(deviations**2)
    total = float(np.sum(squares))
    variance = total / max(count - 1, 1)
    half = _Z * math.sqrt(variance / count)
    spreads = math.sqrt(variance) > ROUNDING * abs(value)
    leading = float(np.sum(squares[-FEW:])) / total if spreads else 0.0
    return Estimate(value=value, low=value - half, high=value + half, leading=leading)
