"""The chunks of an OpenAI stream: read once, marked with LocalForge's id and model, passed on.

Members that LocalForge does not know stay the bytes they were. `usage` is taken out wherever it
appears and given once at the end, so that usage is the same streamed or not.
"""

import itertools
import time
from typing import Any

import msgspec

from localforge.contracts.chat import Usage
from localforge.errors import BackendUnavailable
from localforge.inference.failures import error_in_answer, malformed
from localforge.inference.protocol import Completion, Reply
from localforge.inference.usage import read_usage, render_usage

DONE = b"[DONE]"
DONE_EVENT = b"data: [DONE]\n\n"
EXPLAINED_EMPTY = frozenset({"length", "content_filter"})
"""With these an answer without content says why it has none."""


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class Delta(msgspec.Struct):
    """What a delta or a message brings, as far as the executor looks at it."""

    content: Any = None
    tool_calls: list[_ToolCall] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    function_call: _Function | None = None
    audio: Any = None

    @property
    def has_content(self) -> bool:
        """Whether there is anything that a caller would call an answer."""
        return bool(
            self.content
            or self.tool_calls
            or self.reasoning_content
            or self.reasoning
            or self.refusal
            or self.function_call
            or self.audio
        )


class _Choice(msgspec.Struct):
    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None


members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_choices = msgspec.json.Decoder(list[_Choice] | None)
_created = msgspec.json.Decoder(float)
_raw_choices = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder()
_NULL = msgspec.Raw(b"null")


class ChunkReader:
    """Reads one stream's payloads into a `Reply`, and writes them on in batches.

    Chunks before the first content (a role, a filter's verdict) are held back until it comes:
    nothing has then reached the caller, and another model may still answer.

    A choice finishes once: a chunk that only says so again is left out. One with content is not,
    as some servers give a finish reason with every piece.

    Args:
        request: Whose chunks these are.
        reply: Is filled.
        expected_choices: The request's `n`.
    """

    __slots__ = (
        "_expected",
        "_finished",
        "_held",
        "_id",
        "_model",
        "_reply",
        "_seen",
        "_usage_null",
        "done",
    )

    def __init__(self, request: Completion, reply: Reply, expected_choices: int = 1) -> None:
        self._id = msgspec.Raw(_encoder.encode(request.completion_id))
        self._model = msgspec.Raw(_encoder.encode(request.model))
        self._usage_null = request.include_usage
        self._reply = reply
        self._held: list[bytes] = []
        self._expected = expected_choices
        self._seen = 0
        self._finished: set[int] = set()
        self.done = False
        """`[DONE]` was read."""

    @property
    def finished(self) -> bool:
        """Whether every choice that was asked for has given its finish reason."""
        return len(self._finished) >= self._expected

    async def take(self, payloads: list[bytes]) -> None:
        """Read events that were ready together and write on what is for the caller.

        Raises:
            BackendUnavailable: A payload is an error object or no chunk.
        """
        parts = self._held
        for payload in payloads:
            if payload == DONE:
                self.done = True
                break
            chunk = self._read(payload)
            if chunk:
                parts += (b"data: ", chunk, b"\n\n")
        if parts and self._reply.first_content_at:
            data = b"".join(parts)
            parts.clear()
            await self._reply.write(data)

    async def end(self) -> None:
        """Check that the stream was whole, when it has ended.

        Raises:
            BackendUnavailable: It was cut, or it holds no answer.
        """
        if not 0 < self._seen <= len(self._finished):
            raise BackendUnavailable(
                "the model server's stream ended before its answer was finished", code="backend_cut"
            )
        if self._reply.first_content_at:
            return
        if self._reply.finish_reason not in EXPLAINED_EMPTY:
            raise empty_answer()
        self._reply.note_content()
        await self._reply.write(b"".join(self._held))

    def _read(self, payload: bytes) -> bytes:
        try:
            if not payload.isascii():
                payload.decode()  # members that are passed on unread must be text too
            members = members_decoder.decode(payload)
            usage = members.pop("usage", None)
            counted = usage is not None and note_usage(self._reply, usage)
            choices = _choices.decode(members["choices"])
        except KeyError:
            raise error_in_answer(members) or malformed("a chunk without `choices`") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise malformed("a chunk that is not JSON of the expected shape") from exc
        if "error" in members and (failure := error_in_answer(members)):
            raise failure
        if choices:
            if not self._note_all(choices, members):
                return b""
        elif counted:
            return b""
        if not self._reply.created:
            self._reply.created = read_created(members)
        members["id"] = self._id
        members["model"] = self._model
        if self._usage_null:
            members["usage"] = _NULL
        return _encoder.encode(members)

    def _note_all(self, choices: list[_Choice], members: dict[str, msgspec.Raw]) -> bool:
        """Take what a chunk brings, less what was said before; False when nothing is left."""
        are_new = [self._note(choice) for choice in choices]
        if all(are_new):
            return True
        raw = itertools.compress(_raw_choices.decode(members["choices"]), are_new)
        members["choices"] = msgspec.Raw(_encoder.encode(list(raw)))
        return any(are_new)

    def _note(self, choice: _Choice) -> bool:
        """Take what a choice brings; False when it only says again that it has finished."""
        delta = choice.delta
        if (
            choice.finish_reason
            and choice.index in self._finished
            and not (delta is not None and delta.has_content)
        ):
            return False
        if choice.index >= self._seen:
            self._seen = choice.index + 1
        if delta is not None:
            if not self._reply.first_content_at and delta.has_content:
                self._reply.note_content()
            note_content(self._reply, choice.index, delta)
        if choice.finish_reason:
            self._finished.add(choice.index)
            if choice.index == 0:
                self._reply.finish_reason = choice.finish_reason
        return True


