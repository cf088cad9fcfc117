"""A key's budget is a hard limit, known from the outcomes alone."""

import hashlib
import math

import msgspec
import pytest

from localforge.bandit import Fold, redecide
from localforge.bandit.budget import Spending
from localforge.config import Config
from localforge.config.sections import KeyConfig
from localforge.errors import RequestRefused, StateError
from localforge.router.companions import Companions
from localforge.router.service import RouterService
from tests.routing import (
    DIM,
    NOW,
    SCHEMA,
    View,
    card,
    feedback,
    outcome,
    route_call,
    snapshot,
)

HOUR = 3600.0
FREE, PRICED = card("free"), card("priced", price_in=10.0, price_out=10.0, quality_prior=0.9)


def spent(number, usd, *, key="team", at=NOW):
    return msgspec.structs.replace(
        outcome(f"o{number}", "priced"), key_id=key, cost_usd=usd, observed_at=at
    )


def router(*cards, usd=1.0, per="hour", facts=()):
    companions = Companions()
    companions.spending = Spending()
    for fact in facts:
        companions.spending.observe(fact)
    key = KeyConfig(id="team", secret="env:X", budget_usd=usd, budget_per=per)
    return RouterService(
        Config(keys=(key,)), View(snapshot(*cards)), Fold(SCHEMA, DIM), companions=companions
    )


def test_within_the_budget_everything_is_eligible():
    decision = router(FREE, PRICED, facts=[spent(1, 0.4)]).route(route_call(key_id="team"), NOW)

    assert not decision.decision.exclusions


def test_a_spent_budget_leaves_the_free_models():
    found = router(FREE, PRICED, facts=[spent(1, 0.4), spent(2, 0.6)])
    decision = found.route(route_call(key_id="team"), NOW).decision

    (excluded,) = decision.exclusions
    assert (excluded.model, excluded.reason) == ("priced", "budget")
    assert "key team has spent 1 of 1 USD this hour" in excluded.detail
    assert decision.chosen == "free"


def test_without_a_free_model_the_request_is_told_when_to_come_again():
    found = router(PRICED, facts=[spent(1, 1.5)])
    with pytest.raises(RequestRefused, match="no model that may answer is free") as caught:
        found.route(route_call(key_id="team"), NOW)

    assert (caught.value.status, caught.value.code) == (429, "budget_exhausted")
    assert caught.value.retry_after_s == HOUR - NOW % HOUR


def test_a_model_dearer_than_what_is_left_is_out():
    found = router(FREE, PRICED, facts=[spent(1, 0.9999)])
    decision = found.route(route_call(key_id="team"), NOW).decision

    assert [(e.model, e.reason) for e in decision.exclusions] == [("priced", "price")]


def test_a_decision_within_what_is_left_is_made_again_bit_for_bit():
    found = router(FREE, PRICED, card("other", quality_prior=0.2), facts=[spent(1, 0.9999)])
    for number in range(30):
        fact = feedback(f"f{number}", ("free", "priced")[number % 2], float(number % 2))
        found.fold.apply(number + 1, fact)
    decision = found.route(route_call(key_id="team"), NOW).decision

    assert [e.model for e in decision.exclusions] == ["priced"]
    assert redecide(decision, found.fold.learner) == decision


def test_when_nothing_fits_into_what_is_left_the_budget_is_the_reason():
    found = router(PRICED, facts=[spent(1, 0.9999)])
    with pytest.raises(RequestRefused) as caught:
        found.route(route_call(key_id="team"), NOW)
    assert caught.value.code == "budget_exhausted"

    with pytest.raises(RequestRefused) as caught:
        found.route(route_call(key_id="team", max_cost_usd=1e-9), NOW)
    assert caught.value.code == "no_eligible_model"


def test_another_keys_spending_and_another_period_do_not_count():
    facts = [spent(1, 5.0, key="other"), spent(2, 5.0, at=NOW - HOUR)]
    decision = router(PRICED, facts=facts).route(route_call(key_id="team"), NOW).decision

    assert decision.chosen == "priced"


def test_an_outcome_counts_once_and_nonsense_never():
    spending = Spending()
    for fact in (
        spent(1, 0.25),
        spent(1, 0.25),
        spent(2, math.nan),
        spent(3, math.inf),
        spent(4, -1.0),
        spent(5, 1.0, key=""),
        spent(6, 1.0, at=0.0),
    ):
        spending.observe(fact)

    assert [spending.spent_usd("team", per, NOW) for per in ("hour", "day", "month")] == [0.25] * 3


def test_another_backends_outcome_under_the_same_id_displaces_none():
    spending = Spending()
    spending.observe(msgspec.structs.replace(spent(1, 0.25), zone="cloud", backend="other"))
    spending.observe(spent(1, 0.5))

    assert spending.spent_usd("team", "hour", NOW) == 0.75


def test_a_late_outcome_counts_for_the_present_period():
    spending = Spending()
    spending.observe(spent(1, 0.25))
    spending.observe(spent(2, 0.5, at=NOW - HOUR))

    assert spending.spent_usd("team", "hour", NOW) == 0.75


def test_a_stored_state_goes_on_and_a_damaged_one_is_refused():
    spending = Spending()
    spending.apply_bytes(7, "lf.outcome.local.priced-backend", spent(1, 0.25).encode())
    data = spending.dump()
    again = Spending.load(data)
    again.apply_bytes(7, "lf.outcome.local.priced-backend", spent(2, 9.0).encode())
    again.apply_bytes(8, "lf.outcome.local.priced-backend", spent(1, 0.25).encode())
    again.apply_bytes(9, "lf.outcome.local.priced-backend", b"{")
    again.apply_bytes(10, "lf.outcome.cloud.other", spent(3, 9.0).encode())

    assert (again.sequence, again.spent_usd("team", "hour", NOW)) == (10, 0.25)
    with pytest.raises(StateError, match="damaged"):
        Spending.load(data[:-1])


def test_a_state_that_knows_outcomes_by_their_bare_ids_is_refused():
    state = msgspec.msgpack.encode((1, 7, {}, ()))

    with pytest.raises(StateError, match="format 1"):
        Spending.load(hashlib.blake2b(state, digest_size=16).digest() + state)


def test_a_cascade_whose_calls_do_not_fit_together_is_not_begun():
    cards = (
        card("cheap", price_out=100.0, quality_prior=0.7),
        card("other", price_out=110.0, quality_prior=0.7),
        card("strong", price_out=600.0, quality_prior=0.95),
    )
    # 16 tokens of each: 0.0016, 0.00176 and 0.0096 dollars.
    asked = {"key_id": "team", "cascade": True, "max_tokens": 16, "preference": "cost=6,latency=0"}

    for left, fits in ((1.0, True), (0.0110, False)):
        found = router(*cards, usd=1.0, facts=[spent(1, 1.0 - left)])
        decision = found.route(route_call(prompt_tokens=1, **asked), NOW).decision

        assert {c.model for c in decision.candidates} == {"cheap", "other", "strong"}
        assert (decision.cascade is not None) is fits
        assert redecide(decision, found.fold.learner) == decision
