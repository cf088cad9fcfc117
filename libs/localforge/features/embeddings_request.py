"""Read and check the body of an embeddings request; errors are worded as OpenAI's."""

from typing import Any

import msgspec

from localforge.errors import RequestRefused
from localforge.features.members import refuse_repeated, refuse_variants
from localforge.features.request import Body

BYTES_PER_TOKEN = 4
"""Rule of thumb of byte-pair vocabularies for English prose. A request may bring megabytes, and
the figure only has to tell what fits; what is billed is what the backend counts."""
_NAMES = frozenset({"model", "input", "messages", "localforge", "provider", "preference"})
_decoder = msgspec.json.Decoder()


class EmbeddingsRequest(msgspec.Struct, frozen=True):
    """What an embeddings request brings."""

    texts: tuple[str, ...]
    """Empty when the input is tokens."""
    tokens: tuple[int, ...]
    """How many tokens each input has; estimated for texts."""

    @property
    def has_tokens(self) -> bool:
        """Whether the input is token ids, which nobody here can read."""
        return not self.texts

    @property
    def as_chat(self) -> Body:
        """The texts as a chat request, for what looks only at the words."""
        return {"messages": [{"role": "user", "content": "\n".join(self.texts) or "-"}]}


def parse_embeddings(body: bytes) -> EmbeddingsRequest:
    """Decode and check one request.

    Raises:
        RequestRefused: Not JSON, or a field is wrong; names the field and what it must be.
    """
    try:
        data = _decoder.decode(body)
        refuse_repeated(body, data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RequestRefused(
            f"the request body is not valid JSON: {exc}", code="invalid_json"
        ) from exc
    if not isinstance(data, dict):
        raise _wrong("input", "in a JSON object")
    refuse_variants(data, _NAMES)
    if "messages" in data:
        # Some servers embed them instead.
        raise RequestRefused(
            "`messages` is no member of an embeddings request; send `input`",
            code="invalid_value",
            param="messages",
        )
    found = data.get("input")
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list) or not found:
        raise _wrong("input", "a string, an array of strings, or an array of tokens")
    if all(isinstance(text, str) for text in found):
        if not all(found):
            raise _wrong(f"input[{found.index('')}]", "a string that is not empty")
        return EmbeddingsRequest(tuple(found), tuple(_estimate(text) for text in found))
    if _is_tokens(found):
        return EmbeddingsRequest((), (len(found),))
    if all(isinstance(tokens, list) and tokens and _is_tokens(tokens) for tokens in found):
        return EmbeddingsRequest((), tuple(len(tokens) for tokens in found))
    raise _wrong("input", "a string, or an array whose items are all strings or all tokens")


def _is_tokens(value: list[Any]) -> bool:
    return all(isinstance(token, int) and not isinstance(token, bool) for token in value)


def _estimate(text: str) -> int:
    return -(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN)


def _wrong(param: str, expected: str) -> RequestRefused:
    return RequestRefused(f"`{param}` must be {expected}", code="invalid_value", param=param)
