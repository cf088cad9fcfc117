"""Take the text out of a checked chat request: what the user asks, and everything else.

Sensitivity is not judged on this text but on the whole body (`localforge.trust.detect`).
"""

from typing import Any

import msgspec

from localforge.features.request import MEDIA, MESSAGE, Body

HEAD, TAIL = 2_000, 1_000
SAMPLE = HEAD + TAIL
"""Characters of a prompt that are tokenized and embedded; the instruction of a long prompt is
nearly always at its beginning or at its end. Tokenizing 3,000 takes about 1 ms."""

_CALLS = ("tool_calls", "function_call")
_SCHEMAS = ("tools", "functions", "response_format")
_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal", "thinking", "tool_use"})
"""Parts whose every field is text, and so inspected; one of another type may be media."""
_IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})
_THOUGHTS = ("thinking", "redacted_thinking")
_REMOTE = ("http://", "https://")
_encoder = msgspec.json.Encoder()


class ChatText(msgspec.Struct, frozen=True):
    """The text of one request."""

    prompt: str
    """What the users' turns say, latest first; the last message when no turn is a user's."""
    other: str
    """Whatever else a model has to read: system, assistant and tool turns, schemas."""
    messages: int
    images: int = 0
    audio_parts: int = 0
    files: int = 0
    has_system: bool = False
    has_opaque_parts: bool = False
    """Some content is neither text, nor a thought, nor an image with an http(s) URL."""

    @property
    def sample(self) -> str:
        """The prompt, or the head and tail of a long one."""
        if len(self.prompt) <= SAMPLE:
            return self.prompt
        return f"{self.prompt[:HEAD]}\n{self.prompt[-TAIL:]}"


def extract_text(body: Body) -> ChatText:
    """Return the text of a request that `validate` has passed."""
    messages = body["messages"]
    user: list[str] = []
    other: list[str] = []
    # Without any user's turn (a script that only sets the stage) the last message is the prompt.
    asking = "user" if "user" in [message["role"] for message in messages] else None
    images = audio_parts = files = 0
    has_system = has_opaque_parts = False
    for message in messages:
        is_user = message["role"] == asking or (not asking and message is messages[-1])
        has_system = has_system or message["role"] in ("system", "developer")
        content = message.get("content")
        if isinstance(content, str):
            (user if is_user else other).append(content)
        elif content:
            for part in content:
                images += part["type"] in ("image_url", "input_image")
                audio_parts += part["type"] == "input_audio"
                files += part["type"] in ("file", "input_file")
                has_opaque_parts = has_opaque_parts or _is_opaque(part)
                if isinstance(text := part.get("text"), str):
                    (user if is_user else other).append(text)
        if not message.keys() <= MESSAGE:
            # A client may say of what it does not send that it is null.
            media = any(message.get(name) is not None for name in MEDIA.intersection(message))
            has_opaque_parts = has_opaque_parts or media
        if thoughts := message.get("thinking_blocks"):
            has_opaque_parts = has_opaque_parts or not _are_thoughts(thoughts)
        other += [_as_json(message[field]) for field in _CALLS if message.get(field)]
    other += [_as_json(body[field]) for field in _SCHEMAS if body.get(field)]
    return ChatText(
        prompt="\n".join(reversed(user)),
        other="\n".join(other),
        messages=len(messages),
        images=images,
        audio_parts=audio_parts,
        files=files,
        has_system=has_system,
        has_opaque_parts=has_opaque_parts,
    )


def _is_opaque(part: Body) -> bool:
    """Say whether a part's content cannot be inspected, by its type or by the fields it has."""
    kind = part["type"]
    if not (kind in _TEXT_PARTS or kind in _IMAGE_PARTS) or not MEDIA.isdisjoint(part):
        return True
    if "image_url" not in part:
        # Without a URL it is the image itself, or the id of an uploaded one.
        return kind in _IMAGE_PARTS
    image = part["image_url"]
    url = image.get("url") if isinstance(image, dict) else image
    return not (isinstance(url, str) and url[:8].lower().startswith(_REMOTE))


def _are_thoughts(blocks: object) -> bool:
    """Say whether a member that is for thoughts holds nothing else."""
    return isinstance(blocks, list) and all(
        isinstance(block, dict)
        and block.get("type") in _THOUGHTS
        and all(value is None or isinstance(value, str) for value in block.values())
        for block in blocks
    )


def _as_json(value: Any) -> str:
    return _encoder.encode(value).decode()
