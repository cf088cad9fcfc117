"""What a decision's record says to a person."""

import re

import msgspec
import pytest

from localforge.bandit import Fold, redecide
from localforge.config import Config
from localforge.config.sections import RouterConfig
from localforge.explanation import explain
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

CARDS = (
    card("cheap", price_in=0.1, price_out=0.2, quality_prior=0.6),
    card("good", price_in=5.0, price_out=15.0, quality_prior=0.9),
)


def learned(**scores):
    fold = Fold(SCHEMA, DIM)
    for model, score in scores.items():
        learn(fold, *(feedback(f"{model}{i}", model, score) for i in range(200)))
        learn(fold, *(outcome(f"o{model}{i}", model, tokens=200) for i in range(20)))
    return fold


def decide(fold, preference="cost=20,latency=0.003", **call):
    return service(*CARDS, fold=fold).route(route_call(preference=preference, **call), NOW).decision


def test_every_tipping_point_does_tip_the_decision():
    fold = learned(cheap=0.6, good=0.9)
    record = decide(fold, in_tool_loop=True)
    told = explain(record)
    by = {change.what: change for change in told.tipping}

    assert (told.best, told.runner_up) == ("good", "cheap")
    assert {"cost_weight", "quality"} <= set(by)
    for what in ("cost_weight", "latency_weight"):
        if what in by:
            beyond = by[what].at + (by[what].at - by[what].now) * 1e-6
            short = by[what].at - (by[what].at - by[what].now) * 1e-6
            changed = redecide(msgspec.structs.replace(record, **{what: beyond}), fold.learner)
            kept = redecide(msgspec.structs.replace(record, **{what: short}), fold.learner)
            assert (changed.chosen, kept.chosen) == ("cheap", "good")
    assert by["quality"].at - by["quality"].now == pytest.approx(told.margin)


def test_enough_evidence_is_said_only_where_there_is():
    clear = explain(decide(learned(cheap=0.2, good=0.9)))
    alike = (card("one", quality_prior=0.8), card("two", quality_prior=0.8))
    fold = learned(one=0.800, two=0.802)
    close = explain(service(*alike, fold=fold).route(route_call(), NOW).decision)
    none = explain(decide(Fold(SCHEMA, DIM)))

    assert clear.enough_evidence
    assert clear.confidence > 0.99
    assert not close.enough_evidence
    assert 0.5 < close.confidence < 0.9
    assert "not enough evidence yet" in close.evidence
    assert not none.enough_evidence
    assert none.evidence == (
        "not enough evidence yet: good has 0 scored answers and cheap has 0 scored answers"
    )


def test_an_explored_choice_says_so():
    fold = Fold(SCHEMA, DIM)
    exploring = Config(router=RouterConfig(exploration_floor=0.2))
    router = service(*CARDS, fold=fold, config=exploring)
    records = (router.route(route_call(f"r{i}"), NOW).decision for i in range(500))
    record = next(r for r in records if r.chosen != explain(r).best)

    assert "to learn about it" in explain(record).reason
    assert record.chosen in explain(record).reason


def test_a_single_model_has_no_runner_up():
    record = service(card("only")).route(route_call(), NOW).decision
    told = explain(record)

    assert (told.best, told.runner_up, told.tipping) == ("only", "", ())
    assert told.reason == "only alone may answer."


def test_staying_with_a_conversation_is_the_reason_where_it_is():
    record = decide(learned(cheap=0.8, good=0.9), "cost=0,latency=0")
    record = msgspec.structs.replace(record, incumbent="cheap", switching_cost=0.5, explore=False)
    fold = learned(cheap=0.8, good=0.9)
    told = explain(redecide(record, fold.learner))

    assert told.best == "cheap"
    assert "answered this conversation before" in told.reason
    (change,) = [c for c in told.tipping if c.what == "switching_cost"]
    assert change.at == pytest.approx(0.5 - told.margin)


def test_a_record_without_candidates_is_refused():
    record = decide(Fold(SCHEMA, DIM))

    with pytest.raises(ValueError, match="no candidate"):
        explain(msgspec.structs.replace(record, candidates=()))


def test_a_model_that_failed_checks_hold_down_is_said_to_be():
    fold = learned(cheap=0.9, good=0.8)
    broken = (
        feedback(f"c{i}", "cheap", float(i % 2), weight=0.9 if i % 2 == 0 else 0.1, source="checks")
        for i in range(300)
    )
    learn(fold, *broken)
    record = decide(fold)
    told = explain(record)

    held = next(c for c in record.candidates if c.model == "cheap")
    assert held.quality == held.sound < 0.65
    assert f"cheap is held down by failed checks: {held.sound:.0%} of its recent" in told.reason
    assert "quality" not in {change.what for change in told.tipping}


@pytest.mark.parametrize("preference", ["cost=20,latency=0.003", "cost=0,latency=0.05"])
def test_failed_attempts_are_part_of_the_reason_and_of_what_tips(preference):
    fold = learned(cheap=0.7, good=0.8)
    learn(fold, *(failure(f"e{i}", "cheap", total_s=30.0) for i in range(6)))
    record = decide(fold, preference, in_tool_loop=True)
    told = explain(record)
    shown = [float(gain) for gain in re.findall(r"[+-]0\.\d{4}", told.reason)]

    assert told.best == "good"
    assert "failed attempts +" in told.reason
    assert "of the attempts at cheap fail, after 30.0 s" in told.reason
    assert sum(shown) == pytest.approx(told.margin, abs=3e-4)
    for change in told.tipping:
        if change.what in ("cost_weight", "latency_weight"):
            at = change.at + (change.at - change.now) * 1e-6
            changed = msgspec.structs.replace(record, **{change.what: at})
            assert redecide(changed, fold.learner).chosen == "cheap"
