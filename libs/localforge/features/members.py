"""Refuse JSON objects whose members can be read in two ways.

Of a repeated member one reader takes the first and another the last; some servers do not tell
`Content` from `content`. What was looked into here must be what the model gets.
"""

import json
from collections.abc import Collection, Iterable
from typing import Any

import msgspec
import numpy as np

from localforge.errors import RequestRefused

Pairs = Iterable[tuple[str, Any]]
_SHORT = 4096
"""Bytes below which their own `count` of one that is everywhere is faster than numpy's."""
_encoder = msgspec.json.Encoder()


def refuse_repeated(body: bytes, data: object) -> None:
    """Check that no object in a body has a member twice.

    Args:
        body: JSON.
        data: What was decoded from it.

    Raises:
        RequestRefused: One has; names the member.
        RecursionError: It is nested too deeply.
    """
    # Decoding drops all but the last, so that what is encoded again has fewer strings. It never has
    # more: a string counts for less only where it ends in a backslash that is written as one.
    if _strings(body) != _strings(_encoder.encode(data)):
        # Numbers stay text: Python refuses to read those with thousands of digits.
        json.loads(body, object_pairs_hook=_once, parse_int=str, parse_float=str)


def refuse_variants(members: dict[str, Any], known: Collection[str], where: str = "") -> None:
    """Check that no member of an object is another one in other letters.

    Args:
        members: Of the object.
        known: Those that are looked at here, in lower case.
        where: What comes before the name of a member, for the error.

    Raises:
        RequestRefused: One is; names it.
    """
    met: set[str] = set()
    for name in members:
        folded = name.casefold()
        if folded in met or (folded != name and folded in known):
            raise _refused(f"{where}{name[:64]}", f"is `{folded[:64]}` in other letters")
        met.add(folded)


def _strings(text: bytes) -> int:
    if len(text) < _SHORT:
        quotes = text.count(b'"')
    else:
        quotes = int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord('"')))
    return quotes - text.count(b'\\"')


def _once(pairs: Pairs) -> None:
    met: set[str] = set()
    for name, _ in pairs:
        if name in met:
            raise _refused(name[:64], "is there more than once; send it once")
        met.add(name)


def _refused(param: str, problem: str) -> RequestRefused:
    return RequestRefused(f"`{param}` {problem}", code="invalid_value", param=param)
