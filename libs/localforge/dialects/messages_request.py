"""Anthropic's Messages request, said as an OpenAI chat request.

Every text of the request (system, turns, tools, tool inputs and results, thoughts) is in the chat
request too, so that the profiler, which reads that one, sees all that any backend will see.
"""

from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec

from localforge.errors import RequestRefused
from localforge.inference.anthropic_shapes import (
    TOOL_CHOICES,
    ContentBlock,
    Message,
    MessagesRequest,
    Tool,
    ToolChoice,
)

Json = dict[str, Any]

SAME_NAME = (
    "temperature",
    "top_p",
    "top_k",
    "stream",
    "thinking",
    "localforge",
    "preference",
    "provider",
)
"""Members that mean the same in the chat request. `top_k` and `thinking` are not OpenAI's; the
adapters know which backend takes them."""
NOT_OFFERED = ("mcp_servers", "container")
"""Members that ask Anthropic's own servers to do something."""
ROLES = ("user", "assistant")
EFFORTS = {"max": "xhigh"}
"""Anthropic's words for an effort that OpenAI calls something else."""
_CHOICES = {theirs: ours for ours, theirs in TOOL_CHOICES.items()}
_encoder = msgspec.json.Encoder()


class MessagesBody(MessagesRequest, kw_only=True):
    """The body of `POST /v1/messages`, with what speaks to LocalForge."""

    localforge: Json | msgspec.UnsetType | None = msgspec.UNSET
    preference: str | None = None
    provider: Json | msgspec.UnsetType | None = msgspec.UNSET
    output_format: Json | None = None
    """The earlier name of `output_config.format`."""
    mcp_servers: list[Any] | None = None
    container: Any = None


class CountBody(MessagesBody, kw_only=True):
    """The body of `POST /v1/messages/count_tokens`, which need not bound an answer."""

    max_tokens: int = 1


def to_chat(request: MessagesBody) -> bytes:
    """Return the chat request.

    Raises:
        RequestRefused: A field is wrong, or asks for what only Anthropic's servers can do; names
            the field.
    """
    _check(request)
    chat: Json = {"model": request.model, "messages": [*_system(request.system)]}
    for index, message in enumerate(request.messages):
        chat["messages"] += _turns(message, f"messages[{index}]")
    chat["max_tokens"] = request.max_tokens
    for name in SAME_NAME:
        if (value := getattr(request, name)) is not None and value is not msgspec.UNSET:
            chat[name] = value
    if request.stop_sequences:
        chat["stop"] = request.stop_sequences
    if request.tools:
        chat["tools"] = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(request.tools)]
    if request.tool_choice is not None:
        chat |= _tool_choice(request.tool_choice)
    chat |= _output(request)
    if user := (request.metadata or {}).get("user_id"):
        chat["user"] = user
    return _encoder.encode(chat)


def _check(request: MessagesBody) -> None:
    if not request.messages:
        _refuse("messages", "must have at least one message")
    if request.max_tokens < 1:
        _refuse("max_tokens", f"must be at least 1, got {request.max_tokens}")
    for name in NOT_OFFERED:
        if getattr(request, name):
            _refuse(name, "is run by Anthropic's servers and is not offered here; leave it out")


def _system(system: str | list[ContentBlock] | None) -> Iterator[Json]:
    if not system:
        return
    if isinstance(system, str):
        yield {"role": "system", "content": system}
        return
    for index, block in enumerate(system):
        if block.type != "text":
            _refuse(f"system[{index}].type", f"must be text, got {block.type[:40]!r}")
    yield {"role": "system", "content": _content([_part(b, "system") for b in system])}


def _turns(message: Message, where: str) -> Iterator[Json]:
    if message.role not in ROLES:
        _refuse(f"{where}.role", f"must be one of {', '.join(ROLES)}; got {message.role[:40]!r}")
    content = message.content
    if isinstance(content, str):
        yield {"role": message.role, "content": content}
    elif not content:
        _refuse(f"{where}.content", "must have at least one block")
    elif message.role == "assistant":
        yield _assistant(content, where)
    else:
        yield from _user(content, where)


def _assistant(blocks: list[ContentBlock], where: str) -> Json:
    turn: Json = {"role": "assistant", "content": None}
    parts, calls, thoughts = [], [], []
    for index, block in enumerate(blocks):
        place = f"{where}.content[{index}]"
        if block.type == "text":
            parts.append(_part(block, place))
        elif block.type == "tool_use":
            arguments = _encoder.encode({} if block.input is None else block.input).decode()
            function = {"name": _given(block.name, f"{place}.name"), "arguments": arguments}
            given = _given(block.id, f"{place}.id")
            calls.append({"id": given, "type": "function", "function": function})
        elif block.type == "thinking":
            thoughts.append(
                {
                    "type": "thinking",
                    "thinking": block.thinking or "",
                    "signature": block.signature or "",
                }
            )
        elif block.type == "redacted_thinking":
            thoughts.append({"type": "redacted_thinking", "data": block.data or ""})
        else:
            _refuse(f"{place}.type", _unknown(block.type, "an assistant's turn"))
    if parts:
        turn["content"] = _content(parts)
    if calls:
        turn["tool_calls"] = calls
    if thoughts:
        turn["thinking_blocks"] = thoughts
    return turn


