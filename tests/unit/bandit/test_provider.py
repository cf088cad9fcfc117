"""OpenRouter's `provider` object as rules of eligibility."""

import msgspec
import pytest

from localforge.bandit import Fold
from localforge.config import BackendConfig, Config
from localforge.contracts.openrouter import MaxPrice, ProviderObject, ProviderRules
from localforge.errors import RequestRefused
from localforge.router.service import RouterService
from tests.routing import (
    DIM,
    NOW,
    SCHEMA,
    View,
    card,
    probabilities,
    route_call,
    service,
    snapshot,
)

CARDS = (
    card("a", price_in=1.0, price_out=2.0),
    card("b", zone="cloud", price_in=5.0, price_out=10.0, quality_prior=0.9),
    card("c", zone="cloud", price_in=0.1, price_out=0.2),
)


def route(rules, *cards, config=None, **call):
    call = {"zones": ("local", "cloud"), "provider": ProviderRules(**rules), **call}
    return service(*(cards or CARDS), config=config).route(route_call(**call), NOW)


def reasons(routed):
    return {e.model: e.reason for e in routed.decision.exclusions}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, {}),
        ({"only": ("A-backend", "c-backend")}, {"b": "provider"}),
        ({"only": ("cloud",)}, {"a": "provider"}),
        ({"ignore": ("cloud",)}, {"b": "provider", "c": "provider"}),
        ({"data_collection": "allow"}, {}),
        ({"data_collection": "deny"}, {"b": "data_collection", "c": "data_collection"}),
        ({"zdr": True}, {"b": "data_collection", "c": "data_collection"}),
        ({"max_price": MaxPrice(prompt=1.0)}, {"b": "max_price"}),
        ({"max_price": MaxPrice(completion=1.0)}, {"a": "max_price", "b": "max_price"}),
        ({"order": ("c-backend",), "allow_fallbacks": False}, {"a": "provider", "b": "provider"}),
        ({"require_parameters": True}, {}),
    ],
)
def test_each_rule_excludes_with_a_reason(rules, expected):
    assert reasons(route(rules)) == expected


def test_the_order_is_asked_first_and_the_others_follow():
    for number in range(30):
        routed = route({"order": ("c-backend", "unknown", "local")}, request_id=f"r{number}")

        assert routed.decision.plan == ("c", "a", "b")
        assert probabilities(routed.decision) == {"a": 0.0, "b": 0.0, "c": 1.0}


def test_a_provider_of_several_models_leaves_the_choice_among_them():
    routed = route({"order": ("cloud",)})

    found = probabilities(routed.decision)
    assert found["a"] == 0
    assert found["b"] > 0
    assert found["c"] > 0
    assert sum(found.values()) == pytest.approx(1)


def test_without_fallbacks_the_plan_has_one_step_unless_there_is_an_order():
    assert len(route({"allow_fallbacks": False}).execute.plan) == 1
    ordered = route({"allow_fallbacks": False, "order": ("local", "c-backend")})
    assert [target.model for target in ordered.execute.plan] == ["a", "c"]


@pytest.mark.parametrize(
    ("sort", "preference"), [("price", "cheap"), ("throughput", "fast"), ("latency", "fast")]
)
def test_a_sort_is_a_preference_unless_the_request_states_one(sort, preference):
    decision = route({"sort": sort}).decision

    assert (decision.preference, decision.preference_stated) == (preference, True)
    assert decision.cost_weight == Config().router.weights(preference).cost
    assert route({"sort": sort}, preference="quality").decision.preference == "quality"


def test_rules_that_leave_nobody_are_refused_with_every_reason():
    with pytest.raises(RequestRefused, match=r"a: provider .*b: provider .*c: provider") as caught:
        route({"only": ("Together",)})

    assert (caught.value.status, caught.value.param) == (400, "provider")


def test_a_name_that_nobody_has_cannot_be_ignored():
    known = "a-backend, b-backend, c-backend, cloud, local"

    with pytest.raises(RequestRefused, match=f"is called 'opneai'; known: {known}$") as caught:
        route({"ignore": ("Cloud", "opneai")})

    assert (caught.value.status, caught.value.param) == (400, "provider.ignore")


def test_a_backend_without_a_model_at_the_moment_may_be_ignored():
    backend = BackendConfig(name="d", kind="ollama", zone="garage")

    routed = route({"ignore": ("D", "garage", "local")}, config=Config(backends=(backend,)))

    assert reasons(routed) == {"a": "provider"}


@pytest.mark.parametrize(
    "at_openrouter",
    [{"url": "https://openrouter.ai/api/v1"}, {"url": "http://proxy/v1", "vendor": "openrouter"}],
)
def test_with_a_backend_at_openrouter_its_providers_may_be_ignored(at_openrouter):
    backend = BackendConfig(name="d", kind="openai", zone="cloud", **at_openrouter)

    routed = route({"ignore": ("deepinfra",)}, config=Config(backends=(backend,)))

    assert reasons(routed) == {}


def test_rules_cannot_widen_the_zones():
    with pytest.raises(RequestRefused):
        route({"only": ("cloud",)}, zones=("local",))


def test_what_a_client_writes_is_strict_and_what_travels_is_not():
    with pytest.raises(msgspec.ValidationError, match="privacy"):
        msgspec.json.decode(b'{"privacy": "max"}', type=ProviderObject)
    newer = msgspec.msgpack.encode({"order": ["x"], "max_price": {"prompt": 1, "new": 2}, "new": 3})

    travelled = msgspec.msgpack.decode(newer, type=ProviderRules)

    assert travelled == ProviderRules(order=("x",), max_price=MaxPrice(prompt=1))


def test_backends_known_to_be_slower_than_wished_come_after_all_others():
    speeds = {"a-backend": (20.0, 0.2), "b-backend": (80.0, 3.0), "c-backend": (0.0, 0.0)}

    def tiers(**rules):
        known = snapshot(*CARDS)
        replicas = {
            name: msgspec.structs.replace(
                replica, tokens_per_s=speeds[name][0], first_token_s=speeds[name][1]
            )
            for name, replica in known.replicas.items()
        }
        found = msgspec.structs.replace(known, replicas=replicas)
        router = RouterService(Config(), View(found), Fold(SCHEMA, DIM))
        call = route_call(zones=("local", "cloud"), provider=ProviderRules(**rules))
        decision = router.route(call, NOW).decision
        return {candidate.model: candidate.tier for candidate in decision.candidates}

    assert tiers() == {"a": 0, "b": 0, "c": 0}
    assert tiers(min_tokens_per_s=50.0) == {"a": 1, "b": 0, "c": 0}
    assert tiers(max_first_token_s=1.0) == {"a": 0, "b": 1, "c": 0}
    assert tiers(min_tokens_per_s=50.0, max_first_token_s=1.0) == {"a": 1, "b": 1, "c": 0}
    # Within an order, and behind all of it.
    assert tiers(order=("a-backend",), min_tokens_per_s=50.0) == {"a": 2, "b": 1, "c": 1}
