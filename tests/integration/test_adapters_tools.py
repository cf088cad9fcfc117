"""Tool calls and their results, the same in every kind of backend's own words."""

import asyncio
import json
from typing import Any, NamedTuple

import pytest

from localforge.config import BackendConfig
from localforge.contracts.cards import Capability
from localforge.errors import BackendRefused, BackendUnavailable
from localforge.faults import FaultServer, Settings
from localforge.inference import Completion, Reply, build_adapter
from localforge.inference.answers import render_answer
from localforge.inference.chunks import closing_events
from localforge.inference.tgi import TgiAdapter
from localforge.inference.usage import settle_usage
from localforge.registry.cards import cards_of
from tests.fakes.pages import LINES, serve_pages

ARGUMENTS = {"city": "Oslo"}
SAID = json.dumps(ARGUMENTS)
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": SAID}}
TURNS = [
    {"role": "user", "content": "Is it raining in Oslo?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "It pours."},
]
BASE = {"id": "x", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**BASE, "object": "chat.completion.chunk", "choices": [choice], **more}


def piece(arguments: str, **more: Any) -> dict[str, Any]:
    """A part of the call; TGI names the tool in each."""
    function = {"name": "weather", "arguments": arguments} if more else {"arguments": arguments}
    return {"tool_calls": [{"index": 0, "function": function, **more}]}


def block(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": f"content_block_{kind}", "index": 0, **more}


def events(*told: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in told)


OPENAI_WHOLE = {
    **BASE,
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": None, "tool_calls": [CALL]},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": USAGE,
}
OPENAI_STREAM = (
    events(
        chunk({"role": "assistant", "content": None}),
        chunk(piece("", id="call_1", type="function")),
        chunk(piece(SAID[:5])),
        chunk(piece(SAID[5:])),
        chunk({}, "tool_calls"),
        {**BASE, "object": "chat.completion.chunk", "choices": [], "usage": USAGE},
    )
    + b"data: [DONE]\n\n"
)
ANTHROPIC = events(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 9, "output_tokens": 1},
        },
    },
    block(
        "start", content_block={"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}
    ),
    block("delta", delta={"type": "input_json_delta", "partial_json": SAID[:5]}),
    block("delta", delta={"type": "input_json_delta", "partial_json": SAID[5:]}),
    block("stop"),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 4},
    },
    {"type": "message_stop"},
)
OLLAMA = b"".join(
    json.dumps({"model": "m", "created_at": "2026-01-01T00:00:00Z", **line}).encode() + b"\n"
    for line in (
        {
            "message": {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "weather", "arguments": ARGUMENTS}}],
            },
            "done": False,
        },
        {
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 9,
            "eval_count": 4,
        },
    )
)


class Kind(NamedTuple):
    """A backend that calls the tool: where it is asked, and what it says."""

    path: str
    whole: Any
    stream: Any
    base_path: str = ""


OPENAI = Kind("/v1/chat/completions", OPENAI_WHOLE, OPENAI_STREAM, "/v1")
KINDS = {
    "openai": OPENAI,
    "vllm": OPENAI,
    "tgi": OPENAI._replace(base_path=""),
    # What is not to be streamed is read as a stream too.
    "anthropic": Kind("/v1/messages", ANTHROPIC, ANTHROPIC),
    "ollama": Kind("/api/chat", (LINES, OLLAMA), (LINES, OLLAMA)),
}


KNOWN = {
    "/api/tags": {"models": [{"name": "healthy:latest", "model": "healthy:latest", "digest": "0"}]},
    "/api/show": {"capabilities": ["completion", "tools"], "model_info": {}, "details": {}},
}
"""What an Ollama is asked before it is asked for an answer."""


async def ask(kind: str, url: str, *, stream: bool) -> tuple[Reply, list[dict[str, Any]]]:
    """Ask and return the reply, and its messages: one, or the deltas of a stream."""
    batches: list[bytes] = []

    async def write(data: bytes) -> None:
        batches.append(data)

    body = {"messages": TURNS, "tools": [TOOL], "max_tokens": 50}
    request = Completion(
        completion_id="chatcmpl-test",
        model="mine",
        upstream="healthy",
        body=json.dumps(body).encode(),
        stream=stream,
    )
    reply = Reply(write)
    adapter = build_adapter(BackendConfig(name="b", kind=kind, url=url), "sk-test")  # type: ignore[arg-type]
    await adapter.start()
    try:
        async with asyncio.timeout(20):
            await adapter.complete(request, reply)
    finally:
        await adapter.close()
    usage = settle_usage(reply, 0)
    if not stream:
        answer = json.loads(render_answer(reply, usage))
        return reply, [choice["message"] for choice in answer["choices"]]
    told = b"".join([*batches, closing_events(request, reply, usage)]).split(b"\n\n")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in told[:-2]]
    return reply, [choice["delta"] for event in chunks for choice in event["choices"]]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_tool_is_offered_called_and_told_of_in_the_backends_own_words(
    kind: str, stream: bool
):
    path, whole, streamed, base_path = KINDS[kind]
    seen: list[dict[str, Any]] = []

    async with serve_pages(KNOWN | {path: streamed if stream else whole}, seen) as url:
        reply, messages = await ask(kind, url + base_path, stream=stream)

    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    assert {call["function"]["name"] for call in calls if call["function"].get("name")} == {
        "weather"
    }
    said = "".join(call["function"].get("arguments") or "" for call in calls)
    assert json.loads(said) == ARGUMENTS
    assert any(call.get("id") for call in calls)
    assert "".join(message.get("content") or "" for message in messages) == ""
    assert (reply.finish_reason, reply.tool_calls) == ("tool_calls", 1)
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (9, 4)

    [asked] = [request["body"] for request in seen if request["path"] == path]
    [tool] = asked["tools"]
    assert tool.get("function", tool)["name"] == "weather"
    _, call, result = asked["messages"]
    assert "weather" in json.dumps(call)
    assert "Oslo" in json.dumps(call)
    assert "It pours." in json.dumps(result)


async def test_tgi_without_a_chat_template_refuses_tools_and_does_not_forget_them():
    server = FaultServer(Settings(chat_template=False))
    await server.start()
    with pytest.raises(BackendUnavailable, match="no tools") as caught:
        await ask("tgi", server.url, stream=False)
    await server.close()

    assert caught.value.status == 400
    assert list(server.journal.requests) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_backend_says_is_wrong_with_a_request_reaches_the_caller(kind: str):
    path, *_, base_path = KINDS[kind]
    words = {"error": {"type": "invalid_request_error", "message": "`top_k` is too high"}}
    refusal: Any = {"error": "`top_k` is too high"} if kind in ("ollama", "tgi") else words

    async with serve_pages(KNOWN | {path: (400, refusal)}, []) as url:
        with pytest.raises(BackendRefused) as caught:
            await ask(kind, url + base_path, stream=False)

    assert (caught.value.status, caught.value.message) == (400, "`top_k` is too high")


@pytest.mark.parametrize("has_template", [True, False])
async def test_the_card_of_a_tgi_says_whether_it_can_take_tools(*, has_template: bool):
    server = FaultServer(Settings(chat_template=has_template))
    await server.start()
    adapter = TgiAdapter(server.url)
    await adapter.start()
    probe = await adapter.probe()
    await adapter.close()
    await server.close()

    (found,) = probe.found
    card = cards_of(BackendConfig(name="tgi", kind="tgi", url=server.url), (found,))[0]
    assert (Capability.TOOLS in card.capabilities) is has_template
    # Asking is no request of anybody's.
    assert list(server.journal.requests) == []