def _user(blocks: list[ContentBlock], where: str) -> Iterator[Json]:
    """Yield the tools' results, which OpenAI wants right after the call, then what is said."""
    said: list[Json] = []
    for index, block in enumerate(blocks):
        place = f"{where}.content[{index}]"
        if block.type != "tool_result":
            said += _parts(block, place)
            continue
        result = _result_parts(block, place)
        # A tool's message holds text only; its pictures follow as the user's.
        said += [part for part in result if part["type"] != "text"]
        text = "\n".join(part["text"] for part in result if part["type"] == "text")
        yield {
            "role": "tool",
            "tool_call_id": _given(block.tool_use_id, f"{place}.tool_use_id"),
            "content": f"Error: {text}" if block.is_error else text,
        }
    if said:
        yield {"role": "user", "content": _content(said)}


def _result_parts(block: ContentBlock, where: str) -> list[Json]:
    if isinstance(block.content, str):
        return [{"type": "text", "text": block.content}]
    found: list[Json] = []
    for index, inner in enumerate(block.content or ()):
        found += _parts(inner, f"{where}.content[{index}]")
    return found


def _parts(block: ContentBlock, where: str) -> list[Json]:
    if block.type == "text":
        return [_part(block, where)]
    if block.type == "image":
        return [{"type": "image_url", "image_url": {"url": _address(block, where)}}]
    if block.type == "document":
        return _document(block, where)
    return _refuse(f"{where}.type", _unknown(block.type, "a user's turn"))


def _part(block: ContentBlock, where: str) -> Json:
    part: Json = {"type": "text", "text": _given(block.text, f"{where}.text", may_be_empty=True)}
    if block.cache_control:
        part["cache_control"] = block.cache_control
    return part


def _address(block: ContentBlock, where: str) -> str:
    source = block.source or {}
    if source.get("type") == "base64":
        media_type = _given(source.get("media_type"), f"{where}.source.media_type")
        return f"data:{media_type};base64,{_given(source.get('data'), f'{where}.source.data')}"
    if source.get("type") == "url":
        return _given(source.get("url"), f"{where}.source.url")
    return _refuse(
        f"{where}.source.type",
        "must be base64 or url; files uploaded to Anthropic are out of reach here",
    )


def _document(block: ContentBlock, where: str) -> list[Json]:
    source = block.source or {}
    kind = source.get("type")
    if kind == "text":
        return [{"type": "text", "text": _given(source.get("data"), f"{where}.source.data")}]
    if kind == "base64":
        return [{"type": "file", "file": {"file_data": _address(block, where)}}]
    return _refuse(
        f"{where}.source.type", "must be base64 or text; a document elsewhere is not fetched"
    )


def _content(parts: list[Json]) -> str | list[Json]:
    """Return one plain text as a string, which every server takes."""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return str(parts[0]["text"])
    return parts


def _tool(tool: Tool, where: str) -> Json:
    if tool.type not in (None, "custom"):
        _refuse(
            f"{where}.type",
            f"{str(tool.type)[:40]!r} is one of Anthropic's own tools, which no other model knows; "
            "describe it with an `input_schema`",
        )
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.input_schema is None:
        _refuse(f"{where}.input_schema", "is missing")
    function["parameters"] = tool.input_schema
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> Json:
    found: Json = {}
    if choice.type == "tool":
        name = _given(choice.name, "tool_choice.name")
        found["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif choice.type in _CHOICES:
        found["tool_choice"] = _CHOICES[choice.type]
    else:
        allowed = ", ".join([*_CHOICES, "tool"])
        _refuse("tool_choice.type", f"must be one of {allowed}; got {choice.type[:40]!r}")
    if choice.disable_parallel_tool_use:
        found["parallel_tool_calls"] = False
    return found


def _output(request: MessagesBody) -> Json:
    found: Json = {}
    config = request.output_config or {}
    if effort := config.get("effort"):
        name = _given(effort, "output_config.effort")
        found["reasoning_effort"] = EFFORTS.get(name, name)
    wanted = config.get("format") or request.output_format
    if wanted:
        where = "output_config.format" if config.get("format") else "output_format"
        is_schema = isinstance(wanted, dict) and wanted.get("type") == "json_schema"
        if not is_schema or not isinstance(wanted.get("schema"), dict):
            _refuse(where, 'must be {"type": "json_schema", "schema": {…}}')
        schema = {"name": "answer", "strict": True, "schema": wanted["schema"]}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    return found


def _given(value: object, where: str, *, may_be_empty: bool = False) -> str:
    if isinstance(value, str) and (value or may_be_empty):
        return value
    return _refuse(where, "must be a string" if may_be_empty else "must be a non-empty string")


def _unknown(kind: str, where: str) -> str:
    return f"{kind[:40]!r} is no block that {where} can have here"


def _refuse(param: str, problem: str) -> NoReturn:
    raise RequestRefused(f"`{param}` {problem}", code="invalid_value", param=param)
