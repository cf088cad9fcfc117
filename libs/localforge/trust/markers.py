"""Detect what the text says about itself: "strictly confidential", "nur für den internen Gebrauch".

Only phrases that mark a document count, not the word "confidential" in a sentence.
"""

import re
from collections.abc import Iterator

from localforge.contracts.trust import Label
from localforge.trust.findings import Finding
from localforge.trust.normal import Content
from localforge.trust.search import after, words

MARKED_RESTRICTED = Finding("marked_restricted", Label.RESTRICTED)
MARKED_CONFIDENTIAL = Finding("marked_confidential", Label.CONFIDENTIAL)

_GAP = r"(?:[ \t_-]{1,4}|[ \t]{0,4}\n[ \t]{0,8})"
_RESTRICTED = {
    "strictly": "(?:confidential|private)", "highly": "confidential", "eyes": "only",
    "streng": "(?:vertraulich|geheim)", "estrictamente": "confidencial",
    "strictement": "confidentiel",
}  # fmt: skip
_CONFIDENTIAL = {
    # Programs have names such as `internal_only`, and what speaks of them internal-only parts.
    "internal": "(?:use |(?<![_-]))only", "company": "confidential", "business": "confidential",
    "commercial": "in confidence", "proprietary": "and confidential",
    "private": "and confidential", "privileged": "and confidential",
    "confidential": "(?:and proprietary|information of)", "not": "for (?:distribution|external)",
    "do": "not (?:distribute|share outside)", "under": r"nda\b", "covered": r"by nda\b",
    "nur": "(?:für den internen gebrauch|intern|zur internen)",
    "vertraulich": "behandeln", "uso": "interno", "à usage": "interne",
}  # fmt: skip
"""How a phrase begins, and how it goes on."""
_PHRASES = {
    start: (finding, re.compile(_GAP + rest.replace(" ", _GAP)))
    for finding, phrases in (
        (MARKED_RESTRICTED, _RESTRICTED),
        (MARKED_CONFIDENTIAL, _CONFIDENTIAL),
    )
    for start, rest in phrases.items()
}
_PHRASE_WORDS = words(*_PHRASES)
_SINGLE_WORDS = words("firmenvertraulich")
_CLASSIFIED_WORDS = words("classification", "klassifizierung", "clasificación")
_CLASSIFIED = re.compile(
    r"[\s'\"*_`]{0,4}[:=][\s'\"*_`]{0,6}"
    r"(?:(top[ _-]secret|restricted|secret|streng geheim|strictly confidential)"
    r"|confidential|internal|vertraulich|confidencial)(?![^\W_])"
)
_TLP_WORDS = words("tlp")
_TLP = re.compile(r"[ '\"]{0,2}[: _-][ '\"]{0,2}(?:(red)|amber)\b")
_HEADINGS = (
    "CONFIDENTIAL", "Confidential", "VERTRAULICH", "Vertraulich", "CONFIDENCIAL", "CONFIDENTIEL"
)  # fmt: skip
_HEADING_WORDS = words(*{heading.lower() for heading in _HEADINGS})
_HEADING_END = re.compile(r" {0,4}(?:[\n\"\])*:!_-]|$)")
_BEFORE_HEADING = '\n"[(*#_'


def find_markers(content: Content) -> Iterator[Finding]:
    """Yield the markings of a document."""
    held = content.words
    lower = content.lower
    if held & _SINGLE_WORDS:
        yield MARKED_CONFIDENTIAL
    for start in held & _PHRASE_WORDS:
        finding, rest = _PHRASES[start]
        if any(after(lower, (start,), rest, at_word_start=False)):
            yield finding
    for found, rest in ((_CLASSIFIED_WORDS, _CLASSIFIED), (_TLP_WORDS, _TLP)):
        for match in after(lower, held & found, rest):
            yield MARKED_RESTRICTED if match[1] else MARKED_CONFIDENTIAL
    if held & _HEADING_WORDS and _has_heading(content.text):
        yield MARKED_CONFIDENTIAL


def _has_heading(text: str) -> bool:
    """Say whether a line, a string or brackets begin with the marking and end after it."""
    for heading in _HEADINGS:
        for match in after(text, (heading,), _HEADING_END):
            start = match.start() - len(heading)
            before = text[max(start - 4, 0) : start].rstrip(" ")
            if not before or before[-1] in _BEFORE_HEADING:
                return True
    return False
