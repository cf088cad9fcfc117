"""The decision rules: from predictions of each model to the probability of drawing it.

Every rule gives exact probabilities of what is then drawn from them. `DecisionMade.policy` names
the rule.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from localforge.bandit.draw import inverse_gap_weights, with_floor

DEFAULT = "matching"
_ROOT_HALF = math.sqrt(0.5)


class Outlook(NamedTuple):
    """What a rule knows of the models it may draw, each in the same order."""

    utilities: Sequence[float]
    stds: Sequence[float]
    """Standard deviation of the predicted quality, weighed by what finding out is worth."""
    evidence: Sequence[float]
    """Effective number of scores."""
    gamma: float
    """For `igw`: larger explores less."""
    width: float
    """For the others: how many standard deviations count; `epsilon-greedy` explores with it as its
    probability."""
    floor: float
    """Least probability of each."""
    weights: Sequence[float] = ()
    """For `static` and `rules`: what the configuration gives each."""


def matching(outlook: Outlook) -> list[float]:
    """Give each rival its chance to be better than the best, divided by the number of models.

    Rival `a` of the best model `b` gets ``2 Phi(-gap / (width * sqrt(std_a^2 + std_b^2))) / K``:
    as much as in a uniform draw when nothing tells them apart, and exponentially little once the
    gap is sure. The best gets the rest. Probability matching, as Thompson sampling does it, but in
    closed form and pair by pair.
    """
    utilities, stds, width = outlook.utilities, outlook.stds, outlook.width
    best, count = _best(utilities), len(utilities)
    top, doubt = utilities[best], stds[best]
    weights = []
    for utility, std in zip(utilities, stds, strict=True):
        scale = width * math.hypot(std, doubt)
        # Phi(-x) = erfc(x / sqrt 2) / 2
        share = math.erfc((top - utility) / scale * _ROOT_HALF) if scale > 0 else 0.0
        weights.append(share / count)
    weights[best] = 0.0
    weights[best] = max(1.0 - math.fsum(weights), 0.0)
    return with_floor(weights, outlook.floor)


def inverse_gap(outlook: Outlook) -> list[float]:
    """Weigh by the inverse of the gap to the best; see `draw.inverse_gap_weights`."""
    return inverse_gap_weights(outlook.utilities, outlook.evidence, outlook.gamma, outlook.floor)


def thompson(outlook: Outlook) -> list[float]:
    """Give each model the probability of being the best when utilities are independent Gaussians.

    ``N(utility, (width * std)^2)``, integrated over a grid of 257 points: within 0.01 where the
    models are about equally uncertain, up to 0.3 off for one that is a hundred times surer than
    another. It is drawn from what the grid gives, so the probability in the record is exact.
    """
    means = np.array(outlook.utilities)
    scales = np.maximum(outlook.width * np.array(outlook.stds), 1e-9)
    low, high = float((means - 6 * scales).max()), float((means + 6 * scales).max())
    grid = np.linspace(low, high, 257)
    z = (grid[None, :] - means[:, None]) / scales[:, None]
    below = np.array([[_phi(value) for value in row] for row in z.tolist()])
    # The model is the highest in a cell when it lies in it and every other lies below its middle.
    inside = np.diff(below, axis=1)
    middle = np.maximum((below[:, 1:] + below[:, :-1]) / 2, 1e-300)
    chance = (inside * np.prod(middle, axis=0) / middle).sum(axis=1).tolist()
    total = math.fsum(chance)
    if not total > 0:
        return _only(_best(outlook.utilities), outlook)
    weights = [value / total for value in chance]
    # The rest of rounding goes to the likeliest.
    best = _best(weights)
    weights[best] = max(1.0 - math.fsum(w for i, w in enumerate(weights) if i != best), 0.0)
    return with_floor(weights, outlook.floor)


def linucb(outlook: Outlook) -> list[float]:
    """Take the highest ``utility + width * std`` (Li et al., WWW 2010)."""
    bounds = [u + outlook.width * s for u, s in zip(outlook.utilities, outlook.stds, strict=True)]
    return _only(_best(bounds), outlook)


def epsilon_greedy(outlook: Outlook) -> list[float]:
    """Take the best, and with probability `width` (at most 1) any one."""
    epsilon = min(outlook.width, 1.0) / len(outlook.utilities)
    return with_floor(_only(_best(outlook.utilities), outlook), epsilon)


def greedy(outlook: Outlook) -> list[float]:
    """Take the best; what it learns from is what it takes."""
    return _only(_best(outlook.utilities), outlook)


def appointed(outlook: Outlook) -> list[float]:
    """Draw in proportion to the weights that the configuration gives; `matching` without any."""
    total = math.fsum(outlook.weights)
    if not total > 0:
        return matching(outlook)
    weights = [weight / total for weight in outlook.weights]
    # The rest of rounding goes to the likeliest.
    best = _best(weights)
    weights[best] = max(1.0 - math.fsum(w for i, w in enumerate(weights) if i != best), 0.0)
    return with_floor(weights, outlook.floor)


POLICIES: Mapping[str, Callable[[Outlook], list[float]]] = {
    "matching": matching,
    "igw": inverse_gap,
    "thompson": thompson,
    "linucb": linucb,
    "epsilon-greedy": epsilon_greedy,
    "greedy": greedy,
    "static": appointed,
    "rules": appointed,
}
"""By the name that `router.policy` gives."""


def _best(values: Sequence[float]) -> int:
    return values.index(max(values))


def _only(index: int, outlook: Outlook) -> list[float]:
    weights = [0.0] * len(outlook.utilities)
    weights[index] = 1.0
    return with_floor(weights, outlook.floor)


def _phi(value: float) -> float:
    return 0.5 * math.erfc(-value * _ROOT_HALF)
