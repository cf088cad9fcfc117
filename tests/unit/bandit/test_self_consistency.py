"""A cheap model that is asked twice: rules, plan, learning, and replay."""

import math

import msgspec
import numpy as np
import pytest

from localforge.audit import replay
from localforge.audit.draws import wrong_with_draw
from localforge.bandit import Applied, Fold, dump, load
from localforge.bandit.belief import Acceptance, Belief, Qualities, RepeatQualities
from localforge.contracts.facts import CascadeResult
from tests.routing import (
    DIM,
    NOW,
    SCHEMA,
    card,
    feedback,
    learn,
    outcome,
    probabilities,
    route_call,
    service,
    vector,
)

CHEAP = card("cheap", price_out=1.0, quality_prior=0.7)
STRONG = card("strong", price_out=60.0, quality_prior=0.95)
OTHER = card("other", price_out=1.5, quality_prior=0.7)
TWICE = ("cheap", "cheap", "strong")
WEIGHT = 300.0
"""Utility per dollar at which it is not plain which one to ask."""


def decide(name="r1", cards=(CHEAP, STRONG), fold=None, fixed=False, **call):
    wanted = {"cascade": True, "max_tokens": 16, "preference": f"cost={WEIGHT:g},latency=0", **call}
    request = route_call(name, **wanted)
    profile = msgspec.structs.replace(request.profile, fixed=fixed)
    routed = service(*cards, fold=fold).route(
        msgspec.structs.replace(request, profile=profile), NOW
    )
    return routed.decision, routed.execute


def asks_twice(fold=None):
    """A decision that does."""
    found = (decide(f"r{index}", fold=fold) for index in range(200))
    return next(pair for pair in found if pair[0].cascade.asks_pair)


def result(decision, agreed, delivered, **more):
    plan = decision.cascade
    return CascadeResult(
        models=plan.models,
        qualities=plan.qualities,
        beliefs=plan.beliefs,
        agreed=agreed,
        delivered=delivered,
        **more,
    )


def compared(decision, index, agreed):
    told = result(decision, agreed, "cheap" if agreed else "", compared=True)
    return msgspec.structs.replace(outcome(f"o{index}", "cheap", tokens=5), cascade=told)


def scored(decision, index, agreed, score, **more):
    delivered = "cheap" if agreed else "strong"
    given = feedback(f"s{index}", delivered, score)
    return msgspec.structs.replace(given, cascade=result(decision, agreed, delivered, **more))


def test_the_only_cheap_model_is_asked_twice_before_the_strong_one():
    decision, execute = asks_twice()

    plan = decision.cascade
    assert plan.test == "self-consistency"
    assert plan.models == decision.plan == TWICE
    assert [target.model for target in execute.plan] == list(TWICE)
    assert execute.cascade.plan == plan
    assert set(plan.beliefs) == {b.value for b in Belief} - {"second_split"}
    assert {plan.if_agreed, plan.if_split} <= {"cheap", "strong"}


def test_probabilities_of_models_and_of_asking_twice_are_one_distribution():
    for index in range(100):
        decision, execute = decide(f"r{index}")
        total = math.fsum(probabilities(decision).values()) + decision.cascade.probability
        assert total == pytest.approx(1.0, abs=1e-12)
        assert list(wrong_with_draw(decision)) == []
        assert (execute.cascade is not None) == decision.cascade.asks_pair


def test_two_cheap_models_are_compared_with_one_another():
    cards = (CHEAP, OTHER, STRONG)

    assert {decide(f"r{i}", cards=cards)[0].cascade.test for i in range(20)} == {"agreement"}


def test_a_caller_who_wants_the_same_answer_every_time_is_not_asked_twice_for():
    free = [decide(f"r{index}")[0] for index in range(20)]
    fixed = [decide(f"r{index}", fixed=True)[0] for index in range(20)]

    assert {d.cascade.test for d in free} == {"self-consistency"}
    assert {d.cascade.test for d in fixed if d.cascade} == {"checks"}
    assert {d.may_repeat for d in free} == {True}
    assert {d.may_repeat for d in fixed} == {False}


def test_answers_too_long_to_be_compared_are_not_asked_for_twice():
    decisions = [decide(f"r{index}", max_tokens=4000)[0] for index in range(20)]

    assert {d.cascade.test for d in decisions if d.cascade} <= {"checks"}


