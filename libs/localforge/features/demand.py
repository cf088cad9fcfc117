"""What a request demands: capabilities, patience, effort. Rules, not learned."""

import math

from localforge.contracts.cards import Capability
from localforge.features.request import Body
from localforge.features.text import ChatText

_EFFORT = {"none": -0.2, "minimal": -0.2, "low": -0.1, "high": 0.2, "xhigh": 0.3}
_PATIENT_TIERS = {"flex": 0.9, "batch": 1.0}


def needs_of(body: Body, text: ChatText) -> frozenset[Capability]:
    """Return the capabilities without which the request cannot be answered."""
    needs = _media(body, text)
    if (body.get("tools") or body.get("functions")) and body.get("tool_choice") != "none":
        needs.add(Capability.TOOLS)
    kind = (body.get("response_format") or {}).get("type")
    if kind == "json_object":
        needs.add(Capability.JSON_OBJECT)
    elif kind == "json_schema":
        needs.add(Capability.JSON_SCHEMA)
    if body.get("logprobs"):
        needs.add(Capability.LOGPROBS)
    if (body.get("n") or 1) > 1:
        needs.add(Capability.N)
    if body.get("seed") is not None:
        needs.add(Capability.SEED)
    if _asks_to_think(body):
        needs.add(Capability.REASONING)
    return frozenset(needs)


def _media(body: Body, text: ChatText) -> set[Capability]:
    needs = set()
    if text.images:
        needs.add(Capability.VISION)
    modalities = body.get("modalities")
    if text.audio_parts or (isinstance(modalities, list) and "audio" in modalities):
        needs.add(Capability.AUDIO)
    if text.files:
        needs.add(Capability.FILES)
    return needs


def _asks_to_think(body: Body) -> bool:
    """Say whether a number or a word says how much to think; `adaptive` leaves it to the model."""
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") == "enabled":
        return True
    return body.get("reasoning_effort") not in (None, "none")


def max_tokens_of(body: Body) -> int:
    """Return the request's own bound on completion tokens; 0 means none."""
    return int(body.get("max_completion_tokens") or body.get("max_tokens") or 0)


def is_fixed(body: Body) -> bool:
    """Say whether the caller wants the same answer every time: a seed, and nothing left to it."""
    return body.get("seed") is not None and body.get("temperature") == 0


def is_in_tool_loop(body: Body) -> bool:
    """Say whether the last message is a tool's result."""
    return body["messages"][-1]["role"] in ("tool", "function")


def latency_tolerance(body: Body, *, durable: bool) -> float:
    """Return 0 (a person waits for each token) to 1 (a batch job).

    Args:
        body: The request.
        durable: It came on the durable lane, so nobody holds a connection open.
    """
    tier = body.get("service_tier")
    if tier in _PATIENT_TIERS:
        return _PATIENT_TIERS[tier]
    if durable:
        return 0.8
    if tier == "priority" or body.get("stream"):
        return 0.0
    return 0.3


def complexity(body: Body, text: ChatText, sample: str, cues: int, prompt_tokens: int) -> float:
    """Return how hard the request looks, 0 (trivial) to 1 (hard).

    A fixed rule over length, words that ask for reasoning, questions in one, conversation depth,
    tools and the caller's own `reasoning_effort`; the bandit learns what it is worth.

    Args:
        body: The request.
        text: Its text.
        sample: `text.sample`.
        cues: `Cues.effort` of the sample.
        prompt_tokens: Its length.
    """
    score = (
        0.09 * max(math.log2(max(prompt_tokens, 1)) - 3, 0)
        + 0.12 * min(cues, 3)
        + 0.04 * min(sample.count("?"), 4)
        + 0.02 * min(text.messages, 10)
        + (0.1 if body.get("tools") or body.get("functions") else 0.0)
        + (0.05 if body.get("response_format") else 0.0)
        + _EFFORT.get(str(body.get("reasoning_effort")), 0.0)
    )
    return min(max(score, 0.0), 1.0)
