"""Which models may answer, and the refusal when none may."""

import msgspec
import pytest

from localforge.bandit import (
    Registry,
    Requirements,
    filter_models,
    refuse_ambiguous,
    refuse_empty,
    spare,
)
from localforge.contracts.cards import BreakerState, Capability, Health
from localforge.contracts.trust import Label
from localforge.errors import RequestRefused
from tests.routing import NOW, card, snapshot

TOOLS = Capability.TOOLS


def requirements(**changes):
    given = {
        "zones": frozenset({"local"}),
        "label": Label.INTERNAL,
        "needs": frozenset(),
        "prompt_tokens": 100,
        **changes,
    }
    return Requirements(**given)


def changed_replica(shot, backend, **changes):
    replica = msgspec.structs.replace(shot.replicas[backend], **changes)
    return msgspec.structs.replace(shot, replicas={**shot.replicas, backend: replica})


def reasons(shot, required=None, now=NOW):
    registry = Registry(shot, heartbeat_timeout_s=6)
    found = filter_models(registry, registry.cards, required or requirements(), now)
    return {e.model: e.reason for e in found.exclusions}


def test_every_reason_is_recorded_and_the_rest_is_eligible():
    shot = snapshot(
        card("fine"),
        card("off", enabled=False),
        card("away", zone="cloud"),
        card("small", context_tokens=110),
        card("silent"),
        card("down"),
        card("plain", capabilities=frozenset()),
    )
    shot = changed_replica(shot, "silent-backend", sent_at=NOW - 7)
    shot = changed_replica(shot, "down-backend", health=Health.DOWN, detail="no weights")

    registry = Registry(shot, 6)
    found = filter_models(registry, registry.cards, requirements(), NOW)

    assert [c.name for c, _ in found.models] == ["fine", "plain"]
    assert {e.model: e.reason for e in found.exclusions} == {
        "off": "disabled",
        "away": "zone",
        "small": "context",
        "silent": "health",
        "down": "health",
    }
    details = {e.model: e.detail for e in found.exclusions}
    assert "no weights" in details["down"]
    assert "7.0 s ago" in details["silent"]
    assert "cloud" in details["away"]


def test_a_lacking_capability_is_named():
    able = frozenset(Capability) - {Capability.EMBEDDINGS}
    shot = snapshot(card("able", capabilities=able), card("plain"))
    registry = Registry(shot, 6)
    found = filter_models(registry, registry.cards, requirements(needs=frozenset({TOOLS})), NOW)

    assert [(e.model, e.reason, e.detail) for e in found.exclusions] == [
        ("plain", "capability", "lacks tools")
    ]


def test_embedding_models_embed_and_others_do_not():
    embeds = frozenset({Capability.EMBEDDINGS})
    shot = snapshot(card("vectors", capabilities=embeds, context_tokens=100), card("talker"))

    assert reasons(shot) == {"vectors": "context"}
    assert reasons(shot, requirements(prompt_tokens=50)) == {"vectors": "capability"}
    # No room for an answer is needed.
    assert reasons(shot, requirements(needs=embeds, prompt_tokens=100)) == {"talker": "capability"}


def test_vectors_are_only_interchangeable_when_the_backends_name_the_same_model():
    embeds = frozenset({Capability.EMBEDDINGS})
    here = card("here", capabilities=embeds, upstream="bge")
    there = card("there", capabilities=embeds, upstream="bge")
    other = card("other", capabilities=embeds)

    refuse_ambiguous([here, there, card("talker")])
    refuse_ambiguous([here, msgspec.structs.replace(other, enabled=False)])
    with pytest.raises(RequestRefused, match=r"\(here, other\)") as error:
        refuse_ambiguous([here, there, other])
    assert error.value.code == "ambiguous_model"


def test_the_answer_must_fit_too():
    shot = snapshot(card("m", context_tokens=1000, max_output_tokens=200))

    assert reasons(shot, requirements(prompt_tokens=800, max_tokens=200)) == {}
    assert reasons(shot, requirements(prompt_tokens=801, max_tokens=200)) == {"m": "context"}
    assert reasons(shot, requirements(prompt_tokens=10, max_tokens=201)) == {"m": "context"}
    assert reasons(shot, requirements(prompt_tokens=990)) == {"m": "context"}


def test_old_heartbeats_do_not_count_while_the_registry_is_away():
    shot = snapshot(card("m"))

    assert reasons(shot, now=NOW + 3600) == {"m": "health"}
    assert reasons(msgspec.structs.replace(shot, fresh=False), now=NOW + 3600) == {}


