"""The cascade's plan, verdict and learning, on made-up predictions."""

import msgspec
import numpy as np
import pytest

from localforge.bandit.belief import PRIOR_WEIGHT, UNLIKE_BAD, Belief, Correction, Qualities
from localforge.bandit.cascade import (
    CURIOSITY,
    OWN_SHARE,
    Cascade,
    Chain,
    Credit,
    Plan,
    Rates,
    Verdict,
)
from localforge.bandit.prior import PRICE_WEIGHT, Level
from localforge.bandit.ridge import RidgeArms
from localforge.contracts.facts import Candidate

CHAIN = Chain("one", "two", "best")
PRICES = {"one": 0.001, "two": 0.0015, "best": 0.02}
WEIGHT = 5.0
"""Utility per dollar at which the pair is worth asking."""


def sure() -> Cascade:
    return Cascade(0.01, 0)


def candidates(one=0.8, two=0.8, best=0.9, std=0.0):
    qualities = {"one": one, "two": two, "best": best}
    return [
        Candidate(
            model=model,
            backend=model,
            zone="local",
            price_in=0.0,
            price_out=0.0,
            quality=quality,
            quality_std=std,
            cost_usd=PRICES[model],
        )
        for model, quality in qualities.items()
    ]


def decided(cascade: Cascade, weight: float = WEIGHT, **changes: float) -> Plan:
    return cascade.plan(candidates(**changes), CHAIN, Rates(weight), "d")


def pair_plan(cascade: Cascade, **changes: float) -> Plan:
    """A plan that asks the pair, with what the cascade believes now."""
    plan = decided(cascade, **changes)
    return msgspec.structs.replace(plan, models=("one", "two"))


def teach(cascade: Cascade, agreed: float = 0.95, last_split: float = 0.8, rounds: int = 400):
    """The pair agrees on three of four, and is then right as often as `agreed` says, else never."""
    random = np.random.default_rng(1)
    for number in range(rounds):
        plan = pair_plan(cascade)
        agree = bool(random.random() < 0.75)
        cascade.learn_agreement(plan, agree=agree)
        verdict = cascade.verdict(plan, f"v{number}", agree=agree)
        if verdict.deliver == "best":
            good = 0.9 if agree else last_split
        else:
            good = agreed if agree else 0.0
        cascade.learn(plan, verdict, float(random.random() < good))


def test_when_cost_does_not_matter_the_best_model_is_asked_alone():
    assert decided(sure(), 0.0).models == ("best",)


def test_when_only_cost_matters_the_cheapest_model_is_asked_alone():
    assert decided(sure(), 10_000.0).models == ("one",)


def test_in_between_the_pair_is_asked():
    assert decided(sure()).models == ("one", "two")


def test_a_pair_that_takes_long_is_not_asked_by_who_has_no_time():
    slow = [
        msgspec.structs.replace(c, latency_s=1.0 if c.model == "best" else 30.0)
        for c in candidates()
    ]

    patient = sure().plan(slow, CHAIN, Rates(WEIGHT), "d")
    hurried = sure().plan(slow, CHAIN, Rates(WEIGHT, latency=0.05), "d")

    assert patient.asks_pair
    assert hurried.models == ("best",)
    assert hurried.escalation == pytest.approx(WEIGHT * PRICES["best"] + 0.05)


def test_doubt_about_single_models_speaks_for_the_pair():
    assert not decided(sure(), one=0.85).asks_pair
    assert decided(sure(), one=0.85, std=0.1).asks_pair


def test_agreement_is_accepted_and_disagreement_escalated():
    cascade = sure()
    plan = pair_plan(cascade)

    assert cascade.verdict(plan, "d", agree=True).deliver == "one"
    assert cascade.verdict(plan, "d", agree=False).deliver == "best"


def test_the_price_of_escalating_is_the_threshold():
    cascade = sure()
    plan = pair_plan(cascade)
    gain = plan.beliefs[Belief.LAST_SPLIT] - plan.beliefs[Belief.FIRST_SPLIT]
    gain += CURIOSITY * 0.5 / PRIOR_WEIGHT**0.5

    for price, delivered in ((gain - 0.05, "best"), (gain + 0.05, "one")):
        at_price = msgspec.structs.replace(plan, escalation=price)
        assert cascade.verdict(at_price, "d", agree=False).deliver == delivered


