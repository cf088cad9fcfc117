"""From OpenAI's chat request to Anthropic's.

What Anthropic has no word for: `n`, `seed`, `logprobs` and `json_object` (their cards lack them),
audio, and both penalties, which are left out. `temperature` above 1 becomes 1, and goes out
neither with thinking nor to models that take none. A request without a bound on its answer gets
the model's own.
"""

from typing import Any

import msgspec

from localforge.errors import RequestRefused
from localforge.inference import anthropic_shapes as shapes
from localforge.inference.anthropic_shapes import ContentBlock
from localforge.inference.chat_shapes import (
    ChatMessage,
    ChatRequest,
    Part,
    read_arguments,
    split_data_url,
)
from localforge.inference.failures import cannot_say

DEFAULT_MAX_TOKENS = 8192
"""Where neither request, configuration nor model says; every current model allows it."""
BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768}
"""Thinking tokens for models that take a budget instead of an effort."""
LEAST_BUDGET = 1024
PDF = "application/pdf"
EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
_ANY_OBJECT: dict[str, Any] = {"type": "object", "properties": {}}


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What matters of one model when a request is translated for it."""

    max_tokens: int = DEFAULT_MAX_TOKENS
    takes_effort: bool = True
    takes_adaptive_thinking: bool = True
    takes_budget: bool = False
    takes_sampling: bool = True
    """Whether it takes `temperature`, `top_p` and `top_k` at all."""


class _Thought(msgspec.Struct, tag_field="type", tag="thinking", omit_defaults=True):
    thinking: str | None = None
    signature: str | None = None


class _Hidden(msgspec.Struct, tag_field="type", tag="redacted_thinking", omit_defaults=True):
    data: str


def translate(chat: ChatRequest, upstream: str, facts: ModelFacts) -> shapes.MessagesRequest:
    """Return the request in Anthropic's words.

    Raises:
        BackendUnavailable: It has a part that Anthropic has no words for (status 400).
        RequestRefused: It is wrong in itself.
    """
    max_tokens = chat.bound or facts.max_tokens
    thinking, effort = _thinking(chat, facts, max_tokens)
    output: dict[str, Any] = {"effort": effort} if effort else {}
    if chat.schema is not None:
        output["format"] = {"type": "json_schema", "schema": chat.schema}
    elif chat.response_format is not None and chat.response_format.type == "json_object":
        raise cannot_say(
            "Anthropic has no JSON mode without a schema; ask for `json_schema`", "response_format"
        )
    thinks = thinking is not None and thinking.get("type") != "disabled"
    samples = facts.takes_sampling and not thinks
    return shapes.MessagesRequest(
        model=upstream,
        max_tokens=max_tokens,
        messages=_turns(chat.messages),
        system=_system(chat.messages),
        tools=_tools(chat) or None,
        tool_choice=_tool_choice(chat),
        stop_sequences=[stop for stop in chat.stops if stop.strip()] or None,
        stream=True,
        temperature=min(chat.temperature, 1.0)
        if samples and chat.temperature is not None
        else None,
        top_p=chat.top_p if samples and chat.temperature is None else None,
        top_k=chat.top_k if samples else None,
        metadata={"user_id": chat.user} if chat.user else None,
        thinking=thinking,
        output_config=output or None,
    )


def _thinking(
    chat: ChatRequest, facts: ModelFacts, max_tokens: int
) -> tuple[dict[str, Any] | None, str]:
    """Return `thinking` and the effort; None and empty leave both to the model."""
    wanted = chat.reasoning_effort
    if chat.thinking is not None:
        return chat.thinking, wanted if wanted in EFFORTS and facts.takes_effort else ""
    if wanted is None:
        return None, ""
    if wanted == "none":
        return {"type": "disabled"}, ""
    effort = ("low" if wanted == "minimal" else wanted) if facts.takes_effort else ""
    if facts.takes_adaptive_thinking:
        return {"type": "adaptive"}, effort
    budget = min(BUDGETS.get(wanted, BUDGETS["high"]), max_tokens - 1)
    if facts.takes_budget and budget >= LEAST_BUDGET:
        return {"type": "enabled", "budget_tokens": budget}, effort
    return None, effort


def _system(messages: list[ChatMessage]) -> str | list[ContentBlock] | None:
    parts = [
        part
        for message in messages
        if message.role in ("system", "developer")
        for part in message.parts
        if part.text
    ]
    if any(part.cache_control for part in parts):
        return [_text_block(part) for part in parts]
    return "\n\n".join(part.text or "" for part in parts) or None


def _turns(messages: list[ChatMessage]) -> list[shapes.Message]:
    """Return the turns with neighbours of one role joined, as tool results have to be."""
    turns: list[shapes.Message] = []
    for index, message in enumerate(messages):
        thoughts = _thoughts(message, f"messages[{index}].thinking_blocks")
        if message.role in ("system", "developer"):
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = thoughts + _blocks(message)
        if not blocks:
            continue
        last = turns[-1] if turns else None
        if last is not None and last.role == role and isinstance(last.content, list):
            last.content.extend(blocks)
        else:
            turns.append(shapes.Message(role=role, content=blocks))
    if turns and turns[-1].role == "assistant":
        _trim(turns[-1])
    return turns


def _trim(prefill: shapes.Message) -> None:
    """Take off what Anthropic refuses at the end of an answer that is to be gone on with."""
    last = prefill.content[-1]
    if isinstance(last, ContentBlock) and last.text:
        last.text = last.text.rstrip()


def _thoughts(message: ChatMessage, where: str) -> list[ContentBlock]:
    """Return a turn's thoughts, and of them nothing that anybody could hide something else in."""
    if not message.thinking_blocks:
        return []
    if message.role != "assistant":
        raise RequestRefused(f"`{where}` may only be in an assistant's turn", param=where)
    try:
        thoughts = msgspec.convert(message.thinking_blocks, list[_Thought | _Hidden])
    except msgspec.ValidationError as exc:
        raise RequestRefused(
            f"`{where}` must be blocks of type `thinking` or `redacted_thinking`", param=where
        ) from exc
    return [msgspec.convert(msgspec.to_builtins(thought), ContentBlock) for thought in thoughts]