def note_content(reply: Reply, index: int, delta: Delta) -> None:
    """Add what a delta or message brings to the reply's text, hidden text and tool calls."""
    content = delta.content
    if type(content) is str:
        (reply.hidden if index else reply.text).append(content)
    elif content:
        reply.hidden.append(_encoder.encode(content).decode())
    if delta.reasoning_content or delta.reasoning:
        thought = delta.reasoning_content or delta.reasoning
        if type(thought) is str:
            reply.hidden.append(thought)
    if type(delta.refusal) is str:
        (reply.hidden if index else reply.text).append(delta.refusal)
    for call in delta.tool_calls or ():
        if call.function is None:
            continue
        if call.function.name:
            reply.tool_calls += index == 0
            reply.hidden.append(call.function.name)
        arguments = call.function.arguments
        if type(arguments) is str:
            reply.hidden.append(arguments)


def note_usage(reply: Reply, raw: msgspec.Raw) -> bool:
    """Keep a usage object; returns whether it counted anything.

    Raises:
        msgspec.ValidationError: It is not OpenAI's shape.
    """
    usage = read_usage(raw)
    if usage is None:
        return False
    reply.usage = usage
    reply.usage_json = bytes(raw)
    return True


def read_created(members: dict[str, msgspec.Raw]) -> int:
    """Return the backend's creation time, or now where it gives none (Unix seconds)."""
    try:
        return int(_created.decode(members["created"]))
    except (KeyError, msgspec.DecodeError):
        return int(time.time())


def empty_answer() -> BackendUnavailable:
    """Say that a backend finished without any content."""
    return BackendUnavailable("the model server gave an empty answer", code="backend_empty")


def closing_events(request: Completion, reply: Reply, usage: Usage) -> bytes:
    """Return the last events of a stream: usage where it was asked for, then `[DONE]`."""
    if not request.include_usage:
        return DONE_EVENT
    chunk = {
        "id": request.completion_id,
        "object": "chat.completion.chunk",
        "created": reply.created,
        "model": request.model,
        "choices": [],
        "usage": msgspec.Raw(reply.usage_json or render_usage(usage)),
    }
    return b"data: %b\n\n%b" % (_encoder.encode(chunk), DONE_EVENT)
