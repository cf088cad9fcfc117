"""OpenAI's chat request in Anthropic's words; Anthropic's own client library knows the shape."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from pydantic import TypeAdapter

from localforge.errors import BackendUnavailable, RequestRefused
from localforge.inference.anthropic_request import ModelFacts, translate
from localforge.inference.chat_shapes import encode, read_chat

SHAPE = TypeAdapter(MessageCreateParamsStreaming)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
}


def said(facts: ModelFacts | None = None, **body: Any) -> dict[str, Any]:
    """The translated body as JSON, checked against Anthropic's own types."""
    body = {"messages": [{"role": "user", "content": "Hi"}], **body}
    chat = read_chat(json.dumps(body).encode())
    request = translate(chat, "claude-x", facts or ModelFacts())
    found = json.loads(msgspec.json.encode(request))
    SHAPE.validate_python(found)
    return found


def test_the_simplest_request_has_what_anthropic_demands() -> None:
    assert said() == {
        "model": "claude-x",
        "max_tokens": 8192,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "stream": True,
    }


def test_a_tool_loop_becomes_alternating_turns_with_results_first() -> None:
    found = said(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL, {**CALL, "id": "call_2"}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
            {"role": "tool", "tool_call_id": "call_2", "content": "sun"},
            {"role": "user", "content": "And now?"},
        ],
        tools=[WEATHER],
    )

    assert found["system"] == "Be brief."
    assert [turn["role"] for turn in found["messages"]] == ["user", "assistant", "user"]
    assert found["messages"][1]["content"][0] == {
        "type": "tool_use",
        "id": "call_1",
        "name": "weather",
        "input": {"city": "Oslo"},
    }
    assert [block["type"] for block in found["messages"][2]["content"]] == [
        "tool_result",
        "tool_result",
        "text",
    ]
    assert found["tools"][0]["input_schema"]["properties"] == {"city": {"type": "string"}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, None),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
            {"type": "tool", "name": "weather"},
        ),
        (
            {"parallel_tool_calls": False},
            {"type": "auto", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_the_choice_of_tools(choice: dict[str, Any], expected: Any) -> None:
    assert said(tools=[WEATHER], **choice).get("tool_choice") == expected


def test_pictures_and_documents_go_as_data_or_by_address() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.jpg"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB"}},
    ]

    blocks = said(messages=[{"role": "user", "content": parts}])["messages"][0]["content"]

    assert [(block["type"], block["source"]) for block in blocks] == [
        ("image", {"type": "base64", "media_type": "image/png", "data": "AAAA"}),
        ("image", {"type": "url", "url": "https://example.com/cat.jpg"}),
        ("document", {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}),
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"max_tokens": 10}, {"max_tokens": 10}),
        ({"max_completion_tokens": 11, "max_tokens": 10}, {"max_tokens": 11}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", " ", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"temperature": 1.7}, {"temperature": 1.0}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"user": "u1"}, {"metadata": {"user_id": "u1"}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": 1}}}},
            {"output_config": {"format": {"type": "json_schema", "schema": {"a": 1}}}},
        ),
        (
            {"reasoning_effort": "minimal"},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        ),
    ],
)
def test_members_that_have_other_names(body: dict[str, Any], expected: dict[str, Any]) -> None:
    found = said(**body)

    assert {name: found[name] for name in expected} == expected


def test_an_older_model_gets_a_budget_below_its_bound_and_no_sampling_with_it() -> None:
    facts = ModelFacts(takes_effort=False, takes_adaptive_thinking=False, takes_budget=True)

    found = said(facts, reasoning_effort="high", max_tokens=4000, temperature=0.2)

    assert found["thinking"] == {"type": "enabled", "budget_tokens": 3999}
    assert "temperature" not in found
    assert "thinking" not in said(facts, reasoning_effort="high", max_tokens=1000)


def test_a_model_that_takes_no_sampling_gets_none() -> None:
    found = said(ModelFacts(takes_sampling=False), temperature=0.2, top_p=0.3, top_k=4)

    assert found.keys().isdisjoint({"temperature", "top_p", "top_k"})


