"""Read and check the body of a chat request; errors are worded as OpenAI's.

Only what LocalForge itself reads is checked. Every other field, known to OpenAI or not, passes
through to the backend, which may refuse it.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from localforge.errors import RequestRefused
from localforge.features.members import refuse_repeated, refuse_variants

Body = dict[str, Any]

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MEDIA = frozenset(
    {
        *("audio", "audios", "input_audio"),
        *("file", "files", "input_file"),
        *("image", "images"),
        *("video", "videos", "video_url"),
    }
)
"""Members of messages and parts that hold, or name, what nobody here can look into."""
MESSAGE = frozenset(
    {
        *("role", "content", "name", "refusal", "cache_control"),
        *("tool_calls", "tool_call_id", "function_call"),
        *("reasoning_content", "thinking_blocks"),
    }
)
"""Other members of messages that are known here."""
_PART = frozenset({"type", "text", "image_url", "refusal", "cache_control"})
MOST = 2**63 - 1
"""The greatest count that fits the messages between services; JSON knows greater ones."""
_IMAGE = frozenset({"url", "detail"})
_decoder = msgspec.json.Decoder()


def parse_chat(body: bytes) -> Body:
    """Decode and check one chat request.

    Raises:
        RequestRefused: Not JSON, or a field is wrong; names the field and what it must be.
    """
    try:
        data = _decoder.decode(body)
        refuse_repeated(body, data)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RequestRefused(
            f"the request body is not valid JSON: {exc}", code="invalid_json"
        ) from exc
    except RecursionError as exc:
        raise RequestRefused(
            "the request body is nested too deeply to be read", code="invalid_json"
        ) from exc
    return validate(data)


def validate(data: object) -> Body:
    """Check a decoded request and return it.

    Raises:
        RequestRefused: Names the field and what it must be.
    """
    if not isinstance(data, dict):
        raise RequestRefused(f"the request body must be a JSON object, got {_kind(data)}")
    if not data.keys() <= _NAMES:
        refuse_variants(data, _NAMES)
    for name in filter(data.__contains__, _FIELDS):
        value = data[name]
        is_right, expected = _FIELDS[name]
        if value is not None and not is_right(value):
            raise _wrong(name, expected, value)
    _check_messages(data.get("messages"))
    _check_response_format(data.get("response_format"))
    return data


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "a non-empty array", messages)
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise _wrong(where, "an object", message)
        if not message.keys() <= MESSAGE:
            refuse_variants(message, MESSAGE | MEDIA, f"{where}.")
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise _wrong(f"{where}.role", f"one of {', '.join(sorted(ROLES))}", role)
        content = message.get("content")
        if not isinstance(content, str):
            _check_content(where, role, content)
        calls = message.get("tool_calls")
        if calls is not None and not _is_objects(calls):
            raise _wrong(f"{where}.tool_calls", "an array of objects", calls)


def _check_content(where: str, role: str, content: object) -> None:
    """Check what is no plain string."""
    if content is None:
        # An assistant's turn may be only tool calls, a refusal or audio.
        if role != "assistant":
            raise _wrong(f"{where}.content", "a string or an array of content parts", content)
    elif isinstance(content, list):
        for index, part in enumerate(content):
            place = f"{where}.content[{index}]"
            if not isinstance(part, dict):
                raise _wrong(place, "an object", part)
            if not part.keys() <= _PART:
                refuse_variants(part, _PART | MEDIA, f"{place}.")
            image = part.get("image_url")
            if isinstance(image, dict) and not image.keys() <= _IMAGE:
                refuse_variants(image, _IMAGE, f"{place}.image_url.")
            if not isinstance(part.get("type"), str):
                raise _wrong(f"{place}.type", "a string", part.get("type"))
            if part["type"] == "text" and not isinstance(part.get("text"), str):
                raise _wrong(f"{place}.text", "a string", part.get("text"))
    else:
        raise _wrong(f"{where}.content", "a string or an array of content parts", content)


def _check_response_format(value: object) -> None:
    if value is None:
        return
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise _wrong("response_format", "an object with a `type`", value)
    schema = value.get("json_schema")
    if value["type"] == "json_schema" and not isinstance(schema, dict):
        raise _wrong("response_format.json_schema", "an object", schema)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST


def _is_between(low: float, high: float) -> Callable[[object], bool]:
    def is_right(value: object) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and low <= value <= high  # type: ignore[operator]

    return is_right


_FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "model": (_is_string, "a string"),
    "stream": (_is_bool, "true or false"),
    "stream_options": (_is_object, "an object"),
    "max_tokens": (_is_count, "an integer of at least 1"),
    "max_completion_tokens": (_is_count, "an integer of at least 1"),
    "n": (_is_count, "an integer of at least 1"),
    "temperature": (_is_between(0, 2), "a number from 0 to 2"),
    "top_p": (_is_between(0, 1), "a number from 0 to 1"),
    "presence_penalty": (_is_between(-2, 2), "a number from -2 to 2"),
    "frequency_penalty": (_is_between(-2, 2), "a number from -2 to 2"),
    "logprobs": (_is_bool, "true or false"),
    "tools": (_is_objects, "an array of objects"),
    "functions": (_is_objects, "an array of objects"),
    "service_tier": (_is_string, "a string"),
    "reasoning_effort": (_is_string, "a string"),
}


_NAMES = frozenset({*_FIELDS, "messages", "response_format", "localforge", "provider"})


def _wrong(param: str, expected: str, value: object) -> RequestRefused:
    return RequestRefused(
        f"`{param}` must be {expected}, got {_kind(value)}", code="invalid_value", param=param
    )


def _kind(value: object) -> str:
    """Name a wrong value without repeating text, which may be sensitive."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:.6g}" if -MOST <= value <= MOST else "a number beyond all bounds"
    kind = "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"
    return f"{'an' if kind != 'string' else 'a'} {kind}" if value else f"an empty {kind}"
