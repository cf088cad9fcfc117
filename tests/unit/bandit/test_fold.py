"""State as a fold of facts, and checkpoints of it."""

import itertools
import math

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from localforge.audit.draws import wrong_with_draw
from localforge.bandit import Applied, Fold, dump, ids, load, redecide
from localforge.bandit.belief import Belief
from localforge.bandit.ids import RecentIds
from localforge.bandit.shipped import Header, ShippedPrior
from localforge.bandit.transfer import export_learner
from localforge.config import Config
from localforge.config.sections import RouterConfig
from localforge.contracts.facts import CascadeResult, StateImported
from localforge.contracts.openrouter import ProviderRules
from localforge.errors import RequestRefused, StateError
from tests.routing import (
    DIM,
    NOW,
    SCHEMA,
    card,
    failure,
    feedback,
    learn,
    outcome,
    route_call,
    service,
    vector,
)


def test_a_fact_published_twice_teaches_once():
    fold = Fold(SCHEMA, DIM)

    found = learn(
        fold,
        feedback("f", "m", 1.0),
        feedback("f", "m", 0.0),
        outcome("o", "m"),
        outcome("o", "m", tokens=9),
    )

    assert found == [Applied.LEARNED, Applied.DUPLICATE] * 2
    assert fold.learner.arms.updates == 1
    assert fold.sequence == 4


def test_deciding_and_learning_leave_the_features_that_are_kept_ready_as_they_are():
    fold = Fold(SCHEMA, DIM)
    features = vector(0.3, -0.7)
    kept = fold.learner.read(features)
    assert kept is not None
    before = kept.tobytes()

    learn(fold, *(feedback(str(i), "a", i % 2, features) for i in range(20)))
    service(card("a"), card("b"), fold=fold).route(route_call(features=features), NOW)

    assert fold.learner.read(features) is kept
    assert kept.tobytes() == before
    assert before == fold.learner.arms.design(np.frombuffer(features, "<f4")).tobytes()


def test_a_message_delivered_again_changes_nothing():
    fold = Fold(SCHEMA, DIM)
    learn(fold, feedback("f", "m", 1.0))
    before = fold.state_hash()

    assert fold.apply(1, feedback("g", "m", 0.0)) is Applied.BEHIND
    assert fold.apply_bytes(1, "lf.feedback.user", b"") is Applied.BEHIND
    assert fold.state_hash() == before


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        (feedback("f", "m", math.nan), Applied.SCORE),
        (feedback("f", "m", math.inf), Applied.SCORE),
        (feedback("f", "m", -0.1), Applied.SCORE),
        (feedback("f", "m", 1e300), Applied.SCORE),
        (feedback("f", "m", 1.0, weight=0.0), Applied.WEIGHT),
        (feedback("f", "m", 1.0, weight=math.nan), Applied.WEIGHT),
        (feedback("f", "m", 1.0, weight=2.0), Applied.WEIGHT),
        (feedback("f", "m", 1.0, schema="other.v9"), Applied.SCHEMA),
        (feedback("f", "m", 1.0, vector(dim=DIM + 1)), Applied.FEATURES),
        (feedback("f", "m", 1.0, b"odd"), Applied.FEATURES),
        (feedback("f", "m", 1.0, vector(math.nan)), Applied.FEATURES),
        (outcome("o", "m", status="error"), Applied.NOT_OK),
        (failure("o", "m", code="backend_refused"), Applied.NOT_OK),
        (failure("o", "m", total_s=-1.0), Applied.NUMBERS),
        (failure("o", "m", total_s=math.nan), Applied.NUMBERS),
        (outcome("o", "m", status="cancelled"), Applied.NOT_OK),
        (outcome("o", "m", tokens=-5), Applied.NUMBERS),
    ],
)
def test_what_cannot_be_learned_from_is_counted_and_leaves_the_learner_as_it_was(fact, expected):
    fold = Fold(SCHEMA, DIM)
    before = [part.tobytes() for part in fold.learner.arms.arrays()]

    assert learn(fold, fact) == [expected]

    assert fold.counts[expected] == 1
    assert [part.tobytes() for part in fold.learner.arms.arrays()] == before
    assert fold.learner.usage.lengths.entries() == []
    assert fold.learner.reliability.state() == ()


