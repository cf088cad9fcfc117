"""Settings, media, completions and messages through the whole stack."""

import json
from typing import Any

import pytest

from tests.clients.conftest import IBAN, THOUGHTS, post
from tests.e2e.stack import Provider, Reply, Stack
from tests.fakes.openai_server import WORDS

PICTURE = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}


def message(*content: dict[str, Any], **members: Any) -> dict[str, Any]:
    turn = {"role": "user", "content": list(content)}
    return {"model": "auto", "max_tokens": 50, "messages": [turn], **members}


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/embeddings", {"model": "talker", "input": "x"}, "lacks embeddings"),
        ("/v1/embeddings", {"model": "vectors", "input": []}, "`input` must be"),
        ("/v1/embeddings", {"model": "vectors", "input": ["a", ""]}, "`input[1]` must be"),
        ("/v1/embeddings", {"model": "vectors", "input": "long " * 50_000}, "do not fit"),
        (
            "/v1/chat/completions",
            {"model": "vectors", "messages": [{"role": "user", "content": "x"}]},
            "makes embeddings and nothing else",
        ),
    ],
)
def test_what_a_model_cannot_do_is_refused_in_words(stack: Stack, path: str, body: Any, told: str):
    reply = post(stack, path, body)

    assert reply.status == 400
    assert told in reply.json["error"]["message"]


@pytest.mark.parametrize(
    ("part", "lacking", "model"),
    # Sound never leaves, since nobody can say what is in it.
    [(PICTURE, "vision", "cloud-seer"), (SOUND, "audio", "listener")],
)
def test_media_go_to_models_that_take_them(
    stack: Stack,
    local: Provider,
    cloud: Provider,
    part: dict[str, Any],
    lacking: str,
    model: str,
):
    text = {"type": "text", "text": "What is this?"}
    ask = {"messages": [{"role": "user", "content": [text, part]}]}
    refused = post(stack, "/v1/chat/completions", ask | {"model": "talker"})

    assert refused.status == 400
    assert f"lacks {lacking}" in refused.json["error"]["message"]
    answered = post(stack, "/v1/chat/completions", ask | {"model": "auto"})
    provider = cloud if model == "cloud-seer" else local
    assert answered.headers["x-localforge-model"] == model
    assert provider.seen[-1].body["messages"] == ask["messages"], "as it came"


def test_sound_that_no_model_may_take_is_refused_with_what_each_lacks(stack: Stack):
    ask = {"model": "cloud-seer", "messages": [{"role": "user", "content": [SOUND]}]}
    refused = post(stack, "/v1/chat/completions", ask)
    block = {"type": "input_audio", "source": {"type": "base64", "data": "UklGRg=="}}
    in_a_message = post(stack, "/v1/messages", message(block))

    assert (refused.status, refused.json["error"]["code"]) == (403, "no_eligible_model")
    assert in_a_message.status == 400
    assert "`messages[0].content[0].type`" in in_a_message.json["error"]["message"]


def test_every_setting_reaches_the_backend_and_every_member_comes_back(
    stack: Stack, local: Provider
):
    settings = {
        "n": 2,
        "seed": 7,
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "strict": True, "schema": {"type": "object"}},
        },
        "logit_bias": {"1": -1},
        "min_p": 0.1,
    }
    ask = {"model": "talker", "messages": [{"role": "user", "content": "x"}], **settings}

    reply = post(stack, "/v1/chat/completions", ask)

    assert reply.status == 200, reply.body
    assert local.seen[-1].body.items() >= settings.items()
    assert [choice["index"] for choice in reply.json["choices"]] == [0, 1]


PIECES = [WORDS[0], *(f" {word}" for word in WORDS[1:])]
ASK = {"model": "thinker", "messages": [{"role": "user", "content": "x"}]}


