"""What passed and failed checks teach."""

import pytest

from localforge.bandit.soundness import KEPT, MAX_MODELS, Soundness
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


def test_one_that_is_not_asked_any_more_gets_another_chance():
    soundness = taught(*[0.9] * 100)
    low = soundness.share("m")

    for _ in range(1000):
        soundness.learn("other", 0.0)

    assert soundness.share("m") == pytest.approx(1 - (1 - low) * KEPT**1000)
    assert soundness.share("other") == 1.0


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
