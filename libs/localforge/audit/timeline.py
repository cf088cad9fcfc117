"""Decisions put back to the state of the learner that they were made on.

A decision was made on the facts up to its `state_sequence` and was published later, so in the
stream it stands behind facts its router did not know yet, and routers that fold at different speeds
publish out of order. Facts are therefore folded late: each waits until `window` more messages were
read, and decisions wait, ordered by state sequence, until exactly their facts are folded. Memory
is bounded by the window.
"""

import heapq
from collections import deque
from collections.abc import Callable
from typing import Protocol

from localforge.contracts.facts import DecisionMade

WINDOW = 50_000
"""Messages a fact waits for decisions that did not know it. Routers of a busy log are behind by
`localforge.bus.head.BEHIND_BYTES` and half a second: some 10,000."""


class Folded(Protocol):
    """A state that facts are folded into."""

    def apply_bytes(self, sequence: int, subject: str, data: bytes) -> object:
        """Take one fact."""


class Timeline:
    """Give it the stream in order; `visit` gets every decision when its facts are folded.

    Args:
        fold: Where to start; usually new. Owned by the timeline from then on.
        visit: Called with the record's sequence in the stream and the record. The fold then stands
            at the record's `state_sequence`, or beyond it when the record came too late.
        window: Messages a fact waits.
    """

    def __init__(
        self, fold: Folded, visit: Callable[[int, DecisionMade], None], window: int = WINDOW
    ) -> None:
        self.fold = fold
        self.window = window
        self._visit = visit
        self._facts: deque[tuple[int, str, bytes]] = deque()
        self._decisions: list[tuple[int, int, DecisionMade]] = []

    @property
    def waiting(self) -> int:
        """Facts and decisions that are kept."""
        return len(self._facts) + len(self._decisions)

    def fact(self, sequence: int, subject: str, data: bytes) -> None:
        """Take a fact that the learner folds."""
        self._facts.append((sequence, subject, data))

    def decision(self, sequence: int, record: DecisionMade) -> None:
        """Take a decision to be visited at its state."""
        heapq.heappush(self._decisions, (record.state_sequence, sequence, record))

    def read(self, sequence: int) -> None:
        """Note that the stream was read up to `sequence`: fold and visit what is due."""
        while self._facts and self._facts[0][0] <= sequence - self.window:
            self._fold_next()
        self._settle()

    def finish(self) -> None:
        """Fold and visit what is left."""
        while self._facts:
            self._fold_next()
        self._settle()

    def _fold_next(self) -> None:
        self._settle()
        self.fold.apply_bytes(*self._facts.popleft())

    def _settle(self) -> None:
        while self._decisions and (not self._facts or self._decisions[0][0] < self._facts[0][0]):
            _, sequence, record = heapq.heappop(self._decisions)
            self._visit(sequence, record)
