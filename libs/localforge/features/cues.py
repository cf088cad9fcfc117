"""Words that tell what kind of work a text asks for, all looked for in one pass."""

from typing import NamedTuple

from localforge.literals import Literals

_CODE = ("```", "def ", "import ", "return ", "function", "class ", "select ", "());", "#include")
_EFFORT = (
    " prove", "proof", " derive", "optimi", "algorithm", "implement", " design", "architect",
    "analys", "analyz", "evaluat", "compar", "refactor", "debug", "step by step", "trade-off",
    "integral", "theorem", "complexity", "differential", "diagnos", "strateg", "beweise",
    "vergleich", "entwirf",
)  # fmt: skip
_literals = Literals([word.encode() for word in (*_CODE, *_EFFORT)])


class Cues(NamedTuple):
    """How many different words of each kind a text has."""

    code: int
    """Marks of program code."""
    effort: int
    """Stems of words that ask for more than a lookup."""


_NONE = Cues(0, 0)


def cues_of(text: str) -> Cues:
    """Look for words in any case; those that begin with a blank may be the first of the text."""
    held = _literals.held_by(f" {text.lower()}".encode("utf-8", "replace"))
    if not held:
        return _NONE
    code = sum([index < len(_CODE) for index in held])
    return Cues(code, len(held) - code)
