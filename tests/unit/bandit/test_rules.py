"""Models that the configuration appoints: a static split, and rules over the request."""

import msgspec
import pytest

from localforge.audit import replay
from localforge.audit.counterfactual import Counterfactual
from localforge.audit.policies import TargetPolicy
from localforge.bandit import Fold, complete
from localforge.bandit.parameters import VERSION
from localforge.config import Config
from localforge.config.sections import RuleConfig
from localforge.contracts.cards import Capability
from localforge.explanation import explain
from tests.routing import (
    DIM,
    NOW,
    SCHEMA,
    card,
    feedback,
    learn,
    outcome,
    probabilities,
    route_call,
    service,
)

CARDS = (
    card("small", price_out=1.0, quality_prior=None),
    card("coder", price_out=5.0, quality_prior=None),
    card("large", price_out=30.0, quality_prior=None),
)
RULES = (
    RuleConfig(name="code", domains=("code",), models={"coder": 1.0}),
    RuleConfig(name="hard or long", min_complexity=0.5, models={"large": 3.0, "coder": 1.0}),
    RuleConfig(name="the rest", models={"small": 1.0}),
)


def config(policy="rules", rules=RULES, **router):
    return Config(
        router=msgspec.structs.replace(Config().router, policy=policy, rules=rules, **router)
    )


def decide(asked, cards=CARDS, fold=None, request="r1", **call):
    return service(*cards, fold=fold, config=asked).route(route_call(request, **call), NOW).decision


def test_a_static_model_is_always_chosen():
    made = decide(config("static", static={"coder": 2.0}))

    assert probabilities(made) == {"small": 0.0, "coder": 1.0, "large": 0.0}
    assert (made.chosen, made.propensity, made.policy) == ("coder", 1.0, f"static.{VERSION}")


def test_a_split_is_drawn_by_weight_among_those_that_may_answer():
    asked = config("static", static={"small": 3.0, "large": 1.0, "gone": 4.0})

    assert probabilities(decide(asked)) == {"small": 0.75, "coder": 0.0, "large": 0.25}
    chosen = [decide(asked, request=f"r{index}").chosen for index in range(400)]
    assert 0.2 < chosen.count("large") / 400 < 0.3


def test_where_no_appointed_model_may_answer_the_default_policy_decides():
    made = decide(config("static", static={"gone": 1.0}))
    usual = decide(config("matching", rules=()))

    assert probabilities(made) == probabilities(usual)
    assert explain(made).reason == explain(usual).reason


def test_the_first_rule_that_holds_decides_and_is_named():
    for call, rule, shares in (
        ({"domain": "code"}, "code", {"coder": 1.0}),
        ({"domain": "maths"}, "hard or long", {"large": 0.75, "coder": 0.25}),
    ):
        made = decide(config(), **call)

        assert (made.rule, made.policy) == (rule, f"rules.{VERSION}")
        assert {m: p for m, p in probabilities(made).items() if p} == shares
        assert explain(made).reason.startswith(f"{made.chosen} is appointed by rule {rule!r}")
        assert explain(made).tipping == ()


@pytest.mark.parametrize(
    ("condition", "call", "holds"),
    [
        ({"max_complexity": 0.4}, {}, False),
        ({"min_complexity": 0.5}, {}, True),
        ({"min_prompt_tokens": 101}, {"prompt_tokens": 100}, False),
        ({"max_prompt_tokens": 100}, {"prompt_tokens": 100}, True),
        ({"max_prompt_tokens": 99}, {"prompt_tokens": 100}, False),
        ({"needs": (Capability.TOOLS,)}, {}, False),
        ({"needs": (Capability.TOOLS,)}, {"needs": frozenset({Capability.TOOLS})}, True),
        ({"domains": ("legal", "code")}, {"domain": "code"}, True),
        ({"domains": ("legal",), "min_complexity": 0.1}, {"domain": "code"}, False),
    ],
)
def test_every_condition_must_hold(condition, call, holds):
    able = [
        msgspec.structs.replace(model, capabilities=frozenset({Capability.TOOLS}))
        for model in CARDS
    ]
    rule = RuleConfig(name="only", models={"coder": 1.0}, **condition)

    made = decide(config(rules=(rule,)), cards=able, **call)

    assert (made.rule == "only") is holds


def test_rules_stand_in_for_a_learned_policy_while_nothing_is_known():
    fold = Fold(SCHEMA, DIM)
    asked = config("matching")
    assert decide(asked, fold=fold, domain="code").rule == "code"

    learn(fold, *(feedback(f"f{index}", "small", 1.0) for index in range(40)))

    made = decide(asked, fold=fold, domain="code")
    assert (made.rule, made.weights, made.policy) == ("", {}, f"matching.{VERSION}")


def test_rules_do_not_stand_in_for_a_policy_that_the_request_names():
    made = decide(config("matching"), policy="greedy")

    assert (made.policy, made.rule) == (f"greedy.{VERSION}", "")


def test_a_request_may_ask_for_what_the_configuration_appoints():
    asked = config("matching", static={"coder": 1.0})

    assert decide(asked, policy="static").chosen == "coder"
    assert decide(asked, policy="rules", domain="code").rule == "code"


def test_a_card_with_a_score_is_knowledge():
    known = [msgspec.structs.replace(model, published_score=0.7) for model in CARDS]

    assert decide(config("matching"), cards=known, domain="code").rule == ""


def test_a_conversation_stays_with_one_of_the_appointed_models():
    made = decide(config("static", static={"small": 3.0, "large": 1.0}))
    learner = Fold(SCHEMA, DIM).learner
    stays = msgspec.structs.replace(made, explore=False, incumbent="large")
    other = msgspec.structs.replace(made, explore=False, incumbent="coder")

    assert complete(stays, learner).chosen == "large"
    assert complete(other, learner).chosen == "small"


def stream(asked, requests=120):
    messages = []

    def write(subject, fact):
        messages.append((len(messages) + 1, subject, fact.encode()))

    for index in range(requests):
        domain = ("code", "maths")[index % 2]
        made = decide(asked, request=f"d{index}", domain=domain)
        write(f"lf.decision.{made.decision_id}", made)
        answer = outcome(made.decision_id, made.chosen)
        write("lf.outcome.local.b", msgspec.structs.replace(answer, decision_id=made.decision_id))
    return messages


@pytest.mark.parametrize(
    "asked", [config(), config("static", static={"small": 3.0, "large": 1.0}), config("matching")]
)
def test_appointed_decisions_are_replayed_bit_for_bit(asked):
    made = [m for m in stream(asked, 20) if m[1].startswith("lf.decision")]

    report = replay(made, Fold(SCHEMA, DIM))

    assert (report.reproduced, report.mismatched, report.not_checkable) == (20, 0, {})


def test_rules_are_judged_on_a_log_that_a_split_has_drawn():
    even = {"small": 1.0, "coder": 1.0, "large": 1.0}
    running = Counterfactual(TargetPolicy(config()), Fold(SCHEMA, DIM))
    for message in stream(config("static", static=even), 300):
        running.feed(*message)

    report = running.finish()

    shares = {model: target for model, (_, target) in report.shares.items()}
    # Half of the requests are code; of the others three in four go to the large one.
    assert shares == pytest.approx({"small": 0.0, "coder": 0.625, "large": 0.375})
