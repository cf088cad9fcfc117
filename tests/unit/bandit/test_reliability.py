"""What failed attempts teach, and what they are worth in a decision."""

import msgspec
import pytest

from localforge.bandit import Applied, Fold, dump, load
from localforge.bandit.goal import forecasts_of
from localforge.bandit.reliability import (
    FADING,
    MAX_MODELS,
    NONE,
    PRIOR,
    Reliability,
    Risk,
    with_failures,
)
from localforge.bandit.soundness import KEPT, PATIENCE
from tests.routing import (
    DIM,
    NOW,
    SCHEMA,
    card,
    failure,
    learn,
    outcome,
    probabilities,
    route_call,
    service,
)

PLACE = ("m-backend", "m")


def taught(*failed: bool, model: str = "m", total_s: float = 10.0) -> Reliability:
    reliability = Reliability()
    for fails in failed:
        made = failure("o", model, total_s=total_s) if fails else outcome("o", model)
        reliability.learn(made)
    return reliability


def test_who_never_failed_has_no_risk():
    assert taught(*[False] * 300).risk(PLACE) is NONE
    assert Reliability().risk(("nobody", "unheard of")) is NONE


def test_one_failure_of_a_new_model_is_one_of_many_attempts():
    assert taught(True).risk(PLACE) == Risk(pytest.approx(1 / (PRIOR + 1)), 10.0)


def test_a_steady_share_of_failures_is_found():
    share, lost_s = taught(*[True, *[False] * 4] * 100, total_s=60.0).risk(PLACE)

    assert share == pytest.approx(0.2, abs=0.02)
    assert lost_s == pytest.approx(60.0)


def test_what_fails_and_recovers_is_forgiven_by_its_own_answers():
    reliability = taught(*[True] * 50, *[False] * round(3 / FADING))

    assert reliability.risk(PLACE).share < 0.05


def test_what_is_not_asked_any_more_is_given_another_chance():
    reliability = taught(*[True] * 300)
    before = reliability.risk(PLACE).share
    for _ in range(PATIENCE + 700):
        reliability.learn(outcome("o", "other"))

    after = reliability.risk(PLACE).share
    assert after == pytest.approx(before * KEPT**700)
    reliability.learn(outcome("o", "m"))
    assert reliability.risk(PLACE).share < after


def test_a_model_is_known_apart_at_each_backend():
    reliability = taught(*[True] * 5)

    assert reliability.risk(("another", "m")) is NONE


def test_the_model_asked_longest_ago_gives_way():
    reliability = Reliability()
    for number in range(MAX_MODELS + 1):
        reliability.learn(failure("o", f"m{number}"))

    assert reliability.risk(("m0-backend", "m0")) is NONE
    assert len(reliability.state()) == MAX_MODELS


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("backend_http_500", Applied.LEARNED),
        ("backend_timeout", Applied.LEARNED),
        ("backend_rate_limited", Applied.LEARNED),
        ("stream_broken", Applied.LEARNED),
        ("deadline_exceeded", Applied.LEARNED),
        ("backend_refused", Applied.NOT_OK),
        ("backend_cannot", Applied.NOT_OK),
        ("context_length_exceeded", Applied.NOT_OK),
        ("overloaded", Applied.NOT_OK),
        ("seal_invalid", Applied.NOT_OK),
    ],
)
def test_a_model_answers_for_its_own_failures_only(code, expected):
    fold = Fold(SCHEMA, DIM)

    assert learn(fold, failure("o", "m", code=code)) == [expected]
    assert (fold.learner.reliability.risk(PLACE) is not NONE) == (expected is Applied.LEARNED)


def test_a_cancelled_attempt_is_no_failure():
    fold = Fold(SCHEMA, DIM)
    gone = msgspec.structs.replace(failure("o", "m"), status="cancelled")

    assert learn(fold, gone) == [Applied.NOT_OK]
    assert fold.learner.reliability.state() == ()


