"""Prove from the log that no request left the zones its label allows.

Four sources that different parties wrote, held against one another: the router's decision records,
the outcomes that every executor can only publish under the zone and backend its own credentials
name, the profiler's signature in the seal that each remote attempt carries, and the stream's own
numbering, which has no gaps unless something was removed.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from localforge.audit.draws import wrong_with_draw
from localforge.config import PolicyConfig
from localforge.contracts.facts import DecisionMade, OutcomeObserved
from localforge.contracts.problems import ContractViolation
from localforge.contracts.subjects import DECISION_PREFIX, OUTCOME_PREFIX, SHADOW
from localforge.contracts.trust import LOCAL_ZONE, Label
from localforge.trust import SealVerifier
from localforge.trust.zones import EVERY_ZONE

MOST_DETAILS = 100
"""Findings described one by one; the others are only counted."""
NOT_SENT = frozenset({"seal_invalid", "wrong_executor"})
"""Errors with which an executor refuses a request without sending it anywhere."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the log that should not be."""

    rule: str
    """Stable code; `RULES` says what each means."""
    sequence: int
    """Of the message in the stream."""
    decision_id: str
    detail: str


RULES = {
    "log_empty": "the stream has no message, and nothing says that it is the first one",
    "log_replaced": "the stream was made later than the first one of this data directory",
    "gap": "messages are missing from the stream",
    "undecodable": "a decision or an outcome cannot be read",
    "draw": "the probabilities of a decision do not fit its choice",
    "candidate_zone": "a candidate or a step of the plan is in a zone the request was not allowed",
    "label_zone": "a decision allows a zone that the policy does not allow its label",
    "record_changed": "a decision has two different records",
    "outcome_subject": "an outcome names another zone or backend than the one that published it",
    "outcome_zone": "an attempt was made in a zone that its decision does not allow",
    "outcome_unknown": "a remote attempt belongs to no decision in the log",
    "seal_missing": "a remote attempt carries no seal",
    "seal_zone": "the seal of a remote attempt does not allow its zone",
    "seal_label": "seal and decision state different labels or requests",
    "seal_signature": "the seal of a remote attempt is not signed by the profiler",
}


class Attempts(msgspec.Struct, kw_only=True):
    """Attempts by where they were made."""

    local: int = 0
    remote: int = 0
    refused: int = 0
    """By the executor, before anything was sent."""


class LocalityReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at and what was found."""

    messages: int
    decisions: int
    attempts: dict[Label, Attempts]
    """By the label of their request."""
    seals_verified: int
    """Signatures checked with the profiler's public key."""
    seals_unverified: int
    """Remote attempts whose seal was only read, because no public key was given."""
    findings: tuple[Finding, ...]
    """The first of them."""
    counts: dict[str, int]
    """All findings, by rule."""

    @property
    def clean(self) -> bool:
        """True when nothing was found."""
        return not self.counts


class _Decided(msgspec.Struct, frozen=True):
    """What is kept of a decision for its outcomes."""

    label: Label
    zones: tuple[str, ...]
    request_id: str
    digest: int


