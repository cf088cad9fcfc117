"""How fast a replica answers, learned from its outcomes."""

import pytest

from localforge.contracts.facts import OutcomeObserved
from localforge.executor.speed import Speed
from tests.routing import outcome


def _outcome(status: str, first_token_s: float, tokens: int, total_s: float) -> OutcomeObserved:
    return outcome(
        "one", "m", status=status, first_token_s=first_token_s, tokens=tokens, total_s=total_s
    )


def test_the_first_answer_is_taken_as_it_is_and_later_ones_weigh_a_tenth():
    speed = Speed()
    assert (speed.first_token_s, speed.tokens_per_s) == (0.0, 0.0)

    speed.learn(_outcome("ok", 0.5, 100, 2.0))
    assert (speed.first_token_s, speed.tokens_per_s) == (0.5, 50.0)

    speed.learn(_outcome("ok", 1.5, 300, 2.0))
    assert speed.first_token_s == pytest.approx(0.6)
    assert speed.tokens_per_s == pytest.approx(60.0)


def test_an_unstreamed_answer_says_nothing_of_the_first_token():
    speed = Speed()
    speed.learn(_outcome("ok", 0.0, 100, 2.0))
    assert (speed.first_token_s, speed.tokens_per_s) == (0.0, 50.0)


@pytest.mark.parametrize("status", ["error", "cancelled"])
def test_what_did_not_end_well_teaches_nothing(status: str):
    speed = Speed()
    speed.learn(_outcome(status, 9.0, 1, 99.0))
    assert (speed.first_token_s, speed.tokens_per_s) == (0.0, 0.0)
