"""What passing and failing the checks is worth: the plain rule first, then what verdicts say."""

import math

import msgspec
import numpy as np
import pytest

from localforge.audit import replay
from localforge.bandit import Fold, checked, dump, load
from localforge.bandit.checked import Checked, Estimate, is_accepted
from localforge.config import Config
from localforge.contracts.facts import CascadeResult
from tests.routing import DIM, NOW, SCHEMA, card, feedback, learn, outcome, route_call, service

CHEAP = card("cheap", price_out=1.0, quality_prior=0.7)
STRONG = card("strong", price_out=60.0, quality_prior=0.95)
SPREAD = Config(router=msgspec.structs.replace(Config().router, policy="epsilon-greedy", width=0.5))
"""A draw that asks the cheap model now and then, however bad it is known to be."""
NOTHING = Estimate(0.7, math.inf)
WORTH = Estimate(0.5, 0.0)


def decide(name="r1", fold=None, preference="cost=10,latency=0", max_tokens=4000, **call):
    wanted = {"cascade": True, "max_tokens": max_tokens, "preference": preference, **call}
    router = service(CHEAP, STRONG, fold=fold, config=SPREAD)
    return router.route(route_call(name, **wanted), NOW).decision


def cheap_first(fold=None, **call):
    """The plan of a decision that asks the cheap model first; long answers are only checked."""
    found = (decide(f"r{index}", fold, **call) for index in range(200))
    return next(d.cascade for d in found if d.chosen == "cheap" and d.cascade)


def checks(index, score, model="cheap", weight=0.3):
    made = feedback(f"c{index}", model, score, weight=weight)
    return msgspec.structs.replace(made, source="checks", decision_id=f"d{index}")


def verdict(index, score, model="cheap", weight=1.0):
    made = feedback(f"u{index}", model, score, weight=weight)
    return msgspec.structs.replace(made, decision_id=f"d{index}")


def teach(fold, passing, failing, rounds=40, start=0):
    """Verdicts on as many answers of the cheap model that passed as that failed."""
    for index in range(start, start + 2 * rounds, 2):
        learn(fold, checks(index, 1.0, weight=0.1), verdict(index, passing))
        learn(fold, checks(index + 1, 0.0), verdict(index + 1, failing))
        # The strong model is asked as well and known to be as good as it says.
        learn(fold, verdict(f"s{index}", 1.0, "strong"))


def test_the_plain_rule_holds_while_nothing_is_known():
    plan = cheap_first()

    assert plan.test == "checks"
    assert (plan.if_passed, plan.if_failed) == ("cheap", "strong")
    assert plan.beliefs == {"passed": plan.qualities[0], "failed": plan.qualities[0]}
    assert plan.escalation > 0


@pytest.mark.parametrize("other", [Estimate(-1e9, 0.0), WORTH, Estimate(1.0, 0.0)])
def test_without_a_verdict_no_price_moves_the_plain_rule(other):
    assert is_accepted(NOTHING, other, passed=True)
    assert not is_accepted(NOTHING, other, passed=False)


def test_a_model_whose_failing_answers_are_fine_is_accepted_when_it_fails():
    fold = Fold(SCHEMA, DIM)
    # Its form is what is wrong with it, not what it says: it answers in another language.
    teach(fold, passing=0.9, failing=0.9)

    plan = cheap_first(fold, preference="cost=50,latency=0")

    assert (plan.if_passed, plan.if_failed) == ("cheap", "cheap")
    # Where the strong one costs next to nothing, it is asked all the same.
    assert cheap_first(fold, preference="cost=0.1,latency=0").if_failed == "strong"


def test_a_model_whose_failing_answers_are_bad_goes_on_being_escalated():
    fold = Fold(SCHEMA, DIM)
    teach(fold, passing=1.0, failing=0.0)

    plan = cheap_first(fold)

    assert (plan.if_passed, plan.if_failed) == ("cheap", "strong")
    assert plan.beliefs["failed"] < plan.qualities[0] - 0.2
    assert plan.beliefs["passed"] > plan.qualities[0] + 0.2


