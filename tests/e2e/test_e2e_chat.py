"""Chat through the running system: the official client in front, real and fake models behind."""

import json
import time
from collections.abc import AsyncIterator, Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import CompletionUsage

from tests.e2e.stack import Provider, Stack
from tests.fakes.openai_server import WORDS, Behaviour
from tests.support import wait_until

ANSWER = " ".join(WORDS)
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def _ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _counts(usage: CompletionUsage | None) -> tuple[int, int, int]:
    assert usage is not None
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens


@pytest.fixture(name="client")
def _client(stack: Stack) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(name="aclient")
async def _aclient(stack: Stack) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_the_embedded_model_answers(client: OpenAI):
    answer = client.chat.completions.create(
        model="smollm2-135m",
        messages=_ask("What is the capital of France? Answer in one sentence."),
        max_tokens=16,
        temperature=0,
    )

    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.model == "smollm2-135m"
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 16


def test_the_embedded_model_streams_what_it_answers_whole(client: OpenAI):
    asked = {
        "model": "smollm2-135m",
        "messages": _ask("Count from one to five."),
        "max_tokens": 16,
        "temperature": 0,
        "seed": 1,
    }

    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )

    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    # Not `==`: the second one finds the prompt in the cache and says so.
    assert _counts(chunks[-1].usage) == _counts(whole.usage)
    assert len(chunks) > 5


def test_auto_is_answered_and_says_by_whom(stack: Stack, client: OpenAI):
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=_ask("Say something"), max_tokens=16
    )
    answer = raw.parse()

    decision = raw.headers["x-localforge-decision"]
    assert answer.id == f"chatcmpl-{decision}"
    assert answer.model == raw.headers["x-localforge-model"]
    assert raw.headers["x-localforge-zone"] in ("local", "cloud")
    assert raw.headers["x-localforge-fallbacks"] == "0"
    assert float(raw.headers["x-localforge-overhead-ms"]) > 0


async def test_the_async_client_gets_the_same_answers(aclient: AsyncOpenAI):
    whole = await aclient.chat.completions.create(model="fake-a", messages=_ask("hello"))
    stream = await aclient.chat.completions.create(
        model="fake-a", messages=_ask("hello"), stream=True
    )
    text = "".join([c.choices[0].delta.content or "" async for c in stream])

    assert whole.choices[0].message.content == text == ANSWER


def test_usage_is_the_same_streamed_or_not(client: OpenAI):
    asked = {"model": "fake-a", "messages": _ask("one two three")}

    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )

    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (3, len(WORDS))
    assert [c.usage for c in chunks if c.usage] == [whole.usage]
    assert chunks[-1].choices == []


def test_no_usage_chunk_comes_unasked(client: OpenAI):
    chunks = list(
        client.chat.completions.create(model="fake-a", messages=_ask("hello"), stream=True)
    )

    assert [c for c in chunks if c.usage is not None or not c.choices] == []
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_stream_arrives_as_the_model_makes_it(client: OpenAI, local: Provider):
    spread_s = []
    with local.behaving(fake_a=Behaviour(pace_s=0.05)):
        # Where the machine was busy when the first words came, several are read at once.
        for _ in range(20):
            arrived = [
                time.monotonic()
                for chunk in client.chat.completions.create(
                    model="fake-a", messages=_ask("slowly"), stream=True
                )
                if chunk.choices[0].delta.content
            ]
            assert len(arrived) == len(WORDS)
            spread_s.append(arrived[-1] - arrived[0])
            if spread_s[-1] > 0.05 * (len(WORDS) - 1) * 0.8:
                break

    assert spread_s[-1] > 0.05 * (len(WORDS) - 1) * 0.8, spread_s


def test_an_alias_and_a_model_name_are_both_understood(client: OpenAI):
    by_alias = client.chat.completions.create(model="first", messages=_ask("hello"))
    automatic = client.chat.completions.create(model="anything", messages=_ask("hello"))

    assert by_alias.model == "fake-a"
    assert automatic.model in {"fake-a", "fake-b", "left", "right", "smollm2-135m", "cloud-model"}


def test_the_models_are_listed_with_auto_and_the_aliases(client: OpenAI):
    listed = {model.id: model for model in client.models.list()}

    assert {"auto", "anything", "first", "fake-a", "cloud-model", "smollm2-135m"} <= set(listed)
    assert client.models.retrieve("cloud-model").localforge["zone"] == "cloud"  # type: ignore[attr-defined]


def test_tools_reach_the_model_and_its_call_comes_back(client: OpenAI, local: Provider):
    with local.behaving(fake_a=Behaviour(echo_tools=True)):
        whole = client.chat.completions.create(
            model="fake-a", messages=_ask("weather in Oslo?"), tools=[TOOL], tool_choice="auto"
        )
        chunks = list(
            client.chat.completions.create(
                model="fake-a", messages=_ask("weather in Oslo?"), tools=[TOOL], stream=True
            )
        )

    (call,) = whole.choices[0].message.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Oslo"}')
    deltas = [d for c in chunks for d in (c.choices[0].delta.tool_calls or [])]
    streamed = "".join(d.function.arguments or "" for d in deltas if d.function)
    assert streamed == call.function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert local.saw("weather in Oslo?")[0].body["tools"] == [TOOL]


