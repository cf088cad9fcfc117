"""Cascades in decisions: whom they ask, with which probabilities, what is learned, and replay."""

import math

import msgspec
import numpy as np
import pytest

from localforge.audit import replay
from localforge.audit.draws import wrong_with_draw
from localforge.bandit import Applied, Fold, dump, load
from localforge.bandit.cascade import Chain, Rates
from localforge.config import Config
from localforge.contracts.cards import Capability
from localforge.contracts.facts import CascadeResult
from localforge.contracts.openrouter import ProviderRules
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

CARDS = (
    card("cheap", price_out=1.0, quality_prior=0.7),
    card("other", price_out=1.5, quality_prior=0.7),
    card("strong", price_out=60.0, quality_prior=0.95),
)
ON = {"cascade": True, "max_tokens": 16, "preference": "cost=60,latency=0"}


def decide(name="r1", cards=CARDS, fold=None, config=None, **call):
    routed = service(*cards, fold=fold, config=config).route(
        route_call(name, **{**ON, **call}), NOW
    )
    return routed.decision, routed.execute


def pairs(count=40, **more):
    """Decisions that ask the pair."""
    found = [decide(f"r{index}", **more) for index in range(count)]
    return [pair for pair in found if pair[0].cascade.asks_pair]


def test_off_by_default_and_on_by_request_or_configuration():
    on = Config(router=msgspec.structs.replace(Config().router, cascade=True))

    assert decide(cascade=None)[0].cascade is None
    assert decide()[0].cascade is not None
    assert decide(cascade=None, config=on)[0].cascade is not None
    assert decide(cascade=False, config=on)[0].cascade is None


@pytest.mark.parametrize(
    "call",
    [
        {"in_tool_loop": True},
        {"model": "cheap"},
        {"allow_fallback": False},
        {"provider": ProviderRules(sort="price")},
        {"max_cost_usd": 1.0},
        {"preference": "cheap,max_latency_s=100"},
    ],
)
def test_it_keeps_out_of_what_the_caller_has_decided(call):
    decision, execute = decide(**call)

    assert decision.cascade is None
    assert execute.cascade is None


def test_several_choices_are_no_cascade():
    cards = tuple(msgspec.structs.replace(c, capabilities=frozenset({Capability.N})) for c in CARDS)

    assert decide(cards=cards, needs=frozenset({Capability.N}))[0].cascade is None
    assert decide(cards=cards)[0].cascade is not None


def test_a_pair_of_cheap_models_is_asked_before_the_best_one():
    decision, execute = pairs()[0]

    plan = decision.cascade
    assert set(plan.models[:2]) == {"cheap", "other"}
    assert plan.models[2] == "strong"
    assert decision.plan == plan.models
    assert decision.chosen == plan.models[0]
    assert [target.model for target in execute.plan] == list(plan.models)
    assert execute.cascade.plan == plan


def test_probabilities_of_models_and_pair_are_one_distribution():
    decisions = [decide(f"r{index}")[0] for index in range(200)]

    for decision in decisions:
        total = math.fsum(probabilities(decision).values()) + decision.cascade.probability
        assert total == pytest.approx(1.0, abs=1e-12)
        assert list(wrong_with_draw(decision)) == []
    drawn = np.mean([decision.cascade.asks_pair for decision in decisions])
    share = decisions[0].cascade.probability
    # Fixed ids; four standard errors of the share of 200 draws.
    assert drawn == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 200))


def test_a_changed_pair_is_found_by_verify():
    decision = pairs()[0][0]
    changed = msgspec.structs.replace(decision.cascade, probability=0.01)

    assert list(wrong_with_draw(msgspec.structs.replace(decision, cascade=changed)))


def test_where_answers_are_long_the_form_of_one_is_checked():
    decisions = [decide(f"r{index}", max_tokens=4000) for index in range(20)]

    tested = [pair for pair in decisions if pair[0].cascade]
    alone = [decision for decision, _ in decisions if not decision.cascade]
    assert tested
    for decision, execute in tested:
        assert decision.cascade.test == "checks"
        assert decision.plan[:2] == decision.cascade.models == (decision.chosen, "strong")
        assert execute.cascade is not None
        assert math.fsum(probabilities(decision).values()) == pytest.approx(1.0)
    assert {decision.chosen for decision in alone} <= {"strong"}


