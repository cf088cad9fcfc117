"""Learning makes way for requests, and no decision sees it half done."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from localforge.bandit import Fold
from localforge.bandit.goal import PER_THOUSAND, Goal, GoalController
from localforge.bus.pull import Pulled
from localforge.contracts.facts import FeedbackGiven, OutcomeObserved
from localforge.router.companions import Companions
from localforge.router.learning import AT_ONCE, BEHIND, Learning
from tests.routing import DIM, SCHEMA, feedback, outcome

COUNT = 5 * AT_ONCE + 1


def _facts() -> Iterator[tuple[str, OutcomeObserved | FeedbackGiven]]:
    for number in range(COUNT):
        if number % 2:
            yield "lf.feedback.user", feedback(f"f{number}", "a", number % 3 / 2)
        else:
            spent = msgspec.structs.replace(outcome(f"o{number}", "a"), cost_usd=0.001 * number)
            yield "lf.outcome.local.a-backend", spent


def _batch(pending: int = 0) -> list[Pulled]:
    return [
        Pulled(sequence, subject, fact.encode(), pending, sequence, 1)
        for sequence, (subject, fact) in enumerate(_facts(), start=1)
    ]


class Learner:
    """A learner with a goal beside it."""

    def __init__(self) -> None:
        self.fold = Fold(SCHEMA, DIM)
        self.goal = GoalController(Goal(spend_usd=1.0, per=PER_THOUSAND))
        companions = Companions()
        companions.goal = self.goal
        self.learning = Learning(self.fold, companions)

    def state(self) -> tuple[str, int, float]:
        """What a decision would be made on."""
        return self.fold.state_hash(), self.goal.sequence, self.goal.shadow_price


async def _seen_meanwhile(learner: Learner, batch: list[Pulled]) -> list[tuple[int, int]]:
    """Return how far learner and goal were whenever something else had its turn."""
    taking = asyncio.create_task(learner.learning.take(batch))
    seen = []
    while not taking.done():
        seen.append((learner.fold.sequence, learner.goal.sequence))
        await asyncio.sleep(0)
    assert await taking == COUNT
    return seen


async def test_a_request_has_its_turn_after_every_few_facts_and_finds_all_equally_far() -> None:
    learner = Learner()

    seen = await _seen_meanwhile(learner, _batch())

    assert {fold for fold, _ in seen} >= {0, *range(AT_ONCE, COUNT, AT_ONCE)}
    assert all(fold == goal for fold, goal in seen)


async def test_a_learner_that_has_fallen_back_does_not_make_way() -> None:
    learner = Learner()

    assert set(await _seen_meanwhile(learner, _batch(BEHIND))) <= {(0, 0), (COUNT, COUNT)}


@pytest.mark.parametrize("turns", [1, 2, 4])
async def test_a_batch_that_is_broken_off_and_given_again_is_learned_once(turns: int) -> None:
    whole, broken = Learner(), Learner()
    await whole.learning.take(_batch())

    taking = asyncio.create_task(broken.learning.take(_batch()))
    for _ in range(turns):
        await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert 0 < broken.fold.sequence < COUNT
    await broken.learning.take(_batch())

    assert broken.state() == whole.state()
