"""One cheap model asked twice, against asking it or the strong one alone, with known truth.

The cheap model knows the answer or guesses; nothing but a second answer tells which. Every seed is
fixed and printed; tolerances stand beside the assertions.
"""

from typing import NamedTuple

import msgspec
import numpy as np
import pytest

from localforge.bandit import Fold
from localforge.config import Config
from localforge.contracts.facts import CascadeResult
from tests.routing import DIM, NOW, SCHEMA, card, feedback, learn, outcome, route_call, service

TOKENS = 10
KNOWS, STRONG = 0.7, 0.95
STRONG_USD = 0.25
"""Of an answer; a dollar is one unit of quality."""
ALONE = STRONG - STRONG_USD
"""Utility of the strong model, asked alone."""


class Run(NamedTuple):
    """One pass."""

    utilities: np.ndarray
    """Realised, of each request: score less all calls."""
    twice: np.ndarray
    """Whether the cheap model was asked twice."""


def run(seed: int, repeats: float, cheap_usd: float, rounds: int = 1_000) -> Run:
    """Route requests; a guess of the cheap model is wrong, and said again with `repeats`."""
    print(f"seed {seed}")
    costs = {"cheap": cheap_usd, "strong": STRONG_USD}
    rng = np.random.default_rng(seed)
    config = Config(router=msgspec.structs.replace(Config().router, seed=seed))
    fold = Fold(SCHEMA, DIM)
    router = service(
        card("cheap", price_out=cheap_usd * 1e6 / TOKENS, quality_prior=0.6),
        card("strong", price_out=STRONG_USD * 1e6 / TOKENS, quality_prior=0.9),
        fold=fold,
        config=config,
    )
    utilities, twice = [], []
    for index in range(rounds):
        call = route_call(
            f"s{seed}-{index}", cascade=True, max_tokens=16, preference="cost=1,latency=0"
        )
        decision = router.route(call, NOW).decision
        plan = decision.cascade
        knows, agreed = rng.random() < KNOWS, rng.random() < repeats
        agreed = bool(knows or agreed)
        right = {"cheap": bool(knows), "strong": bool(rng.random() < STRONG)}
        asked, delivered, told = [decision.chosen], decision.chosen, None
        if plan.asks_pair:
            delivered = plan.if_agreed if agreed else plan.if_split
            asked = list(plan.models if delivered == "strong" else plan.models[:2])
            told = CascadeResult(
                models=plan.models,
                qualities=plan.qualities,
                beliefs=plan.beliefs,
                agreed=agreed,
                delivered=delivered,
                same=("cheap",) if delivered == "strong" and all(right.values()) else (),
            )
        for step, model in enumerate(asked):
            made = outcome(f"{index}.{step}", model, tokens=TOKENS)
            if told and step == 1:
                told_first = msgspec.structs.replace(told, compared=True, delivered="", same=())
                made = msgspec.structs.replace(made, cascade=told_first)
            learn(fold, made)
        score = float(right[delivered])
        verdict = feedback(f"{index}", delivered, score)
        learn(fold, msgspec.structs.replace(verdict, cascade=told))
        utilities.append(score - sum(costs[model] for model in asked))
        twice.append(plan.asks_pair)
    return Run(np.array(utilities), np.array(twice))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_asking_twice_beats_either_model_alone(seed):
    cheap_usd = 0.01
    utilities, twice = run(seed, repeats=0.3, cheap_usd=cheap_usd)

    alone = max(ALONE, KNOWS - cheap_usd)
    print(f"utility {utilities.mean():.3f} against {alone:.3f}, twice {twice.mean():.2f}")
    # Measured on seeds 1 to 8: 0.80 to 0.83 over all rounds, asked twice in 0.99 of the later ones.
    # Perfect knowledge of the odds makes 0.827; the realised mean has a standard error of 0.011.
    assert utilities.mean() > alone + 0.06
    assert twice[300:].mean() > 0.9


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_model_that_repeats_itself_whatever_it_says_is_not_asked_twice_for_long(seed):
    _, twice = run(seed, repeats=1.0, cheap_usd=0.06, rounds=600)

    print(f"twice {twice[300:].mean():.2f}")
    assert twice[300:].mean() < 0.1