def test_what_localforge_does_not_know_passes_through_byte_for_byte(stack: Stack, local: Provider):
    members = (
        b'"top_k":4.0e1',
        b'"big":123456789012345678901234567890',
        b'"mirostat":{"tau" :  5.0,"list":[ 1,2 , null],"text":"\\u00e9\\/"}',
        b'"response_format":{ "type":"json_object" }',
        b'"logit_bias":{"50256":-100}',
        '"user":"größe-passes-through"'.encode(),
    )
    body = (
        b'{"model":"fake-a","messages":[{"role":"user","content":"hi","x":{"y" :1}}],'
        + b",".join(members)
        + b"}"
    )

    reply = stack.http("POST", "/v1/chat/completions", body)

    assert reply.status == 200, reply.body
    (seen,) = local.saw("größe-passes-through")
    assert [member for member in members if member not in seen.raw] == []
    assert b'{"role":"user","content":"hi","x":{"y" :1}}' in seen.raw
    assert seen.body["model"] == "fake-a"


def test_localforges_own_members_do_not_reach_the_provider(stack: Stack, local: Provider):
    body = {
        "model": "fake-a",
        "messages": _ask("own members"),
        "localforge": {"preference": "cheap", "label": "public"},
    }

    assert stack.chat(body).status == 200
    (seen,) = local.saw("own members")
    assert "localforge" not in seen.body
    assert not [name for name in seen.headers if "localforge" in name.lower()]


def test_a_conversation_with_names_and_tool_results_is_not_changed(stack: Stack, local: Provider):
    messages = [
        {"role": "system", "content": "be brief", "name": "boss"},
        {"role": "user", "content": [{"type": "text", "text": "conversation-7"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]

    assert stack.chat({"model": "fake-b", "messages": messages, "tools": [TOOL]}).status == 200
    (seen,) = local.saw("conversation-7")
    assert seen.body["messages"] == messages


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{", 400, "invalid_json", None),
        (b"[]", 400, "invalid_type", None),
        ({"model": "fake-a"}, 400, "missing_required_parameter", "messages"),
        ({"model": "fake-a", "messages": []}, 400, "invalid_value", "messages"),
        (
            {"model": "fake-a", "messages": _ask("x"), "temperature": "hot"},
            400,
            "invalid_type",
            "temperature",
        ),
        ({"model": "no-such", "messages": _ask("x")}, 404, "model_not_found", "model"),
        (
            {"model": "auto", "messages": _ask("x"), "localforge": {"label": "secret"}},
            400,
            "invalid_value",
            "localforge.label",
        ),
    ],
)
def test_a_bad_request_gets_openais_error_shape(
    stack: Stack, body: object, status: int, code: str, param: str | None
):
    reply = stack.http("POST", "/v1/chat/completions", body)

    assert reply.status == status, reply.body
    error = reply.json["error"]
    assert (error["type"], error["code"], error.get("param")) == (
        "invalid_request_error",
        code,
        param,
    )
    assert len(error["message"]) > 10


def test_the_official_client_raises_its_own_errors(client: OpenAI):
    with pytest.raises(openai.NotFoundError, match="'no-such' does not exist; known: auto"):
        client.chat.completions.create(model="no-such", messages=_ask("hello"))
    with pytest.raises(openai.BadRequestError, match="context"):
        client.chat.completions.create(model="smollm2-135m", messages=_ask("word " * 20_000))


def test_a_body_over_the_limit_is_refused_with_413(stack: Stack, local: Provider):
    reply = stack.chat({"model": "fake-a", "messages": _ask("too-large" + "x" * 2_100_000)})

    assert reply.status == 413
    assert "larger than 2 MB" in reply.json["error"]["message"]
    assert local.saw("too-large") == []


def test_a_body_of_more_than_a_megabyte_passes(stack: Stack, local: Provider):
    """More than NATS takes by default."""
    picture = "data:image/png;base64," + "A" * 1_500_000
    content = [
        {"type": "text", "text": "large-body"},
        {"type": "image_url", "image_url": {"url": picture}},
    ]

    reply = stack.chat({"model": "left", "messages": [{"role": "user", "content": content}]})

    assert reply.status == 200, reply.body
    (seen,) = local.saw("large-body")
    assert seen.body["messages"][0]["content"] == content


async def test_every_answer_leaves_one_log_line_without_its_content(stack: Stack):
    reply = stack.chat({"model": "fake-a", "messages": _ask("a-secret-question")})

    decision = reply.headers["x-localforge-decision"]
    (line,) = await wait_until(
        lambda: stack.events("request", decision_id=decision), description="the log line"
    )
    assert (line["status"], line["model"], line["zone"]) == (200, "fake-a", "local")
    assert line["cost_usd"] == 0
    text = stack.log.read_text()
    assert "a-secret-question" not in text
    assert ANSWER not in text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fails", [False, True], ids=["answered", "failed"])
async def test_the_log_line_and_the_header_have_the_cost(
    stack: Stack, cloud: Provider, fails: bool, stream: bool
):
    # An error in place of an answer: nobody knows what was done for it, so the prompt counts.
    behaviour = Behaviour(error={"message": "overloaded"}) if fails else Behaviour()
    asked = {"model": "cloud-model", "messages": _ask("what it costs"), "stream": stream}
    with cloud.behaving(cloud_model=behaviour):
        reply = stack.chat(asked, label="public")

    (line,) = await wait_until(
        lambda: stack.events("request", request_id=reply.headers["x-request-id"]),
        description="the log line",
    )
    assert reply.status == (502 if fails else 200), reply.body
    assert line["cost_usd"] > 0
    told = reply.headers.get("x-localforge-cost-usd")
    assert told == (None if stream and not fails else f"{line['cost_usd']:.8f}")


def test_metrics_and_the_api_description_are_served(stack: Stack):
    metrics = stack.http("GET", "/metrics")
    described = stack.http("GET", "/openapi.json")

    assert b"localforge_edge_requests_total{" in metrics.body
    assert "/v1/chat/completions" in json.loads(described.body)["paths"]
    assert stack.http("GET", "/livez").status == 200
    assert set(stack.readiness().values()) == {"ok"}
