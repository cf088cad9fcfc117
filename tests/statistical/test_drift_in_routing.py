"""A provider silently changes a model under live traffic: the router notices and tries it again.

Every seed is fixed and printed; tolerances stand beside the assertions.
"""

import msgspec
import numpy as np
import pytest

from localforge.bandit import Fold
from localforge.config import Config
from tests.routing import (
    DIM,
    NOW,
    SCHEMA,
    card,
    feedback,
    learn,
    probabilities,
    route_call,
    service,
)

BEFORE = {"changing": 0.9, "steady": 0.75}
CARDS = [card(name, quality_prior=0.5) for name in BEFORE]
PAST = 600
"""Requests before the change."""


class Traffic:
    """Requests with a verdict after each."""

    def __init__(self, seed):
        print("seed", seed)
        self.rng = np.random.default_rng(seed)
        self.fold = Fold(SCHEMA, DIM)
        config = Config(router=msgspec.structs.replace(Config().router, seed=seed))
        self.router = service(*CARDS, fold=self.fold, config=config)
        self.asked = 0

    def ask(self, shares):
        """Route one request; return who answered, and the chance the changing model had."""
        self.asked += 1
        call = route_call(f"q{self.asked}", preference="cost=0,latency=0")
        decision = self.router.route(call, NOW).decision
        good = float(self.rng.random() < shares[decision.chosen])
        learn(self.fold, feedback(f"f{self.asked}", decision.chosen, good))
        return decision.chosen, probabilities(decision)["changing"]

    @property
    def alarms(self):
        """How often the changing model was found changed."""
        arms = self.fold.learner.arms
        return arms.drifts[arms.names.index("changing")]


@pytest.mark.parametrize("seed", range(5))
def test_a_model_that_became_worse_is_noticed_within_200_requests_and_tried_again(seed):
    traffic = Traffic(seed)
    for _ in range(PAST):
        traffic.ask(BEFORE)
    settled = np.mean([traffic.ask(BEFORE)[1] for _ in range(50)])
    assert traffic.alarms == 0
    assert settled > 0.9

    after = {**BEFORE, "changing": 0.4}
    noticed = next(
        (number for number in range(1, 201) if traffic.ask(after) and traffic.alarms), None
    )
    assert noticed is not None, "not noticed within 200 requests"

    # Forgotten, so that it is tried; then known for what it is now.
    tried = [traffic.ask(after) for _ in range(100)]
    assert sum(chosen == "changing" for chosen, _ in tried) >= 3
    late = np.mean([traffic.ask(after)[1] for _ in range(100)])
    assert late < 0.1


@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_that_is_itself_again_is_used_again(seed):
    """The one that is hardly drawn any more is not written off for good."""
    traffic = Traffic(seed)
    for _ in range(PAST):
        traffic.ask(BEFORE)
    for _ in range(200):
        traffic.ask({**BEFORE, "changing": 0.4})
    drawn = [traffic.ask(BEFORE)[1] for _ in range(2500)]

    assert np.mean(drawn[-500:]) > 0.9
