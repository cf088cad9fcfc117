"""Find out in one pass which of many fixed words a text holds.

Asking for each word by itself reads the text once per word.
"""

from collections.abc import Sequence

from ahocorasick_rs import BytesAhoCorasick, Implementation

_CHUNK = 1 << 16


class Literals:
    """A set of words. Immutable; the time is linear in the text, whatever it holds.

    Args:
        words: None of them empty.
    """

    def __init__(self, words: Sequence[bytes]) -> None:
        # A state for every prefix and byte, 100 kB for 140 words: the fastest of its three kinds.
        self._automaton = BytesAhoCorasick(words, implementation=Implementation.DFA)
        self._overlap = max(map(len, words)) - 1

    def held_by(self, text: bytes) -> set[int]:
        """Return the indexes of the words that occur, be it inside one another."""
        if len(text) <= _CHUNK:
            return self._held_by(text)
        # In parts, because every occurrence is an object for a moment.
        starts = range(0, len(text), _CHUNK)
        return set().union(
            *(self._held_by(text[start : start + _CHUNK + self._overlap]) for start in starts)
        )

    def _held_by(self, part: bytes) -> set[int]:
        matches = self._automaton.find_matches_as_indexes(part, overlapping=True)
        return {index for index, _, _ in matches}
