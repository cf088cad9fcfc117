"""Predictions, utility, draw and plan of one decision."""

import math

import msgspec
import pytest

from localforge.bandit import Fold, Limits, complete, redecide
from localforge.bandit.draw import keyed_uniform, pick
from localforge.config import Config, RouterConfig
from localforge.contracts.facts import DecisionMade
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


def decide(*cards, fold=None, config=None, **call):
    return service(*cards, fold=fold, config=config).route(route_call(**call), NOW).decision


def test_utility_is_quality_less_priced_cost_and_time():
    fold = Fold(SCHEMA, DIM)
    learn(fold, *(outcome(f"o{i}", "a", tokens=200) for i in range(10)))

    found = decide(
        card("a", price_in=1.0, price_out=4.0), fold=fold, preference="cost=30,latency=0.02"
    )

    (candidate,) = found.candidates
    cost = (100 * 1.0 + candidate.completion_tokens * 4.0) / 1e6
    assert candidate.cost_usd == pytest.approx(cost)
    assert candidate.utility == pytest.approx(
        candidate.quality - 30 * cost - 0.02 * candidate.latency_s
    )


def test_the_choice_is_the_keyed_draw_from_the_logged_probabilities():
    cards = [card(name, quality_prior=0.5) for name in "abc"]
    for index in range(50):
        found = decide(*cards, request_id=f"r{index}")
        shares = list(probabilities(found).values())
        drawn = pick(shares, keyed_uniform(found.seed, found.decision_id))

        assert found.chosen == found.candidates[drawn].model
        assert found.propensity == shares[drawn]


def test_the_plan_is_the_chosen_one_then_the_rest_by_utility():
    cards = [card("a", quality_prior=0.2), card("b", quality_prior=0.9), card("c")]
    config = Config(router=RouterConfig(policy="igw"))
    found = [decide(*cards, request_id=f"r{index}", config=config).plan for index in range(200)]

    assert set(found) == {("b", "c", "a"), ("c", "b", "a"), ("a", "b", "c")}


def test_equal_candidates_are_ordered_by_name():
    found = decide(card("b"), card("c"), card("a"), in_tool_loop=True)

    assert found.plan == ("a", "b", "c")
    assert found.propensity == 1.0


def test_without_exploration_the_best_is_certain():
    cards = [card("a", quality_prior=0.5), card("b", quality_prior=0.51)]
    for index in range(20):
        found = decide(*cards, request_id=f"r{index}", in_tool_loop=True)

        assert probabilities(found) == {"a": 0.0, "b": 1.0}
        assert not found.explore


def test_priors_decide_before_there_is_any_feedback():
    found = decide(card("weak", quality_prior=0.2), card("strong", quality_prior=0.9))

    assert probabilities(found)["strong"] > 0.9


def test_feedback_moves_the_decision():
    fold = Fold(SCHEMA, DIM)
    cards = [card("a", quality_prior=0.6), card("b", quality_prior=0.5)]
    before = probabilities(decide(*cards, fold=fold))
    learn(fold, *(feedback(f"f{i}", "a", 0.0) for i in range(40)))
    after = probabilities(decide(*cards, fold=fold))

    assert before["a"] > 0.6
    assert after["a"] < 0.1


def test_features_of_another_schema_leave_the_models_levels():
    fold = Fold(SCHEMA, DIM)
    learn(fold, *(feedback(f"f{i}", "a", 1.0, vector(3.0)) for i in range(20)))
    cards = [card("a")]
    blank = decide(*cards, fold=fold).candidates[0].quality

    for features in (vector(3.0), b"", b"odd"):
        found = decide(*cards, fold=fold, schema="other.v9", features=features)
        assert found.candidates[0].quality == blank


def test_a_busy_backend_is_expected_to_take_longer():
    open_record = decide(card("a"), card("b"))
    busy = msgspec.structs.replace(
        open_record,
        candidates=tuple(
            msgspec.structs.replace(c, queue_depth=3.0 if c.model == "a" else 0.0)
            for c in open_record.candidates
        ),
    )
    a, b = complete(busy, Fold(SCHEMA, DIM).learner).candidates

    assert a.latency_s == pytest.approx(4 * b.latency_s)


def test_candidates_over_a_limit_become_exclusions_and_none_left_means_none():
    record = decide(card("dear", price_out=100.0), card("free"))
    learner = Fold(SCHEMA, DIM).learner

    found = complete(record, learner, Limits(max_cost_usd=0.001))

    assert probabilities(found) == {"free": 1.0}
    assert [(e.model, e.reason) for e in found.exclusions] == [("dear", "price")]
    assert complete(record, learner, Limits(max_latency_s=0.001)) is None


def trained(**scores):
    """What one verdict for each score has taught of a model."""
    fold = Fold(SCHEMA, DIM)
    for model, given in scores.items():
        learn(fold, *(feedback(f"{model}{i}", model, score) for i, score in enumerate(given)))
    return fold


MOSTLY, RARELY = (1.0, 1.0, 1.0, 0.0) * 15, (0.0, 0.0, 0.0, 1.0) * 15


