"""The request with which a model is asked for a second answer to compare with its first.

The first answer is the one that the caller asked for, so that request goes out untouched. Asked the
same again at temperature 0, a model says the same again, which tells nothing; nor does a seed that
is kept.
"""

import msgspec

TEMPERATURE = 0.7
"""Of a second ask, where the caller's leaves nothing to chance. Wang et al., "Self-Consistency
Improves Chain of Thought Reasoning in Language Models", ICLR 2023, sample their largest models at
it."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


class _Sampling(msgspec.Struct):
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None


_sampling = msgspec.json.Decoder(_Sampling)


def resampled(body: bytes) -> bytes:
    """Return a chat request that may get another answer from the same model.

    A temperature above 0 is kept, and so is a `top_p` that stands alone: some models refuse both at
    once. A missing temperature is set, because what a server then does may be greedy. A seed
    becomes its neighbour; none is added, for not every model takes one, and a server draws anew
    without.

    Args:
        body: OpenAI's JSON, as the profiler has accepted it.
    """
    asked = _sampling.decode(body)
    changed: dict[str, float] = {}
    if asked.temperature == 0 or (asked.temperature is None and asked.top_p is None):
        changed["temperature"] = TEMPERATURE
    if asked.seed is not None:
        changed["seed"] = asked.seed ^ 1
    if not changed:
        return body
    members = _members.decode(body)
    members |= {name: msgspec.Raw(_encoder.encode(value)) for name, value in changed.items()}
    return _encoder.encode(members)
