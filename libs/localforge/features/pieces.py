"""Token ids of parts of a text that are merged independently, remembered for those that recur.

A byte-pair tokenizer joins neighbours as long as they are a token together. Where no token of the
vocabulary reaches over a border nothing is ever joined over it: not where blanks begin, around a
digit or a line end, or between ASCII letters and other ASCII characters. So a text may be cut there
and its pieces looked up; those that are not known are merged in one call.

What stands between two blanks is looked up first, which is done in half the time: most words of an
application's prompts come again. Only new words are cut into pieces.
"""

import itertools
import re
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PIECE = re.compile(
    r" *(?:[A-Za-z]++(?![^\x00-\x7f])|[0-9\n]|[^ 0-9A-Za-z\n\x80-\U0010ffff]++(?![^\x00-\x7f])"
    r"|[^ 0-9\n]+)| +"
)
"""Beside a character outside ASCII all goes together up to the next blank, digit or line end."""
BLANK = "▁"
"""Stands for a blank in the vocabulary."""
MOST_LEARNED = 8_192
"""Pieces remembered beside those that are tokens, and as many words; the oldest makes room for a
new one. 3 MB."""
LONGEST_LEARNED = 24
"""Characters. Longer ones hardly ever come again."""
_SEPARATOR, _SEPARATOR_ID = "\x00", 3
_BATCH = 512
_NUMBER_OR_ADDRESS = re.compile("[0-9@]")
"""Words with one hardly ever come again, and many are private."""
_SINGLE = [f"{blank}{end}" for blank in ("", " ") for end in "\n0123456789"]


class PieceTokens:
    """Looks up and merges. Several threads may use it at once.

    Args:
        tokenizer: The merges alone: nothing is put before or behind a text.
        vocabulary: Ids from this one on become the last one below it.
    """

    def __init__(self, tokenizer: "Tokenizer", vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self._last = vocabulary - 1
        self._words = _Memory()
        self._pieces = _Memory()
        vocabulary_ids = tokenizer.get_vocab()
        # The most frequent come first, and so lie side by side in memory.
        tokens = sorted(vocabulary_ids, key=vocabulary_ids.__getitem__)
        names = [token.replace(BLANK, " ") for token in tokens]
        pieces = [*_SINGLE, *filter(PIECE.fullmatch, names)]
        for start in range(0, len(pieces), _BATCH):
            batch = pieces[start : start + _BATCH]
            self._pieces.update(zip(batch, self._merge(batch), strict=True))

    @property
    def size(self) -> int:
        """Pieces that are remembered."""
        return len(self._pieces)

    @property
    def words(self) -> int:
        """Words that are remembered."""
        return len(self._words)

    def ids_of(self, text: str) -> bytes:
        """Return the ids of a text's tokens, each a uint32 in this machine's byte order.

        Args:
            text: A blank is put in front.
        """
        # Blanks and their stand-in are the same to the tokenizer, but not to the pattern.
        text = text.replace(BLANK, " ")
        spaced = f" {text}"
        if _SEPARATOR in text:
            return self._encode(spaced).tobytes()
        if "  " in spaced:
            # Blanks in a row are one piece with what follows them.
            return b"".join(self._pieces.ids_of(PIECE.findall(spaced), self._merge))
        return b"".join(self._words.ids_of(text.split(" "), self._cut))

    def _cut(self, words: Sequence[str]) -> list[bytes]:
        pieces = [PIECE.findall(f" {word}") for word in words]
        ids = iter(self._pieces.ids_of([*itertools.chain.from_iterable(pieces)], self._merge))
        return [b"".join(itertools.islice(ids, len(parts))) for parts in pieces]

    def _merge(self, pieces: Sequence[str]) -> list[bytes]:
        ids = self._encode(_SEPARATOR.join(pieces))
        ids.append(_SEPARATOR_ID)
        merged = []
        begin = 0
        for _ in pieces:
            end = ids.index(_SEPARATOR_ID, begin)
            merged.append(ids[begin:end].tobytes())
            begin = end + 1
        return merged

    def _encode(self, text: str) -> "array[int]":
        # The fast batch call leaves out the offsets and takes a third less time.
        marked = text.replace(" ", BLANK)
        ids = self._tokenizer.encode_batch_fast([marked], add_special_tokens=False)[0].ids
        # Two pieces were added to the tokenizer after the embedding was made; they have no row.
        return array("I", [min(token, self._last) for token in ids])


class _Memory(dict[str, bytes]):
    """Ids of pieces or words: all that it was given, and of others the latest."""

    def __init__(self) -> None:
        super().__init__()
        self._learned: deque[str] = deque()

    def ids_of(
        self, texts: Sequence[str], make: Callable[[Sequence[str]], list[bytes]]
    ) -> list[bytes]:
        """Return the ids of each text.

        Args:
            texts: Pieces or words.
            make: Is given those that are not known and returns their ids.
        """
        found = [*map(self.get, texts)]
        missing = [place for place, ids in enumerate(found) if ids is None]
        if missing:
            new = [texts[place] for place in missing]
            for place, text, ids in zip(missing, new, make(new), strict=True):
                found[place] = ids
                self._learn(text, ids)
        return found  # type: ignore[return-value]  # none is None any more

    def _learn(self, text: str, ids: bytes) -> None:
        if len(text) > LONGEST_LEARNED or text in self or _NUMBER_OR_ADDRESS.search(text):
            return
        self[text] = ids
        self._learned.append(text)
        if len(self._learned) > MOST_LEARNED:
            self.pop(self._learned.popleft(), None)
