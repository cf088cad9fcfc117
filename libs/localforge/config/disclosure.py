"""What a message may repeat of a configuration, in which a secret may stand in any place.

A password in a URL where a table was meant, a key pasted as a name: nobody knows which text is
one. So text is described, not repeated, but for plain names, by the rule of `is_plain_name`.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

LONGEST = 40
"""Characters of a name that is repeated."""
LONGEST_RUN = 15
"""Letters and digits in a row."""
LONGEST_MIXED_RUN = 7
"""The same, where there are both."""
CHARACTERS_PER_CHANGE = 4
"""Between a capital, a small letter and a digit; made-up names change less often than keys do."""
FEW_CHANGES = 4
"""So many a short name may have."""
LONGEST_NUMBER = 12

_NAME = re.compile(r"[A-Za-z0-9*_][A-Za-z0-9_.:/+-]*")
_KEY = re.compile(r"[a-z_]+")
_RUN = re.compile(r"[A-Za-z0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?|nan|inf)|true|false", re.IGNORECASE)


def is_plain_name(text: str) -> bool:
    """Tell whether a text looks like a name that somebody made up, and not like a secret.

    It has at most 40 characters, all of them letters, digits and `_.:/+-`; no `://`; no more than
    15 letters and digits in a row, or 7 where both are among them; and changes between capitals,
    small letters and digits at most at every fourth character, or four of them.
    """
    runs = _RUN.findall(text)
    changes = sum(_sort(a) != _sort(b) for run in runs for a, b in pairwise(run))
    return (
        len(text) <= LONGEST
        and _NAME.fullmatch(text) is not None
        and "://" not in text
        and not any(_is_long(run) for run in runs)
        and changes <= max(FEW_CHANGES, len(text) // CHARACTERS_PER_CHANGE)
    )


def is_plain_key(text: str) -> bool:
    """Tell whether a wrong key may be repeated: a plain name of small letters and `_`."""
    return _KEY.fullmatch(text) is not None and is_plain_name(text)


def named(text: str) -> str:
    """Return a name in backquotes; of one that may be a secret only how long it is."""
    return f"`{text}`" if is_plain_name(text) else f"`…` ({_count(text)})"


def listed(names: Iterable[str]) -> str:
    """Return names for a list of those that are known, without what may be a secret."""
    return ", ".join(name if is_plain_name(name) else "…" for name in names)


def described(value: Any) -> str:
    """Return what a value is, without the value."""
    if isinstance(value, Mapping | list):
        return "a table" if isinstance(value, Mapping) else "a list"
    if isinstance(value, str):
        return f"text of {_count(value)}"
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, int | float) else "a date or a time"


def number_told(value: Any) -> str:
    """Return a value that stands where a number, or true or false, is expected."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if len(text) > LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return described(value)
    return repr(value) if isinstance(value, str) else text


def _is_long(run: str) -> bool:
    is_mixed = not run.isalpha() and not run.isdigit()
    return len(run) > (LONGEST_MIXED_RUN if is_mixed else LONGEST_RUN)


def _sort(character: str) -> int:
    return 0 if character.isdigit() else 1 if character.isupper() else 2


def _count(text: str) -> str:
    return f"{len(text)} character{'' if len(text) == 1 else 's'}"