def test_a_cold_start_asks_the_last_model_where_the_pair_differs_until_it_knows_better():
    cascade = sure()
    plan = msgspec.structs.replace(pair_plan(cascade), escalation=0.3)
    split = cascade.verdict(plan, "d", agree=False)
    assert split.deliver == "best"

    for _ in range(300):
        cascade.learn(plan, split, 0.5)

    later = msgspec.structs.replace(pair_plan(cascade), escalation=0.3)
    assert cascade.verdict(later, "d", agree=False).deliver == "one"


def test_beliefs_come_to_what_happens():
    cascade = sure()

    teach(cascade)

    beliefs = decided(cascade).beliefs
    assert beliefs[Belief.AGREE] == pytest.approx(0.75, abs=0.06)
    assert beliefs[Belief.AGREED] == pytest.approx(0.95, abs=0.05)
    assert beliefs[Belief.LAST_SPLIT] == pytest.approx(0.8, abs=0.1)


def test_an_agreement_that_is_worth_nothing_is_found_out():
    cascade = sure()

    teach(cascade, agreed=0.1)

    plan = pair_plan(cascade)
    assert not decided(cascade).asks_pair
    assert cascade.verdict(plan, "d", agree=True).deliver == "best"


def test_hard_and_easy_requests_are_told_apart():
    cascade = sure()
    easy, hard = ({"one": q, "two": q, "best": q} for q in (0.85, 0.5))
    accepted = cascade.verdict(pair_plan(cascade), "d", agree=True)
    assert accepted.deliver == "one"
    for _ in range(200):
        cascade.learn(pair_plan(cascade, **easy), accepted, 1.0)
        cascade.learn(pair_plan(cascade, **hard), accepted, 0.0)

    learned = [decided(cascade, **request).beliefs[Belief.AGREED] for request in (easy, hard)]

    assert learned[0] > 0.85
    assert learned[1] < 0.15


def test_a_pair_gets_credits_seen_or_expected_and_the_last_one_where_it_was_asked():
    cascade = sure()
    plan = pair_plan(cascade)

    agreed = cascade.learn(plan, cascade.verdict(plan, "d", agree=True), 1.0)
    split = cascade.learn(plan, cascade.verdict(plan, "d", agree=False), 0.0, ("two",))

    moved = plan.qualities.last - OWN_SHARE * plan.beliefs[Belief.LAST_SPLIT]
    noticed = plan.qualities.last - plan.beliefs[Belief.LAST_SPLIT]
    assert agreed == (Credit("one", 1.0), Credit("two", 1.0))
    assert split == (
        Credit("one", UNLIKE_BAD),
        Credit("two", 0.0),
        Credit("best", pytest.approx(moved), pytest.approx(noticed)),
    )


def test_an_answer_that_differs_from_a_good_one_is_taken_to_be_bad():
    cascade = sure()
    plan = pair_plan(cascade)

    credits_ = cascade.learn(plan, cascade.verdict(plan, "d", agree=False), 1.0)

    assert [c.score for c in credits_[:2]] == [0.0, 0.0]


@pytest.mark.parametrize("better", [-0.1, 0.1])
def test_a_last_model_is_not_held_for_bad_because_it_is_asked_what_is_hard(better: float):
    """What is common to all that are asked last goes to the rule; the difference is their own."""
    random = np.random.default_rng(2)
    cascade = sure()
    levels = dict.fromkeys(("usual", "other"), 0.8)
    right = {"usual": 0.5, "other": 0.5 + better}
    for index in range(3_000):
        name = ("usual", "other")[index % 2]
        plan = pair_plan(cascade, best=levels[name])
        verdict = Verdict(agree=False, deliver="best", probability=1.0)
        credits_ = cascade.learn(plan, verdict, float(random.random() < right[name]))
        levels[name] += 0.01 * (credits_[-1].score - levels[name])

    assert levels["usual"] == pytest.approx(0.8, abs=0.15), "its raw scores have a mean of 0.5"
    # The belief of the splits is 0.75 of the level: a tenth there is more of the level.
    assert 0.7 < (levels["other"] - levels["usual"]) / better < 2.2


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_out_of_range_is_refused(score):
    cascade = sure()
    plan = pair_plan(cascade)

    with pytest.raises(ValueError, match="score must be in"):
        cascade.learn(plan, cascade.verdict(plan, "d", agree=True), score)