def events(reply: Reply) -> list[Any]:
    """Return the events of a stream that have data, its end left out."""
    assert reply.status == 200, reply.body
    lines = reply.body.decode().splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [json.loads(event) for event in data if event != "[DONE]"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_probabilities_of_tokens_arrive_as_the_backend_gave_them(
    stack: Stack, local: Provider, stream: bool
):
    settings = {"logprobs": True, "top_logprobs": 2, "stream": stream}

    reply = post(stack, "/v1/chat/completions", ASK | settings)

    choices = [c for event in events(reply) for c in event["choices"]] if stream else None
    given = [c["logprobs"] for c in choices or reply.json["choices"] if c["logprobs"]]
    tokens = [token for part in given for token in part["content"]]
    assert [token["token"] for token in tokens] == PIECES
    assert {token["logprob"] for token in tokens} == {-0.25}
    assert [top["token"] for top in tokens[-1]["top_logprobs"]] == ["or0", "or1"]
    assert len(given) == (len(PIECES) if stream else 1)
    assert local.seen[-1].body.items() >= settings.items()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_probabilities_of_a_text_completion_have_its_own_shape(stack: Stack, stream: bool):
    ask = {"model": "thinker", "prompt": "x", "logprobs": 1, "stream": stream}

    reply = post(stack, "/v1/completions", ask)

    choices = [c for event in events(reply) for c in event["choices"]] if stream else None
    given = [c["logprobs"] for c in choices or reply.json["choices"] if c["logprobs"]]
    assert [token for part in given for token in part["tokens"]] == PIECES
    assert [at for part in given for at in part["text_offset"]] == [
        len("".join(PIECES[:index])) for index in range(len(PIECES))
    ]
    assert given[0]["top_logprobs"][0] == {"or0": -1.5}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_thoughts_arrive_beside_the_answer(stack: Stack, local: Provider, stream: bool):
    reply = post(stack, "/v1/chat/completions", ASK | {"reasoning_effort": "low", "stream": stream})

    if stream:
        said = [c["delta"] for event in events(reply) for c in event["choices"]]
    else:
        said = [reply.json["choices"][0]["message"]]
    thoughts = [part["reasoning_content"] for part in said if part.get("reasoning_content")]
    assert thoughts == (THOUGHTS if stream else ["".join(THOUGHTS)])
    assert "".join(part.get("content") or "" for part in said) == " ".join(WORDS)
    assert local.seen[-1].body["reasoning_effort"] == "low"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_thoughts_are_a_block_of_their_own_in_a_message(stack: Stack, stream: bool):
    ask = message({"type": "text", "text": "x"}, model="thinker", max_tokens=2000)
    thinking = {"type": "enabled", "budget_tokens": 1024}

    unasked = post(stack, "/v1/messages", ask)
    reply = post(stack, "/v1/messages", ask | {"thinking": thinking, "stream": stream})

    assert [block["type"] for block in unasked.json["content"]] == ["text"]
    if stream:
        deltas = [e["delta"] for e in events(reply) if e["type"] == "content_block_delta"]
        assert [d["thinking"] for d in deltas if d["type"] == "thinking_delta"] == THOUGHTS
        assert "".join(d["text"] for d in deltas if d["type"] == "text_delta") == " ".join(WORDS)
    else:
        thought, text = reply.json["content"]
        assert (thought["type"], thought["thinking"]) == ("thinking", "".join(THOUGHTS))
        assert (text["type"], text["text"]) == ("text", " ".join(WORDS))


TOOL = {
    "name": "weather",
    "description": "d",
    "input_schema": {"type": "object", "properties": {"city": {"description": "d"}}},
}
HIDING_PLACES = {
    "system": message({"type": "text", "text": "hi"}, system=IBAN),
    "system block": message(
        {"type": "text", "text": "hi"}, system=[{"type": "text", "text": IBAN}]
    ),
    "text": message({"type": "text", "text": IBAN}),
    "tool input": {
        "model": "auto",
        "max_tokens": 50,
        "messages": [
            {"role": "user", "content": "go"},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "t", "name": "weather", "input": {"city": IBAN}}
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t", "content": "done"}],
            },
        ],
    },
    "tool result": {
        "model": "auto",
        "max_tokens": 50,
        "messages": [
            {"role": "user", "content": "go"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": {}}],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "content": [{"type": "text", "text": IBAN}],
                    }
                ],
            },
        ],
    },
    "thought": {
        "model": "auto",
        "max_tokens": 50,
        "messages": [
            {"role": "user", "content": "go"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": IBAN, "signature": "s"},
                    {"type": "text", "text": "ok"},
                ],
            },
            {"role": "user", "content": "on"},
        ],
    },
    "tool description": message(
        {"type": "text", "text": "hi"}, tools=[TOOL | {"description": IBAN}]
    ),
    "tool schema": message(
        {"type": "text", "text": "hi"},
        tools=[
            TOOL | {"input_schema": {"type": "object", "properties": {"c": {"description": IBAN}}}}
        ],
    ),
    "document": message(
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": IBAN}}
    ),
    "stop sequence": message({"type": "text", "text": "hi"}, stop_sequences=[IBAN]),
    "user id": message({"type": "text", "text": "hi"}, metadata={"user_id": IBAN}),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_a_message_is_sensitive_wherever_the_content_stands(
    stack: Stack, cloud: Provider, place: str
):
    before = len(cloud.seen)
    body = HIDING_PLACES[place]

    refused = post(stack, "/v1/messages", body | {"model": "cloud-seer"})

    assert refused.status in (400, 403), refused.body
    assert "label restricted allows local" in refused.json["error"]["message"]
    answered = post(stack, "/v1/messages", body)
    assert answered.headers["x-localforge-zone"] == "local"
    assert len(cloud.seen) == before


def test_a_text_completion_is_sensitive_too(stack: Stack, cloud: Provider):
    before = len(cloud.seen)
    body = {"model": "cloud-seer", "prompt": IBAN}

    assert post(stack, "/v1/completions", body).status == 403
    assert len(cloud.seen) == before


@pytest.mark.parametrize("stream", [False, True])
def test_a_message_has_the_same_usage_streamed_and_whole(stack: Stack, stream: bool):
    reply = post(stack, "/v1/messages", message({"type": "text", "text": "a b c"}, stream=stream))

    if stream:
        last = reply.body.decode().split("event: message_delta\ndata: ")[1].split("\n")[0]
        usage = json.loads(last)["usage"]
    else:
        usage = reply.json["usage"]
    assert usage == {
        "input_tokens": 2,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 1,
        "output_tokens": 12,
    }


def test_tokens_of_a_message_can_be_counted(stack: Stack, local: Provider):
    before = len(local.seen)

    reply = post(stack, "/v1/messages/count_tokens", message({"type": "text", "text": "a b " * 50}))

    assert reply.status == 200, reply.body
    assert 80 < reply.json["input_tokens"] < 140
    assert len(local.seen) == before


def test_feedback_takes_the_id_of_a_message(stack: Stack):
    answer = post(stack, "/v1/messages", message({"type": "text", "text": "hi"}))
    verdict = post(stack, "/v1/feedback", {"id": answer.json["id"], "score": 1})

    assert verdict.status == 202
    assert verdict.json["completion_id"] == answer.json["id"].replace("msg_", "chatcmpl-")
