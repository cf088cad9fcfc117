"""A cheap model that sometimes fails late: callers who cannot wait are no longer sent there.

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
    failure,
    feedback,
    learn,
    outcome,
    route_call,
    service,
)

GOOD = {"cheap": 0.78, "mid": 0.82, "strong": 0.86}
SECONDS = {"cheap": 4.0, "mid": 5.0, "strong": 8.0}
CARDS = (
    card("cheap", price_in=0.1, price_out=0.4, quality_prior=None),
    card("mid", price_in=0.4, price_out=1.6, quality_prior=None),
    card("strong", price_in=2.5, price_out=10.0, quality_prior=None),
)


def share_of_cheap(seed, preference, fails, lost_s):
    """Share of the last 600 of 900 requests that go to the cheap model first."""
    print("seed", seed)
    rng = np.random.default_rng(seed)
    fold = Fold(SCHEMA, DIM)
    config = Config(
        router=msgspec.structs.replace(Config().router, seed=seed, preference=preference)
    )
    router = service(*CARDS, fold=fold, config=config)
    chosen = []
    for number in range(900):
        name = f"{seed}-{number}"
        decision = router.route(route_call(name), NOW).decision
        chosen.append(decision.chosen)
        first, second = decision.plan[:2]
        failed = first == "cheap" and rng.random() < fails
        if failed:
            learn(fold, failure(name, first, total_s=lost_s))
        model = second if failed else first
        learn(
            fold,
            outcome(f"{name}.1", model, tokens=400, total_s=SECONDS[model]),
            feedback(name, model, float(rng.random() < GOOD[model])),
        )
    return chosen[300:].count("cheap") / 600


@pytest.mark.parametrize("seed", range(3))
def test_a_model_that_loses_a_minute_in_a_fifth_of_attempts_is_left_by_callers_in_a_hurry(seed):
    # Half of their requests went there while failures taught nothing.
    assert share_of_cheap(seed, "fast", 0.2, 60.0) < 0.1


def test_a_model_that_fails_at_once_loses_little_by_it():
    assert share_of_cheap(0, "cheap", 0.1, 0.1) > 0.6
