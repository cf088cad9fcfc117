"""The request with which a model is asked for a second answer to compare with its first.

The first answer is the one that the caller asked for, so that request goes out untouched. Asked the
same again at temperature 0, a model says the same again, which tells nothing; nor does a seed that
is kept.
"""

from typing import Any

import msgspec

TEMPERATURE = 0.7
"""Of a second ask, where the caller's leaves nothing to chance. Wang et al., "Self-Consistency
Improves Chain of Thought Reasoning in Language Models", ICLR 2023, sample their largest models at
it."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


UNCHANGED_AFTER = frozenset({400, 422})
"""Statuses that may mean that a model cannot be asked otherwise than the caller did."""


class _Sampling(msgspec.Struct):
    """Of any type: not every one that a caller may write is one that a server takes."""

    temperature: Any = None
    top_p: Any = None
    seed: Any = None


_sampling = msgspec.json.Decoder(_Sampling)


def resampled(body: bytes) -> bytes:
    """Return a chat request that may get another answer from the same model.

    A temperature above 0 is kept, and so is a `top_p` that stands alone: some models refuse both at
    once. A missing temperature is set, because what a server then does may be greedy. A seed
    becomes its neighbour, unless it is no whole number, which has none; none is added, for not
    every model takes one, and a server draws anew without.

    Args:
        body: OpenAI's JSON, as the profiler has accepted it.
    """
    asked = _sampling.decode(body)
    changed: dict[str, float] = {}
    seed = asked.seed
    if asked.temperature == 0 or (asked.temperature is None and asked.top_p is None):
        changed["temperature"] = TEMPERATURE
    if isinstance(seed, int) and not isinstance(seed, bool):
        changed["seed"] = seed ^ 1
    if not changed:
        return body
    members = _members.decode(body)
    members |= {name: msgspec.Raw(_encoder.encode(value)) for name, value in changed.items()}
    return _encoder.encode(members)


def repeats(first: bytes, second: bytes) -> bool:
    """Tell whether a model asked with `second` must say what it said to `first`.

    So it is at temperature 0, and with the same seed. What a server does where neither is given is
    left to chance.
    """
    before, after = _sampling.decode(first), _sampling.decode(second)
    return bool(after.temperature == 0 or (after.seed is not None and after.seed == before.seed))


def may_ask_unchanged(body: bytes, status: int) -> bool:
    """Tell whether to ask with the caller's own request after a changed one was refused.

    Some models take no temperature; those draw at one of their own.
    """
    return status in UNCHANGED_AFTER and not repeats(body, body)
