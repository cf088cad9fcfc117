"""Decisions of the running system: what is chosen, what is kept out, what feedback changes."""

import json
from typing import Any

import pytest

from tests.e2e.stack import Provider, Stack, saw_nothing
from tests.support import wait_until

SECRET = "my password is hunter2 and my social security number is 078-05-1120"
PICTURE = {
    "model": "auto",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is in this picture?"},
                {"type": "image_url", "image_url": {"url": "https://images.example/sea.png"}},
            ],
        }
    ],
}


def _ask(text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "auto", "max_tokens": 16, "messages": messages, **more}


def test_an_explanation_has_every_model_with_its_probability_or_its_reason(stack: Stack):
    decision = stack.route(_ask("What is the capital of Peru?"))

    candidates = {c["model"]: c for c in decision["candidates"]}
    assert set(candidates) == {
        "fake-a", "fake-b", "left", "right", "smollm2-135m", "cloud-model"
    }  # fmt: skip
    assert sum(c["probability"] for c in candidates.values()) == pytest.approx(1)
    assert decision["propensity"] == candidates[decision["chosen"]]["probability"]
    assert decision["plan"][0] == decision["chosen"]
    assert sorted(decision["plan"]) == sorted(candidates)
    assert decision["zones"] == ["cloud", "local"]


def test_an_explanation_runs_nothing(stack: Stack, local: Provider, cloud: Provider):
    stack.route(_ask("explained-only"))

    saw_nothing("explained-only", local, cloud)


def test_models_that_lack_what_the_request_needs_are_excluded(stack: Stack):
    decision = stack.route(PICTURE)

    reasons = {e["model"]: e["reason"] for e in decision["exclusions"]}
    assert {c["model"] for c in decision["candidates"]} == {"left", "right"}
    assert reasons == dict.fromkeys(
        ("fake-a", "fake-b", "smollm2-135m", "cloud-model"), "capability"
    )


def test_a_prompt_too_long_for_a_model_excludes_it(stack: Stack):
    decision = stack.route(_ask("word " * 12_000))

    reasons = {e["model"]: e["reason"] for e in decision["exclusions"]}
    assert reasons == dict.fromkeys(("left", "right", "smollm2-135m"), "context")


def test_a_concrete_model_is_not_explored_away(stack: Stack):
    decision = stack.route(_ask("hello") | {"model": "fake-b"})

    assert (decision["chosen"], decision["propensity"], decision["explore"]) == ("fake-b", 1, False)


WHERE_SECRETS_HIDE: dict[str, dict[str, Any]] = {
    "system": {
        "messages": [{"role": "system", "content": SECRET}, {"role": "user", "content": "a"}]
    },
    "an early turn": {
        "messages": [
            {"role": "user", "content": SECRET},
            {"role": "assistant", "content": "noted"},
            {"role": "user", "content": "thank you"},
        ]
    },
    "a content part": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": SECRET}]}]
    },
    "a name": {"messages": [{"role": "user", "name": SECRET, "content": "hello"}]},
    "tool arguments": {
        "messages": [
            {"role": "user", "content": "go"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "save", "arguments": json.dumps({"note": SECRET})},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "saved"},
        ]
    },
    "a tool result": {
        "messages": [
            {"role": "user", "content": "go"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "x", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": SECRET},
        ]
    },
    "a schema": {
        "messages": [{"role": "user", "content": "hello"}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": {"type": "object", "description": SECRET}},
        },
    },
    "a field nobody knows": {
        "messages": [{"role": "user", "content": "hello"}],
        "metadata": {"note": SECRET},
    },
}


@pytest.mark.parametrize("where", WHERE_SECRETS_HIDE)
def test_what_is_secret_does_not_leave_the_site_wherever_it_stands(
    stack: Stack, cloud: Provider, where: str
):
    body = {"model": "auto", "user": f"secret in {where}", **WHERE_SECRETS_HIDE[where]}

    explained = stack.http("POST", "/v1/route", body).json
    automatic = stack.chat(body | {"max_tokens": 16})
    by_name = stack.chat(body | {"model": "cloud-model"})

    decision = explained["decision"]
    assert (decision["label"], decision["zones"]) == ("restricted", ["local"])
    assert explained["findings"]
    assert {e["model"]: e["reason"] for e in decision["exclusions"]}["cloud-model"] == "zone"
    assert automatic.status == 200
    assert automatic.headers["x-localforge-zone"] == "local"
    assert by_name.status == 403
    assert by_name.json["error"]["code"] == "no_eligible_model"
    saw_nothing("hunter2", cloud)


