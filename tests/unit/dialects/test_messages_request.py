"""Anthropic's requests, said as chat requests: every field goes somewhere or is refused."""

import json
from typing import Any

import msgspec
import pytest

from localforge.dialects.messages_request import MessagesBody, to_chat
from localforge.errors import RequestRefused
from localforge.features import parse_chat

PNG = "iVBORw0KGgo="


def chat_of(**members: Any) -> dict[str, Any]:
    body = {"model": "auto", "max_tokens": 10, "messages": [user("hi")]} | members
    chat = to_chat(msgspec.json.decode(json.dumps(body), type=MessagesBody))
    parse_chat(chat)  # is what the profiler accepts
    found: dict[str, Any] = json.loads(chat)
    return found


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def test_a_system_text_is_the_first_message():
    assert chat_of(system="Be brief.")["messages"][0] == {"role": "system", "content": "Be brief."}


def test_system_blocks_stay_apart_and_keep_their_cache_marks():
    mark = {"type": "ephemeral"}
    chat = chat_of(system=[text("Be brief."), text("Long text", cache_control=mark)])

    assert chat["messages"][0]["content"] == [
        text("Be brief."),
        text("Long text", cache_control=mark),
    ]


def test_a_tool_loop_is_a_call_and_its_result_before_what_the_user_says():
    chat = chat_of(
        messages=[
            user("weather?"),
            assistant(
                text("Let me see."),
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
            ),
            user(
                [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "rain"},
                    text("and tomorrow?"),
                ]
            ),
        ]
    )

    assert chat["messages"][1:] == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {
                    "id": "t1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "rain"},
        {"role": "user", "content": "and tomorrow?"},
    ]


def test_a_failed_tool_says_so_and_its_picture_follows():
    image = {"type": "base64", "media_type": "image/png", "data": PNG}
    result = {
        "type": "tool_result",
        "tool_use_id": "t1",
        "is_error": True,
        "content": [text("no such page"), {"type": "image", "source": image}],
    }
    chat = chat_of(
        messages=[
            user("look"),
            assistant({"type": "tool_use", "id": "t1", "name": "see", "input": {}}),
            user([result]),
        ]
    )

    assert chat["messages"][-2]["content"] == "Error: no such page"
    assert chat["messages"][-1] == user(
        [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]
    )


def test_thoughts_go_back_to_the_backend_that_signed_them():
    thought = {"type": "thinking", "thinking": "hm", "signature": "abc"}
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    chat = chat_of(messages=[user("hi"), assistant(thought, hidden, text("hello")), user("and?")])

    assert chat["messages"][1] == {
        "role": "assistant",
        "content": "hello",
        "thinking_blocks": [thought, hidden],
    }


def test_a_document_is_a_text_or_a_file():
    chat = chat_of(
        messages=[
            user(
                [
                    {"type": "document", "source": {"type": "text", "data": "a note"}},
                    {
                        "type": "document",
                        "source": {
                            "type": "base64",
                            "media_type": "application/pdf",
                            "data": PNG,
                        },
                    },
                ]
            )
        ]
    )

    assert chat["messages"][0]["content"] == [
        text("a note"),
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PNG}"}},
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
            {
                "tool_choice": {"type": "function", "function": {"name": "f"}},
                "parallel_tool_calls": False,
            },
        ),
    ],
)
def test_tools_and_the_choice_among_them(choice, expected):
    schema = {"type": "object", "properties": {"x": {"type": "string"}}}
    chat = chat_of(
        tools=[{"name": "f", "description": "does f", "input_schema": schema}], tool_choice=choice
    )

    assert chat["tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "description": "does f", "parameters": schema},
        }
    ]
    assert chat.items() >= expected.items()


def test_the_settings():
    schema = {"type": "object"}
    chat = chat_of(
        stop_sequences=["END"],
        temperature=0.3,
        top_p=0.9,
        top_k=40,
        metadata={"user_id": "u1"},
        thinking={"type": "enabled", "budget_tokens": 2000},
        output_config={"effort": "max", "format": {"type": "json_schema", "schema": schema}},
        stream=True,
    )

    assert {name: value for name, value in chat.items() if name not in ("model", "messages")} == {
        "max_tokens": 10,
        "stop": ["END"],
        "temperature": 0.3,
        "top_p": 0.9,
        "top_k": 40,
        "user": "u1",
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "reasoning_effort": "xhigh",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": schema},
        },
        "stream": True,
    }


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
        ({"messages": [user([])]}, "messages[0].content"),
        ({"messages": [user([{"type": "text"}])]}, "messages[0].content[0].text"),
        ({"messages": [user([{"type": "search_result"}])]}, "messages[0].content[0].type"),
        (
            {"messages": [user([{"type": "image", "source": {"type": "file", "file_id": "f"}}])]},
            "messages[0].content[0].source.type",
        ),
        ({"messages": [assistant({"type": "server_tool_use"})]}, "messages[0].content[0].type"),
        (
            {"messages": [assistant({"type": "tool_use", "name": "f"})]},
            "messages[0].content[0].id",
        ),
        (
            {"messages": [user([{"type": "tool_result", "content": "x"}])]},
            "messages[0].content[0].tool_use_id",
        ),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "best"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"output_format": {"type": "xml"}}, "output_format"),
        ({"output_config": {"effort": [1]}}, "output_config.effort"),
        ({"output_config": {"effort": {"a": 1}}}, "output_config.effort"),
        ({"output_config": {"effort": 3}}, "output_config.effort"),
        ({"output_config": {"format": "x"}}, "output_config.format"),
        ({"output_config": {"format": ["x"]}}, "output_config.format"),
    ],
)
def test_what_no_other_model_can_do_is_refused_by_name(members, param):
    with pytest.raises(RequestRefused) as error:
        chat_of(**members)

    assert error.value.param == param
    assert f"`{param}`" in error.value.message
