"""The decision rule that a request names, on each lane: learned ones, a split, rules; replayed."""

import json
from typing import Any

import pytest

from tests.e2e.durable import application
from tests.e2e.stack import Stack
from tests.support import wait_until

VISION = [
    {"type": "text", "text": "what is this?"},
    {"type": "image_url", "image_url": {"url": "https://images.example/sea.png"}},
]


def _ask(content: Any, policy: str = "") -> dict[str, Any]:
    extension = {"localforge": {"policy": policy}} if policy else {}
    messages = [{"role": "user", "content": content}]
    return {"model": "auto", "max_tokens": 4, "messages": messages, **extension}


def _name(decision: dict[str, Any]) -> str:
    name: str = decision["policy"].partition(".")[0]
    return name


async def test_requests_are_decided_by_the_policy_they_name_and_replayed_bit_for_bit(stack: Stack):
    asked = ("", "greedy", "epsilon-greedy", "thompson", "linucb", "igw", "static", "rules")
    ids = {}
    for name in asked:
        reply = stack.chat(_ask(f"decided by {name or 'what is configured'}", name))
        assert reply.status == 200, reply.body
        ids[name] = reply.headers["x-localforge-decision"]
    by_header = stack.chat(_ask("decided by a header", "igw"), policy="greedy")
    ids["header"] = by_header.headers["x-localforge-decision"]
    async with application(stack) as app:
        await app.ask("by-policy", _ask("decided on the durable lane"), policy="epsilon-greedy")
        ids["durable"] = (await app.result("by-policy")).decision_id

    decisions: dict[str, dict[str, Any]] = {}

    def logged() -> bool:
        for name, identity in ids.items():
            found = stack.http("GET", f"/v1/decisions/{identity}")
            if found.status != 200:
                return False
            decisions[name] = found.json["decision"]
        return True

    await wait_until(logged, timeout=30, description="the decisions in the log")
    # Beside them the log has those of other tests: all of them must come out again.
    replayed = json.loads(stack.cli("audit", "replay", "--json").stdout)

    usual = decisions.pop("")
    assert (_name(usual), usual["policy_stated"]) == ("matching", False)
    names = {name: _name(found) for name, found in decisions.items()}
    by = {"header": "greedy", "durable": "epsilon-greedy"}
    assert names == {name: by.get(name, name) for name in decisions}
    assert all(found["policy_stated"] for found in decisions.values())
    assert decisions["greedy"]["propensity"] == 1.0
    spread = {c["probability"] for c in decisions["epsilon-greedy"]["candidates"]}
    assert len(spread) == 2
    assert min(spread) > 0
    assert decisions["static"]["chosen"] == "fake-b"
    assert (decisions["rules"]["chosen"], decisions["rules"]["rule"]) == ("fake-a", "the rest")
    assert (replayed["mismatched"], replayed["not_checkable"]) == (0, {})
    assert replayed["reproduced"] == replayed["decisions"] >= len(ids)


def test_appointed_models_follow_what_is_known_of_the_request(stack: Stack):
    pictured = stack.route(_ask(VISION, "rules"))
    split = stack.route(_ask("by weight", "static"))
    told = json.loads(stack.cli("route", "by rule", "--policy", "rules", "--json").stdout)

    assert (pictured["rule"], pictured["chosen"]) == ("pictures", "right")
    assert split["weights"] == {"fake-b": 1.0}
    assert {c["model"]: c["probability"] for c in split["candidates"]}["fake-b"] == 1.0
    assert told["decision"]["rule"] == "the rest"


@pytest.mark.parametrize("lane", ["body", "header"])
def test_a_policy_that_nobody_knows_is_refused_with_those_that_are(stack: Stack, lane: str):
    body = _ask("by chance", "roulette" if lane == "body" else "")
    reply = stack.chat(body, **({"policy": "roulette"} if lane == "header" else {}))

    param = "localforge.policy" if lane == "body" else "x-localforge-policy"
    assert (reply.status, reply.json["error"]["param"]) == (400, param)
    assert "epsilon-greedy" in reply.json["error"]["message"]
