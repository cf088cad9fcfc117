"""The router's logic: what is asked for, what it is worth, what is run."""

import msgspec
import pytest

from localforge.bandit import Fold
from localforge.bandit.parameters import VERSION
from localforge.config import Config, PolicyConfig
from localforge.config.sections import RouterConfig
from localforge.contracts.cards import Capability, RegistrySnapshot
from localforge.contracts.facts import DecisionMade
from localforge.contracts.trust import Label
from localforge.errors import RequestRefused
from localforge.router.service import RouterService
from tests.routing import DIM, NOW, SCHEMA, View, card, probabilities, route_call, service, snapshot

CHEAP_AND_STRONG = (
    card("cheap", price_in=0.1, price_out=0.1, quality_prior=0.6),
    card("strong", price_in=20.0, price_out=60.0, quality_prior=0.8),
)


def test_the_execution_carries_the_plan_and_what_learning_needs():
    call = route_call(features=b"\1" * 32, max_tokens=50, domain="code")

    routed = service(*CHEAP_AND_STRONG).route(call, NOW)

    execute, decision = routed.execute, routed.decision
    assert [t.model for t in execute.plan] == list(decision.plan)
    assert execute.target.model == decision.chosen
    assert execute.propensity == decision.propensity
    assert (execute.call, execute.seal) == (call.call, call.seal)
    assert (execute.domain, execute.max_tokens, execute.prompt_tokens) == ("code", 50, 100)


def test_without_fallback_the_plan_is_the_chosen_model_alone():
    routed = service(*CHEAP_AND_STRONG).route(route_call(allow_fallback=False), NOW)

    assert [t.model for t in routed.execute.plan] == [routed.decision.chosen]
    assert len(routed.decision.plan) == 2


def test_a_dry_run_decides_and_runs_nothing():
    router = service(*CHEAP_AND_STRONG)

    dry = router.route(route_call(dry_run=True), NOW)

    assert dry.execute is None
    assert dry.decision == router.route(route_call(), NOW).decision


def test_an_attempt_has_a_decision_of_its_own():
    router = service(card("a"))

    assert router.route(route_call("r", attempt=0), NOW).decision.decision_id == "r"
    assert router.route(route_call("r", attempt=2), NOW).decision.decision_id == "r-2"


@pytest.mark.parametrize("name", ["cheap", "thrifty"])
def test_a_concrete_name_or_alias_bypasses_the_choice(name):
    config = Config(aliases={"thrifty": "cheap", "smart": "auto"})
    router = service(*CHEAP_AND_STRONG, config=config)

    found = router.route(route_call(model=name), NOW).decision

    assert (found.chosen, found.plan, found.propensity) == ("cheap", ("cheap",), 1.0)
    assert (found.requested_model, found.explore) == (name, False)
    assert len(router.route(route_call(model="smart"), NOW).decision.candidates) == 2


def test_a_concrete_name_does_not_bypass_the_policy():
    router = service(card("remote", zone="cloud"), card("near"))

    with pytest.raises(RequestRefused) as caught:
        router.route(route_call(model="remote", label=Label.RESTRICTED), NOW)

    assert (caught.value.status, caught.value.code) == (403, "no_eligible_model")
    assert "zone cloud; label restricted allows local" in caught.value.message


def test_an_unknown_model_is_not_found_and_the_known_ones_are_named():
    with pytest.raises(RequestRefused, match="known: auto, cheap, strong") as caught:
        service(*CHEAP_AND_STRONG).route(route_call(model="gpt-9"), NOW)

    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("zones", "seal_zones"),
    [(("local",), ("local", "cloud")), (("local", "cloud"), ("local",)), (("local",), ("local",))],
)
def test_no_plan_leaves_the_zones_that_profile_and_seal_both_allow(zones, seal_zones):
    router = service(card("far", zone="cloud", quality_prior=1.0), card("near", quality_prior=0.0))
    for index in range(50):
        call = route_call(f"r{index}", zones=zones, seal_zones=seal_zones)

        routed = router.route(call, NOW)

        assert {t.zone for t in routed.execute.plan} == {"local"}
        assert routed.decision.zones == ("local",)


def test_a_seal_older_than_the_policy_does_not_widen_it():
    zones = {Label.PUBLIC: ("*",), Label.INTERNAL: ("local",)}
    tight = Config(policy=PolicyConfig(zones=zones))
    router = service(card("far", zone="cloud"), card("near"), config=tight)
    sealed = ("cloud", "local")

    routed = router.route(route_call(zones=sealed), NOW)
    assert (routed.decision.zones, routed.decision.plan) == (("local",), ("near",))
    with pytest.raises(RequestRefused) as caught:
        router.route(route_call(zones=sealed, model="far"), NOW)
    assert (caught.value.status, caught.value.code) == (403, "no_eligible_model")
    public = route_call(zones=sealed, model="far", label=Label.PUBLIC)
    assert router.route(public, NOW).decision.zones == sealed


def test_no_zone_at_all_refuses_everything():
    with pytest.raises(RequestRefused) as caught:
        service(card("near")).route(route_call(zones=()), NOW)

    assert caught.value.status == 403


def test_capabilities_and_context_of_the_request_are_required():
    router = service(card("plain"), card("able", capabilities=frozenset({Capability.TOOLS})))

    found = router.route(route_call(needs=frozenset({Capability.TOOLS})), NOW).decision

    assert found.chosen == "able"
    with pytest.raises(RequestRefused, match="do not fit") as caught:
        router.route(route_call(prompt_tokens=9000), NOW)
    assert caught.value.status == 400


