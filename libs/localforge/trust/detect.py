"""Find sensitive content in a request and say how strict its label must be.

Fails closed: a detector that raises makes the request `restricted`, and media that cannot be
inspected makes it `confidential`.
"""

from collections.abc import Iterator, Sequence

import msgspec

from localforge.contracts.trust import Label, strictest
from localforge.trust.credentials import find_credentials
from localforge.trust.findings import Finding, Rule
from localforge.trust.identifiers import find_identifiers
from localforge.trust.markers import find_markers
from localforge.trust.normal import Content, normalize
from localforge.trust.personal import find_personal

OPAQUE_CONTENT = Finding("opaque_content", Label.CONFIDENTIAL)
DETECTOR_FAILED = Finding("detector_failed", Label.RESTRICTED)


def find_opaque(content: Content) -> Iterator[Finding]:
    """Yield that part of the request is encoded media, which nobody has looked into."""
    if content.is_opaque:
        yield OPAQUE_CONTENT


RULES: tuple[Rule, ...] = (
    find_credentials,
    find_identifiers,
    find_personal,
    find_markers,
    find_opaque,
)


class Detection(msgspec.Struct, frozen=True):
    """What was found in one request."""

    label: Label
    """`public` when nothing was found."""
    findings: tuple[str, ...]
    """Sorted codes, never content."""


_NOTHING = Detection(Label.PUBLIC, ())


def detect(
    body: bytes, rules: Sequence[Rule] = RULES, *, has_opaque_parts: bool = False
) -> Detection:
    """Inspect every byte of a request. Pure, linear in its size, never raises.

    Args:
        body: The client's JSON as it would go to a backend.
        rules: Detectors to run.
        has_opaque_parts: The parsed request has parts that cannot be inspected, whatever their
            bytes look like.
    """
    try:
        content = normalize(body)
        readings = (content, content.parted) if content.parted else (content,)
        found = {finding for text in readings for rule in rules for finding in rule(text)}
    except Exception:  # noqa: BLE001  # whatever went wrong, the content is not known to be harmless
        found = {DETECTOR_FAILED}
    if has_opaque_parts:
        found.add(OPAQUE_CONTENT)
    if not found:
        return _NOTHING
    return Detection(
        label=strictest(*(finding.label for finding in found)),
        findings=tuple(sorted(finding.code for finding in found)),
    )