def test_an_attempt_that_never_began_is_no_failure():
    fold = Fold(SCHEMA, DIM)
    late = failure("o", "m", total_s=0.0, code="deadline_exceeded")

    assert learn(fold, late) == [Applied.NOT_OK]
    assert fold.learner.reliability.state() == ()


@pytest.mark.parametrize(("total_s", "expected"), [(9.9, Applied.NOT_OK), (10.0, Applied.LEARNED)])
def test_a_deadline_that_leaves_no_time_is_its_callers_wish(total_s, expected):
    fold = Fold(SCHEMA, DIM)
    late = failure("o", "m", total_s=total_s, code="deadline_exceeded")

    assert fold.apply(1, late) is expected


def test_a_repeated_failure_counts_once():
    fold = Fold(SCHEMA, DIM)

    assert learn(fold, failure("o", "m"), failure("o", "m")) == [
        Applied.LEARNED,
        Applied.DUPLICATE,
    ]


def test_a_stored_state_goes_on_bit_for_bit():
    fold = Fold(SCHEMA, DIM)
    learn(fold, failure("a", "m"), outcome("b", "m"), failure("c", "n"), outcome("d", "n"))
    again = load(dump(fold), SCHEMA, DIM)
    for kept in (fold, again):
        learn(kept, outcome("e", "m"), failure("f", "m", total_s=3.0))

    assert again.state_hash() == fold.state_hash()
    assert again.learner.reliability.risk(PLACE) == fold.learner.reliability.risk(PLACE)


def test_a_failure_is_followed_by_the_best_other_model_and_costs_its_time():
    never, often = NONE, Risk(0.25, 60.0)

    assert with_failures([0.8, 0.6], [often, never], 0.01) == pytest.approx(
        [0.75 * 0.8 + 0.25 * (0.6 - 0.6), 0.6]
    )
    assert with_failures([0.8, 0.6, 0.7], [never] * 3, 0.01) == [0.8, 0.6, 0.7]


def test_nobody_counts_on_another_model_that_fails_too():
    dead = Risk(1.0, 10.0)

    assert with_failures([0.5, 0.9, 0.4], [Risk(0.5, 0.0), dead, NONE], 0.0)[0] == pytest.approx(
        0.5 * 0.5 + 0.5 * 0.4
    )


def test_no_model_gains_by_the_better_one_that_follows_its_failures():
    good, poor = 0.8, 0.3
    risks = [NONE, Risk(0.9, 0.1)]

    assert with_failures([good, poor], risks, 0.001) == [good, poor]


def test_where_there_is_no_other_model_a_failure_is_worth_nothing():
    assert with_failures([0.8], [Risk(0.25, 60.0)], 0.01) == pytest.approx([0.75 * 0.8 - 0.15])


def test_a_decision_shows_what_it_expects_to_fail():
    fold = Fold(SCHEMA, DIM)
    cards = card("m", quality_prior=0.6), card("other", quality_prior=0.6)
    router = service(*cards, fold=fold)
    for number in range(100):
        fails = number % 5 == 0
        made = failure(f"o{number}", "m", total_s=60.0) if fails else outcome(f"o{number}", "m")
        learn(fold, made)
        learn(fold, outcome(f"p{number}", "other"))

    decision = router.route(route_call(preference="fast"), NOW).decision

    failing, steady = decision.candidates
    assert failing.failed_share == pytest.approx(0.17, abs=0.04)
    assert failing.lost_s == pytest.approx(60.0)
    assert (steady.failed_share, steady.lost_s) == NONE
    assert failing.utility < steady.utility - 0.3
    assert probabilities(decision)["m"] < 0.3
    told = forecasts_of(decision)
    assert told["m"].toll > told["other"].toll + 0.3
    assert b"lost_s" in decision.encode()
    assert decision.encode().count(b"lost_s") == 1