@pytest.mark.parametrize("label", ["confidential", "restricted"])
@pytest.mark.parametrize("how", ["header", "body"])
def test_a_declared_label_keeps_a_request_on_site(
    stack: Stack, cloud: Provider, label: str, how: str
):
    said = {"localforge": {"label": label}} if how == "body" else {}
    headers = {"label": label} if how == "header" else {}

    automatic = stack.chat(_ask("declared-sensitive", max_tokens=16, **said), **headers)
    by_name = stack.chat(_ask("declared-sensitive", **said) | {"model": "cloud-model"}, **headers)

    assert (automatic.status, automatic.headers["x-localforge-zone"]) == (200, "local")
    assert by_name.status == 403
    assert f"label {label} allows local" in by_name.json["error"]["message"]
    saw_nothing("declared-sensitive", cloud)


def test_a_caller_cannot_lower_the_label_of_what_was_detected(stack: Stack, cloud: Provider):
    reply = stack.chat(_ask(SECRET) | {"model": "cloud-model"}, label="public")

    assert reply.status == 403
    saw_nothing("hunter2", cloud)


def test_what_is_not_sensitive_reaches_the_cloud(stack: Stack, cloud: Provider):
    """Without this the tests above would pass with a cloud that nobody can reach."""
    reply = stack.chat(_ask("cloud-reached") | {"model": "cloud-model"})

    assert (reply.status, reply.headers["x-localforge-zone"]) == (200, "cloud")
    assert len(cloud.saw("cloud-reached")) == 1
    tokens = reply.json["usage"]
    expected = (tokens["prompt_tokens"] * 1.0 + tokens["completion_tokens"] * 2.0) / 1e6
    assert float(reply.headers["x-localforge-cost-usd"]) == pytest.approx(expected)


@pytest.mark.timeout(120)
async def test_feedback_moves_the_decision(stack: Stack):
    def probability(model: str) -> float:
        return next(
            float(c["probability"])
            for c in stack.route(PICTURE)["candidates"]
            if c["model"] == model
        )

    before = probability("left")
    answered = set()
    for _ in range(40):
        reply = stack.chat(PICTURE)
        model = reply.json["model"]
        answered.add(model)
        verdict = {"completion_id": reply.json["id"], "score": 1 if model == "left" else 0}
        assert stack.http("POST", "/v1/feedback", verdict).status == 202

    await wait_until(
        lambda: probability("left") > 0.85,
        timeout=20,
        description=f"`left`, at first {before}, is preferred",
    )
    assert answered == {"left", "right"}


def test_feedback_for_a_completion_nobody_made_is_refused(stack: Stack):
    verdict = {"completion_id": "chatcmpl-00000000000000000000000000", "score": 1}

    reply = stack.http("POST", "/v1/feedback", verdict)

    assert (reply.status, reply.json["error"]["code"]) == (404, "completion_not_found")


def test_every_decision_is_made_again_bit_for_bit(stack: Stack):
    for index in range(10):
        assert stack.chat(_ask(f"for the replay {index}", max_tokens=8)).status == 200
    within = _ask("for the replay, and cheap", max_tokens=8, localforge={"max_cost_usd": 1e-6})
    assert stack.chat(within).status == 200

    replay = stack.cli("audit", "replay", "--json")

    assert replay.returncode == 0, replay.stdout + replay.stderr
    report = json.loads(replay.stdout)
    assert report["decisions"] >= 10
    assert (report["mismatched"], report["not_checkable"]) == (0, {})
    assert report["reproduced"] == report["decisions"]
    assert len(report["state_hash"]) == 32
