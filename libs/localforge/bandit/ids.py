"""A bounded memory of message ids, so that a fact published twice teaches once."""

import hashlib
from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

REMEMBERED = 16_384


class RecentIds:
    """The most recent ids as 64-bit hashes, in order of arrival.

    Args:
        capacity: Ids kept; an older one may be taken again.
    """

    def __init__(self, capacity: int = REMEMBERED) -> None:
        self._order: deque[int] = deque()
        self._known: set[int] = set()
        self._capacity = capacity

    def add(self, identity: str) -> bool:
        """Remember an id; return False when it was already known."""
        value = _hashed(identity)
        if value in self._known:
            return False
        self._append(value)
        return True

    def __contains__(self, identity: str) -> bool:
        """Say whether an id is remembered."""
        return _hashed(identity) in self._known

    def array(self) -> NDArray[np.uint64]:
        """Return the hashes, oldest first."""
        return np.array(self._order, dtype="<u8")

    def restore(self, values: Iterable[int]) -> None:
        """Take over hashes from `array`."""
        for value in values:
            self._append(int(value))

    def _append(self, value: int) -> None:
        if len(self._order) >= self._capacity:
            self._known.discard(self._order.popleft())
        self._order.append(value)
        self._known.add(value)


def _hashed(identity: str) -> int:
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "little")
