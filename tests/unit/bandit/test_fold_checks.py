"""What a fold learns of checks: whether answers are whole, and nothing of how good they are."""

import pytest

from localforge.bandit import Fold, dump, load, redecide
from localforge.bandit.prior import PRICE_WEIGHT, Level
from localforge.config import Config
from localforge.config.sections import RouterConfig
from localforge.contracts.facts import CHECKS
from tests.routing import DIM, NOW, SCHEMA, card, feedback, learn, route_call, service


def checks(model: str, *, passed: int = 0, failed: int = 0, name: str = "c"):
    """What checks say of so many answers, mixed evenly."""
    every = passed + failed
    for number in range(every):
        is_bad = number * failed // every != (number + 1) * failed // every
        yield feedback(
            f"{name} {model} {number}",
            model,
            float(not is_bad),
            weight=0.9 if is_bad else 0.1,
            source=CHECKS,
        )


def predicted(fold: Fold, *models: str) -> list[float]:
    cards = [card(model, quality_prior=0.6) for model in models]
    made = service(*cards, fold=fold).route(route_call(), NOW).decision
    return [candidate.quality for candidate in made.candidates]


def test_answers_that_pass_their_checks_are_not_taken_for_good_ones():
    fold, judged = Fold(SCHEMA, DIM), Fold(SCHEMA, DIM)
    verdicts = [
        feedback(f"u {model} {number}", model, float(number % 10 < good))
        for model, good in (("a", 9), ("b", 4))
        for number in range(40)
    ]

    learn(judged, *verdicts)
    learn(fold, *verdicts, *checks("a", passed=2000), *checks("b", passed=2000))

    assert predicted(fold, "a", "b") == predicted(judged, "a", "b")
    assert predicted(fold, "a", "b") == pytest.approx([0.9, 0.4], abs=0.08)


def test_answers_that_nobody_judges_leave_a_model_at_what_its_card_says():
    fold = Fold(SCHEMA, DIM)
    learn(fold, *checks("a", passed=3000))

    assert predicted(fold, "a") == predicted(Fold(SCHEMA, DIM), "a")


def test_no_model_is_predicted_to_be_better_than_its_answers_are_whole():
    fold = Fold(SCHEMA, DIM)
    learn(fold, *checks("a", passed=100, failed=100))

    (quality,) = predicted(fold, "a")
    decision = service(card("a", quality_prior=0.9), fold=fold).route(route_call(), NOW).decision

    assert quality == pytest.approx(1 - 0.9 / 2, abs=0.08)
    assert decision.candidates[0].sound == decision.candidates[0].quality
    assert redecide(decision, fold.learner) == decision


def test_curiosity_about_a_model_ends_although_nobody_judges_answers():
    fold = Fold(SCHEMA, DIM)
    level = [Level(0.6, PRICE_WEIGHT)]
    arms, soundness = fold.learner.arms, fold.learner.soundness

    def doubt() -> float:
        *_, doubts = arms.predict(["a"], level, arms.blank(), [soundness.tried("a")])
        return doubts[0]

    before = doubt()
    learn(fold, *checks("a", passed=2000))

    assert doubt() < before / 4


def test_where_nobody_judges_inverse_gap_weighting_ends_exploring_too():
    fold = Fold(SCHEMA, DIM)
    cards = (card("a", quality_prior=0.9), card("b", quality_prior=0.5))
    config = Config(router=RouterConfig(policy="igw"))

    def share() -> float:
        made = service(*cards, fold=fold, config=config).route(route_call(), NOW).decision
        return min(candidate.probability for candidate in made.candidates)

    before = share()
    learn(fold, *checks("a", passed=3000), *checks("b", passed=3000))

    assert share() < before / 4


def test_answers_that_pass_are_accepted_however_many_others_fail():
    fold = Fold(SCHEMA, DIM)
    learn(
        fold,
        *checks("cheap", passed=200, failed=200),
        *(feedback(f"v{number}", "cheap", float(number % 10 > 0)) for number in range(400)),
    )
    cards = (
        card("cheap", price_out=0.5, quality_prior=0.6),
        card("dear", price_out=8.0, quality_prior=0.75),
    )
    made = None
    for number in range(200):
        router = service(*cards, fold=fold, config=Config(router=RouterConfig(width=3.0)))
        asked = route_call(f"r{number}", cascade=True)
        made = router.route(asked, NOW).decision
        if made.cascade is not None:
            break

    assert made is not None
    assert made.cascade is not None
    assert made.cascade.models == ("cheap", "dear")
    assert made.candidates[0].quality < 0.6
    assert made.cascade.if_passed == "cheap"


def test_tests_by_night_and_checks_by_day_are_no_change_of_a_model():
    fold = Fold(SCHEMA, DIM)
    for day in range(20):
        night = (
            feedback(f"t {day} {number}", "a", float(number % 10 > 0), source="test")
            for number in range(60)
        )
        learn(fold, *night, *checks("a", passed=485, failed=15, name=str(day)))

    assert fold.learner.arms.drifts == [0]
    assert fold.learner.arms.weights == [20 * 60]


def test_a_state_with_checks_is_found_again():
    fold = Fold(SCHEMA, DIM)
    learn(fold, *checks("a", passed=30, failed=3), feedback("u", "a", 1.0))

    again = load(dump(fold), SCHEMA, DIM)

    assert again.state_hash() == fold.state_hash()
    assert predicted(again, "a") == predicted(fold, "a")
