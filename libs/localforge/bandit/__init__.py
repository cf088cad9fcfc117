"""Decide, learn and remember: the policy, its learners, and their state as a fold.

`eligible` filters, `decide` predicts, draws and plans, `fold` learns from the feedback stream,
`checkpoint` stores the state. Nothing here knows a broker, a store or a clock.
"""

from localforge.bandit.checkpoint import dump, load
from localforge.bandit.decide import Limits, complete, redecide
from localforge.bandit.eligible import (
    Eligibility,
    Registry,
    Requirements,
    filter_models,
    refuse_ambiguous,
    refuse_empty,
    refuse_unread,
    spare,
)
from localforge.bandit.fold import FACT_SUBJECTS, Applied, Fold
from localforge.bandit.learner import Learner
from localforge.bandit.parameters import POLICY, PolicyParameters, known_policies
from localforge.bandit.preference import Preference, named_preferences, parse_preference
from localforge.bandit.shipped import prior_named

__all__ = [
    "FACT_SUBJECTS",
    "POLICY",
    "Applied",
    "Eligibility",
    "Fold",
    "Learner",
    "Limits",
    "PolicyParameters",
    "Preference",
    "Registry",
    "Requirements",
    "complete",
    "dump",
    "filter_models",
    "known_policies",
    "load",
    "named_preferences",
    "parse_preference",
    "prior_named",
    "redecide",
    "refuse_ambiguous",
    "refuse_empty",
    "refuse_unread",
    "spare",
]
