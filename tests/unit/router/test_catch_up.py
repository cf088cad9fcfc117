"""What starts late is as far as the learner when the next decision is made, and no further."""

import msgspec
import pytest

from localforge.audit import GoalReplay
from localforge.bandit import Fold
from localforge.bandit.budget import Spending
from localforge.bandit.goal import PER_THOUSAND, Goal, GoalController
from localforge.bandit.goal_state import dump_goal
from localforge.bus.pull import Pulled
from localforge.config import Config
from localforge.router.catch_up import Latecomer
from localforge.router.companions import Companions, stored_goal, stored_spending
from localforge.router.service import RouterService
from tests.routing import DIM, NOW, SCHEMA, View, card, outcome, route_call, snapshot

GOAL = Goal(spend_usd=1.0, per=PER_THOUSAND)


def fact(sequence):
    observed = msgspec.structs.replace(outcome(f"o{sequence}", "a"), cost_usd=0.001 * sequence)
    return Pulled(sequence, "lf.outcome.local.a-backend", observed.encode(), 0, sequence, 1)


STREAM = [fact(sequence) for sequence in range(1, 11)]


def fed(folded, messages):
    for message in messages:
        folded.apply_bytes(message.sequence, message.subject, message.data)
    return folded


def learner(sequence):
    return fed(Fold(SCHEMA, DIM), STREAM[:sequence])


async def test_a_new_goal_stops_where_the_learner_is_and_its_price_is_the_replayed_one():
    fold, controller = learner(7), GoalController(GOAL)
    latecomer = Latecomer(controller, fold)
    await latecomer.take(STREAM[:4])
    await latecomer.take(STREAM[4:])

    assert latecomer.is_level()
    assert controller.sequence == fold.sequence == 7
    companions = Companions()
    companions.goal = controller
    cards = snapshot(card("a"), card("b"))
    router = RouterService(Config(), View(cards), fold, companions=companions)
    made = router.route(route_call(), NOW).decision
    replay = GoalReplay([made.goal])
    for message in STREAM:
        replay.feed(message.sequence, message.subject, message.data)
    replay.feed(11, f"lf.decision.{made.decision_id}", made.encode())
    report = replay.finish()
    assert (report.reproduced, report.mismatches) == (1, ())
    assert made.shadow_price != fed(GoalController(GOAL), STREAM).shadow_price


async def test_what_the_learner_reads_meanwhile_is_not_missed():
    fold, controller = learner(3), GoalController(GOAL)
    latecomer = Latecomer(controller, fold)
    await latecomer.take(STREAM[:8])
    fed(fold, STREAM[:6])
    assert latecomer.is_level()
    assert controller.sequence == 6

    fed(fold, STREAM)
    assert not latecomer.is_level()
    assert latecomer.read == 8
    await latecomer.take(STREAM[8:])

    assert latecomer.is_level()
    assert dump_goal(controller) == dump_goal(fed(GoalController(GOAL), STREAM))


def test_nothing_is_read_where_nothing_is_missing():
    assert Latecomer(fed(GoalController(GOAL), STREAM[:7]), learner(7)).is_level()
    assert not Latecomer(fed(GoalController(GOAL), STREAM[:6]), learner(7)).is_level()


@pytest.mark.parametrize(("learned", "at"), [(7, 7), (9, 7), (6, 0)])
def test_a_stored_goal_from_beyond_the_learner_is_folded_again(learned, at):
    stored = dump_goal(fed(GoalController(GOAL), STREAM[:7]))

    assert stored_goal(stored, GOAL, learned).sequence == at


@pytest.mark.parametrize(("learned", "at"), [(7, 7), (9, 7), (6, 0)])
def test_stored_spending_from_beyond_the_learner_is_folded_again(learned, at):
    stored = fed(Spending(), STREAM[:7]).dump()

    assert stored_spending(stored, learned).sequence == at