def test_an_outcome_counts_for_the_backend_that_reported_it_and_no_other():
    fold = Fold(SCHEMA, DIM)
    true = outcome("o", "m")
    forged = msgspec.structs.replace(true, zone="cloud", backend="x")

    assert fold.apply_bytes(1, "lf.outcome.cloud.x", true.encode()) is Applied.FOREIGN
    # Nor can one take the id of another's.
    assert fold.apply_bytes(2, "lf.outcome.cloud.x", forged.encode()) is Applied.LEARNED
    assert fold.apply_bytes(3, "lf.outcome.local.m-backend", true.encode()) is Applied.LEARNED
    assert fold.apply_bytes(4, "lf.outcome.local.m-backend.o", true.encode()) is Applied.DUPLICATE


def test_bytes_of_a_fact_are_decoded_and_others_counted_or_refused():
    fold = Fold(SCHEMA, DIM)

    assert fold.apply_bytes(3, "lf.feedback.user", feedback("f", "m", 1.0).encode()) == "learned"
    assert (
        fold.apply_bytes(5, "lf.outcome.local.m-backend", outcome("o", "m").encode()) == "learned"
    )
    assert fold.apply_bytes(6, "lf.outcome.local.b", b'{"type":"outcome_observed.v9"}') == (
        "undecodable"
    )
    assert fold.sequence == 6
    with pytest.raises(ValueError, match=r"lf\.decision\.x"):
        fold.apply_bytes(7, "lf.decision.x", b"{}")


def test_ids_are_forgotten_after_as_many_others():
    recent = RecentIds(capacity=2)

    assert [recent.add(i) for i in ("a", "b", "a", "c", "a")] == [True, True, False, True, True]
    assert len(recent.array()) == 2
    assert ids.REMEMBERED == 16_384


def random_facts(seed, count=200, models=5):
    rng = np.random.default_rng(seed)
    facts = []
    for index in range(count):
        model = f"m{rng.integers(models)}"
        if rng.random() < 0.5:
            x = rng.normal(size=DIM).astype("<f4").tobytes()
            facts.append(feedback(f"f{rng.integers(count)}", model, float(rng.random()), x))
        else:
            facts.append(outcome(f"o{index}", model, tokens=int(rng.integers(1, 500))))
    return facts


@pytest.mark.parametrize("cut", [0, 1, 77, 199, 200])
def test_a_restored_checkpoint_goes_on_exactly_like_the_uninterrupted_fold(cut):
    facts = random_facts(4)
    straight, first = Fold(SCHEMA, DIM), Fold(SCHEMA, DIM)
    learn(straight, *facts)
    learn(first, *facts[:cut])

    second = load(dump(first), SCHEMA, DIM)

    assert second.state_hash() == first.state_hash()
    assert second.sequence == cut
    learn(second, *facts[cut:])
    assert second.state_hash() == straight.state_hash()
    assert second.counts == straight.counts
    assert dump(second) == dump(straight)


def test_the_state_hash_tells_states_apart():
    hashes = set()
    for facts in ([], random_facts(5), random_facts(5)[:-1], random_facts(6)):
        fold = Fold(SCHEMA, DIM)
        learn(fold, *facts)
        hashes.add(fold.state_hash())

    assert len(hashes) == 4


def test_a_damaged_or_foreign_checkpoint_is_refused():
    fold = Fold(SCHEMA, DIM)
    learn(fold, *random_facts(7, 20))
    data = dump(fold)

    with pytest.raises(StateError, match=r"`feature_schema` is 'test\.v1'"):
        load(data, "other.v2", DIM)
    with pytest.raises(StateError, match="`dim` is 8"):
        load(data, SCHEMA, DIM + 1)
    with pytest.raises(StateError, match="not a checkpoint"):
        load(b"x" * 100, SCHEMA, DIM)
    with pytest.raises(StateError, match="cut off"):
        load(data[:5], SCHEMA, DIM)
    for damaged in (data[:-1], data[:500] + bytes([data[500] ^ 1]) + data[501:], data + b"\0"):
        with pytest.raises(StateError, match="damaged"):
            load(damaged, SCHEMA, DIM)


