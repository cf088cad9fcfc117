"""Which language a text is in, as far as its script and its commonest words tell.

Made to be silent rather than wrong: a short or mixed text has no language here.
"""

import re
import string
import unicodedata
from collections import Counter
from functools import lru_cache

MIN_LETTERS = 20
MIN_SHARE = 0.7
"""Of the letters in one script, for the text to be in that script."""
MAX_CHARS = 1000
"""More text makes the guess no better."""

_SCRIPTS = {
    "LATIN": "latin",
    "CYRILLIC": "cyrillic",
    "GREEK": "greek",
    "ARABIC": "arabic",
    "HEBREW": "hebrew",
    "DEVANAGARI": "devanagari",
    "THAI": "thai",
    "HANGUL": "korean",
    "HIRAGANA": "japanese",
    "KATAKANA": "japanese",
    "CJK": "han",
}

_STOPWORDS = {
    "en": "the and is are was were of to in that it for with this have you what how be on",
    "de": "der die das und ist sind ein eine nicht mit für auf den von zu wie ich es im",
    "fr": "le la les des est et une dans que pour qui pas sur avec ce sont vous je au du",
    "es": "el la los las es y una en que para por con no se del como su está son un",
    "it": "il lo la gli è e una di che per con non si del come sono un della nel le",
    "pt": "o a os as é e uma em que para por com não se do da como são um no",
    "nl": "de het een en is van in dat op te voor met niet zijn er aan ook als bij hoe",
}
_WORD = re.compile(r"[^\W\d_]+")
_ASCII = re.compile(r"[\x00-\x7f]+")
_NOT_LETTERS = bytes(i for i in range(128) if not chr(i).isalpha())
_TO_SPACES = bytes.maketrans(_NOT_LETTERS, b" " * len(_NOT_LETTERS))
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)


def guess(text: str) -> str:
    """Return a language code or script name, or an empty string when it cannot be told."""
    text = text[:MAX_CHARS]
    if "`" in text or "://" in text:
        text = _CODE.sub(" ", text)
    script = _script(text)
    if script != "latin":
        return script
    words = _words(text.lower())
    hits = "".join(filter(None, map(_HITS.get, words)))
    counts = [hits.count(mark) for mark in _MARKS]
    *_, second, most = sorted(counts)
    # Languages share words: the best must be clear of the next, and common words must be common.
    if most >= max(4, len(words) * 0.12) and most >= 1.5 * second:
        return _LANGUAGES[counts.index(most)]
    return ""


def _words(text: str) -> list[str]:
    # The same words either way; where nothing is left between ASCII's own marks but letters, there
    # is no need to look at each character.
    words = text.encode("utf-8", "replace").translate(_TO_SPACES).decode().split()
    if text.isascii() or "".join(words).isalpha():
        return words
    return _WORD.findall(text)


def _script(text: str) -> str:
    if text.isascii():
        return "latin" if len(text) >= MIN_LETTERS else ""
    plain = text.encode("ascii", "ignore").translate(None, _NOT_LETTERS)
    counts = Counter(latin=len(plain))
    for char, times in Counter(_ASCII.sub("", text)).items():
        if char.isalpha():
            counts[_script_of(char)] += times
    if counts["japanese"]:
        counts["japanese"] += counts.pop("han", 0)  # Japanese is written with Chinese characters
    total = sum(counts.values())
    # A character of Chinese, Japanese or Korean says as much as several letters.
    weight = total + 3 * (counts["han"] + counts["japanese"] + counts["korean"])
    if weight < MIN_LETTERS:
        return ""
    script, most = counts.most_common(1)[0]
    return script if script != "other" and most >= MIN_SHARE * total else ""


@lru_cache(4096)
def _script_of(letter: str) -> str:
    return _SCRIPTS.get(unicodedata.name(letter, "").partition(" ")[0], "other")


_LANGUAGES = tuple(_STOPWORDS)
_MARKS = string.digits[: len(_LANGUAGES)]
"""A character for each of them."""
_HITS = {
    word: "".join(
        mark
        for mark, code in zip(_MARKS, _LANGUAGES, strict=True)
        if word in _STOPWORDS[code].split()
    )
    for words in _STOPWORDS.values()
    for word in words.split()
}
"""Word -> the marks of the languages in which it is common."""
