"""Find encoded media in normalized text: an image, a recording, a file that nobody can look into.

Base64 comes unbroken, wrapped by MIME (76 characters a line), percent-encoded, with blanks where a
form decoder ate the plus signs, in quoted mail, or as the strings of a list. All of these are long
words with little between them, which prose, code and tables are not.
"""

import re
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from localforge.trust.search import words

ENCODED_MIN = 1024
"""Characters; base64 of 768 bytes."""
_BLOCK = ENCODED_MIN // 2
_BLOCK_BLANKS = 40
"""Prose has about 85 in a block, wrapped base64 seven, base64 with blanks for `+` eight."""
_LONG_WORD = 16
_LONG_STRING = 48
"""With quotes, commas and the like between them, words must be as long as no identifier is."""
_GAP = 48
"""Most characters between two long words of one encoded part. Where blanks stand for `+`, words
shorter than 16 are 22 % of all, so that two or three of them may follow one another."""

_OTHER, _WORD, _JOINT, _MARK = range(4)
_DATA_WORDS = words("data:", "data%3a")
_DATA_URL = re.compile(r"data(?::|%3a)\s{0,8}(?:[\w.+-]{1,127}(?:/|%2f)[\w.+*-]|;[\w-]{1,64}[,;=])")


class Encoded(msgspec.Struct, frozen=True):
    """Where encoded media is in a text."""

    is_found: bool
    unbroken: Sequence[tuple[int, int]] = ()
    """Start and end of each part that is one word, in order. The others stay in the text that is
    inspected, since a secret could stand between their lines."""


NOTHING = Encoded(is_found=False)


def _kinds() -> bytes:
    table = np.full(256, _OTHER, dtype=np.uint8)
    table[list(b"abcdefghijklmnopqrstuvwxyz0123456789+/_-%")] = _WORD
    table[list(b" \t\r\n=")] = _JOINT
    table[list(b"\"',;>|\\()[]")] = _MARK
    return table.tobytes()


_KIND_OF = _kinds()


def encoded_spans(latin: bytes) -> Encoded:
    """Find encoded parts of at least `ENCODED_MIN` characters. Linear.

    Args:
        latin: The text in lower case, as Latin-1. Worth a look where `may_have_encoded`.
    """
    kinds = np.frombuffer(latin.translate(_KIND_OF), dtype=np.uint8)
    stops = np.concatenate(([-1], (kinds != _WORD).nonzero()[0], [len(kinds)]))
    lengths = np.diff(stops) - 1
    is_long = lengths >= _LONG_WORD
    starts, ends = stops[:-1][is_long] + 1, stops[1:][is_long]
    is_unbroken = ends - starts >= ENCODED_MIN
    is_string = ends - starts >= _LONG_STRING
    return Encoded(
        is_found=_has_chain(starts, ends, (kinds == _OTHER) | (kinds == _MARK))
        or _has_chain(starts[is_string], ends[is_string], kinds == _OTHER),
        unbroken=_pairs(starts[is_unbroken], ends[is_unbroken]),
    )


def _has_chain(
    starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp], is_between: npt.NDArray[np.bool_]
) -> bool:
    """Say whether long words with little between them are `ENCODED_MIN` characters together."""
    if not len(starts):
        return False
    others = is_between.nonzero()[0]
    is_apart = (starts[1:] - ends[:-1] > _GAP) | (
        np.searchsorted(others, ends[:-1]) != np.searchsorted(others, starts[1:])
    )
    cuts = is_apart.nonzero()[0]
    firsts, lasts = starts[[0, *(cuts + 1).tolist()]], ends[[*cuts.tolist(), -1]]
    return bool((lasts - firsts >= ENCODED_MIN).any())


def has_data_url(lower: str, held: frozenset[str]) -> bool:
    """Say whether a `data:` URL of any length and encoding occurs.

    Args:
        lower: The text in lower case.
        held: The words that it holds.
    """
    return not _DATA_WORDS.isdisjoint(held) and _DATA_URL.search(lower) is not None


def without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return the text with a blank in place of each span."""
    begins = [0, *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), len(text)]
    return " ".join([text[begin:end] for begin, end in zip(begins, ends, strict=True)])


def may_have_encoded(latin: bytes) -> bool:
    """Say cheaply whether a text has a long part with hardly any blanks.

    Args:
        latin: In lower case, as Latin-1.
    """
    if len(latin) < ENCODED_MIN:
        return False
    # 32 characters without a blank, found in a tenth of the time that counting takes.
    is_blank = np.frombuffer(latin, np.uint8, len(latin) // 32 * 32) == ord(" ")
    if np.packbits(is_blank).view(np.uint32).all():
        return False
    # Every part of 1,024 characters covers one of these blocks whole.
    return any(
        latin.count(b" ", start, start + _BLOCK) < _BLOCK_BLANKS
        for start in range(0, len(latin) - _BLOCK + 1, _BLOCK)
    )


def _pairs(starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp]) -> list[tuple[int, int]]:
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
