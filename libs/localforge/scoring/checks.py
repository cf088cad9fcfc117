"""Checks of an answer that need no judge.

Each returns a score from 0 (failed) to 1 (passed), or None where it does not apply.
They see that an answer is broken, hardly ever that it is right: passing all is weak evidence.
"""

import ast
import re
import textwrap
import warnings
import zlib
from typing import Any

import msgspec

from localforge.scoring.language import guess
from localforge.scoring.request_view import RequestView

MIN_LOOP_CHARS = 200
LOOP_SHARE = 0.09
"""Of its size, to which a loop shrinks; prose to 0.35 to 0.6, tables and code to 0.15 and more."""
NEW_WORDS = 0.06
"""Different words per character above which no text is a loop; prose of a page has 0.1."""
LONGEST_PHRASE = 24
"""Words of a phrase that is looked for at the end again and again."""
MAX_CODE_BYTES = 20_000
"""A larger block is not parsed: the parser's memory and depth are bounded by its input."""
MAX_BLOCKS = 10
REFUSAL_CHARS = 300
"""A refusal comes first; later the same words are usually about something else."""

_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am)(?: really| very| so)? (?:sorry|afraid|unable)\b.{0,60}?"
    r"\b(?:can't|cannot|can not|unable|not able|won't|to (?:help|assist|provide|answer|comply))"
    r"|i (?:can't|cannot|can not|won't|will not|am unable to|am not able to|must decline to)"
    r" (?:help|assist|provide|answer|fulfil|fulfill|comply|do that|engage|create|write|generate)"
    r"|as an ai(?: language)? model\b.{0,80}?\b(?:can't|cannot|don't|do not|unable|not able))",
    re.DOTALL,
)
_REFUSAL_WORDS = (
    *("can't", "cannot", "can not", "won't", "will not", "unable", "not able"),
    *("sorry", "afraid", "decline", "as an ai"),
)
"""Without any of them the expression finds nothing, at a tenth of its time."""
_FENCE = re.compile(r"^[ \t]*```([\w+-]*)[^\n]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
_TRANSLATE = (
    *("translat", "übersetz", "tradui", "traduc", "traduz", "vertaal"),
    *("перевед", "翻译", "翻訳", "번역"),
)
_LANGUAGE_NAMES = (
    *("english", "german", "french", "spanish", "italian", "portuguese", "dutch", "russian"),
    *("chinese", "japanese", "korean", "arabic", "hindi", "greek", "hebrew", "thai", "latin"),
    *("deutsch", "englisch", "französisch", "spanisch", "anglais", "allemand", "français"),
    *("espagnol", "inglés", "alemán", "francés", "español"),
)
_IN_LANGUAGE = tuple(
    re.compile(rf"{word} (?<!\w{word} )(?:{'|'.join(_LANGUAGE_NAMES)})\b")
    for word in ("in", "into", "auf", "en", "em")
)
"""One for each word, and looking back behind it: a search for what begins with plain letters takes
a third of the time."""
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
}


def not_empty(answer: str, tool_calls: int) -> float | None:
    """Fail an answer without text; one that calls tools needs none."""
    if tool_calls:
        return None
    return 1.0 if answer.strip() else 0.0


def not_refused(answer: str) -> float | None:
    """Fail an answer that begins by declining the request."""
    if not answer.strip():
        return None
    head = answer[:REFUSAL_CHARS].replace("’", "'").lower()
    if not any(word in head for word in _REFUSAL_WORDS):
        return 1.0
    return 0.0 if _REFUSAL.search(head) else 1.0


def not_cut_off(finish_reason: str, *, is_bounded: bool) -> float | None:
    """Fail an answer that ran into a bound which the client did not set."""
    if finish_reason == "length":
        return None if is_bounded else 0.0
    return 1.0 if finish_reason == "stop" else None


def not_looping(answer: str) -> float | None:
    """Fail an answer that repeats itself: it shrinks more than prose does, or ends in a loop."""
    if len(answer) < MIN_LOOP_CHARS:
        return None
    words = answer.split()
    # A word that is new takes two bytes and more, so that many different ones cannot shrink enough.
    if len(set(words)) < NEW_WORDS * len(answer):
        raw = answer.encode()
        if len(zlib.compress(raw, 6)) < LOOP_SHARE * len(raw):
            return 0.0
    return 0.0 if _ends_in_loop(words) else 1.0


def valid_json(answer: str, request: RequestView) -> float | None:
    """Fail an answer that is not the JSON that was asked for; keys and types one level deep."""
    if not request.wants_json:
        return None
    try:
        value = msgspec.json.decode(answer)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return 0.0
    if not request.schema:
        return 1.0 if isinstance(value, dict) else 0.0
    return 1.0 if _fits(value, request.schema) else 0.0


def parsable_code(answer: str) -> float | None:
    """Return the share of Python and JSON blocks that parse; nothing is ever run."""
    if "```" not in answer:
        return None
    results = [
        result
        for language, code in _FENCE.findall(answer)[:MAX_BLOCKS]
        if (result := _parses(language.lower(), code)) is not None
    ]
    return sum(results) / len(results) if results else None


def same_language(answer: str, question: str) -> float | None:
    """Fail an answer in another language than the question, unless one was asked for."""
    asked, answered = guess(question), guess(answer)
    if not asked or not answered or _asks_for_language(question.lower()):
        return None
    if {asked, answered} == {"han", "japanese"}:
        return None  # too close to tell in a short text
    return 1.0 if asked == answered else 0.0


def _asks_for_language(question: str) -> bool:
    return any(stem in question for stem in _TRANSLATE) or any(
        expression.search(question) for expression in _IN_LANGUAGE
    )


def _ends_in_loop(words: list[str]) -> bool:
    """Tell whether the last words are one phrase again and again."""
    words = words[-120:]
    if not words or words[-1] not in words[-1 - LONGEST_PHRASE : -1]:
        return False
    for size in range(1, LONGEST_PHRASE + 1):
        if words[-1 - size : -size] != words[-1:]:
            continue
        phrase = words[-size:]
        times = 1
        while words[-size * (times + 1) : -size * times] == phrase:
            times += 1
        # A refrain may come thrice, and a word a few times more for effect.
        if times >= 4 and size * times >= 24 and any(c.isalnum() for c in "".join(phrase)):
            return True
    return False


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    if not _has_type(value, schema.get("type")):
        return False
    if not isinstance(value, dict):
        return True
    required = schema.get("required")
    if isinstance(required, list) and not all(key in value for key in required):
        return False
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return True
    return all(
        _has_type(value[key], rule.get("type"))
        for key, rule in properties.items()
        if key in value and isinstance(rule, dict)
    )


def _has_type(value: Any, wanted: Any) -> bool:
    kind = _TYPES.get(wanted) if isinstance(wanted, str) else None
    if kind is None:
        return True  # a union, a reference, or something this check knows nothing of
    if isinstance(value, bool) and kind is not bool:
        return False
    return isinstance(value, kind)


def _parses(language: str, code: str) -> bool | None:
    if len(code) > MAX_CODE_BYTES or not code.strip():
        return None
    if language == "json":
        return _is_json(code)
    if language in ("python", "py", "python3") and ">>>" not in code:
        return _is_python(textwrap.dedent(code))
    return None


def _is_json(code: str) -> bool:
    try:
        msgspec.json.decode(code)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


def _is_python(code: str) -> bool | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            compile(code, "<answer>", "exec", flags)
    except (SyntaxError, ValueError):
        return False
    except (RecursionError, MemoryError):
        return None  # too deep for this parser, which says nothing of the code
    return True