def test_draws_are_repeatable_and_their_probabilities_true():
    cascade = Cascade(1.0, 0)
    plans = [
        cascade.plan(candidates(std=0.02), CHAIN, Rates(WEIGHT), f"d{n}") for n in range(4_000)
    ]

    asked = np.mean([plan.asks_pair for plan in plans])
    told = next(plan.probability for plan in plans if plan.asks_pair)
    assert cascade.plan(candidates(std=0.02), CHAIN, Rates(WEIGHT), "d7") == plans[7]
    assert 0.1 < told < 0.9
    assert asked == pytest.approx(told, abs=0.03)


def test_a_restored_cascade_goes_on_as_the_old_one():
    cascade, other = sure(), sure()
    teach(cascade, rounds=50)

    other.restore(cascade.state())

    assert other.state() == cascade.state()
    assert decided(other) == decided(cascade)


def test_equal_histories_give_equal_states():
    one, two = sure(), sure()

    teach(one)
    teach(two)

    assert one.state() == two.state()
    assert {entry.belief for entry in one.state()} >= {Belief.AGREE, Belief.AGREED}


def test_a_correction_is_the_ridge_solution():
    random = np.random.default_rng(3)
    levels, residuals = random.normal(size=40), random.normal(size=40)
    correction = Correction()
    for level, residual in zip(levels, residuals, strict=True):
        correction.learn(level, residual)

    design = np.column_stack([np.ones(40), levels])
    weights = np.linalg.solve(design.T @ design + np.diag([20.0, 1.0]), design.T @ residuals)

    assert correction.predict(0.3) == pytest.approx(weights @ [1.0, 0.3])


@pytest.mark.parametrize("quality", [0.0, 0.3, 0.7, 1.0])
def test_rules_are_probabilities(quality):
    qualities = Qualities(quality, quality, quality)
    rules: dict[Belief, float] = {}
    for belief in Belief:
        rules[belief] = qualities.rule(belief, rules)

    assert all(0.0 <= rule <= 1.0 for rule in rules.values())


PLAIN, SPLIT = 0.849, 0.671
"""How often GPT-4o is right on all questions of `mmlu_helm`, and where a cheap pair differs."""
DRAW = Verdict(agree=False, deliver="best", probability=1.0)


def _alarms(arms: RidgeArms, cascade: Cascade, random: np.random.Generator, right: float) -> int:
    """Return how often a model was found changed in 200 answers as the last of a cascade."""
    before = arms.drifts[0]
    for _ in range(200):
        (quality,), *_ = arms.predict(["best"], [Level(0.5, PRICE_WEIGHT)], arms.blank())
        plan = pair_plan(cascade, best=min(max(quality, 0.0), 1.0))
        credit = cascade.learn(plan, DRAW, float(random.random() < right))[-1]
        arms.learn("best", arms.blank(), credit.score, 1.0, noticed=credit.noticed)
    return arms.drifts[0] - before


@pytest.mark.parametrize("seed", range(10))
def test_beginning_to_be_asked_last_is_no_change_of_a_model_and_a_change_is_noticed(seed: int):
    random, arms, cascade = np.random.default_rng(seed), RidgeArms(8), sure()
    for _ in range(800):
        arms.learn("best", arms.blank(), float(random.random() < PLAIN), 1.0)

    assert _alarms(arms, cascade, random, SPLIT) == 0
    assert _alarms(arms, cascade, random, SPLIT) == 0
    assert _alarms(arms, cascade, random, SPLIT - 0.4) == 1