def test_a_replica_counts_until_it_is_silent_for_too_long_and_the_rest_goes_on():
    shot = snapshot(card("m"))
    first = msgspec.structs.replace(shot.replicas["m-backend"], slots=2, in_flight=2)
    late = msgspec.structs.replace(first, replica="late", sent_at=NOW - 4, slots=1, in_flight=0)
    shot = msgspec.structs.replace(shot, replicas={"m-backend": first, "late": late})
    registry = Registry(shot, heartbeat_timeout_s=6)
    both, alone, none = ("late", "m-backend"), ("m-backend",), ()
    # Clocks may be set back.
    moments = ((0, both), (2, both), (2.5, alone), (6, alone), (6.5, none), (3, alone), (1, both))

    for later_s, live in moments:
        found = registry.backend("m-backend", NOW + later_s)

        assert tuple(replica.replica for replica in found.live) == live
        if live:
            offer = registry.offer(shot.cards["m"], found)
            assert (offer.queue_depth, offer.hour_share) == (found.queue_depth, found.hour_share)
            assert offer.queue_depth == (0.0 if live == both else 0.5)
        else:
            assert found.detail.endswith(f"last heard of {later_s:.1f} s ago")


def test_a_replica_that_serves_other_models_does_not_count():
    shot = changed_replica(snapshot(card("m")), "m-backend", models=("other",))

    assert reasons(shot) == {"m": "health"}
    assert reasons(changed_replica(shot, "m-backend", models=("m",))) == {}

    other = shot.replicas["m-backend"]
    beside = msgspec.structs.replace(other, replica="beside", models=("m",))
    unnamed = msgspec.structs.replace(other, replica="beside", models=())
    for replica in (beside, unnamed):
        assert reasons(msgspec.structs.replace(shot, replicas={"a": other, "b": replica})) == {}


@pytest.mark.parametrize(("in_flight", "expected"), [(0, 0.0), (3, 0.0), (4, 0.25), (11, 2.0)])
def test_queue_depth_is_requests_ahead_per_slot(in_flight, expected):
    shot = changed_replica(snapshot(card("m")), "m-backend", in_flight=in_flight)

    assert Registry(shot, 6).backend("m-backend", NOW).queue_depth == expected


@pytest.mark.parametrize(
    ("cards", "silent", "status"),
    [
        ([card("a", zone="cloud")], (), 403),
        ([card("a", zone="cloud")], ("a",), 403),
        ([card("a", zone="cloud"), card("b", context_tokens=10)], (), 403),
        ([card("a", zone="cloud"), card("b")], ("b",), 503),
        ([card("a", context_tokens=10)], (), 400),
        ([card("a", zone="cloud", context_tokens=10)], (), 400),
        ([card("a", enabled=False)], (), 503),
        ([], (), 503),
    ],
)
def test_the_status_of_a_refusal_says_what_would_help(cards, silent, status):
    shot = snapshot(*cards)
    for name in silent:
        shot = changed_replica(shot, f"{name}-backend", sent_at=NOW - 100)
    registry = Registry(shot, 6)
    found = filter_models(registry, registry.cards, requirements(), NOW)
    assert not found.models

    refused = refuse_empty(registry, registry.cards, requirements(), NOW, found.exclusions)

    assert (refused.status, refused.code) == (status, "no_eligible_model")
    for exclusion in found.exclusions:
        assert f"{exclusion.model}: {exclusion.reason}" in refused.message


def test_a_backend_whose_breakers_are_all_open_is_left_out_with_the_reason():
    shot = snapshot(card("tripped"), card("well"))
    shot = changed_replica(shot, "tripped-backend", breaker=BreakerState.OPEN)
    registry = Registry(shot, 6)

    found = filter_models(registry, registry.cards, requirements(), NOW)
    alone = [c for c in registry.cards if c.name == "tripped"]
    refused = refuse_empty(registry, alone, requirements(), NOW, found.exclusions)

    assert [(e.model, e.reason) for e in found.exclusions] == [("tripped", "breaker")]
    assert (refused.status, refused.retry_after_s) == (503, 1.0)


def test_a_half_open_breaker_keeps_its_backend_in():
    shot = changed_replica(snapshot(card("trial")), "trial-backend", breaker=BreakerState.HALF_OPEN)

    assert reasons(shot) == {}


def test_a_backend_whose_executor_was_lost_is_taken_only_where_nothing_else_is():
    registry = Registry(snapshot(card("lost"), card("well")), 6)
    both = filter_models(registry, registry.cards, requirements(), NOW)

    spared = spare(both, ["lost-backend"])
    last = spare(both, ["lost-backend", "well-backend"])

    assert [c.name for c, _ in spared.models] == ["well"]
    assert [(e.model, e.reason) for e in spared.exclusions] == [("lost", "health")]
    assert last == spare(both, []) == both
