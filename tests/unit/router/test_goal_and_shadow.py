"""The goal's cost weight in decisions, and the policy in shadow."""

import msgspec
import pytest

from localforge.audit.shadow import ShadowComparison
from localforge.bandit import Fold, complete, redecide
from localforge.bandit.goal import CONTROLLER, PER_THOUSAND, Goal, GoalController, forecasts_of
from localforge.config import Config
from localforge.config.sections import GoalConfig, RouterConfig, ShadowConfig
from localforge.contracts import subjects
from localforge.contracts.openrouter import ProviderRules
from localforge.router.companions import Companions
from localforge.router.service import RouterService
from localforge.router.shadow import Shadow
from tests.routing import DIM, NOW, SCHEMA, View, card, feedback, route_call, service, snapshot

CARDS = (card("a", price_in=0.1, quality_prior=0.6), card("b", price_in=9.0, quality_prior=0.9))


def keeping(goal):
    controller = GoalController(goal)
    fold = Fold(SCHEMA, DIM)
    companions = Companions()
    companions.goal = controller
    router = RouterService(Config(), View(snapshot(*CARDS)), fold, companions=companions)
    return controller, router


def test_a_limit_on_spending_is_added_to_every_preference_and_recorded():
    controller, router = keeping(Goal(spend_usd=1.0, per=PER_THOUSAND))
    for preference, cost in (("", 20.0), ("cheap", 200.0)):
        decision = router.route(route_call(preference=preference), NOW).decision

        assert decision.cost_weight == cost + controller.shadow_price
        assert decision.shadow_price == controller.shadow_price
        assert decision.goal == "spend 1 USD per 1000 requests"
        assert redecide(decision, router.fold.learner) == decision


def test_a_goal_for_quality_decides_only_where_nobody_stated_a_preference():
    controller, router = keeping(Goal(max_loss=0.03))
    unstated = router.route(route_call(), NOW)
    stated = router.route(route_call(preference="cheap"), NOW)

    assert unstated.decision.cost_weight == controller.shadow_price
    assert unstated.execute.forecasts == forecasts_of(unstated.decision)
    assert unstated.decision.goal_controller == CONTROLLER
    assert (stated.decision.cost_weight, stated.decision.goal) == (200.0, "")
    assert stated.execute.forecasts == {}


def test_a_goal_for_quality_leaves_out_who_names_a_policy():
    """Its draws are not the goal's, and must not move the price that everybody pays."""
    _, router = keeping(Goal(max_loss=0.05))

    assert router.route(route_call(), NOW).decision.goal
    assert not router.route(route_call(policy="epsilon-greedy"), NOW).decision.goal


def test_a_goal_is_told_only_of_the_models_that_a_price_could_have_chosen():
    _, router = keeping(Goal(max_loss=0.03))
    routed = router.route(route_call(provider=ProviderRules(order=("a-backend",))), NOW)

    assert [c.tier for c in routed.decision.candidates] == [0, 1]
    assert [c.model for c in routed.decision.candidates] == ["a", "b"]
    assert list(routed.execute.forecasts) == ["a"]


def test_the_goal_is_the_one_configured():
    assert Goal.from_config(GoalConfig()) is None
    assert Goal.from_config(GoalConfig(spend_usd=2, per="hour")) == Goal(spend_usd=2, per="hour")
    assert str(Goal.from_config(GoalConfig(min_quality=0.8))) == "quality of at least 0.8"


def decide(config, **call):
    router = service(*CARDS, config=config)
    return router.route(route_call(**call), NOW).decision, router.fold.learner


def test_a_shadow_like_the_live_policy_does_the_same():
    config = Config(router=RouterConfig(shadow=ShadowConfig(enabled=True)))
    for number in range(20):
        live, learner = decide(config, request_id=f"r{number}")
        found = Shadow(config.router).decide(live, learner, live.state_sequence)

        assert found.chosen == found.live == live.chosen
        assert found.policy_hash == live.policy_hash
        assert found.probabilities == {c.model: c.probability for c in live.candidates}


def test_a_shadow_has_its_own_parameters_and_leaves_the_live_record_alone():
    shadow = ShadowConfig(enabled=True, policy="greedy", gamma=50, seed=7, preference="quality")
    config = Config(router=RouterConfig(shadow=shadow))
    live, learner = decide(config)
    found = Shadow(config.router).decide(live, learner, 5)

    assert (found.gamma, found.seed, found.state_sequence) == (50, 7, 5)
    assert found.policy.startswith("greedy.")
    assert found.cost_weight == 0.5
    assert found.policy_hash != live.policy_hash
    assert max(found.probabilities.values()) == 1.0
    assert live.gamma == 25
    again = complete(live, learner)
    assert again == live


def test_a_shadow_does_not_overrule_what_a_request_stated():
    config = Config(router=RouterConfig(shadow=ShadowConfig(enabled=True, preference="quality")))
    live, learner = decide(config, preference="cheap")

    assert Shadow(config.router).decide(live, learner, 0).cost_weight == 200


def test_a_share_of_the_requests_is_shadowed_always_the_same():
    config = Config(router=RouterConfig(shadow=ShadowConfig(enabled=True, share=0.3)))
    live, learner = decide(config)
    shadow = Shadow(config.router)

    def taken(number):
        record = msgspec.structs.replace(live, decision_id=f"d{number}")
        return shadow.decide(record, learner, 0) is not None

    found = [taken(number) for number in range(500)]
    assert 0.2 < sum(found) / 500 < 0.4
    assert found[:50] == [taken(number) for number in range(50)]


@pytest.mark.parametrize("shadow_first", [False, True])
def test_the_comparison_pairs_records_in_any_order(shadow_first):
    config = Config(
        router=RouterConfig(
            policy="epsilon-greedy",
            shadow=ShadowConfig(enabled=True, policy="greedy", preference="quality"),
        )
    )
    comparison = ShadowComparison()
    differ = 0
    for number in range(60):
        live, learner = decide(config, request_id=f"r{number}")
        shadow = Shadow(config.router).decide(live, learner, 0)
        differ += live.chosen != shadow.chosen
        messages = [
            (subjects.decision(live.decision_id), live.encode()),
            (subjects.shadow_decision(live.decision_id), shadow.encode()),
        ]
        for subject, data in reversed(messages) if shadow_first else messages:
            comparison.feed(number, subject, data)
        comparison.feed(
            number, "lf.feedback.user", feedback(f"r{number}", live.chosen, 1.0).encode()
        )
        comparison.feed(number, "lf.decision.broken", b"{")
    report = comparison.finish()

    assert (report.decisions, report.compared, report.differ) == (60, 60, differ)
    assert 0 < differ < 60
    assert sum(pair.decisions for pair in report.pairs) == differ
    assert report.shadow.quality > report.live.quality
    assert report.shadow.cost_usd > report.live.cost_usd
    assert report.score_agreed == report.score_differed == 1.0
