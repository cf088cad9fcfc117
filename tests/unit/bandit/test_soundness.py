"""What passed and failed checks teach."""

import pytest

from localforge.bandit.soundness import KEPT, MAX_MODELS, PATIENCE, Soundness
from localforge.contracts.facts import SOUND


def taught(*broken: float, model: str = "m") -> Soundness:
    soundness = Soundness()
    for value in broken:
        soundness.learn(model, value)
    return soundness


def test_passing_says_nothing():
    assert taught(*[0.0] * 500).share("m") is SOUND
    assert Soundness().share("unheard of") is SOUND


def test_a_model_that_breaks_is_known_after_dozens_of_answers():
    before = taught(*[0.0] * 1000)
    assert before.share("m") == 1.0

    for _ in range(70):
        before.learn("m", 0.9)

    assert before.share("m") < 0.6


def test_a_new_model_is_not_given_up_for_one_answer():
    assert taught(0.9).share("m") > 0.95


def test_a_steady_share_of_failures_is_found():
    shares = taught(*[0.9, *[0.0] * 9] * 100)

    assert shares.share("m") == pytest.approx(0.91, abs=0.06)


@pytest.mark.parametrize("every", [1, 10, 50, 200])
def test_a_model_that_is_asked_rarely_is_known_as_well(every):
    soundness = Soundness()
    for number in range(150 * every):
        soundness.learn(*(("m", 0.9) if number % every == 0 else ("other", 0.0)))

    assert soundness.share("m") < 0.35


def away(soundness: Soundness, answers: int) -> None:
    for _ in range(answers):
        soundness.learn("other", 0.0)


def test_one_that_is_not_asked_any_more_gets_another_chance():
    soundness = taught(*[0.9] * 100)
    low = soundness.share("m")

    away(soundness, PATIENCE)
    assert soundness.share("m") == low
    away(soundness, 2000)

    assert soundness.share("m") == pytest.approx(1 - (1 - low) * KEPT**2000)


def test_who_takes_that_chance_is_trusted_again_and_who_fails_is_not():
    repaired, broken = taught(*[0.9] * 100), taught(*[0.9] * 100)
    low = broken.share("m")
    for soundness in (repaired, broken):
        away(soundness, PATIENCE + 2000)

    repaired.learn("m", 0.0)
    broken.learn("m", 0.9)

    assert repaired.share("m") > 0.85
    assert broken.share("m") < low


def test_trying_is_counted_and_forgotten_with_the_model():
    soundness = taught(*[0.0] * 50)
    assert soundness.tried("m") == pytest.approx(5.0)

    soundness.forget("m")

    assert soundness.tried("m") == 0.0
    assert soundness.share("m") is SOUND


def test_a_state_goes_on_as_if_it_had_never_been_away():
    soundness = taught(0.9, 0.0, 0.3)
    soundness.learn("b", 0.5)
    again = Soundness()
    again.restore(soundness.state())

    for one in (soundness, again):
        one.learn("m", 0.8)
        one.learn("c", 0.1)

    assert again.state() == soundness.state()


def test_models_are_bounded():
    soundness = Soundness()
    for number in range(MAX_MODELS + 1):
        soundness.learn(f"m{number}", 0.5)

    assert len(soundness.state()) == MAX_MODELS
    assert soundness.share("m0") is SOUND