def test_a_model_whose_passing_answers_are_bad_is_escalated_when_it_passes():
    fold = Fold(SCHEMA, DIM)
    teach(fold, passing=0.0, failing=0.0)

    cheap_price = cheap_first(fold, preference="cost=1,latency=0")
    dear = cheap_first(fold, preference="cost=1000,latency=0")

    assert cheap_price.if_passed == "strong"
    # Not where the strong one is not better by what it costs.
    assert dear.if_passed == "cheap"


def test_waiting_for_the_other_model_is_part_of_the_price():
    fold = Fold(SCHEMA, DIM)
    teach(fold, passing=0.0, failing=0.0)
    for index in range(30):
        learn(fold, outcome(f"o{index}", "strong", total_s=100.0))

    patient = cheap_first(fold, preference="cost=1,latency=0")
    hasty = cheap_first(fold, preference="cost=1,latency=0.1")

    assert hasty.escalation > patient.escalation + 1.0
    assert (patient.if_passed, hasty.if_passed) == ("strong", "cheap")


def test_only_trusted_verdicts_on_answers_that_were_not_compared_count():
    fold = Fold(SCHEMA, DIM)
    result = CascadeResult(models=(), qualities=(), beliefs={}, agreed=True)
    learn(fold, checks(1, 0.0, weight=0.9), verdict(2, 1.0, weight=0.4))
    learn(fold, msgspec.structs.replace(verdict(3, 1.0), cascade=result))

    assert fold.learner.checked.state().tallies == ()


def test_a_verdict_belongs_to_the_answer_that_failed():
    known = Checked()
    known.note_failure("d1", "cheap")
    known.learn("d1", "cheap", 1.0)
    known.learn("d1", "strong", 1.0)
    known.learn("d2", "cheap", 0.0)

    cheap, strong = known.state().tallies

    assert (cheap.model, cheap.failed, cheap.failed_good) == ("cheap", 1.0, 1.0)
    assert (cheap.passed, cheap.passed_good) == (1.0, 0.0)
    assert (strong.model, strong.failed, strong.passed) == ("strong", 0.0, 1.0)


def test_a_model_that_is_sent_on_without_a_verdict_is_in_time_tried_again():
    fold = Fold(SCHEMA, DIM)
    teach(fold, passing=0.0, failing=0.0, rounds=20)
    assert cheap_first(fold, preference="cost=1,latency=0").if_passed == "strong"

    for index in range(2_500):
        learn(fold, outcome(f"o{index}", "cheap"))

    assert cheap_first(fold, preference="cost=1,latency=0").if_passed == "cheap"


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(checked, "MAX_MODELS", 3)
    known = Checked()
    for index in range(checked.LATEST + 5):
        known.note_failure(f"d{index}", "m")
        known.learn(f"d{index}", f"m{index}", 1.0)

    assert len(known.state().tallies) == 3
    assert len(known.failing.array()) == checked.LATEST


def test_a_checkpoint_holds_it_all():
    fold = Fold(SCHEMA, DIM)
    teach(fold, passing=1.0, failing=0.0, rounds=5)

    again = load(dump(fold), SCHEMA, DIM)

    assert again.learner.checked.state() == fold.learner.checked.state()
    assert again.state_hash() == fold.state_hash()
    # A failure before the checkpoint is still known when its verdict comes after it.
    for each in (fold, again):
        teach(each, passing=0.0, failing=1.0, rounds=2, start=100)
    assert again.state_hash() == fold.state_hash()


def test_decisions_are_replayed_bit_for_bit():
    rng = np.random.default_rng(0)
    fold = Fold(SCHEMA, DIM)
    stream = []

    def write(subject, fact):
        stream.append((len(stream) + 1, subject, fact.encode()))
        if not subject.startswith("lf.decision."):
            fold.apply_bytes(*stream[-1])

    plans = set()
    for index in range(120):
        decision = decide(f"d{index}", fold, preference="cost=2,latency=0")
        write(f"lf.decision.d{index}", decision)
        if decision.cascade:
            plans.add((decision.cascade.if_passed, decision.cascade.if_failed))
        write("lf.feedback.checks", checks(index, float(rng.random() < 0.5), decision.chosen))
        write("lf.feedback.user", verdict(index, float(rng.random() < 0.9), decision.chosen))

    report = replay(stream, Fold(SCHEMA, DIM))

    assert (report.reproduced, report.mismatched) == (120, 0)
    assert report.state_hash == fold.state_hash()
    assert plans
