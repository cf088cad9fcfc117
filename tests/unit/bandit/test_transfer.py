"""Trained routers as signed files, and what an import does to a fold and to a replay."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from localforge.audit import replay
from localforge.bandit import Applied, Fold, dump, load, stored, transfer
from localforge.bandit.transfer import (
    export_learner,
    learner_hash,
    read_header,
    read_learner,
    verify_signature,
)
from localforge.contracts.facts import StateImported
from localforge.contracts.subjects import STATE_IMPORT
from localforge.errors import StateError
from tests.routing import DIM, NOW, SCHEMA, card, feedback, learn, outcome, route_call, service

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key()


def trained(model="a", score=1.0, count=5):
    fold = Fold(SCHEMA, DIM)
    learn(fold, *(feedback(f"{model}{i}", model, score) for i in range(count)))
    learn(fold, *(outcome(f"{model}{i}", model, tokens=10 * i) for i in range(count)))
    return fold


def exported(fold=None, key=KEY):
    return export_learner((fold or trained()).learner, key, NOW)


def test_an_export_read_again_is_the_same_learner():
    fold = trained()
    data = exported(fold)

    header, learner = read_header(data), read_learner(data, SCHEMA, DIM)

    verify_signature(data, PUBLIC)
    assert learner_hash(learner) == learner_hash(fold.learner) == header.state_hash
    assert (header.models, header.scores, header.feature_schema) == (("a",), 5, SCHEMA)
    assert header.exported_at == NOW


def test_an_export_names_no_message_and_no_stream():
    # Five ids and a sequence are in a checkpoint, and not in an export.
    assert stored.unpack(dump(trained()))[0].ids == 10
    header, _ = stored.unpack(transfer._split(exported())[1])
    assert (header.ids, header.sequence, header.counts) == (0, 0, {})


@pytest.mark.parametrize("at", [0, 10, 60, 400, -1])
def test_any_changed_byte_is_refused(at):
    data = bytearray(exported())
    data[at] ^= 1

    with pytest.raises(StateError, match="router file"):
        verify_signature(bytes(data), PUBLIC)


@pytest.mark.parametrize("size", [0, 7, 11, 70, 500])
def test_a_cut_file_is_refused(size):
    with pytest.raises(StateError, match="router file"):
        verify_signature(exported()[:size], PUBLIC)


def test_another_signer_is_named():
    other = Ed25519PrivateKey.generate()

    with pytest.raises(StateError) as raised:
        verify_signature(exported(key=other), PUBLIC)

    assert read_header(exported(key=other)).key_id in raised.value.message
    assert read_header(exported()).key_id in raised.value.message


def test_a_seal_key_signature_over_the_same_bytes_does_not_pass():
    data = exported()
    bare = data[:-64] + KEY.sign(data[:-64])

    with pytest.raises(StateError, match="does not fit"):
        verify_signature(bare, PUBLIC)


@pytest.mark.parametrize(
    ("schema", "dim", "told"),
    [("other.v2", DIM, "`feature_schema` is 'test.v1', this program has 'other.v2'")],
)
def test_other_features_are_refused_by_name(schema, dim, told):
    with pytest.raises(StateError) as raised:
        read_learner(exported(), schema, dim)

    assert told in raised.value.message
    assert "same feature schema" in raised.value.message


@pytest.mark.parametrize(
    ("field", "constant"),
    [("constants", "CONSTANTS_HASH"), ("policy", "LEARNER"), ("format", "FORMAT")],
)
def test_another_arithmetic_policy_or_format_is_refused_by_name(field, constant, monkeypatch):
    data = exported()
    monkeypatch.setattr(stored, constant, "other")

    with pytest.raises(StateError, match=f"`{field}` is .*this program has 'other'"):
        read_learner(data, SCHEMA, DIM)


def test_another_layout_is_refused(monkeypatch):
    data = exported()
    monkeypatch.setattr(transfer, "VERSION", 9)

    with pytest.raises(StateError, match="layout version 1, this program reads 9"):
        read_header(data)


def imported(identity="i1", fold=None):
    return StateImported(import_id=identity, file=exported(fold))


def test_an_import_replaces_what_was_learned_and_keeps_the_place_in_the_stream():
    source = trained("a")
    fold = trained("b")
    sequence = fold.sequence

    assert learn(fold, imported(fold=source)) == [Applied.IMPORTED]

    assert learner_hash(fold.learner) == learner_hash(source.learner)
    assert fold.sequence == sequence + 1
    # What was read here before the import is still known, and ignored when it comes again.
    assert learn(fold, feedback("b0", "b", 1.0)) == [Applied.DUPLICATE]
    assert learn(fold, feedback("a0", "a", 1.0)) == [Applied.LEARNED]


def test_failed_checks_that_wait_for_a_verdict_stay_with_their_stream():
    fold, other = trained(), trained()
    other.learner.checked.note_failure("d1", "a")
    assert exported(fold)[:-64] == exported(other)[:-64]

    learn(other, StateImported(import_id="i", file=exported(fold), imported_at=NOW))

    assert "d1 a" in other.learner.checked.failing


def test_an_import_that_comes_twice_is_taken_once():
    fold = trained("b")
    event = imported()
    learn(fold, event, feedback("new", "a", 0.0))
    state = learner_hash(fold.learner)

    assert learn(fold, event) == [Applied.DUPLICATE]
    assert learner_hash(fold.learner) == state


@pytest.mark.parametrize("data", [b"", b"x" * 1000, exported()[:-300]])
def test_an_import_that_cannot_be_used_changes_nothing(data):
    fold = trained("b")
    state = learner_hash(fold.learner)

    assert learn(fold, StateImported(import_id="i", file=data)) == [Applied.STATE]
    assert learner_hash(fold.learner) == state


def test_values_that_are_not_finite_are_not_taken():
    broken = trained()
    broken.learner.arms.moment[0, 0] = float("nan")
    fold = trained("b")

    assert learn(fold, imported(fold=broken)) == [Applied.STATE]


def test_a_checkpoint_after_an_import_holds_it():
    fold = trained("b")
    learn(fold, imported(fold=trained("a")))

    again = load(dump(fold), SCHEMA, DIM)

    assert again.state_hash() == fold.state_hash()
    assert again.counts[Applied.IMPORTED] == 1


def test_decisions_before_and_after_an_import_are_replayed_bit_for_bit():
    cards = [card("a"), card("b")]
    fold = Fold(SCHEMA, DIM)
    stream, decisions = [], []

    def write(subject, fact):
        stream.append((len(stream) + 1, subject, fact.encode()))
        if not subject.startswith("lf.decision."):
            fold.apply_bytes(*stream[-1])

    def decide(name):
        made = service(*cards, fold=fold).route(route_call(name), NOW).decision
        decisions.append(made)
        write(f"lf.decision.{name}", made)

    for index in range(6):
        write("lf.feedback.user", feedback(f"f{index}", "b", 1.0))
        decide(f"before{index}")
    write(STATE_IMPORT, imported(fold=trained("a", count=50)))
    for index in range(6):
        decide(f"after{index}")
        write("lf.feedback.user", feedback(f"g{index}", "a", 1.0))

    report = replay(stream, Fold(SCHEMA, DIM))
    forgotten = replay([m for m in stream if m[1] != STATE_IMPORT], Fold(SCHEMA, DIM))

    assert (report.reproduced, report.mismatched) == (12, 0)
    assert report.state_hash == fold.state_hash()
    assert report.facts["imported"] == 1
    assert forgotten.mismatched == 6
    first, last = decisions[5].candidates, decisions[6].candidates
    assert first[0].evidence == 0.0
    assert last[0].evidence == 50.0
