"""Whether the parts of an answer have all come: the broker does not promise it.

It drops what it cannot deliver when a connection breaks or is too slow.
"""

from localforge.contracts.live import AnyFrame, Completed, Delta


class Parts:
    """Counts the deltas of one attempt; an executor numbers them from 1, an older one does not."""

    def __init__(self) -> None:
        self._last = 0

    def is_gap_before(self, frame: AnyFrame) -> bool:
        """Tell whether a part of the answer is missing before a frame; each is shown once."""
        if isinstance(frame, Delta) and frame.number:
            self._last += 1
            return frame.number != self._last
        if isinstance(frame, Completed):
            return bool(frame.deltas or self._last) and frame.deltas != self._last
        return False
