"""Look for a pattern only where a word announces it, so that text without the word costs little.

The rules know well over a hundred words. All of them are looked for at once.
"""

import functools
import re
from collections.abc import Iterable, Iterator

from localforge.literals import Literals

_CHUNK = 1 << 20
_OVERLAP = 512
_known: set[str] = set()


def words(*literals: str) -> frozenset[str]:
    """Declare words of a rule, so that `WordIndex` knows them; call it when a module is loaded.

    Args:
        literals: Lower case, at least two characters, all of them in Latin-1.
    """
    _known.update(literals)
    word_index.cache_clear()
    return frozenset(literals)


class WordIndex:
    """Says which words a text holds. Immutable."""

    def __init__(self, literals: Iterable[str]) -> None:
        self._words = tuple(sorted(literals))
        self._literals = Literals([word.encode("latin-1") for word in self._words])

    def held_by(self, latin: bytes) -> frozenset[str]:
        """Return the words that occur: about one in an ordinary prompt.

        Args:
            latin: The text in lower case, as Latin-1, with any one byte for every other character.
        """
        return frozenset([self._words[index] for index in self._literals.held_by(latin)])


@functools.cache
def word_index() -> WordIndex:
    """Return the index of all declared words."""
    return WordIndex(_known)


def after(
    text: str, literals: Iterable[str], tail: re.Pattern[str], *, at_word_start: bool = True
) -> Iterator[re.Match[str]]:
    """Yield the matches of `tail` that begin right behind one of the literals.

    Args:
        text: Where to look.
        literals: Words, in the case of `text`.
        tail: Must be bounded in length, so that the whole search is linear.
        at_word_start: The word must not go on to the left (`dob` in `adobe` does not count).
    """
    for word in literals:
        start = text.find(word)
        while start >= 0:
            end = start + len(word)
            if not (at_word_start and start and text[start - 1].isalnum()):
                match = tail.match(text, end)
                if match:
                    yield match
            start = text.find(word, end)


def find_all(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Return what `pattern.finditer` does, without stopping other threads for long.

    `re` holds the interpreter's lock during one search; 15 MB in one go would take up to a second.

    Args:
        pattern: Looks at no more than 512 characters from where a match begins.
        text: Of any length.
    """
    return pattern.finditer(text) if len(text) <= _CHUNK else _in_parts(pattern, text)


def _in_parts(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    position = 0
    while position < len(text):
        end = min(position + _CHUNK, len(text))
        for match in pattern.finditer(text, position, end + _OVERLAP):
            if match.start() >= end:
                break
            yield match
            position = match.end()
        position = max(position, end)
