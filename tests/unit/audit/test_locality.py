"""The proof that nothing left its zones: a sound log is clean, every way to break it is found."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from localforge.audit.locality import RULES, LocalityCheck
from localforge.config import PolicyConfig
from localforge.contracts.trust import Label
from localforge.trust import Sealer, SealVerifier
from tests.routing import NOW, card, outcome, route_call, service

KEY = Ed25519PrivateKey.generate()
VERIFIER = SealVerifier(KEY.public_key())
ZONES = {Label.PUBLIC: ("cloud", "local"), Label.RESTRICTED: ("local",)}


def seal(request_id, label=Label.PUBLIC, zones=ZONES[Label.PUBLIC], key=KEY):
    return Sealer(key).seal(
        request_id=request_id, body=b"{}", label=label, zones=zones, expires_at=NOW
    )


def decided(name, label):
    router = service(card("near"), card("far", zone="cloud"))
    zones = ZONES[label]
    return router.route(route_call(name, zones=zones, label=label), NOW).decision


def attempted(name, zone, **changes):
    backend = {"local": "near-backend", "cloud": "far-backend"}[zone]
    model = backend.removesuffix("-backend")
    sealed = seal(name) if zone == "cloud" else None
    made = outcome(f"{name}.0", model)
    fact = msgspec.structs.replace(
        made, decision_id=name, request_id=name, zone=zone, backend=backend, seal=sealed
    )
    return msgspec.structs.replace(fact, **changes)


def stream(*facts):
    """Messages as they stand in the stream: outcomes under the subject of their executor."""
    found = []
    for sequence, fact in enumerate(facts, start=1):
        decision = not hasattr(fact, "outcome_id")
        subject = (
            f"lf.decision.{fact.decision_id}"
            if decision
            else f"lf.outcome.{fact.zone}.{fact.backend}"
        )
        found.append((sequence, subject, fact.encode()))
    return found


def check(messages, verifier=VERIFIER):
    running = LocalityCheck(PolicyConfig(), verifier)
    for message in messages:
        running.feed(*message)
    return running.finish()


def sound():
    return [
        decided("p", Label.PUBLIC),
        attempted("p", "cloud"),
        attempted("r", "local"),  # an outcome may come before its decision's record
        decided("r", Label.RESTRICTED),
        attempted("p", "cloud", outcome_id="p.1", status="error", error_code="seal_invalid"),
    ]


def test_a_sound_log_is_clean_and_counts_attempts_by_label():
    report = check(stream(*sound()))

    assert report.clean
    assert (report.decisions, report.messages, report.seals_verified) == (2, 5, 1)
    assert report.attempts[Label.RESTRICTED].remote == 0
    assert report.attempts[Label.RESTRICTED].local == 1
    public = report.attempts[Label.PUBLIC]
    assert (public.remote, public.refused) == (1, 1)


def changed_decision(**changes):
    return [msgspec.structs.replace(decided("p", Label.PUBLIC), **changes)]


def candidates_with(**changes):
    record = decided("p", Label.PUBLIC)
    first = msgspec.structs.replace(record.candidates[0], **changes)
    return [msgspec.structs.replace(record, candidates=(first, *record.candidates[1:]))]


def restricted_leak(**changes):
    """A restricted request at a remote executor; `changes` are of its seal."""
    forged = msgspec.structs.replace(seal("r"), **changes)
    return [decided("r", Label.RESTRICTED), attempted("r", "cloud", seal=forged)]


OTHER = Ed25519PrivateKey.generate()
PUBLIC = decided("p", Label.PUBLIC)
BROKEN = {
    "sum": ("draw", candidates_with(probability=0.9)),
    "propensity": ("draw", changed_decision(propensity=0.123)),
    "chosen": ("draw", changed_decision(chosen="nobody")),
    "plan": ("draw", changed_decision(plan=(PUBLIC.chosen, "nobody"))),
    "candidate": ("candidate_zone", changed_decision(zones=("local",))),
    "label": ("label_zone", changed_decision(label=Label.RESTRICTED)),
    "rewritten": ("record_changed", [PUBLIC, *changed_decision(domain="other")]),
    "outcome": ("outcome_zone", restricted_leak()),
    "sealed_label": ("seal_label", restricted_leak()),
    "unknown": ("outcome_unknown", [attempted("nobody", "cloud")]),
    "no_seal": ("seal_missing", [PUBLIC, attempted("p", "cloud", seal=None)]),
    "seal_zone": (
        "seal_zone",
        [PUBLIC, attempted("p", "cloud", seal=seal("p", zones=("local", "else")))],
    ),
    "other_request": ("seal_label", [PUBLIC, attempted("p", "cloud", seal=seal("q"))]),
    "signature": ("seal_signature", [PUBLIC, attempted("p", "cloud", seal=seal("p", key=OTHER))]),
    "edited_seal": (
        "seal_signature",
        restricted_leak(label=Label.RESTRICTED, zones=("cloud", "local")),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_breach_is_found_under_its_rule(name):
    rule, facts = BROKEN[name]

    report = check(stream(*facts))

    assert rule in report.counts
    assert rule in RULES
    assert not report.clean
    assert any(found.rule == rule and found.detail for found in report.findings)


def test_an_executor_cannot_hide_its_zone_behind_what_it_writes():
    leaked = attempted("r", "cloud")
    disguised = msgspec.structs.replace(leaked, zone="local", backend="near-backend")
    messages = stream(decided("r", Label.RESTRICTED), leaked)
    messages[1] = (2, messages[1][1], disguised.encode())

    counts = check(messages).counts

    assert counts["outcome_subject"] == 1
    assert counts["outcome_zone"] == 1


def test_a_missing_message_is_a_gap():
    messages = stream(*sound())

    report = check([*messages[:1], *messages[2:]])

    assert report.counts == {"gap": 1}
    assert report.findings[0].detail == "sequence 2 was expected"


def test_a_log_without_a_message_proves_nothing():
    assert check([]).counts == {"log_empty": 1}


def test_the_first_log_may_be_without_a_message():
    first = datetime(2026, 3, 1, tzinfo=UTC)
    running = LocalityCheck(PolicyConfig(), VERIFIER)

    running.compare_origin(first, first)

    assert running.finish().clean


def test_a_log_that_was_made_after_the_first_one_was_replaced():
    first = datetime(2026, 3, 1, tzinfo=UTC)
    running = LocalityCheck(PolicyConfig(), VERIFIER)
    for message in stream(*sound()):
        running.feed(*message)

    running.compare_origin(first, first)
    running.compare_origin(first + timedelta(seconds=1), first)

    assert running.finish().counts == {"log_replaced": 1}
    assert set(RULES) >= {"log_empty", "log_replaced"}


def test_what_cannot_be_read_is_a_finding():
    report = check([(1, "lf.decision.x", b"{}"), (2, "lf.outcome.local.b", b"x")])

    assert report.counts == {"undecodable": 2}


def test_without_a_public_key_signatures_are_counted_as_unchecked():
    report = check(stream(*sound()), verifier=None)

    assert report.clean
    assert (report.seals_verified, report.seals_unverified) == (0, 1)


def test_shadow_decisions_and_verdicts_are_none_of_its_business():
    assert check([(1, "lf.decision.x.shadow", b"{}"), (2, "lf.feedback.user", b"{}")]).clean
