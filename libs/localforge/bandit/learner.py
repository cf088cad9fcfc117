"""What the router has learned: quality per model, answer length, billing, speed, failures."""

import functools

import numpy as np
from numpy.typing import NDArray

from localforge.bandit.billing import Billing
from localforge.bandit.cascade import Cascade
from localforge.bandit.checked import Checked
from localforge.bandit.quality import QualityRegressor
from localforge.bandit.reliability import Reliability
from localforge.bandit.ridge import RidgeArms, Vector
from localforge.bandit.shipped import ShippedPrior, trained_from
from localforge.bandit.soundness import Soundness
from localforge.bandit.usage import MeanTable, UsageModel
from localforge.errors import StateError

RECENT = 128
"""Requests whose features are kept ready: most are learned of soon after the decision."""
_HALF, _SINGLE = np.dtype("<f2"), np.dtype("<f4")


class Learner:
    """The estimators behind a decision. Changed only by `Fold`.

    Args:
        feature_schema: Name of the feature schema it was made for.
        dim: Values in a feature vector of that schema.
        prior: The shipped prior; None to know nothing of public outcomes, not even through the
            feature columns that were trained on them.

    Raises:
        StateError: The prior was made for other features.
    """

    def __init__(self, feature_schema: str, dim: int, prior: ShippedPrior | None = None) -> None:
        if prior and prior.header.feature_schema != feature_schema:
            raise StateError(
                f"the shipped prior was made for features {prior.header.feature_schema}, these are "
                f'{feature_schema}; set `router.prior` to "none" or train it again'
            )
        self.feature_schema = feature_schema
        self.dim = dim
        self.prior = prior
        self.quality = QualityRegressor(dim, prior=prior)
        self.usage = UsageModel()
        self.billing = Billing()
        self.cascade = Cascade(width=1.0, seed=0)
        """What pairs of answers say; a decision draws with its own parameters."""
        self.checked = Checked()
        """What the form of an answer says of its quality."""
        self.soundness = Soundness()
        """How many answers have a sound form."""
        self.reliability = Reliability()
        """How many attempts fail."""
        unseen_from = None if prior else trained_from(feature_schema)
        self.read = functools.lru_cache(maxsize=RECENT)(
            functools.partial(_read, self.arms, unseen_from)
        )
        """Regression input of a request with features of the learner's schema, not to be changed.
        None when they are of another length or not finite."""

    @property
    def arms(self) -> RidgeArms:
        """The numbers behind `quality`."""
        return self.quality.arms

    @property
    def tables(self) -> tuple[MeanTable, ...]:
        """Every table of means, in a fixed order: the state beside the parts above."""
        return (*self.usage.tables, *self.billing.tables)

    @property
    def prior_digest(self) -> str:
        """Names the prior; empty without one."""
        return self.prior.digest if self.prior else ""

    def design(self, feature_schema: str, features: bytes) -> Vector:
        """Return the regression input of one request.

        Features of another schema, of another length or not finite are left out: the prediction
        then rests on each model's level alone.
        """
        if feature_schema == self.feature_schema:
            z = self.read(features)
            if z is not None:
                return z
        return self.arms.blank()


def _read(arms: RidgeArms, unseen_from: int | None, features: bytes) -> Vector | None:
    x = read_features(features, arms.dim)
    if x is None:
        return None
    if unseen_from is not None:
        x = x.copy()
        x[unseen_from:] = 0.0
    return arms.design(x)


def read_features(data: bytes, dim: int) -> NDArray[np.floating] | None:
    """Return the vector in `data`; None when it has not `dim` values.

    Little endian; float16, or float32 where there are twice as many bytes.
    """
    if len(data) == 2 * dim:
        return np.frombuffer(data, _HALF)
    if len(data) == 4 * dim:
        return np.frombuffer(data, _SINGLE)
    return None