def test_signed_thoughts_are_handed_back_before_the_call_they_led_to() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s1"}
    assistant = {"role": "assistant", "tool_calls": [CALL], "thinking_blocks": [thought]}
    messages = [{"role": "user", "content": "Weather?"}, assistant]

    blocks = said(messages=messages, tools=[WEATHER])["messages"][1]["content"]

    assert blocks[0] == thought
    assert blocks[1]["type"] == "tool_use"


def test_a_prompt_marked_for_the_cache_stays_marked() -> None:
    part = {"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral"}}

    found = said(messages=[{"role": "system", "content": [part]}, {"role": "user", "content": "?"}])

    assert found["system"] == [part]


def test_the_beginning_of_an_answer_does_not_end_in_space() -> None:
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "It is  "}]

    assert said(messages=messages)["messages"][1]["content"][0]["text"] == "It is"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages",
        ),
    ],
)
def test_what_anthropic_has_no_words_for_is_left_to_another_model(
    body: dict[str, Any], param: str
) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        said(**body)

    assert (caught.value.code, caught.value.status, caught.value.param) == (
        "backend_cannot",
        400,
        param,
    )


def test_arguments_that_are_no_object_are_refused_without_quoting_them() -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": "my secret"}}

    with pytest.raises(RequestRefused) as caught:
        said(messages=[{"role": "assistant", "tool_calls": [call]}])

    assert "secret" not in caught.value.message


def test_a_member_of_the_wrong_type_is_named() -> None:
    with pytest.raises(RequestRefused, match=r"temperature"):
        said(temperature="hot")


THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "s1"}
PICTURE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0K"}


@pytest.mark.parametrize(
    "blocks",
    [
        [{}],
        [{"type": 1}],
        [{"type": "thinking", "thinking": 5}],
        [{"type": "redacted_thinking", "data": ["x"]}],
        [{"type": "text", "text": "x"}],
        [THOUGHT, {"type": "document", "source": PICTURE}],
        [{"type": "image", "source": PICTURE}],
        [{"type": "tool_result", "tool_use_id": "1", "content": "x"}],
    ],
)
def test_thoughts_that_are_none_are_refused(blocks: list[Any]) -> None:
    with pytest.raises(RequestRefused, match="thinking_blocks") as caught:
        said(messages=[{"role": "assistant", "content": "So.", "thinking_blocks": blocks}])

    assert (caught.value.status, caught.value.param) == (400, "messages[0].thinking_blocks")


@pytest.mark.parametrize("role", ["user", "system", "tool"])
def test_thoughts_are_the_assistants(role: str) -> None:
    turn = {"role": role, "content": "So.", "thinking_blocks": [THOUGHT], "tool_call_id": "1"}

    with pytest.raises(RequestRefused, match="thinking_blocks"):
        said(messages=[{"role": "user", "content": "Hi"}, turn])


def test_nothing_but_a_thought_is_handed_back_with_it() -> None:
    hidden = {"type": "redacted_thinking", "data": "x"}
    blocks = [THOUGHT | {"source": PICTURE}, hidden | {"content": "x"}]

    messages = [{"role": "assistant", "content": "So.", "thinking_blocks": blocks}]

    assert said(messages=messages)["messages"][0]["content"][:2] == [THOUGHT, hidden]


def test_arguments_nested_too_deeply_are_refused() -> None:
    refused = 0
    depths = range(800, 1100, 4)
    for depth in depths:
        arguments = '{"a":' * depth + "1" + "}" * depth
        call = {"id": "1", "function": {"name": "f", "arguments": arguments}}
        body = json.dumps({"messages": [{"role": "assistant", "tool_calls": [call]}]}).encode()
        with contextlib.suppress(RequestRefused):
            encode(translate(read_chat(body), "claude-x", ModelFacts()))
            continue
        refused += 1

    assert 0 < refused < len(depths)