def small_prior():
    """A shipped prior for the features of these tests, which knows two models."""
    rng = np.random.default_rng(11)
    weights, by_level = rng.normal(0.0, 0.1, (2, 2, DIM))
    weights[:, 0] = by_level[:, 0] = 0.0
    return ShippedPrior(
        header=Header(feature_schema=SCHEMA, trained_from=DIM, models=("a", "gone")),
        digest="d" * 64,
        levels=np.array([0.8, 0.3]),
        weights=weights,
        by_level=by_level,
        rows={"a": 0, "gone": 1},
    )


PRIOR = small_prior()


def exported(prior):
    fold = Fold(SCHEMA, DIM, prior)
    learn(fold, *random_facts(9, 60))
    return export_learner(fold.learner, Ed25519PrivateKey.generate(), NOW)


FILES = (exported(None), exported(PRIOR))

numbers = st.one_of(st.floats(), st.floats(0, 1), st.sampled_from([0.0, 1.0, -0.0, 5e-324]))
names = st.sampled_from(["a", "b", "c", "gone", ""])
weights = st.one_of(st.just(1.0), numbers)
results = st.builds(
    CascadeResult,
    models=st.one_of(
        st.permutations(["a", "b", "c"]).map(tuple), st.just(("a", "a", "b")), st.tuples(names)
    ),
    qualities=st.one_of(
        st.tuples(*[st.floats(0, 1)] * 3), st.lists(numbers, max_size=4).map(tuple)
    ),
    beliefs=st.one_of(
        st.fixed_dictionaries({belief.value: st.floats(0, 1) for belief in Belief}),
        st.dictionaries(st.sampled_from(["agree", "agreed", "other"]), numbers),
    ),
    agreed=st.booleans(),
    compared=st.booleans(),
    delivered=names,
    same=st.lists(names, max_size=2).map(tuple),
)


def with_cascade(fact, result):
    return msgspec.structs.replace(fact, cascade=result)


imports = st.builds(
    StateImported,
    import_id=st.sampled_from([f"i{i}" for i in range(5)]),
    file=st.one_of(
        st.sampled_from(FILES), st.binary(max_size=40), st.just(FILES[0][:-100] + bytes(100))
    ),
)
verdicts_and_outcomes = st.one_of(
    st.builds(
        feedback,
        st.sampled_from([f"f{i}" for i in range(20)]),
        names,
        numbers,
        st.one_of(
            st.binary(min_size=4 * DIM, max_size=4 * DIM),
            st.binary(max_size=40),
            st.just(vector(1.0)),
        ),
        weight=weights,
        schema=st.sampled_from([SCHEMA, "other"]),
    ),
    st.builds(
        outcome,
        st.sampled_from([f"o{i}" for i in range(20)]),
        names,
        tokens=st.integers(-(2**63), 2**63 - 1),
        first_token_s=numbers,
        total_s=numbers,
        status=st.sampled_from(["ok", "error"]),
        domain=st.sampled_from(["", "code"]),
        finish_reason=st.sampled_from(["stop", "length"]),
    ),
)
facts = st.one_of(
    verdicts_and_outcomes,
    verdicts_and_outcomes,
    st.builds(with_cascade, verdicts_and_outcomes, results),
    imports,
)


def in_sequence(steps):
    """Facts with their stream sequence: mostly the next, some delivered again, with gaps."""
    return [
        (max(sequence, 1), fact)
        for sequence, (_, fact) in zip(
            itertools.accumulate(step for step, _ in steps), steps, strict=True
        )
    ]


steps = st.sampled_from([1, 1, 1, 1, 3, 0, -2])
streams = st.lists(st.tuples(steps, facts), max_size=40).map(in_sequence)
registered = st.lists(st.sampled_from(["a", "b", "c", "new"]), min_size=1, unique=True)


