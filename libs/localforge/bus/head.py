"""How far a stream may be read without the broker having to keep what was read.

nats-server drops a block of a file stream from memory as soon as it is full, unless somebody has
read from it in the ten seconds before: then it stays for ten more. What is read of a full block is
held only until the next garbage collection. So a reader that follows a busy stream to its last
message makes the broker hold ten seconds of it, and one that keeps a block behind makes it hold
nothing. Read in nats-server 2.15 (`server/filestore.go`) and measured in docs/adr/0025.
"""

import collections

import msgspec

from localforge.contracts.subjects import BLOCK_BYTES

BEHIND_BYTES = BLOCK_BYTES + BLOCK_BYTES // 4
"""What lies this far back is in a full block. The quarter is for what a fetch takes too much."""
CALM_BYTES_PER_S = 1024 * 1024
"""Up to here a stream is read to its last message; ten seconds of it are little. Above, a reader is
behind by the time that `BEHIND_BYTES` take, five seconds at most."""
WINDOW_S = 1.0
"""Over which the rate is taken."""


class Look(msgspec.Struct, frozen=True, gc=False):
    """A stream at one moment."""

    at: float
    """Seconds, on any clock."""
    sequence: int
    """Of its last message."""
    size: int
    """Bytes of its messages, as stored."""


class Head:
    """Knows a stream from looks at it, and tells how far to read."""

    def __init__(self) -> None:
        self._looks: collections.deque[Look] = collections.deque()

    def note(self, look: Look) -> int | None:
        """Take the latest look; return the sequence to read up to, or None for no bound.

        A stream that is smaller than it was has been made anew, and is read to its end.
        """
        looks = self._looks
        if looks and look.size < looks[-1].size:
            looks.clear()
        looks.append(look)
        before = next((old for old in reversed(looks) if look.at - old.at >= WINDOW_S), looks[0])
        is_calm = look.size - before.size <= CALM_BYTES_PER_S * max(look.at - before.at, WINDOW_S)
        behind = next(
            (old for old in reversed(looks) if look.size - old.size >= BEHIND_BYTES), looks[0]
        )
        # What is older will not be asked for again. A rush begins with what is known of the last
        # second, so that looks at a calm stream do not gather.
        while looks[0] is not before and (is_calm or looks[0] is not behind):
            looks.popleft()
        return None if is_calm else behind.sequence
