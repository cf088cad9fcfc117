"""Bring a request's raw JSON into the one form that detectors read.

Detectors read the body's bytes, not its parsed fields: what is inspected is then exactly what a
backend would get, in every field, known or not, and a repeated JSON key cannot hide its first
value from the inspection (parsers keep only one of them).
"""

import functools
import re
import unicodedata
from string import ascii_lowercase

import msgspec
import numpy as np

from localforge.trust.dumps import MIN_DIGITS, Places, has_base85, has_numbers
from localforge.trust.opaque import (
    NOTHING,
    encoded_spans,
    has_data_url,
    may_have_encoded,
    without,
)
from localforge.trust.search import word_index

_ESCAPE = re.compile(r"\\(?<!\\\\)\\*+(?:u([0-9a-fA-F]{4})|([bfnrt\"/]))")
"""Any number of backslashes: tool arguments are JSON inside a JSON string. A run of them is tried
once, from its start and whole: from each of its places it would take quadratic time."""
_ESCAPE_ROUNDS = 4
"""What is escaped more often than this stays as it is."""
_GAP = "\x00"
"""Marks where a character that shows nothing was: whether words meet there is not known."""
_PLAIN = {"n": "\n", "r": "\n", "t": " ", "b": _GAP, "f": "\n", '"': '"', "/": "/"}
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_KEPT_CONTROLS = "\t\n\r"
_SEPARATORS = frozenset("\x0b\x0c\x1c\x1d\x1e\x1f")
"""Programs end fields and pages with these: what stands beside them is not one word. NUL is not
among them, because text in UTF-16 has one after each letter when it is read as another encoding."""
_DASHES = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63\uff0d")
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U000e0000-\U000e0fff"
    # What is drawn over the character before it: accents, circles, keycaps.
    "\u0300-\u036f\u0488\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
)
"""What shows nothing of its own (Unicode's Default_Ignorable_Code_Point); format and control
characters (categories Cf and Cc) are known as such."""
_LINES = frozenset("\u0085\u2028\u2029")
_EMPTY_BRAILLE = "\u2800"
_FEW = 16
_STRETCH = 24
_STRETCH_DIGITS = 6
_FEW_DIGITS = 64
"""Up to so many, plain numbers take a quarter of the time that arrays take."""
_IS_DIGIT = bytes(chr(byte) in "0123456789" for byte in range(256))
_AS_SHAPE = bytes(
    ord("0") if chr(byte) in "0123456789" else ord("a") if chr(byte) in ascii_lowercase else byte
    for byte in range(256)
)


class Content(msgspec.Struct, frozen=True):
    """A request's text, ready for detectors."""

    text: str
    """JSON with its escapes resolved, compatibility characters folded, invisible ones removed."""
    lower: str
    """`text` in lower case."""
    numeric: str
    """The lines of `lower` that may hold an identifier: at least six digits within 24 characters,
    with 24 characters to the left and right."""
    shape: bytes
    """`numeric` with every digit as `0` and every letter as `a`, without blanks, dots and hyphens:
    says cheaply which identifiers there cannot be."""
    words: frozenset[str]
    """Of the words that rules look for, those that `lower` holds."""
    is_opaque: bool = False
    """Part of the body is encoded media, which cannot be inspected; one unbroken run of it was left
    out of `text`."""
    left_out: str = ""
    """Such runs, each after a blank: only a key, which has a form of its own, is found in them."""
    parted: "Content | None" = None
    """The same with a blank in the place of each invisible character; None where there was none.
    Such a character may stand within a word or between two."""


def normalize(body: bytes) -> Content:
    """Return what detectors read. Linear in the size of the body.

    Args:
        body: UTF-8 JSON.
    """
    text = body.decode("utf-8", "replace")
    if "\\" in text:
        text = _resolved(text)
    if "\x7f" in text:  # the only control character that JSON has unescaped
        text = text.replace("\x7f", _GAP)
    joined = _fold(_resolved(text.replace(_GAP, "")) if _GAP in text else text)
    if _GAP not in text and _GAP not in joined:
        return _content(joined)
    parted = _content(_fold(text).replace(_GAP, " "))
    return msgspec.structs.replace(_content(joined.replace(_GAP, "")), parted=parted)


def _content(text: str) -> Content:
    lower = text.lower()
    # One byte for each character, so that places are the same.
    latin = lower.encode("latin-1", "replace")
    # Only now: escapes and invisible characters would hide encoded media.
    is_dense = may_have_encoded(latin)
    encoded = encoded_spans(latin) if is_dense else NOTHING
    left_out = ""
    if encoded.unbroken:
        left_out = " ".join([text[start:end] for start, end in encoded.unbroken])
        text = without(text, encoded.unbroken)
        lower = text.lower()
        latin = lower.encode("latin-1", "replace")
    digits = np.frombuffer(latin.translate(_IS_DIGIT), np.bool_).nonzero()[0]
    numeric = _numeric_stretches(lower, digits)
    held = word_index().held_by(latin)
    return Content(
        text=text,
        lower=lower,
        numeric=numeric,
        shape=numeric.encode("latin-1", "replace").translate(_AS_SHAPE, b" .-"),
        words=held,
        is_opaque=encoded.is_found
        or has_data_url(lower, held)
        or (is_dense and has_base85(text, latin))
        or (len(digits) >= MIN_DIGITS and has_numbers(latin)),
        left_out=left_out,
    )