class LocalityCheck:
    """A check in progress: `feed` it the whole stream in order, then `finish`.

    Args:
        policy: Which label may go where.
        verifier: With the profiler's public key; None leaves signatures unchecked.
        first_sequence: Of the first message that is expected.
    """

    def __init__(
        self, policy: PolicyConfig, verifier: SealVerifier | None = None, first_sequence: int = 1
    ) -> None:
        self._zones = policy.zones
        self._verifier = verifier
        self._expected = first_sequence
        self._decided: dict[str, _Decided] = {}
        self._waiting: list[tuple[int, OutcomeObserved]] = []
        self._attempts = {label: Attempts() for label in Label}
        self._findings: list[Finding] = []
        self._counts: dict[str, int] = {}
        self._messages = self._verified = self._unverified = 0
        self._is_first = False

    def compare_origin(self, made_at: datetime, noted: datetime) -> None:
        """Hold the time at which the stream was made against the one that was noted at first."""
        if made_at > noted:
            told = f"made at {made_at.isoformat()}, the first one at {noted.isoformat()}"
            self._found("log_replaced", 0, "", told)
        self._is_first = True

    def feed(self, sequence: int, subject: str, data: bytes) -> None:
        """Take the next message of the stream."""
        self._messages += 1
        if sequence != self._expected:
            self._found("gap", sequence, "", f"sequence {self._expected} was expected")
        self._expected = sequence + 1
        if subject.startswith(OUTCOME_PREFIX + "."):
            outcome = self._read(OutcomeObserved, sequence, data)
            if outcome is not None:
                self._take_outcome(sequence, subject, outcome)
        elif subject.startswith(DECISION_PREFIX + ".") and not subject.endswith("." + SHADOW):
            record = self._read(DecisionMade, sequence, data)
            if record is not None:
                self._take_decision(sequence, record)

    def finish(self) -> LocalityReport:
        """Check what still waits for its decision's record, and return the report."""
        if not self._messages and not self._is_first:
            self._found("log_empty", 0, "", "no message")
        for sequence, outcome in self._waiting:
            self._check_attempt(sequence, outcome)
        self._waiting.clear()
        return LocalityReport(
            messages=self._messages,
            decisions=len(self._decided),
            attempts=self._attempts,
            seals_verified=self._verified,
            seals_unverified=self._unverified,
            findings=tuple(self._findings),
            counts=dict(sorted(self._counts.items())),
        )

    def _take_decision(self, sequence: int, record: DecisionMade) -> None:
        kept = _Decided(record.label, record.zones, record.request_id, hash(record.encode()))
        known = self._decided.setdefault(record.decision_id, kept)
        if known is not kept:
            if known.digest != kept.digest:
                self._found("record_changed", sequence, record.decision_id, "two records differ")
            return
        for rule, detail in self._wrong_with(record):
            self._found(rule, sequence, record.decision_id, detail)

    def _wrong_with(self, record: DecisionMade) -> Iterator[tuple[str, str]]:
        for detail in wrong_with_draw(record):
            yield "draw", detail
        for candidate in record.candidates:
            if candidate.zone not in record.zones:
                allowed = ", ".join(record.zones) or "none"
                told = f"{candidate.model} is in zone {candidate.zone}, allowed are {allowed}"
                yield "candidate_zone", told
        permitted = self._zones.get(record.label, (LOCAL_ZONE,))
        for zone in record.zones:
            # A zone of the log need not have a backend any more.
            if zone not in permitted and EVERY_ZONE not in permitted:
                told = f"the decision allows {zone}; label {record.label} may go to "
                yield "label_zone", told + (", ".join(permitted) or "no zone")

    def _take_outcome(self, sequence: int, subject: str, outcome: OutcomeObserved) -> None:
        zone, backend = (*subject.split("."), "", "")[2:4]
        if (zone, backend) != (outcome.zone, outcome.backend):
            told = f"published by {zone}/{backend}, names {outcome.zone}/{outcome.backend}"
            self._found("outcome_subject", sequence, outcome.decision_id, told)
            # The broker vouches for the subject, not for what is written in the message.
            outcome = msgspec.structs.replace(outcome, zone=zone, backend=backend)
        if outcome.decision_id in self._decided:
            self._check_attempt(sequence, outcome)
        else:
            self._waiting.append((sequence, outcome))

    def _check_attempt(self, sequence: int, outcome: OutcomeObserved) -> None:
        decided = self._decided.get(outcome.decision_id)
        remote = outcome.zone != LOCAL_ZONE
        if decided is None:
            if remote:
                told = f"attempt in zone {outcome.zone} at backend {outcome.backend}"
                self._found("outcome_unknown", sequence, outcome.decision_id, told)
            return
        attempts = self._attempts[decided.label]
        if outcome.error_code in NOT_SENT:
            attempts.refused += 1
            return
        if not remote:
            attempts.local += 1
        else:
            attempts.remote += 1
        if outcome.zone not in decided.zones:
            told = f"attempt in {outcome.zone}, allowed are {', '.join(decided.zones) or 'none'}"
            self._found("outcome_zone", sequence, outcome.decision_id, told)
        if remote:
            self._check_seal(sequence, outcome, decided)

    def _check_seal(self, sequence: int, outcome: OutcomeObserved, decided: _Decided) -> None:
        seal = outcome.seal
        if seal is None:
            self._found("seal_missing", sequence, outcome.decision_id, f"zone {outcome.zone}")
            return
        if outcome.zone not in seal.zones:
            told = f"attempt in {outcome.zone}, sealed for {', '.join(seal.zones) or 'none'}"
            self._found("seal_zone", sequence, outcome.decision_id, told)
        if (seal.label, seal.request_id) != (decided.label, decided.request_id):
            told = (
                f"seal: {seal.label} for {seal.request_id}; "
                f"decision: {decided.label} for {decided.request_id}"
            )
            self._found("seal_label", sequence, outcome.decision_id, told)
        if self._verifier is None:
            self._unverified += 1
        elif self._verifier.is_signed(seal):
            self._verified += 1
        else:
            self._found("seal_signature", sequence, outcome.decision_id, f"zone {outcome.zone}")

    def _read(self, contract: Any, sequence: int, data: bytes) -> Any:
        try:
            return contract.decode(data)
        except ContractViolation as exc:
            self._found("undecodable", sequence, "", str(exc))
            return None

    def _found(self, rule: str, sequence: int, decision_id: str, detail: str) -> None:
        self._counts[rule] = self._counts.get(rule, 0) + 1
        if len(self._findings) < MOST_DETAILS:
            self._findings.append(
                Finding(rule=rule, sequence=sequence, decision_id=decision_id, detail=detail)
            )
