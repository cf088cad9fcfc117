"""Replay of a simulated stream: everything reproduced, any change found."""

import math
import random

import msgspec
import numpy as np
import pytest

from localforge.audit import Replay, replay
from localforge.bandit import Fold, dump, load
from localforge.config import Config
from localforge.config.sections import RouterConfig, RuleConfig
from localforge.contracts.facts import DecisionMade
from tests.routing import (
    DIM,
    NOW,
    SCHEMA,
    card,
    failure,
    feedback,
    outcome,
    route_call,
    service,
)

CARDS = [card(f"m{i}", price_in=i / 3, price_out=float(i), quality_prior=None) for i in range(4)]


def simulate(requests=150, routers=3, seed=0, config=None, policy=lambda _: ""):
    """A stream as several routers write it that fold late and publish late, and its fold."""
    rng = random.Random(seed)
    noise = np.random.default_rng(seed)
    folds = [Fold(SCHEMA, DIM) for _ in range(routers)]
    stream, facts, unpublished = [], [], []

    def publish(subject, message):
        stream.append((len(stream) + 1, subject, message.encode()))
        return stream[-1]

    for index in range(requests):
        fold = rng.choice(folds)
        for fact in facts:  # each router follows the stream at its own pace
            if fact[0] > fold.sequence and rng.random() < 0.9:
                fold.apply_bytes(*fact)
            elif fact[0] > fold.sequence:
                break
        cards = rng.sample(CARDS, rng.randint(1, 4))
        router = service(*cards, fold=fold, config=config)
        # Both forms of features occur in one stream.
        x = noise.normal(size=DIM).astype(("<f2", "<f4")[index % 2]).tobytes()
        # The first model is free, and so within any limit.
        limit = rng.choice((0.0, 1e-5, 4e-4)) if CARDS[0] in cards else 0.0
        asked = route_call(f"r{index}", features=x, policy=policy(index), max_cost_usd=limit)
        made = router.route(asked, NOW).decision
        unpublished.append(made)
        attempts = [
            failure(f"o{index}-d1", made.chosen, total_s=float(index + 1)),
            outcome(f"o{index}", made.chosen, tokens=index),
        ]
        facts += [
            publish(f"lf.outcome.local.{made.chosen}-backend", attempt)
            for attempt in attempts[0 if index % 7 == 0 else 1 :]
        ]
        if rng.random() < 0.8:
            verdict = feedback(f"f{index}", made.chosen, rng.random(), x)
            facts.append(publish("lf.feedback.user", verdict))
        while unpublished and rng.random() < 0.7:
            late = unpublished.pop(rng.randrange(len(unpublished)))
            publish(f"lf.decision.{late.decision_id}", late)
    for late in unpublished:
        publish(f"lf.decision.{late.decision_id}", late)
    whole = Fold(SCHEMA, DIM)
    for fact in facts:
        whole.apply_bytes(*fact)
    return stream, whole


STREAM, WHOLE = simulate()


def new_fold():
    return Fold(SCHEMA, DIM)


def tampered(change, which=100):
    """The stream with one decision changed."""
    stream = list(STREAM)
    places = [i for i, (_, subject, _) in enumerate(stream) if subject.startswith("lf.decision.")]
    sequence, subject, data = stream[places[which]]
    record = change(DecisionMade.decode(data))
    stream[places[which]] = (sequence, subject, record.encode())
    return stream, record.decision_id


@pytest.mark.parametrize("seed", range(4))
def test_every_decision_of_late_and_unordered_routers_is_reproduced(seed):
    stream, whole = simulate(60, seed=seed)

    report = replay(stream, new_fold())

    assert any(b'"reason":"price"' in data for _, _, data in stream)
    assert (report.decisions, report.reproduced, report.mismatched) == (60, 60, 0)
    assert report.clean
    assert report.state_hash == whole.state_hash()
    assert report.sequence == whole.sequence
    assert report.facts["learned"] == len(stream) - 60


def candidate_change(**changes):
    def change(record):
        first = msgspec.structs.replace(record.candidates[0], **changes)
        return msgspec.structs.replace(record, candidates=(first, *record.candidates[1:]))

    return change


def field_change(name, make):
    return lambda record: msgspec.structs.replace(record, **{name: make(record)})


def set_to(name, value):
    return lambda record: msgspec.structs.replace(record, **{name: value})