def _resolved(text: str) -> str:
    if "\\\\" not in text and "\\u" not in text:
        # Most text has only these two, and nothing is left to do then.
        text = text.replace("\\n", "\n").replace('\\"', '"')
    return _resolve(text) if "\\" in text else text


def _resolve(text: str) -> str:
    r"""Resolve escapes, and those that come of it: `\u005cu0034` is a 4 after two decodings."""
    for _ in range(_ESCAPE_ROUNDS):
        resolved = _ESCAPE.sub(_unescape, text)
        if "\\" not in resolved or len(resolved) == len(text):
            return resolved
        text = resolved
    return text


def _unescape(match: re.Match[str]) -> str:
    code, plain = match.groups()
    if not code:
        return _PLAIN[plain]
    char = chr(int(code, 16))
    if char in _SEPARATORS:
        return " "
    return char if char >= " " or char in _KEPT_CONTROLS else _GAP


def _fold(text: str) -> str:
    """Rewrite the characters that stand for others; most text has few different ones of them."""
    if text.isascii():
        return text
    foreign = set("".join(_FOREIGN.findall(text)))
    if any("\ud800" <= char <= "\udfff" for char in foreign):
        # An escaped character outside the basic plane arrives as two surrogates; join them.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        foreign = set("".join(_FOREIGN.findall(text)))
    if any("\u0300" <= char <= "\u036f" for char in foreign):
        # Letters whose accents stand beside them are one character in the rules' words.
        text = unicodedata.normalize("NFC", text)
        foreign = set("".join(_FOREIGN.findall(text)))
    changes: dict[str, str | int | None] = {
        char: plain for char in foreign if (plain := _plain(char)) != char
    }
    if len(changes) > _FEW:
        return text.translate(str.maketrans(changes))
    for char, replacement in changes.items():
        text = text.replace(char, str(replacement))
    return text


@functools.lru_cache(maxsize=8192)
def _plain(char: str) -> str:
    """Return what a character stands for: `4` for `４`, a gap for a zero-width space."""
    if char in _DASHES:
        return "-"
    if char in _LINES:
        return "\n"
    category = unicodedata.category(char)
    if category in ("Cf", "Cc") or _INVISIBLE.match(char):
        return _GAP
    if char == _EMPTY_BRAILLE:
        return " "
    if category in ("Nd", "No") and (digit := unicodedata.digit(char, None)) is not None:
        return str(digit)
    # Lower case of this letter is two characters; positions in `text` and `lower` would differ.
    return "I" if char == "\u0130" else unicodedata.normalize("NFKC", char)


def _numeric_stretches(lower: str, digits: Places) -> str:
    """Return the lines of `Content.numeric`.

    Args:
        lower: The text in lower case.
        digits: Where it has digits.
    """
    if len(digits) < _STRETCH_DIGITS:
        return ""
    few = len(digits) <= _FEW_DIGITS
    spans = _spans_of_few(digits.tolist()) if few else _spans_of_many(digits)
    return "\n".join([lower[max(first, 0) : last] for first, last in spans])


def _spans_of_few(digits: list[int]) -> list[tuple[int, int]]:
    """Return the stretches around digits that are near one another; one where they meet."""
    spans: list[tuple[int, int]] = []
    for first, sixth in zip(digits, digits[_STRETCH_DIGITS - 1 :], strict=False):
        if sixth - first >= _STRETCH:
            continue
        begin, end = sixth - 2 * _STRETCH, first + 2 * _STRETCH - 1
        if spans and begin <= spans[-1][1]:
            begin, _ = spans.pop()
        spans.append((begin, end))
    return spans


def _spans_of_many(digits: Places) -> list[tuple[int, int]]:
    """Return what `_spans_of_few` does, for a text full of digits."""
    # Where six digits in a row of digits are near one another: the place of the sixth, and the last
    # place from which all six are still within reach to the left.
    sixth, first = digits[_STRETCH_DIGITS - 1 :], digits[: 1 - _STRETCH_DIGITS]
    near = sixth - first < _STRETCH
    begins, ends = sixth[near] - 2 * _STRETCH, first[near] + (2 * _STRETCH - 1)
    if not len(begins):
        return []
    apart = (begins[1:] > ends[:-1]).nonzero()[0]
    firsts, lasts = begins[[0, *(apart + 1).tolist()]], ends[[*apart.tolist(), -1]]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))
