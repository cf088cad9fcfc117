"""What a request may say of cost, time and providers; conversations, explanations, the shadow."""

import json
from typing import Any

import pytest

from tests.e2e.stack import Stack
from tests.support import wait_until


def _ask(text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "auto", "max_tokens": 16, "messages": messages, **more}


def _reasons(decision: dict[str, Any]) -> dict[str, str]:
    return {e["model"]: e["reason"] for e in decision["exclusions"]}


def test_a_cost_limit_in_the_body_excludes_what_would_cost_more(stack: Stack):
    decision = stack.route(_ask("cheap, please", localforge={"max_cost_usd": 1e-6}))

    assert _reasons(decision) == {"cloud-model": "price"}


def test_a_latency_limit_that_nobody_keeps_is_refused_with_the_reasons(stack: Stack):
    reply = stack.chat(_ask("at once"), max_latency_ms="1")

    assert reply.status == 400
    assert "max_latency_s=0.001" in reply.json["error"]["message"]


def test_openrouters_provider_object_is_followed_and_kept_from_backends(stack: Stack, local: Any):
    provider = {"ignore": ["embedded"], "order": ["fake"], "data_collection": "deny"}
    decision = stack.route(_ask("by provider", provider=provider))

    assert _reasons(decision) == {"smollm2-135m": "provider", "cloud-model": "data_collection"}
    reply = stack.chat(_ask("told to a provider", provider=provider))
    assert reply.status == 200
    assert reply.headers["x-localforge-model"].startswith(("fake", "left", "right"))
    (seen,) = local.saw("told to a provider")
    assert b"data_collection" not in seen.raw


def test_all_that_openrouter_documents_is_taken(stack: Stack):
    provider = {
        "order": ["fake"],
        "only": ["fake", "embedded"],
        "ignore": ["cloud"],
        "allow_fallbacks": True,
        "require_parameters": False,
        "data_collection": "allow",
        "zdr": False,
        "enforce_distillable_text": False,
        "quantizations": ["int8", "unknown"],
        "sort": {"by": "throughput", "partition": "none"},
        "preferred_min_throughput": {"p90": 1},
        "preferred_max_latency": 600,
        "max_price": {"prompt": "1.5", "completion": 2, "request": 0, "image": 1, "audio": "3"},
    }
    decision = stack.route(_ask("by all the rules", provider=provider))

    assert decision["preference"] == "fast"
    assert decision["chosen"] in ("fake-a", "fake-b", "left", "right")


@pytest.mark.parametrize(
    ("provider", "param"),
    [
        ({"privacy": "max"}, "provider"),
        ({"enforce_distillable_text": True}, "provider.enforce_distillable_text"),
        ({"only": "fake"}, "provider.only"),
        ({"sort": "beauty"}, "provider.sort"),
        ({"max_price": {"prompt": -1}}, "provider.max_price.prompt"),
        ({"max_price": {"minute": 1}}, "provider.max_price"),
        ({"preferred_max_latency": {"p10": 1}}, "provider.preferred_max_latency"),
    ],
)
def test_what_is_not_understood_in_the_provider_object_is_named(
    stack: Stack, provider: dict[str, Any], param: str
):
    reply = stack.chat(_ask("hello", provider=provider))

    assert (reply.status, reply.json["error"]["param"]) == (400, param)


def test_a_conversation_stays_with_its_model_and_a_tool_loop_always_does(stack: Stack):
    first = _ask("Tell me a very long story, chapter one. " * 40)
    chosen = stack.chat(first).headers["x-localforge-model"]
    answered = [*first["messages"], {"role": "assistant", "content": "Once upon a time."}]
    following = {"model": "auto", "messages": [*answered, {"role": "user", "content": "go on"}]}

    decision = stack.route(following)

    assert decision["incumbent"] == chosen
    assert decision["switching_cost"] > 0
    assert decision["explore"] is False
    called = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }
    loop = {
        "model": "auto",
        "messages": [
            *first["messages"],
            called,
            {"role": "tool", "tool_call_id": "1", "content": "4"},
        ],
    }
    decision = stack.route(loop)
    assert (decision["chosen"], decision["propensity"]) == (chosen, 1.0)


async def test_a_logged_decision_explains_itself(stack: Stack):
    reply = stack.chat(_ask("why this one?"))
    identity = reply.headers["x-localforge-decision"]
    await wait_until(
        lambda: stack.http("GET", f"/v1/decisions/{identity}").status == 200,
        timeout=20,
        description="the decision in the log",
    )

    told = json.loads(stack.cli("explain", identity, "--json").stdout)
    shown = stack.cli("explain", reply.json["id"]).stdout

    assert told["decision"]["decision_id"] == identity
    assert told["decision"]["chosen"] == reply.headers["x-localforge-model"]
    assert told["decision"]["goal"] == "spend 1000 USD per day"
    assert told["explanation"]["tipping"]
    assert "features" not in told["decision"]
    assert told["explanation"]["reason"] in shown.replace("\n", " ")
    assert "What would have put" in shown
    missing = stack.http("GET", "/v1/decisions/nobody")
    assert (missing.status, missing.json["error"]["code"]) == (404, "decision_not_found")


async def test_the_policy_in_shadow_is_compared_with_the_live_one(stack: Stack):
    for number in range(5):
        assert stack.chat(_ask(f"shadowed {number}")).status == 200

    def compared() -> bool:
        found = stack.cli("audit", "shadow", "--json")
        return found.returncode == 0 and json.loads(found.stdout)["compared"] >= 5

    await wait_until(compared, timeout=30, description="five decisions of the shadow")
    report = json.loads(stack.cli("audit", "shadow", "--json").stdout)

    assert len(report["policies"]) == 1
    assert report["shadow"]["quality"] > 0
    assert report["differ"] == sum(pair["decisions"] for pair in report["pairs"])
