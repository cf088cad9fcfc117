"""A whole, unstreamed completion: read once, marked with LocalForge's id and model."""

import msgspec

from localforge.contracts.chat import Usage
from localforge.inference.chunks import (
    EXPLAINED_EMPTY,
    Delta,
    empty_answer,
    members_decoder,
    note_content,
    note_usage,
)
from localforge.inference.failures import error_in_answer, malformed
from localforge.inference.protocol import Completion, Reply
from localforge.inference.usage import render_usage


class _Choice(msgspec.Struct):
    index: int = 0
    message: Delta | None = None
    finish_reason: str | None = None


_choices = msgspec.json.Decoder(list[_Choice])
_encoder = msgspec.json.Encoder()


def read_answer(body: bytes, request: Completion, reply: Reply) -> None:
    """Fill `reply` from the body of a 200.

    Raises:
        BackendUnavailable: It is an error object, no completion, or one without content.
    """
    try:
        if not body.isascii():
            body.decode()
        members = members_decoder.decode(body)
        usage = members.pop("usage", None)
        if usage is not None:
            note_usage(reply, usage)
        choices = _choices.decode(members["choices"])
    except KeyError:
        raise error_in_answer(members) or malformed("an answer without `choices`") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise malformed("an answer that is not JSON of the expected shape") from exc
    if failure := error_in_answer(members):
        raise failure
    found = False
    for choice in choices:
        if choice.index == 0:
            reply.finish_reason = choice.finish_reason or ""
        if choice.message is not None:
            found = found or choice.message.has_content
            note_content(reply, choice.index, choice.message)
    if not found and reply.finish_reason not in EXPLAINED_EMPTY:
        raise empty_answer()
    members["id"] = msgspec.Raw(_encoder.encode(request.completion_id))
    members["model"] = msgspec.Raw(_encoder.encode(request.model))
    reply.answer = members


def render_answer(reply: Reply, usage: Usage) -> bytes:
    """Return the completion as JSON, with the backend's usage or else the estimate."""
    raw = msgspec.Raw(reply.usage_json or render_usage(usage))
    return _encoder.encode({**reply.answer, "usage": raw})
