"""Quality of every model for a request: a level per model, and ridge regressions of what is left.

Model `a` believes ``score = level_a + z . (base_a + theta_a) + noise`` for features `z`, without a
bias. Its parts:

- ``base_a``, from the shipped prior: weights of a known model, or those that a model of this level
  has on average; zero without a prior.
- ``level_a``: the prior level (shipped, card or price), moved by what all candidates scored
  against theirs, and by the model's own residuals: a mean with the prior as pseudo-answers, fewer
  of them once the scores contradict it.
- ``theta_a``: ridge regression of the model's residuals, ``P_a = (ridge I + sum w z z')^-1`` by the
  Sherman-Morrison formula. `shared` is the mean of all models' theta by evidence; a model without
  scores of its own borrows it.

Predicting is O(dim) per model: theta and the diagonal of `P_a`, which stands for its uncertainty,
are kept ready. Learning is O(dim^2) for the one model. Products go through `numpy.vecdot`, or `dot`
of two vectors: one BLAS dot per row, so that the same state gives the same bits in any process on
the same kind of machine.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from localforge.bandit.drift import DriftDetector
from localforge.bandit.prior import PRICE_WEIGHT, SHIPPED_WEIGHT, Level
from localforge.bandit.shipped import ShippedPrior

Vector = NDArray[np.float64]

RIDGE = 12.0
"""Prior precision of every weight; features have about unit length."""
SHIPPED_RIDGE = 1000.0
"""The same where the shipped prior has said what it knows."""
SHARE_WEIGHT = 30.0
"""Answers after which a model's own weights count as much as the shared ones."""
COMMON_WEIGHT = 2.0
"""How firmly the common offset of all models is believed to be 0, in models."""
OWN_LEVEL_WEIGHT = 2.0
"""Pseudo-answers of the level that a model's residuals are taken from while learning."""
LONGEST = 4.0
"""Longer feature vectors are scaled to this length, so that no input can blow up the state."""
NOISE = 0.25
"""Largest variance a score in [0, 1] can have."""
SURPRISE = 9.0
"""Squared standard errors by which a mean may miss its prior level before that is believed less."""
LEVEL_DOUBT = 10.0
"""How much more than its variance the doubt about a level counts when it comes to trying a model:
what is found out of a level is of use for every later request."""
SLOPE_DOUBT = 0.3
"""The same for the doubt about what sets one request apart: of use for requests like it only. The
diagonal that it is taken from leaves out what the columns have in common, too."""
MAX_ARMS = 256
_GROWTH = 8
_ALIGN = 8
"""A BLAS dot works through its tail one value at a time: 111 values take longer than 112."""