@pytest.mark.parametrize("first", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_rules_agree_with_the_quality_that_they_start_from(first):
    qualities = RepeatQualities(first, first, 0.9)
    rules: dict[Belief, float] = {}
    for belief in qualities.beliefs:
        rules[belief] = qualities.rule(belief, rules)

    assert all(0.0 <= rule <= 1.0 for rule in rules.values())
    agree = rules[Belief.AGREE]
    total = agree * rules[Belief.AGREED] + (1 - agree) * rules[Belief.FIRST_SPLIT]
    assert total == pytest.approx(first)


@pytest.mark.parametrize("quality", [0.3, 0.6, 0.9])
def test_a_model_agrees_with_itself_more_often_and_that_says_less(quality):
    twice, pair = RepeatQualities(quality, quality, 0.9), Qualities(quality, quality, 0.9)

    assert twice.rule(Belief.AGREE, {}) > pair.rule(Belief.AGREE, {})
    assert quality < twice.rule(Belief.AGREED, {}) < pair.rule(Belief.AGREED, {})


def test_what_is_learned_of_it_is_kept_apart_from_pairs():
    cards, fold = (CHEAP, OTHER, STRONG), Fold(SCHEMA, DIM)
    before = decide(cards=cards)[0].cascade
    decision, _ = asks_twice()
    for index in range(60):
        learn(fold, compared(decision, index, agreed=False))

    after = decide(cards=cards, fold=fold)[0].cascade
    again, _ = decide(fold=fold)

    assert after.beliefs["agree"] == before.beliefs["agree"]
    assert again.cascade.beliefs["agree"] < decision.cascade.beliefs["agree"] - 0.3
    assert {entry.test for entry in fold.learner.cascade.state()} == {Acceptance.SELF_CONSISTENCY}


def test_an_agreement_that_proves_wrong_is_escalated():
    fold = Fold(SCHEMA, DIM)
    decision, _ = asks_twice()
    assert decision.cascade.if_agreed == "cheap"
    for index in range(80):
        learn(fold, scored(decision, index, agreed=True, score=0.0))
        learn(fold, feedback(f"p{index}", "cheap", 0.7))
        learn(fold, feedback(f"q{index}", "strong", 0.95))

    plans = [decide(f"r{index}", fold=fold, preference="cost=50,latency=0") for index in range(30)]

    assert {decision.cascade.if_agreed for decision, _ in plans} == {"strong"}


def test_the_model_is_credited_once_for_both_answers():
    decision, _ = asks_twice()
    fold, other = Fold(SCHEMA, DIM), Fold(SCHEMA, DIM)

    learn(fold, scored(decision, 1, agreed=True, score=1.0))
    learn(other, scored(decision, 1, agreed=False, score=1.0, same=("cheap",)))

    for learned, credited in ((fold, {"cheap": 1.0}), (other, {"cheap": 1.0, "strong": 1.0})):
        arms = learned.learner.arms
        assert dict(zip(arms.names, arms.weights, strict=True)) == credited
        assert dict(zip(arms.names, arms.scores, strict=True))["cheap"] == 1.0


def test_a_checkpoint_holds_both_kinds_apart():
    fold = Fold(SCHEMA, DIM)
    twice, _ = asks_twice()
    found = (decide(f"r{index}", cards=(CHEAP, OTHER, STRONG))[0] for index in range(200))
    pair = next(decision for decision in found if decision.cascade.asks_pair)
    for index in range(5):
        learn(fold, compared(twice, index, agreed=True))
        learn(fold, compared(pair, f"p{index}", agreed=False))

    again = load(dump(fold), SCHEMA, DIM)

    assert again.state_hash() == fold.state_hash()
    assert len(again.learner.cascade.state()) == 2
    assert decide(fold=again)[0].cascade == decide(fold=fold)[0].cascade


@pytest.mark.parametrize("change", [{"beliefs": {}}, {"qualities": (0.5, math.nan, 0.5)}])
def test_nonsense_is_counted_and_teaches_nothing(change):
    fold = Fold(SCHEMA, DIM)
    fact = scored(asks_twice()[0], 1, agreed=True, score=1.0)
    broken = msgspec.structs.replace(fact, cascade=msgspec.structs.replace(fact.cascade, **change))

    assert learn(fold, broken) == [Applied.NUMBERS]
    assert fold.learner.cascade.state() == ()


def test_decisions_are_replayed_bit_for_bit():
    rng = np.random.default_rng(0)
    fold = Fold(SCHEMA, DIM)
    stream = []

    def write(subject, fact):
        stream.append((len(stream) + 1, subject, fact.encode()))
        if not subject.startswith("lf.decision."):
            fold.apply_bytes(*stream[-1])

    asked = 0
    for index in range(80):
        features = vector(*rng.normal(size=3))
        decision, _ = decide(f"r{index}", fold=fold, features=features)
        write(f"lf.decision.r{index}", decision)
        if decision.cascade.asks_pair:
            asked += 1
            agreed = bool(rng.random() < 0.7)
            write("lf.outcome.local.b", compared(decision, index, agreed))
            given = scored(decision, index, agreed, float(rng.random() < 0.6))
            write("lf.feedback.user", msgspec.structs.replace(given, features=features))

    report = replay(stream, Fold(SCHEMA, DIM))

    assert asked > 3
    assert (report.reproduced, report.mismatched) == (80, 0)
    assert report.state_hash == fold.state_hash()
