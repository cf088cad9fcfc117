"""Token usage: read from a backend, counted where it gives none, and priced."""

from typing import Annotated

import msgspec

from localforge.contracts.chat import Usage
from localforge.contracts.live import Target
from localforge.inference.protocol import Reply

BYTES_PER_TOKEN = 4
"""Rule of thumb of byte-pair vocabularies for English prose; the estimate is marked as one."""


class _PromptDetails(msgspec.Struct, omit_defaults=True):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    """OpenRouter's name; OpenAI charges nothing for it and says nothing of it."""


class _UsageObject(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int


class _Rendered(msgspec.Struct, omit_defaults=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    estimated: bool = False


_Dollars = Annotated[float, msgspec.Meta(ge=0)]


class _CostDetails(msgspec.Struct):
    upstream_inference_cost: _Dollars | None = None


class _Bill(msgspec.Struct):
    cost: _Dollars | None = None
    is_byok: bool | None = None
    cost_details: _CostDetails | None = None


_decoder = msgspec.json.Decoder(_UsageObject | None)
_bill = msgspec.json.Decoder(_Bill)
_encoder = msgspec.json.Encoder()


def read_usage(raw: bytes | memoryview | msgspec.Raw) -> Usage | None:
    """Return the usage in OpenAI's shape; None for `null` and for one that counts nothing.

    Raises:
        msgspec.ValidationError: It is another shape.
    """
    found = _decoder.decode(raw)
    if found is None or found.prompt_tokens + found.completion_tokens <= 0:
        return None
    details = found.prompt_tokens_details
    return Usage(
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        cached_tokens=(details.cached_tokens or 0) if details else 0,
        cache_write_tokens=(details.cache_write_tokens or 0) if details else 0,
    )


def render_usage(usage: Usage, reasoning_tokens: int = 0) -> bytes:
    """Return OpenAI's `usage` object; an estimate says so with `"estimated": true`."""
    cached, written, thought = usage.cached_tokens, usage.cache_write_tokens, reasoning_tokens
    details = _PromptDetails(cached, written or None) if cached or written else None
    return _encoder.encode(
        _Rendered(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
            prompt_tokens_details=details,
            completion_tokens_details=_CompletionDetails(thought) if thought else None,
            estimated=usage.estimated,
        )
    )


def note_counts(reply: Reply, usage: Usage, reasoning_tokens: int = 0) -> None:
    """Keep what a backend counted in a format of its own."""
    reply.usage = usage
    reply.usage_json = render_usage(usage, reasoning_tokens)


def count_tokens(pieces: list[str]) -> int:
    """Estimate the tokens of a text given in pieces; the split into pieces does not matter."""
    size = len("".join(pieces).encode())
    return -(-size // BYTES_PER_TOKEN)


def settle_usage(reply: Reply, prompt_tokens: int) -> Usage:
    """Return what the backend counted, or else an estimate of what it did.

    Nothing was done where no request went out, or where it was answered with an error. A request
    that went out and got no answer before its time was up, or before it was called off, may have
    been worked on: its prompt counts.

    Args:
        reply: Of an attempt that has ended in any way.
        prompt_tokens: The profiler's estimate, for a backend that did not count them either.
    """
    if reply.usage is not None:
        return reply.usage
    if not reply.accepted and not reply.in_doubt:
        return Usage()
    prompt = reply.prompt or Usage(prompt_tokens=prompt_tokens)
    completion = count_tokens([*reply.text, *reply.hidden])
    return msgspec.structs.replace(prompt, completion_tokens=completion, estimated=True)


def cost_usd(usage: Usage, target: Target) -> float:
    """Return the price of the usage at the target's prices, in US dollars."""
    written_out = usage.completion_tokens * target.price_out
    if not usage.cached_tokens and not usage.cache_write_tokens:
        return (usage.prompt_tokens * target.price_in + written_out) / 1_000_000
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    written = min(usage.cache_write_tokens, usage.prompt_tokens - cached)
    written_1h = min(usage.cache_write_1h_tokens, written)
    write = _or(target.price_cache_write, target.price_in)
    return (
        (usage.prompt_tokens - cached - written) * target.price_in
        + cached * _or(target.price_cached, target.price_in)
        + (written - written_1h) * write
        + written_1h * _or(target.price_cache_write_1h, write)
        + written_out
    ) / 1_000_000


def told_cost_usd(usage_json: bytes) -> float | None:
    """Return what a vendor's usage object says the answer cost, in US dollars; None if it doesn't.

    OpenRouter's: `cost` is what it charges. With a key of one's own at the model's maker
    (`is_byok`) that is its fee alone, and what the maker charges stands beside it; without one the
    same figure is only a part of `cost`.
    """
    try:
        found = _bill.decode(usage_json)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if found.cost is None:
        return None
    upstream = found.cost_details.upstream_inference_cost if found.cost_details else None
    return found.cost + (upstream or 0.0 if found.is_byok else 0.0)


def _or(price: float | None, other: float) -> float:
    return other if price is None else price