def _blocks(message: ChatMessage) -> list[ContentBlock]:
    if message.role == "tool":
        return [
            ContentBlock(
                type="tool_result",
                tool_use_id=message.tool_call_id,
                content=[_block(part) for part in message.parts if part.text or part.image],
            )
        ]
    if message.role == "function":
        raise cannot_say("`function` messages are the old form of `tool` messages", "messages")
    blocks = [_block(part) for part in message.parts if part.type != "text" or part.text]
    if message.refusal and not message.content:
        blocks.append(ContentBlock(type="text", text=message.refusal))
    blocks += [
        ContentBlock(
            type="tool_use",
            id=call.id,
            name=call.function.name,
            input=read_arguments(call.function),
        )
        for call in message.tool_calls or ()
    ]
    return blocks


def _block(part: Part) -> ContentBlock:
    if part.type in ("text", "refusal"):
        return _text_block(part)
    address = part.image or (part.file.file_data if part.file else "")
    data = split_data_url(address)
    if part.image or (data and data[0] == PDF):
        return ContentBlock(
            type="image" if part.image else "document",
            source={"type": "base64", "media_type": data[0], "data": data[1]}
            if data
            else {"type": "url", "url": address},
            cache_control=part.cache_control,
        )
    raise cannot_say(
        f"a content part of type {part.type[:40]!r} cannot be passed on to Anthropic", "messages"
    )


def _text_block(part: Part) -> ContentBlock:
    return ContentBlock(
        type="text", text=part.text or part.refusal, cache_control=part.cache_control
    )


def _tools(chat: ChatRequest) -> list[shapes.Tool]:
    return [
        shapes.Tool(
            name=function.name,
            description=function.description,
            input_schema={"type": "object", **(function.parameters or _ANY_OBJECT)},
            strict=function.strict,
        )
        for function in chat.offered
    ]


def _tool_choice(chat: ChatRequest) -> shapes.ToolChoice | None:
    if not chat.tools:
        return None
    name = chat.chosen_function
    wanted = chat.tool_choice if isinstance(chat.tool_choice, str) else "auto"
    kind = "tool" if name else shapes.TOOL_CHOICES.get(wanted, "auto")
    one_at_a_time = True if chat.parallel_tool_calls is False and kind != "none" else None
    if kind == "auto" and not one_at_a_time:
        return None
    return shapes.ToolChoice(type=kind, name=name or None, disable_parallel_tool_use=one_at_a_time)