def test_the_requests_preference_wins_over_the_configured_one():
    router = service(*CHEAP_AND_STRONG, config=Config())

    by_default = router.route(route_call(), NOW).decision
    asked = router.route(route_call(preference="quality"), NOW).decision

    assert (by_default.preference, asked.preference) == ("balanced", "quality")
    assert probabilities(asked)["strong"] > 0.5 > probabilities(by_default)["strong"]


@pytest.mark.parametrize(
    ("configured", "asked", "wanted"),
    [
        (False, {}, False),
        (False, {"cascade": True}, True),
        (True, {}, True),
        (True, {"cascade": False}, False),
        (("cheap",), {"preference": "cheap"}, True),
        (("cheap",), {"preference": "cheap,latency=0.5"}, True),
        (("cheap",), {"preference": "quality"}, False),
        (("cheap",), {}, False),
        (("balanced",), {}, True),
        (("cheap",), {"preference": "quality", "cascade": True}, True),
        (("cheap",), {"preference": "cheap", "cascade": False}, False),
    ],
)
def test_a_cascade_is_as_the_request_says_then_as_its_preference_is_configured(
    configured, asked, wanted
):
    config = Config(router=RouterConfig(cascade=configured))
    router = service(*CHEAP_AND_STRONG, config=config)

    assert router.route(route_call(**asked), NOW).decision.cascade_wanted is wanted


@pytest.mark.parametrize("name", ["greedy", "epsilon-greedy", "thompson", "linucb", "igw"])
def test_the_policy_that_a_request_names_decides_it(name):
    config = Config(router=RouterConfig(exploration_floor=0.0, width=0.4))
    router = service(*CHEAP_AND_STRONG, config=config)

    usual = router.route(route_call(), NOW).decision
    made = router.route(route_call(policy=name), NOW).decision

    assert (usual.policy, usual.policy_stated) == (f"matching.{VERSION}", False)
    assert (made.policy, made.policy_stated) == (f"{name}.{VERSION}", True)
    assert made.policy_hash != usual.policy_hash
    expected = {"greedy": [0.0, 1.0], "linucb": [0.0, 1.0], "epsilon-greedy": [0.2, 0.8]}
    shares = sorted(probabilities(made).values())
    assert shares == pytest.approx(expected.get(name, shares))
    assert shares != pytest.approx(sorted(probabilities(usual).values()))


def test_no_cascade_by_default_for_a_request_that_names_its_policy():
    router = service(*CHEAP_AND_STRONG, config=Config(router=RouterConfig(cascade=True)))

    assert not router.route(route_call(policy="greedy"), NOW).decision.cascade_wanted
    asked = route_call(policy="greedy", cascade=True)
    assert router.route(asked, NOW).decision.cascade_wanted


@pytest.mark.parametrize(("name", "says"), [("best", "matching, igw"), ("static", "router.static")])
def test_a_policy_that_cannot_decide_is_refused_with_what_to_do(name, says):
    with pytest.raises(RequestRefused) as caught:
        service(*CHEAP_AND_STRONG).route(route_call(policy=name), NOW)

    assert (caught.value.status, caught.value.param) == (400, "policy")
    assert says in caught.value.message


def test_the_decision_names_the_key_that_may_read_it():
    routed = service(*CHEAP_AND_STRONG).route(route_call(key_id="web"), NOW)

    assert routed.decision.key_id == "web"


def test_a_limit_that_no_model_keeps_is_a_refusal_that_names_it():
    with pytest.raises(RequestRefused, match="max_cost_usd") as caught:
        service(card("dear", price_out=100.0)).route(
            route_call(preference="quality,max_cost_usd=0.0001"), NOW
        )

    assert (caught.value.status, caught.value.code) == (400, "no_eligible_model")


def test_time_is_worth_less_to_who_waits_for_no_token_unless_a_preference_says_otherwise():
    router = service(card("a"))

    def price(**call):
        return router.route(route_call(**call), NOW).decision.latency_weight

    assert price(latency_tolerance=1.0) == 0.0
    assert price(latency_tolerance=0.5) == pytest.approx(price() / 2)
    assert price(latency_tolerance=1.0, preference="balanced") == price()


def test_a_changed_registry_serves_the_next_decision():
    router = service(card("a"))
    view = View(snapshot(card("b"), version=2))
    router._source = view

    found = router.route(route_call(), NOW).decision

    assert (found.chosen, found.registry_version) == ("b", 2)


def test_the_registry_going_away_changes_nothing():
    router = service(card("a"))
    router._source = View(msgspec.structs.replace(snapshot(card("a")), fresh=False))

    assert router.route(route_call(), NOW + 3600).decision.chosen == "a"


@pytest.mark.parametrize("model", ["auto", "claude"])
def test_while_the_registry_was_never_read_no_model_is_said_to_be_unknown(model):
    router = RouterService(Config(), View(RegistrySnapshot()), Fold(SCHEMA, DIM))

    with pytest.raises(RequestRefused, match="cannot be read yet") as caught:
        router.route(route_call(model=model), NOW)

    assert (caught.value.status, caught.value.code) == (503, "registry_unavailable")
    assert caught.value.retry_after_s == 1.0


def test_an_empty_registry_says_what_to_do():
    with pytest.raises(RequestRefused, match="no model is registered") as caught:
        service().route(route_call(), NOW)

    assert caught.value.status == 503


def test_figures_that_are_nothing_are_left_out_of_the_record():
    decision = service(card("a"), card("b")).route(route_call(), NOW).decision

    record = decision.encode()

    for name in (b"queue_depth", b"usd_per_hour", b"shadow_price", b"exploration_floor"):
        assert name not in record
    assert DecisionMade.decode(record) == decision
