"""Cascades in a running system: cheap models first, one answer, zones and log as ever."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.durable import application
from tests.e2e.stack import Provider, Reply, Stack, running
from tests.fakes.openai_server import Behaviour
from tests.support import wait_until

MODEL = """
[[backends.models]]
name = "{name}"
price_in = 0.1
price_out = {price}
quality_prior = {prior}
"""
CONFIG = (
    '[router]\ngamma = 100\n[[backends]]\nname = "near"\nkind = "openai"\nurl = "{near}"\n'
    + MODEL.format(name="cheap-a", price=1.0, prior=0.75)
    + MODEL.format(name="cheap-b", price=1.5, prior=0.75)
    # So that a request which needs JSON has one cheap model.
    + 'capabilities = ["logprobs"]\n'
    + '[[backends]]\nname = "far"\nkind = "openai"\nzone = "cloud"\nurl = "{far}"\n'
    + MODEL.format(name="strong", price=600.0, prior=0.95)
)
REQUESTS = 12
PREFERENCES = [
    f"cost={price},latency=0" for _ in range(20) for price in (20, 50, 80, 100, 120, 150, 200)
]
"""Tried in turn until what a test is about happens: at which price a cascade is the best, and where
it ends, depends on what the router learned from the tests before, and now and then it explores."""
ASKED = "Which colour"
"""In every text of this file and of no other: the providers serve other stacks as well."""


@pytest.fixture(name="laddered", scope="module")
def _laddered(
    tmp_path_factory: pytest.TempPathFactory, local: Provider, cloud: Provider
) -> Iterator[Stack]:
    """Two cheap local models and a dear one in the cloud."""
    config = CONFIG.format(near=local.url, far=cloud.url)
    with running(Stack(tmp_path_factory.mktemp("laddered"), config)) as stack:
        yield stack


def _says(word: str) -> Behaviour:
    return Behaviour(words=[word])


def _ask(stack: Stack, text: str, preference: str = "cost=20,latency=0", **members: Any) -> Reply:
    body = {
        "model": "auto",
        "max_tokens": 16,
        "messages": [{"role": "user", "content": text}],
        **members,
    }
    return stack.chat(body, cascade="yes", preference=preference)


def _answer(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    content: str = reply.json["choices"][0]["message"]["content"]
    return content


def _asked(provider: Provider, text: str) -> list[str]:
    """Models that saw a text, in their order."""
    return [json.loads(seen.raw)["model"] for seen in provider.saw(text)]


def _agree(local: Provider, cloud: Provider) -> Any:
    words = {"cheap_a": _says("Blue"), "cheap_b": _says("blue.")}
    return local.behaving(**words), cloud.behaving(strong=_says("Red"))


def test_an_answer_that_two_cheap_models_agree_on_is_delivered(
    laddered: Stack, local: Provider, cloud: Provider
):
    asked = []
    near, far = _agree(local, cloud)
    with near, far:
        for index, preference in enumerate(PREFERENCES):
            text = f"Which colour has the sky at noon number {index}?"
            reply = _ask(laddered, text, preference)
            answer = _answer(reply)
            asked.append(_asked(local, text) + _asked(cloud, text))
            if asked[-1] == ["cheap-a", "cheap-b"]:
                break

    assert asked[-1] == ["cheap-a", "cheap-b"], asked
    assert answer == "Blue"
    assert reply.headers["x-localforge-model"] == "cheap-a"
    assert reply.headers["x-localforge-zone"] == "local"
    # Both are paid for: two prompts and two answers, each answer a token or more.
    assert float(reply.headers["x-localforge-cost-usd"]) > 2e-6


async def test_a_logged_cascade_explains_whom_it_asked_and_what_would_have_followed(
    laddered: Stack, local: Provider, cloud: Provider
):
    text = "Which colour has snow?"
    near, far = _agree(local, cloud)
    with near, far:
        identity = _ask(laddered, text).headers["x-localforge-decision"]
    found: dict[str, Any] = {}

    def logged() -> bool:
        reply = laddered.http("GET", f"/v1/decisions/{identity}")
        found.update(reply.json)
        return reply.status == 200

    await wait_until(logged, timeout=20, description="the decision in the log")
    told, plan = found["explanation"]["cascade"], found["decision"]["cascade"]

    asked = _asked(local, text) + _asked(cloud, text)
    assert asked[: len(told["asked"])] == told["asked"]
    assert told["last"] == "strong"
    assert [case["deliver"] for case in told["cases"]] == (
        [plan["if_agreed"], plan["if_split"]] if plan["asks_pair"] else []
    )
    assert all(c["cost_std"] > 0 for c in found["decision"]["candidates"])


async def test_the_durable_lane_has_cascades_too_and_its_results_count_all_that_were_asked(
    laddered: Stack, local: Provider, cloud: Provider
):
    near, far = _agree(local, cloud)
    asked = []
    with near, far:
        async with application(laddered) as app:
            for index, preference in enumerate(PREFERENCES):
                text = f"Which colour has the lake at noon number {index}?"
                turns = [{"role": "user", "content": text}]
                await app.ask(
                    f"lake-{index}",
                    {"model": "auto", "max_tokens": 16, "messages": turns},
                    cascade=True,
                    preference=preference,
                )
                result = await app.result(f"lake-{index}")
                asked.append(_asked(local, text) + _asked(cloud, text))
                if asked[-1] == ["cheap-a", "cheap-b"]:
                    break

    assert asked[-1] == ["cheap-a", "cheap-b"], asked
    answer = json.loads(bytes(result.response))
    assert answer["choices"][0]["message"]["content"] == "Blue"
    alone = answer["usage"]
    assert result.usage.completion_tokens >= 2 * alone["completion_tokens"]
    assert result.usage.prompt_tokens == 2 * alone["prompt_tokens"]
    assert result.cost_usd > 2e-6


def test_a_stream_is_the_accepted_answer_and_no_word_of_another(
    laddered: Stack, local: Provider, cloud: Provider
):
    differing = local.behaving(cheap_a=_says("Blue"), cheap_b=_says("Green"))
    escalated = False
    with differing, cloud.behaving(strong=_says("Red")):
        for index, preference in enumerate(PREFERENCES):
            text = f"Which colour has the sea at noon number {index}?"
            reply = _ask(laddered, text, preference, stream=True)
            *events, done, rest = reply.body.split(b"\n\n")
            chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
            said = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
            word = {"cheap-a": "Blue", "cheap-b": "Green", "strong": "Red"}
            (model,) = {chunk["model"] for chunk in chunks}
            assert (done, rest) == (b"data: [DONE]", b"")
            assert said.strip() == word[model]
            escalated |= _asked(local, text) == ["cheap-a", "cheap-b"] and model == "strong"
            if escalated and index >= REQUESTS:
                break

    assert escalated


def test_a_restricted_request_asks_local_models_alone(
    laddered: Stack, local: Provider, cloud: Provider
):
    near, far = _agree(local, cloud)
    with near, far:
        for index in range(REQUESTS):
            _answer(_ask(laddered, f"My password is hunter{index}xyz! Which colour is it?"))

    assert cloud.saw("hunter") == []


def _ask_for_json(stack: Stack, text: str, **members: Any) -> Reply:
    return _ask(stack, text, response_format={"type": "json_object"}, **members)


def _temperatures(provider: Provider, text: str) -> list[tuple[str, float | None]]:
    seen = [json.loads(request.raw) for request in provider.saw(text)]
    return [(body["model"], body.get("temperature")) for body in seen]


def test_the_only_cheap_model_is_asked_twice_and_its_first_answer_delivered_when_it_repeats_it(
    laddered: Stack, local: Provider, cloud: Provider
):
    repeats = Behaviour(words=['{"is":"Blue"}'], sampled=['{ "is" : "Blue" }'])
    twice = [("cheap-a", None), ("cheap-a", 0.7)]
    asked = []
    with local.behaving(cheap_a=repeats), cloud.behaving(strong=_says('{"is":"Red"}')):
        for index, preference in enumerate(PREFERENCES):
            text = f"Which colour has the bay at noon number {index}?"
            reply = _ask_for_json(laddered, text, preference=preference)
            answer = _answer(reply)
            asked.append(_temperatures(local, text) + _temperatures(cloud, text))
            if asked[-1] == twice:
                break

    assert asked[-1] == twice, asked
    assert answer == '{"is":"Blue"}'
    assert reply.headers["x-localforge-model"] == "cheap-a"
    assert float(reply.headers["x-localforge-cost-usd"]) > 2e-6


def test_a_cheap_model_that_contradicts_itself_is_followed_by_the_strong_one(
    laddered: Stack, local: Provider, cloud: Provider
):
    wavers = Behaviour(words=['{"is":"Blue"}'], sampled=['{"is":"Green"}'])
    followed = [("cheap-a", 0), ("cheap-a", 0.7), ("strong", 0)]
    asked = []
    with local.behaving(cheap_a=wavers), cloud.behaving(strong=_says('{"is":"Red"}')):
        for index, preference in enumerate(PREFERENCES):
            text = f"Which colour has the fjord at noon number {index}?"
            answer = _answer(_ask_for_json(laddered, text, preference=preference, temperature=0))
            asked.append(_temperatures(local, text) + _temperatures(cloud, text))
            if asked[-1] == followed:
                break

    assert asked[-1] == followed, asked
    assert answer == '{"is":"Red"}'


def test_a_caller_who_wants_the_same_answer_every_time_is_not_asked_twice_for(
    laddered: Stack, local: Provider, cloud: Provider
):
    words = '{"is":"Blue"}'
    with local.behaving(cheap_a=_says(words)), cloud.behaving(strong=_says(words)):
        for index in range(REQUESTS):
            text = f"Which colour has the pond at noon number {index}?"
            _answer(_ask_for_json(laddered, text, temperature=0, seed=7))
            assert len(local.saw(text)) <= 1


async def test_verdicts_teach_and_the_log_stays_exact(
    laddered: Stack, local: Provider, cloud: Provider
):
    near, far = _agree(local, cloud)
    with near, far:
        for index in range(REQUESTS):
            done = _ask(laddered, f"Which colour has the moon at noon number {index}?")
            verdict = {"completion_id": done.json["id"], "score": 1.0}
            assert laddered.http("POST", "/v1/feedback", verdict).status == 202
    told: dict[str, Any] = {}

    def all_there() -> bool:
        told.update(json.loads(laddered.cli("audit", "replay", "--json").stdout))
        verified = json.loads(laddered.cli("audit", "verify", "--json").stdout)
        told["verified"] = verified["counts"]
        sent = len(local.saw(ASKED)) + len(cloud.saw(ASKED))
        attempts = sum(a["local"] + a["remote"] for a in verified["attempts"].values())
        return bool(attempts == sent and told["facts"]["learned"] >= sent + 2 * REQUESTS)

    await wait_until(all_there, timeout=30, description="all facts are in the log")
    assert told["verified"] == {}
    assert (told["mismatched"], told["not_checkable"]) == (0, {})
    assert told["reproduced"] == told["decisions"]