class RidgeArms:
    """The state of all arms. Owned by one learner; not safe to share between threads.

    Args:
        dim: Length of a feature vector, at least 1; its first value is the bias.
        max_arms: The arm that learned longest ago gives way to a new one beyond this many.
        prior: Made for these features, or None.
    """

    def __init__(
        self, dim: int, max_arms: int = MAX_ARMS, prior: ShippedPrior | None = None
    ) -> None:
        if dim < 1 or max_arms < 1:
            raise ValueError(f"dim and max_arms must be at least 1, got {dim} and {max_arms}")
        self.dim = dim
        self.max_arms = max_arms
        self.prior = prior
        self.ridge = SHIPPED_RIDGE if prior else RIDGE
        self.size = size = -(-dim // _ALIGN) * _ALIGN
        """Length of a design: `dim`, and zeros that change nothing."""
        self.updates = 0
        self.names: list[str] = []
        """Arm of each row."""
        self.learned_at: list[int] = []
        self.weights: list[float] = []
        """Sum of the weights of an arm's scores since it last changed: its evidence."""
        self.scores: list[float] = []
        """Weighted sum of what an arm scored beside `base` and `theta`."""
        self.drifts: list[int] = []
        """How often each was found changed."""
        self.detectors: list[DriftDetector] = []
        self.covariance: NDArray[np.float64] = np.zeros((_GROWTH, size, size))
        self.moment: NDArray[np.float64] = np.zeros((_GROWTH, size))
        self._diagonal: NDArray[np.float64] = np.zeros((_GROWTH, size))
        self._rows: dict[str, int] = {}
        self._outer: NDArray[np.float64] = np.empty((size, size))
        self._known = prior.rows if prior else {}
        self._known_levels = {
            model: Level(float(prior.levels[at]), SHIPPED_WEIGHT)
            for model, at in self._known.items()
            if prior
        }
        self._first = 3 + (len(prior.weights) if prior else 0)
        self._lines: NDArray[np.float64] = np.zeros((self._first + _GROWTH, size))
        """All that a design is multiplied with: `shared`; of the prior `by_level` and the weights
        of the models that it knows; and from row `_first` on theta of each arm."""
        if prior:
            self._lines[1:3, :dim] = prior.by_level
            self._lines[3 : self._first, :dim] = prior.weights
        self._is_stale = False
        """Whether `shared` leaves out scores: several may be learned between two decisions."""

    @np.errstate(all="ignore")  # what is not finite is answered
    def design(self, x: NDArray[np.floating]) -> Vector | None:
        """Return `x` in float64 without its bias, shortened to `LONGEST`; None when not finite."""
        z = np.zeros(self.size)
        z[: self.dim] = x
        z[0] = 0.0
        square = float(z.dot(z))
        if not math.isfinite(square):
            return None
        if square > LONGEST * LONGEST:
            z *= LONGEST / math.sqrt(square)
        return z

    def blank(self) -> Vector:
        """Return the design of a request of which nothing is known."""
        return np.zeros(self.size)

    def predict(
        self,
        models: Sequence[str],
        levels: Sequence[Level],
        z: Vector,
        tried: Sequence[float] = (),
    ) -> tuple[list[float], list[float], list[float], list[float]]:
        """Return mean, its standard deviation, evidence, and worth of trying of each model.

        The last is a standard deviation too, with the doubt about levels and about single requests
        weighed by `LEVEL_DOUBT` and `SLOPE_DOUBT`.

        Args:
            models: Names, known or not.
            levels: What their cards let expect.
            z: From `design` or `blank`.
            tried: How much each was tried beside its evidence, in scores; lessens the worth of
                trying it and nothing else.
        """
        rows = [self._rows.get(model, -1) for model in models]
        expected = [
            self._expected(model, row, given)
            for model, row, given in zip(models, rows, levels, strict=True)
        ]
        common = self._common(rows, expected)
        if self._is_stale:
            self._share()
        products = self._products(z)
        spreads = np.vecdot(self._diagonal[: len(self.names)], z * z).tolist()
        untried = float(z.dot(z)) / self.ridge if -1 in rows else 0.0
        shared = products[0] * SHARE_WEIGHT
        means, stds, evidence, doubts = [], [], [], []
        for model, row, (score, weight, caution), further in zip(
            models, rows, expected, tried or (0.0,) * len(models), strict=True
        ):
            if row < 0:
                seen = residual = slope = 0.0
                spread = untried
            else:
                seen, residual = self.weights[row], self.scores[row]
                slope, spread = products[self._first + row], spreads[row]
                if caution:
                    own = seen / (seen + caution)
                    slope, spread = own * slope, own * own * spread
            prior = score + common
            firm = _firmness(weight, prior, residual, seen)
            level = (firm * prior + residual) / (firm + seen)
            slope += shared / (SHARE_WEIGHT + seen)
            means.append(level + self._base(model, level, products) + slope)
            spread = NOISE * spread if spread > 0.0 else 0.0
            unsettled = NOISE / (firm + seen)
            stds.append(math.sqrt(spread + unsettled))
            evidence.append(seen)
            unsettled = NOISE / (firm + seen + further)
            doubts.append(math.sqrt(SLOPE_DOUBT * spread + LEVEL_DOUBT * unsettled))
        return means, stds, evidence, doubts

    def learn(
        self, model: str, z: Vector, score: float, weight: float, *, noticed: float | None = None
    ) -> bool:
        """Take one score; the caller has checked it.

        Args:
            model: Whose answer it is.
            z: From `design`.
            score: In [0, 1], or near it where it stands for another (`cascade.Credit`).
            weight: In (0, 1].
            noticed: What tells of changes, where that is not `score`.

        Returns:
            True when the model was found changed and starts anew.
        """
        row = self._rows.get(model)
        if row is None:
            row = self._add(model)
        level = self._own_level(model, row)
        products = self._products(z)
        base, slope = self._base(model, level, products), products[self._first + row]
        self.updates += 1
        self.learned_at[row] = self.updates
        # Not minus the level, which follows the scores and would hide the change.
        error = (score if noticed is None else noticed) - base - slope
        if self.detectors[row].update(error):
            self._reset(row)
            self.drifts[row] += 1
            return True
        self._absorb(self.covariance[row], z, weight)
        moment = self.moment[row]
        moment += (weight * (score - level - base)) * z
        self.weights[row] += weight
        self.scores[row] += weight * (score - base - slope)
        self._refresh(row)
        return False

    def arrays(self) -> tuple[NDArray[np.float64], ...]:
        """Return the arrays of the state in a fixed order: views, without spare rows."""
        used = len(self.names)
        return self.covariance[:used], self.moment[:used]

    def restore(
        self,
        names: Sequence[str],
        arrays: Sequence[NDArray[np.float64]],
        weights: Sequence[float],
    ) -> None:
        """Take over the arms, `arrays` and evidence of another state into this fresh one.

        The caller fills in `learned_at`, `scores`, `drifts`, `detectors` and `updates`.
        """
        for name in names:
            self._add(name)
        for mine, theirs in zip(self.arrays(), arrays, strict=True):
            mine[...] = theirs
        self.weights[:] = weights
        for row in range(len(names)):
            self._refresh(row)

    def _expected(self, model: str, row: int, given: Level) -> Level:
        """Return the prior level of a model: the shipped one, else its card's."""
        if row >= 0 and self.drifts[row]:
            # It is no longer the model that its card and the outcome data knew.
            return Level(given.score, PRICE_WEIGHT)
        return self._known_levels.get(model, given)

    def _common(self, rows: Sequence[int], expected: Sequence[Level]) -> float:
        """Return by how much the candidates' scores are above what was expected of them."""
        total, firmness = 0.0, COMMON_WEIGHT
        for row, (score, weight, _) in zip(rows, expected, strict=True):
            if row >= 0 and (seen := self.weights[row]) > 0:
                share = seen / (seen + weight)
                total += share * (self.scores[row] / seen - score)
                firmness += share
        return total / firmness

    def _own_level(self, model: str, row: int) -> float:
        """Return the level of an arm as far as the learner itself can tell, without its card."""
        known = self._known_levels.get(model)
        if known is not None and not self.drifts[row]:
            score = known.score
            weight = _firmness(known.weight, score, self.scores[row], self.weights[row])
        else:
            seen = math.fsum(self.weights)
            score = (math.fsum(self.scores) + 0.5 * OWN_LEVEL_WEIGHT) / (seen + OWN_LEVEL_WEIGHT)
            weight = OWN_LEVEL_WEIGHT
        return (self.scores[row] + weight * score) / (self.weights[row] + weight)

    def _products(self, z: Vector) -> list[float]:
        """Return the product of each row of `_lines` with a design."""
        used = self._first + len(self.names)
        products: list[float] = np.vecdot(self._lines[:used], z).tolist()
        return products

    def _base(self, model: str, level: float, products: list[float]) -> float:
        at = self._known.get(model)
        return products[1] + level * products[2] if at is None else products[3 + at]

    def _refresh(self, row: int) -> None:
        covariance = self.covariance[row]
        np.vecdot(covariance, self.moment[row], out=self._lines[self._first + row])
        self._diagonal[row] = covariance.diagonal()
        self._is_stale = True

    def _share(self) -> None:
        thetas = self._lines[self._first : self._first + len(self.names)]
        evidence = np.array(self.weights)[:, None]
        total = np.add.reduce(evidence * thetas, axis=0)
        self._lines[0] = total / (math.fsum(self.weights) + SHARE_WEIGHT)
        self._is_stale = False

    def _absorb(self, covariance: NDArray[np.float64], z: Vector, weight: float) -> None:
        gain = np.vecdot(covariance, z)
        variance = max(float(gain.dot(z)), 0.0)
        gain *= math.sqrt(weight / (1.0 + weight * variance))
        # A matrix product in which nothing is summed takes half as long as `multiply.outer`. And
        # gain[i] * gain[j] commutes, so the covariance stays symmetric to the last bit.
        np.dot(gain[:, None], gain[None, :], out=self._outer)
        covariance -= self._outer

    def _add(self, model: str) -> int:
        if len(self.names) >= self.max_arms:
            row = min(range(len(self.names)), key=self.learned_at.__getitem__)
            del self._rows[self.names[row]]
            self.names[row] = model
        else:
            row = len(self.names)
            self.names.append(model)
            self.learned_at.append(0)
            self.weights.append(0.0)
            self.scores.append(0.0)
            self.drifts.append(0)
            self.detectors.append(DriftDetector())
            if row >= len(self.covariance):
                self._grow()
        self._rows[model] = row
        self.drifts[row] = 0
        self._reset(row)
        return row

    def _reset(self, row: int) -> None:
        self.covariance[row] = 0.0
        np.fill_diagonal(self.covariance[row], 1 / self.ridge)
        self.moment[row] = 0.0
        self.weights[row] = self.scores[row] = 0.0
        self.detectors[row] = DriftDetector()
        self._refresh(row)

    def _grow(self) -> None:
        size = self.size
        self.covariance = np.concatenate([self.covariance, np.zeros((_GROWTH, size, size))])
        self.moment, self._lines, self._diagonal = (
            np.concatenate([array, np.zeros((_GROWTH, size))])
            for array in (self.moment, self._lines, self._diagonal)
        )


def _firmness(weight: float, expected: float, total: float, seen: float) -> float:
    """Return for how many answers a prior level counts beside what was scored.

    The prior says that levels miss it with the variance ``NOISE / weight``. Where the mean misses
    it by more than chance would (`SURPRISE`), what is missed beyond that is taken for the variance:
    a wrong figure on a card is forgotten in dozens of answers, a right one is kept.

    Args:
        weight: Pseudo-answers of the prior, above 0.
        expected: Mean score that it lets expect.
        total: Weighted sum of the scores.
        seen: Their weights, at least 0.
    """
    if seen <= 0:
        return weight
    miss = total / seen - expected
    beyond = miss * miss - SURPRISE * NOISE / seen
    return NOISE / beyond if beyond * weight > NOISE else weight
