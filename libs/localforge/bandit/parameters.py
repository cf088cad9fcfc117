"""The parameters of the live policy and their hash."""

import hashlib
from collections.abc import Callable

import msgspec

from localforge.bandit import (
    belief,
    billing,
    cascade,
    checked,
    drift,
    ladder,
    prior,
    reliability,
    ridge,
    soundness,
    usage,
)
from localforge.bandit.policies import DEFAULT, POLICIES, Outlook
from localforge.config import RouterConfig
from localforge.scoring.verdict import FAILED_BELOW

LEARNER = "levels.v7"
"""Name and version of the learners' arithmetic; a state of another one is not read."""
VERSION = "v7"
"""Of the policies: a change of a rule or of a learner's arithmetic is a new version."""

CONSTANTS_HASH = hashlib.blake2b(
    msgspec.msgpack.encode(
        (
            ridge.RIDGE,
            ridge.SHIPPED_RIDGE,
            ridge.SHARE_WEIGHT,
            ridge.COMMON_WEIGHT,
            ridge.OWN_LEVEL_WEIGHT,
            ridge.SURPRISE,
            ridge.LEVEL_DOUBT,
            ridge.SLOPE_DOUBT,
            drift.DELTA,
            drift.LONGEST,
            drift.KEPT,
            prior.SHIPPED_WEIGHT,
            ridge.LONGEST,
            ridge.NOISE,
            ridge.MAX_ARMS,
            belief.PRIOR_WEIGHT,
            belief.SLOPE_WEIGHT,
            belief.BESIDE_GOOD,
            belief.BESIDE_BAD,
            belief.UNLIKE_BAD,
            belief.REPEAT_BESIDE_GOOD,
            belief.REPEAT_BESIDE_BAD,
            belief.REPEAT_SPLIT,
            cascade.CAUTION,
            cascade.CURIOSITY,
            cascade.OWN_SHARE,
            ladder.CHEAP,
            ladder.COMPARABLE_TOKENS,
            ladder.TRUSTED,
            checked.SHRINKAGE,
            checked.KEPT,
            checked.SURE,
            FAILED_BELOW,
            checked.LATEST,
            checked.MAX_MODELS,
            soundness.FADING,
            soundness.PRIOR,
            soundness.TRIED,
            soundness.KEPT,
            soundness.PATIENCE,
            soundness.MAX_MODELS,
            reliability.FADING,
            reliability.PRIOR,
            reliability.LOST_FADING,
            reliability.MAX_MODELS,
            reliability.OWN_FAULT,
            sorted(reliability.FURTHER_FAULTS),
            sorted(reliability.NO_FAULT),
            usage.FADING,
            usage.BLEND,
            usage.MAX_KEYS,
            usage.LENGTH_PRIOR,
            usage.FIRST_TOKEN_PRIOR,
            usage.TOKEN_PRIOR,
            billing.FADING,
            billing.MOST,
            billing.TOKENS_PRIOR,
            tuple(prior.level_of(None, None, price, price) for price in (0.0, 1.0, 30.0)),
            prior.level_of(None, 0.5, 0.0, 0.0),
            prior.level_of(0.5, None, 0.0, 0.0),
        )
    ),
    digest_size=16,
).hexdigest()
"""32 hex digits over the learners' constants."""


POLICY = f"{DEFAULT}.{VERSION}"
"""The default policy, as records name it."""


def rule_of(policy: str) -> Callable[[Outlook], list[float]]:
    """Return the rule behind `DecisionMade.policy`.

    Raises:
        ValueError: This program has no such policy, or another version of it.
    """
    name, _, version = policy.partition(".")
    if version != VERSION or name not in POLICIES:
        raise ValueError(f"policy {policy!r} is not one of {', '.join(known_policies())}")
    return POLICIES[name]


def known_policies() -> tuple[str, ...]:
    """Return the policies whose decisions this program can make, as records name them."""
    return tuple(f"{name}.{VERSION}" for name in POLICIES)


class PolicyParameters(msgspec.Struct, frozen=True, kw_only=True):
    """How a policy explores. Preferences are not here: a decision records its own prices."""

    policy: str = POLICY
    gamma: float
    exploration_floor: float
    width: float = 0.3
    seed: int
    prior: str = ""
    """Digest of the shipped prior; empty for none."""

    @classmethod
    def from_config(cls, config: RouterConfig, prior: str = "") -> "PolicyParameters":
        """Return the parameters that the configuration asks for.

        Args:
            config: The `router` section.
            prior: Digest of the prior that the learner has; empty for none.
        """
        return cls(
            policy=f"{config.policy}.{VERSION}",
            gamma=float(config.gamma),
            exploration_floor=float(config.exploration_floor),
            width=float(config.width),
            seed=config.seed,
            prior=prior,
        )

    @property
    def policy_hash(self) -> str:
        """32 hex digits over the policy's name, these parameters and the learners' constants."""
        data = msgspec.msgpack.encode(
            (
                self.policy,
                self.gamma,
                self.exploration_floor,
                self.width,
                str(self.seed),
                self.prior,
                CONSTANTS_HASH,
            )
        )
        return hashlib.blake2b(data, digest_size=16).hexdigest()
