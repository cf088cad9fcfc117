"""The price of a goal is recomputed from the log, bit for bit."""

import math
import random

import msgspec
import numpy as np
import pytest

from localforge.audit import GoalReplay, Replay
from localforge.bandit import Fold
from localforge.bandit.goal import PER_THOUSAND, Goal, GoalController, forecasts_of
from localforge.bandit.goal_state import goal_hash
from localforge.config import Config
from localforge.contracts.facts import DecisionMade
from localforge.router.companions import Companions
from localforge.router.service import RouterService
from tests.routing import DIM, NOW, SCHEMA, View, card, feedback, outcome, route_call, snapshot

CARDS = (card("a", price_in=0.1, quality_prior=0.6), card("b", price_in=9.0, quality_prior=0.8))
GOALS = (Goal(max_loss=0.03), Goal(min_quality=0.7), Goal(spend_usd=0.0123456789, per=PER_THOUSAND))


def simulate(goal, requests=80):
    """A stream under a goal, decisions published late; and the controller at its end."""
    rng, noise = random.Random(5), np.random.default_rng(5)
    companions = Companions()
    companions.goal = controller = GoalController(goal)
    fold = Fold(SCHEMA, DIM)
    router = RouterService(Config(), View(snapshot(*CARDS)), fold, companions=companions)
    stream, late = [], []

    def publish(subject, message):
        stream.append((len(stream) + 1, subject, message.encode()))
        return stream[-1]

    for index in range(requests):
        x = noise.normal(size=DIM).astype("<f4").tobytes()
        made = router.route(route_call(f"r{index}", features=x), NOW).decision
        late.append(made)
        seen = msgspec.structs.replace(
            outcome(f"o{index}", made.chosen, tokens=index),
            decision_id=made.decision_id,
            cost_usd=0.00001,
            forecasts=forecasts_of(made),
        )
        verdict = msgspec.structs.replace(
            feedback(f"f{index}", made.chosen, rng.random(), x), decision_id=made.decision_id
        )
        for fact in (
            publish(f"lf.outcome.local.{seen.backend}", seen),
            publish("lf.feedback.user", verdict),
        ):
            fold.apply_bytes(*fact)
            controller.apply_bytes(*fact)
        while late and rng.random() < 0.6:
            record = late.pop(rng.randrange(len(late)))
            publish(f"lf.decision.{record.decision_id}", record)
    for record in late:
        publish(f"lf.decision.{record.decision_id}", record)
    return stream, controller


def replayed(stream):
    finding = Replay(Fold(SCHEMA, DIM))
    for message in stream:
        finding.feed(*message)
    running = GoalReplay(finding.goals)
    for message in stream:
        running.feed(*message)
    return msgspec.structs.replace(finding.finish(), goals=running.finish())


def changed(stream, which, **changes):
    """The stream with one decision's record changed."""
    places = [i for i, (_, subject, _) in enumerate(stream) if subject.startswith("lf.decision.")]
    sequence, subject, data = stream[places[which]]
    record = msgspec.structs.replace(DecisionMade.decode(data), **changes)
    return [
        (sequence, subject, record.encode()) if i == places[which] else message
        for i, message in enumerate(stream)
    ]


@pytest.mark.parametrize("goal", GOALS)
def test_every_price_and_the_state_at_the_end_are_recomputed(goal):
    stream, controller = simulate(goal)

    report = replayed(stream)

    assert report.clean
    assert report.complete
    assert (report.goals.decisions, report.goals.reproduced) == (80, 80)
    assert report.goals.state_hashes == {str(goal): goal_hash(controller)}


@pytest.mark.parametrize("field", ["shadow_price", "cost_weight"])
def test_a_price_that_the_controller_did_not_ask_for_is_found(field):
    stream, _ = simulate(GOALS[0])
    price = DecisionMade.decode(stream[-1][2]).shadow_price

    report = replayed(changed(stream, -1, **{field: math.nextafter(price, 0.0)}))

    assert not report.clean
    assert [mismatch.field for mismatch in report.goals.mismatches] == [field]


def test_a_price_below_what_a_limit_on_spending_asks_for_is_found():
    stream, _ = simulate(GOALS[2])

    report = replayed(changed(stream, 40, cost_weight=0.0))

    assert [mismatch.field for mismatch in report.goals.mismatches] == ["cost_weight"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"goal_controller": ""}, "of an older program"), ({"goal": "be good"}, "no goal is called")],
)
def test_what_cannot_be_recomputed_is_counted_and_said(change, reason):
    stream, _ = simulate(GOALS[0])

    report = replayed(changed(stream, 3, **change))

    ((told, count),) = report.goals.not_checkable.items()
    assert reason in told
    assert count == 1
    assert not report.complete
    assert report.goals.mismatched == 0


def test_a_log_without_goals_names_none():
    stream, _ = simulate(GOALS[0])
    finding = Replay(Fold(SCHEMA, DIM))
    for sequence, subject, data in stream:
        if not subject.startswith("lf.decision."):
            finding.feed(sequence, subject, data)

    assert not finding.goals