@pytest.mark.parametrize(
    "limits", [Limits(max_cost_usd=0.001), Limits(max_latency_s=20.0), Limits()]
)
def test_a_decision_under_limits_is_made_again_from_the_candidates_that_are_left(limits):
    fold = trained(dear=MOSTLY, cheap=RARELY)
    cards = card("dear", price_out=100.0), card("cheap", price_out=0.1), card("new", price_out=0.2)
    record = decide(*cards, fold=fold)
    slow = tuple(
        msgspec.structs.replace(c, queue_depth=9.0 if c.model == "dear" else 0.0)
        for c in record.candidates
    )

    found = complete(msgspec.structs.replace(record, candidates=slow), fold.learner, limits)

    assert len(found.candidates) == (3 if limits == Limits() else 2)
    assert redecide(found, fold.learner) == found


def test_a_limit_through_the_request_or_its_preference_is_replayed():
    fold = trained(dear=MOSTLY, cheap=RARELY)
    cards = card("dear", price_out=100.0), card("cheap", price_out=0.1), card("new", price_out=0.2)
    asked = ({"max_cost_usd": 0.001}, {"preference": "balanced,max_cost_usd=0.001"})
    for limited in asked:
        found = decide(*cards, fold=fold, **limited)

        assert [e.reason for e in found.exclusions] == ["price"]
        assert redecide(found, fold.learner) == found


def test_what_is_left_within_the_limits_is_predicted_to_be_within_them():
    fold = trained(dear=MOSTLY)
    learn(fold, *(outcome(f"o{i}", "dear", tokens=40 + i) for i in range(30)))
    cards = [card(name, price_out=float(price)) for price, name in enumerate(("dear", "a", "b"))]
    record = decide(*cards, fold=fold)
    free = {c.model: (c.cost_usd, c.latency_s) for c in record.candidates}
    for limit in sorted(cost for cost, _ in free.values()):
        found = complete(record, fold.learner, Limits(max_cost_usd=max(limit, 1e-12)))

        # Exactly those that cost no more, at the price they have without any limit.
        assert {c.model: (c.cost_usd, c.latency_s) for c in found.candidates} == {
            model: value for model, value in free.items() if value[0] <= max(limit, 1e-12)
        }


def test_cost_and_time_are_predicted_with_their_spread():
    fold = Fold(SCHEMA, DIM)
    for index in range(400):
        tokens = 100 if index % 2 else 300
        learn(fold, outcome(f"o{index}", "a", tokens=tokens, total_s=0.5 + (tokens - 1) * 0.01))

    (found,) = decide(card("a", price_in=1.0, price_out=4.0), fold=fold).candidates
    hourly = msgspec.structs.replace(found, price_in=0.0, price_out=0.0, usd_per_hour=36.0)
    busy = msgspec.structs.replace(found, queue_depth=1.0)
    record = decide(card("a"), fold=fold)
    by_hour, waiting = (
        complete(msgspec.structs.replace(record, candidates=(c,)), fold.learner).candidates[0]
        for c in (hourly, busy)
    )

    # 100 tokens either way; what is not known of the means adds a little.
    assert found.cost_std == pytest.approx(100 * 4.0 / 1e6, rel=0.2)
    assert found.latency_std == pytest.approx(100 * 0.01, rel=0.2)
    assert by_hour.cost_std == pytest.approx(by_hour.latency_std * 36.0 / 3600)
    assert waiting.latency_std == pytest.approx(2 * found.latency_std)


def test_spreads_are_finite_whatever_a_price():
    record = decide(card("a"))
    (offer,) = record.candidates
    for price in (1e200, 1e308):
        dear = msgspec.structs.replace(offer, price_out=price, usd_per_hour=price)
        record = msgspec.structs.replace(record, candidates=(dear,))
        (found,) = complete(record, Fold(SCHEMA, DIM).learner).candidates

        assert math.isfinite(found.cost_std)
        assert math.isfinite(found.latency_std)


def test_a_decision_is_made_again_bit_for_bit_after_a_trip_through_the_log():
    fold = Fold(SCHEMA, DIM)
    cards = [
        card(f"m{i}", price_in=i / 3, price_out=float(i), quality_prior=None) for i in range(7)
    ]
    for index in range(40):
        found = decide(*cards, fold=fold, request_id=f"r{index}", features=vector(index / 7, 1 / 3))
        logged = DecisionMade.decode(found.encode())

        assert redecide(logged, fold.learner) == found
        assert redecide(logged, fold.learner).encode() == found.encode()
        learn(
            fold,
            feedback(f"f{index}", found.chosen, index % 3 / 2, found.features),
            outcome(f"o{index}", found.chosen, tokens=index),
        )


def test_a_record_without_candidates_cannot_be_completed():
    record = msgspec.structs.replace(decide(card("a")), candidates=())

    with pytest.raises(ValueError, match="no candidate"):
        redecide(record, Fold(SCHEMA, DIM).learner)
