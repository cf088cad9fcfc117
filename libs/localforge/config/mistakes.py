"""What is wrong with a configuration: every mistake with its place, its value and what is allowed.

The decoder stops at the first mistake and says neither the value nor what may stand there. Here,
once it is known that there is one, each key is looked at by itself. What may be a secret is
described and not repeated (`localforge.config.disclosure`).
"""

import difflib
import enum
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec

from localforge.config.disclosure import described, is_plain_key, is_plain_name, number_told
from localforge.config.values import ModelName, Name, PreferenceText, SecretRef

_AT = re.compile(r" - at `.*`$")
_WORDS = {
    "`float`": "a number",
    "`int`": "a whole number",
    "`bool`": "true or false",
    "`str`": "text",
    "`array`": "a list",
    "`object`": "a table",
}
_NUMERIC = re.compile("expected (a number|a whole number|true or false)")
_PATTERNS = {
    Name: "of letters, digits, `-` and `_` that begins with a letter or digit",
    ModelName: "of letters, digits and `_.:/@+-` that begins with a letter or digit",
    SecretRef: "as env:NAME or file:/path",
    PreferenceText: "as quality, balanced, cheap, fast, cost=40,latency=0.01 or both",
}
"""In words, what would be hard to read."""


class Place(NamedTuple):
    """Where something stands in a configuration."""

    keys: tuple[str, ...] = ()
    """From the outermost, as they are written; lists add none. Never shown: one may be a secret."""
    path: str = ""
    """As in `backends[0].models[1].price_in`, to be shown; empty for the whole."""

    def key(self, name: str, shown: str) -> "Place":
        """Return the place of a key's value."""
        return Place((*self.keys, name), f"{self.path}.{shown}" if self.path else shown)

    def item(self, index: int) -> "Place":
        """Return the place of a list's item."""
        return Place(self.keys, f"{self.path}[{index}]")


class Mistake(NamedTuple):
    """One of them."""

    place: Place
    what: str

    def __str__(self) -> str:
        """Return it as it is printed."""
        return f"`{self.place.path}`: {self.what}" if self.place.path else self.what


_WHOLE = Place()


def find_mistakes(data: Any, kind: Any, place: Place = _WHOLE) -> Iterator[Mistake]:
    """Find all that keeps `data` from being of a kind.

    Args:
        data: As read from TOML or JSON, or text from the environment.
        kind: A type, as it is written at a field of a `msgspec.Struct`.
        place: Where `data` stands.
    """
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    origin, inner = get_origin(bare), get_args(bare)
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        yield from _in_table(data, bare, place)
    elif (part := _part(bare, data)) is not None:
        yield from find_mistakes(data, part, place)
    elif origin in (tuple, frozenset) and isinstance(data, list):
        for index, value in enumerate(data):
            yield from find_mistakes(value, inner[0], place.item(index))
    elif origin is dict and isinstance(data, Mapping):
        for number, (key, value) in enumerate(data.items(), start=1):
            inside = place.key(key, key if is_plain_name(key) else f"<key {number}>")
            found = [*_in_value(key, inner[0], inside)]
            yield from found or find_mistakes(value, inner[1], inside)
    else:
        yield from _in_value(data, kind, place)


def _in_table(data: Any, struct: type[msgspec.Struct], place: Place) -> Iterator[Mistake]:
    if not isinstance(data, Mapping):
        yield Mistake(place, f"expected a table, got {described(data)}")
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for number, (key, value) in enumerate(data.items(), start=1):
        if key in fields:
            yield from find_mistakes(value, fields[key].type, place.key(key, key))
        else:
            shown = key if is_plain_key(key) else f"<key {number}>"
            told = _nearest(key, fields) or f"known: {', '.join(fields)}"
            yield Mistake(place.key(key, shown), f"there is no such key; {told}")
    for name in fields.keys() - data.keys():
        if fields[name].required:
            yield Mistake(place.key(name, name), "it is missing")


def _in_value(value: Any, kind: Any, place: Place) -> Iterator[Mistake]:
    try:
        msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as exc:
        allowed = _choices(kind)
        if allowed:
            expected = f"expected {'one of ' if len(allowed) > 1 else ''}{', '.join(allowed)}"
            near = _nearest(value, allowed)
            is_shown = near and isinstance(value, str) and is_plain_name(value)
            yield Mistake(
                place,
                f"{expected}, got {repr(value) if is_shown else described(value)}"
                f"{near and f'; {near}'}",
            )
        else:
            expected = _in_words(str(exc))
            got = number_told(value) if _NUMERIC.match(expected) else described(value)
            # TOML takes `gpt-3.5 = …` for a table of a table.
            hint = "; write a name with a dot in quotes" if got == "a table" else ""
            yield Mistake(place, f"{expected}, got {got}{hint}")


def _in_words(reason: str) -> str:
    """Return what the decoder expected of one value."""
    expected = _AT.sub("", reason).partition(", got")[0].replace(" | null", "")
    for kind, words in _PATTERNS.items():
        expected = expected.replace(f"matching regex {get_args(kind)[1].pattern!r}", words)
    for name, words in _WORDS.items():
        expected = expected.replace(f"Expected {name}", f"expected {words}")
    return expected


def _part(kind: Any, data: Any) -> Any:
    """Return the part of a union that a list or a table is meant to be; None: there is none."""
    if get_origin(kind) not in (types.UnionType, typing.Union):
        return None
    wanted = (tuple, frozenset) if isinstance(data, list) else (dict,)
    parts = get_args(kind) if isinstance(data, Mapping | list) else ()
    return next((part for part in parts if get_origin(part) in wanted), None)


def _choices(kind: Any) -> list[str]:
    """Return the values that a kind is made of; nothing where it is not made of single values."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _choices(inner[0])
    if origin is Literal:
        return [value or '""' for value in map(str, inner)]
    if origin in (types.UnionType, typing.Union):
        parts = [_choices(part) for part in inner if part is not types.NoneType]
        return [value for part in parts for value in part] if all(parts) else []
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [str(member.value) for member in kind]
    return []


def _nearest(text: Any, known: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(str(text), [*known], n=1)
    return f"did you mean `{near[0]}`?" if near else ""
