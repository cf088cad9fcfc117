"""Embeddings from an OpenAI-compatible server: vectors pass through as they come."""

from typing import Any

import msgspec

from localforge.errors import BackendUnavailable, RequestRefused
from localforge.inference.chunks import members_decoder, note_usage
from localforge.inference.failures import error_in_answer, malformed
from localforge.inference.protocol import Completion, Reply
from localforge.inference.request_body import LOCALFORGE_FIELDS

_inputs = msgspec.json.Decoder(str | list[msgspec.Raw])
_vectors = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder()
_TOKEN = b"-0123456789"


def build_embeddings(request: Completion) -> tuple[bytes, int]:
    """Return the JSON to send and the number of vectors it asks for.

    Raises:
        RequestRefused: The body is not an embeddings request.
    """
    try:
        members = members_decoder.decode(request.body)
        inputs: Any = _inputs.decode(members["input"])
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RequestRefused("the request body has no `input` to embed", param="input") from exc
    for name in LOCALFORGE_FIELDS:
        members.pop(name, None)
    members["model"] = msgspec.Raw(_encoder.encode(request.upstream))
    return _encoder.encode(members), _wanted(inputs)


def read_embeddings(body: bytes, wanted: int, request: Completion, reply: Reply) -> None:
    """Fill `reply` from the body of a 200.

    Args:
        body: As it came.
        wanted: How many vectors were asked for.
        request: Whose answer this is.
        reply: Is filled.

    Raises:
        BackendUnavailable: It is an error object, or not one vector for each input.
    """
    try:
        if not body.isascii():
            body.decode()
        members = members_decoder.decode(body)
        usage = members.pop("usage", None)
        if usage is not None:
            note_usage(reply, usage)
        found = len(_vectors.decode(members["data"]))
    except KeyError:
        raise error_in_answer(members) or malformed("an answer without `data`") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise malformed("an answer that is not JSON of the expected shape") from exc
    if failure := error_in_answer(members):
        raise failure
    if found != wanted:
        raise BackendUnavailable(
            f"the model server gave {found} vectors for {wanted} inputs", code="backend_malformed"
        )
    members["model"] = msgspec.Raw(_encoder.encode(request.model))
    reply.answer = members


def _wanted(inputs: str | list[msgspec.Raw]) -> int:
    if isinstance(inputs, str) or not inputs:
        return 1
    # An array of token ids is one input.
    return 1 if bytes(inputs[0]).lstrip()[:1] in _TOKEN else len(inputs)