CHANGES = {
    "propensity": field_change("propensity", lambda r: math.nextafter(r.propensity, 2)),
    "chosen": set_to("chosen", "other"),
    "plan": field_change("plan", lambda r: (*r.plan, "other")),
    "features": field_change("features", lambda r: r.features[4:] + r.features[:4]),
    "cost_weight": field_change("cost_weight", lambda r: r.cost_weight + 1),
    "latency_weight": field_change("latency_weight", lambda r: r.latency_weight * 2),
    "prompt_tokens": field_change("prompt_tokens", lambda r: r.prompt_tokens + 1000),
    "max_tokens": set_to("max_tokens", 1),
    "seed": field_change("seed", lambda r: r.seed + 1),
    "gamma": field_change("gamma", lambda r: r.gamma + 1),
    "gamma_negative": set_to("gamma", -1e300),
    "floor": set_to("exploration_floor", 0.01),
    "policy_hash": set_to("policy_hash", "0" * 32),
    "zones": set_to("zones", ("cloud",)),
    "candidates": field_change("candidates", lambda r: r.candidates[:-1]),
    "no_candidates": set_to("candidates", ()),
    "price": candidate_change(price_out=99.0),
    "queue": candidate_change(queue_depth=5.0),
    "prior": candidate_change(quality_prior=0.99),
    "quality": candidate_change(quality=0.123),
    "std": candidate_change(quality_std=0.0),
    "evidence": candidate_change(evidence=1e6),
    "length": candidate_change(completion_tokens=1.0),
    "cost": candidate_change(cost_usd=1.0),
    "latency": candidate_change(latency_s=1e-3),
    "utility": candidate_change(utility=1.0),
    "probability": candidate_change(probability=0.5),
    "candidate_zone": candidate_change(zone="cloud"),
    "state_sequence": set_to("state_sequence", 4),
    "future": set_to("state_sequence", 10**9),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_record_is_found_and_named(name):
    stream, decision_id = tampered(CHANGES[name])

    report = replay(stream, new_fold())

    assert (report.mismatched, report.reproduced) == (1, report.decisions - 1)
    assert [m.decision_id for m in report.mismatches] == [decision_id]
    assert not report.clean
    assert report.mismatches[0].logged != report.mismatches[0].again


def test_the_first_differing_field_is_named_with_both_values():
    stream, _ = tampered(candidate_change(utility=7.0))

    (mismatch,) = replay(stream, new_fold()).mismatches

    assert mismatch.field == "candidates[0].utility"
    assert mismatch.logged == 7.0
    assert mismatch.again < 1.0


def test_a_changed_fact_is_found_by_the_decisions_after_it():
    stream = list(STREAM)
    place = next(i for i, (_, subject, _) in enumerate(stream) if subject == "lf.feedback.user")
    sequence, subject, _ = stream[place]
    stream[place] = (sequence, subject, feedback("x", "m1", 0.0).encode())

    assert replay(stream, new_fold()).mismatched > 50


def test_a_record_later_than_the_window_is_a_mismatch_that_says_so():
    report = replay(STREAM, new_fold(), window=1)

    assert report.mismatched > 0
    assert report.reproduced + report.mismatched == report.decisions
    assert all("late" in m.again for m in report.mismatches)


def test_what_cannot_be_judged_is_counted_with_the_reason():
    renamed, _ = tampered(set_to("policy", "igw.v9"))
    other, _ = tampered(set_to("feature_schema", "x.v2"))
    stream = [*STREAM, (10**6, "lf.decision.x", b'{"type":"decision_made.v9"}')]

    for changed, reason in ((renamed, "igw.v9"), (other, "x.v2"), (stream, "undecodable")):
        report = replay(changed, new_fold())

        assert [reason in told for told in report.not_checkable] == [True]
        assert report.reproduced == report.decisions - 1
        assert report.mismatched == 0


def test_a_replay_may_start_at_a_checkpoint():
    start = new_fold()
    for sequence, subject, data in STREAM[:200]:
        if not subject.startswith("lf.decision."):
            start.apply_bytes(sequence, subject, data)

    report = replay(STREAM, load(dump(start), SCHEMA, DIM))

    assert report.mismatched == 0
    assert 0 < report.reproduced < report.decisions
    assert sum(report.not_checkable.values()) == report.decisions - report.reproduced
    assert report.state_hash == WHOLE.state_hash()


def test_waiting_messages_are_bounded_by_the_window():
    running = Replay(new_fold(), window=50)
    most = 0
    for message in simulate(300, routers=1)[0]:
        running.feed(*message)
        most = max(most, running._timeline.waiting)

    assert most <= 51


def test_progress_is_reported():
    seen = []
    empty = [(i, "lf.other", b"") for i in range(1, 3001)]

    report = replay(empty, new_fold(), progress=seen.append)

    assert seen == [1000, 2000, 3000]
    assert (report.other_subjects, report.messages, report.decisions) == (3000, 3000, 0)


def test_decisions_by_the_policy_that_each_request_named_are_reproduced():
    names = ("", "greedy", "epsilon-greedy", "thompson", "linucb", "igw", "static", "rules")
    rule = RuleConfig(name="all", models={"m0": 1.0, "m1": 3.0})
    config = Config(router=RouterConfig(static={"m2": 1.0, "m3": 1.0}, rules=(rule,)))
    stream, _ = simulate(80, config=config, policy=lambda index: names[index % len(names)])

    report = replay(stream, new_fold())

    assert (report.reproduced, report.mismatched, report.not_checkable) == (80, 0, {})
    made = [DecisionMade.decode(data) for _, subject, data in stream if "decision" in subject]
    stated = {record.policy.partition(".")[0] for record in made if record.policy_stated}
    assert stated == set(names) - {""}


def test_decisions_with_other_parameters_are_checked_with_their_own():
    config = Config(router=msgspec.structs.replace(Config().router, gamma=3.0, seed=9))
    stream, _ = simulate(30, config=config)

    assert replay(stream, new_fold()).reproduced == 30