priors = st.sampled_from([None, PRIOR])
limits = st.one_of(st.just(0.0), st.sampled_from([1e-9, 1e-5, 1e-3, 0.5, 8.0]), st.floats(1e-6, 30))
vectors = st.binary(min_size=4 * DIM, max_size=4 * DIM)
cascades = st.fixed_dictionaries(
    {
        "features": vectors,
        "cascade": st.just(True),
        "max_cost_usd": st.just(0.0),
        "max_latency_s": st.just(0.0),
        "max_tokens": st.sampled_from([0, 16]),
        "preference": st.sampled_from(["", "quality", "cost=60,latency=0"]),
    }
)
plain = st.fixed_dictionaries(
    {
        "features": vectors,
        "max_cost_usd": limits,
        "max_latency_s": limits,
        "policy": st.sampled_from(["", "igw", "thompson", "linucb", "epsilon-greedy", "greedy"]),
        "in_tool_loop": st.booleans(),
        "preference": st.sampled_from(["", "cheap", "cost=60,latency=0", "fast,max_cost_usd=1e-4"]),
        "provider": st.one_of(
            st.none(),
            st.builds(
                ProviderRules, order=st.permutations(["a-backend", "b-backend", "x"]).map(tuple)
            ),
        ),
    }
)
asked = st.one_of(plain, plain, cascades)
PRICES = {"a": 1.0, "b": 0.2, "c": 40.0, "new": 0.0}


@settings(max_examples=250)
@given(streams, registered, st.floats(0, 1), priors, asked)
def test_no_stream_of_facts_leaves_the_router_unable_to_choose(stream, models, floor, prior, call):
    fold = Fold(SCHEMA, DIM, prior)
    for sequence, fact in stream:
        fold.apply(sequence, fact)
    config = Config(router=RouterConfig(exploration_floor=floor, seed=1))
    cards = (card(name, price_in=PRICES[name], price_out=2 * PRICES[name]) for name in models)
    router = service(*cards, fold=fold, config=config)

    try:
        decision = router.route(route_call(**call), NOW).decision
    except RequestRefused:
        # Only limits can leave nothing: each model is over one of them.
        free = route_call(**call | {"max_cost_usd": 0.0, "max_latency_s": 0.0, "preference": ""})
        dollars = min((x for x in (call["max_cost_usd"], 1e-4) if x), default=0.0)
        if "max_cost_usd" not in call["preference"]:
            dollars = call["max_cost_usd"]
        for c in router.route(free, NOW).decision.candidates:
            assert 0 < dollars < c.cost_usd or 0 < call["max_latency_s"] < c.latency_s
        return

    candidates = {c.model: c for c in decision.candidates}
    excluded = {e.model: e.reason for e in decision.exclusions}
    assert candidates.keys() | excluded.keys() == set(models)
    assert set(excluded.values()) <= {"price", "latency"}
    # A model that is asked twice stands there twice.
    assert set(decision.plan) == candidates.keys()
    assert list(wrong_with_draw(decision)) == []
    tier = min(c.tier for c in decision.candidates)
    drawn = [c.probability for c in decision.candidates if c.tier == tier]
    if decision.explore and decision.cascade is None:
        assert min(drawn) >= min(floor, 1 / len(drawn))
    for c in decision.candidates:
        assert 0.0 <= c.quality <= 1.0
        figures = (c.quality_std, c.cost_usd, c.cost_std, c.latency_s, c.latency_std)
        assert all(math.isfinite(figure) and figure >= 0.0 for figure in figures)
        assert math.isfinite(c.utility)
        assert not 0 < call["max_cost_usd"] < c.cost_usd
        assert not 0 < call["max_latency_s"] < c.latency_s
    # Every number survives the log, and the decision is made again from what is in it.
    logged = type(decision).decode(decision.encode())
    assert logged == decision
    assert redecide(logged, fold.learner) == decision


@settings(max_examples=60)
@given(streams, st.integers(0, 40), priors)
def test_a_checkpoint_anywhere_changes_nothing(stream, cut, prior):
    straight, first = Fold(SCHEMA, DIM, prior), Fold(SCHEMA, DIM, prior)
    for sequence, fact in stream:
        straight.apply(sequence, fact)
    for sequence, fact in stream[:cut]:
        first.apply(sequence, fact)
    second = load(dump(first), SCHEMA, DIM, prior)
    for sequence, fact in stream[cut:]:
        second.apply(sequence, fact)

    assert second.state_hash() == straight.state_hash()