def test_only_eligible_models_take_part():
    cards = (*CARDS, card("far", zone="cloud", price_out=0.1, quality_prior=0.99))

    decision, execute = pairs(cards=cards)[0]

    assert "far" not in decision.plan
    assert {target.zone for target in execute.plan} == {"local"}


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
    made = outcome(f"o{index}", "other", tokens=5)
    told = result(decision, agreed, "cheap" if agreed else "", compared=True)
    return msgspec.structs.replace(made, cascade=told)


def scored(decision, index, agreed, score, weight=1.0):
    given = feedback(f"s{index}", "cheap", score, weight=weight)
    delivered = decision.cascade.models[0 if agreed else 2]
    return msgspec.structs.replace(given, cascade=result(decision, agreed, delivered))


def test_agreement_that_proves_wrong_is_trusted_less():
    fold = Fold(SCHEMA, DIM)
    decision = pairs()[0][0]
    for index in range(60):
        learn(fold, compared(decision, index, agreed=True))
        learn(fold, scored(decision, index, agreed=True, score=0.0))

    # On the same predictions of quality, which have changed too.
    chain = Chain(*decision.cascade.models)
    beliefs = fold.learner.cascade.plan(decision.candidates, chain, Rates(60.0), "r1").beliefs

    assert beliefs["agreed"] < 0.4 < decision.cascade.beliefs["agreed"]
    assert beliefs["agree"] > decision.cascade.beliefs["agree"]


def test_a_pair_that_agrees_shares_the_verdict_and_whom_nobody_asked_learns_nothing():
    fold = Fold(SCHEMA, DIM)
    decision = pairs()[0][0]

    learn(fold, scored(decision, 1, agreed=True, score=1.0))

    arms = fold.learner.arms
    assert dict(zip(arms.names, arms.scores, strict=True)) == {"cheap": 1.0, "other": 1.0}


def test_the_last_model_is_judged_by_what_was_believed_of_it_where_the_pair_differs():
    decision = pairs()[0][0]
    held = {}
    for score in (0.0, 1.0):
        fold = Fold(SCHEMA, DIM)
        learn(fold, scored(decision, 1, agreed=False, score=score))
        arms = fold.learner.arms
        held[score] = dict(zip(arms.names, arms.scores, strict=True))["strong"]

    assert 0.0 < held[0.0] < decision.cascade.qualities[2] < held[1.0]


def test_a_weak_verdict_teaches_the_delivering_model_alone():
    fold = Fold(SCHEMA, DIM)
    learn(fold, scored(pairs()[0][0], 1, agreed=True, score=1.0, weight=0.1))

    assert fold.learner.arms.names == ["cheap"]
    assert fold.learner.cascade.state() == ()


@pytest.mark.parametrize(
    "change",
    [
        {"models": ("a",)},
        {"qualities": (0.5, 0.5)},
        {"qualities": (0.5, 0.5, math.nan)},
        {"qualities": (0.5, 0.5, 1e300)},
        {"beliefs": {}},
        {"delivered": "nobody"},
    ],
)
def test_nonsense_is_counted_and_teaches_nothing(change):
    fold = Fold(SCHEMA, DIM)
    fact = scored(pairs()[0][0], 1, agreed=True, score=1.0)
    broken = msgspec.structs.replace(fact, cascade=msgspec.structs.replace(fact.cascade, **change))

    assert learn(fold, broken) == [Applied.NUMBERS]
    assert fold.learner.cascade.state() == ()
    assert fold.learner.arms.names == []


def test_a_checkpoint_holds_what_pairs_have_taught():
    fold = Fold(SCHEMA, DIM)
    for index in range(5):
        learn(fold, compared(pairs()[0][0], index, agreed=False))

    again = load(dump(fold), SCHEMA, DIM)

    assert again.state_hash() == fold.state_hash()
    assert decide(fold=again)[0].cascade == decide(fold=fold)[0].cascade
    assert fold.state_hash() != Fold(SCHEMA, DIM).state_hash()


def test_decisions_with_cascades_are_replayed_bit_for_bit():
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
        if decision.cascade and decision.cascade.asks_pair:
            asked += 1
            agreed = bool(rng.random() < 0.5)
            write("lf.outcome.local.b", compared(decision, index, agreed))
            given = scored(decision, index, agreed, float(rng.random() < 0.6))
            write("lf.feedback.user", msgspec.structs.replace(given, features=features))

    report = replay(stream, Fold(SCHEMA, DIM))

    assert asked > 3
    assert (report.reproduced, report.mismatched) == (80, 0)
    assert report.state_hash == fold.state_hash()
