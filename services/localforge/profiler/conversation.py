"""Which conversation a request belongs to, told from its messages alone; no session id is needed.

A request repeats all earlier turns. What stood before the last answer is what an earlier request
consisted of, so equal hashes link the two. The hashes are keyed: whoever sees one can neither
recover the messages nor test a guess.
"""

import hashlib
from typing import Any, NamedTuple

import msgspec

_encode = msgspec.json.Encoder().encode


class Conversation(NamedTuple):
    """What the messages of a request say about the one before."""

    id: str
    """Hash of all messages."""
    continues: str = ""
    """Hash of the messages before the last answer; empty on a first turn."""
    prefix_share: float = 0.0
    """Share of the request, by bytes, up to and including the last answer."""


def recognise(body: dict[str, Any], key: bytes) -> Conversation:
    """Return the conversation of a checked request.

    Args:
        body: With `messages`, and perhaps `tools`, which stand before them in a model's prompt.
        key: Secret of this site, 16 to 64 bytes.
    """
    messages = body["messages"]
    last = max(len(messages) - 2, 0)
    while last and messages[last]["role"] != "assistant":
        last -= 1
    tools = _encode(body.get("tools") or [])
    running = hashlib.blake2b(tools, digest_size=16, key=key)
    continues = ""
    size, prefix = len(tools), 0
    for index, message in enumerate(messages):
        if index == last and last:
            continues = running.copy().hexdigest()
        data = _encode(message)
        running.update(data)
        size += len(data)
        if index == last and last:
            prefix = size
    return Conversation(running.hexdigest(), continues, prefix / size)
