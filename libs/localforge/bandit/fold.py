"""Learner state as a fold of the feedback stream: same stream, same state, same hash."""

import enum
from collections.abc import Callable
from functools import partial

from localforge.bandit.cascade import Credit
from localforge.bandit.ids import RecentIds
from localforge.bandit.ladder import TRUSTED, learn_agreement, learn_check, learn_score
from localforge.bandit.learner import Learner
from localforge.bandit.reliability import is_own_failure
from localforge.bandit.ridge import Vector
from localforge.bandit.shipped import ShippedPrior
from localforge.bandit.state import canonical_parts, hash_parts
from localforge.contracts.facts import (
    CHECKS,
    FeedbackGiven,
    ForeignOutcome,
    OutcomeObserved,
    StateImported,
    outcome_on,
)
from localforge.contracts.problems import ContractViolation
from localforge.contracts.subjects import FEEDBACK_PREFIX, OUTCOME_PREFIX, STATE_IMPORT
from localforge.errors import StateError
from localforge.scoring.verdict import FAILED_BELOW

FACT_SUBJECTS = (f"{OUTCOME_PREFIX}.>", f"{FEEDBACK_PREFIX}.>", STATE_IMPORT)
"""What a fold reads of the stream."""


class Applied(enum.StrEnum):
    """What came of one message."""

    LEARNED = "learned"
    BEHIND = "behind"
    """At or before the fold's sequence: delivered again. Not part of the state."""
    DUPLICATE = "duplicate"
    UNDECODABLE = "undecodable"
    FOREIGN = "foreign"
    """An outcome of another backend than the one whose subject it came on."""
    NOT_OK = "not_ok"
    """An outcome that is neither a complete answer nor the model's own failure."""
    SCHEMA = "feature_schema"
    FEATURES = "features"
    """Wrong length or not finite."""
    SCORE = "score"
    """Not in [0, 1]."""
    WEIGHT = "weight"
    """Not in (0, 1]."""
    NUMBERS = "numbers"
    """Token counts or times that cannot be."""
    IMPORTED = "imported"
    """A trained router took the place of what was learned."""
    STATE = "state"
    """An import that does not fit this program."""


class Fold:
    """The learner and how far it has come.

    Feed it every message of `FACT_SUBJECTS` in stream order, with `apply` or `apply_bytes`; a
    message that teaches nothing still counts as read. Not safe to share between threads.

    Args:
        feature_schema: Facts of another schema are ignored.
        dim: Values in a feature vector, the bias first.
        prior: What the learner knows before the first message; None for nothing.
    """

    def __init__(self, feature_schema: str, dim: int, prior: ShippedPrior | None = None) -> None:
        self.learner = Learner(feature_schema, dim, prior)
        self.sequence = 0
        """Stream sequence of the last message read."""
        self.counts: dict[Applied, int] = dict.fromkeys(
            (applied for applied in Applied if applied is not Applied.BEHIND), 0
        )
        self.ids = RecentIds()

    def apply_bytes(self, sequence: int, subject: str, data: bytes) -> Applied:
        """Take one message as it is on the stream.

        Raises:
            ValueError: The subject is none of `FACT_SUBJECTS`.
        """
        decode: Callable[[bytes], OutcomeObserved | FeedbackGiven | StateImported]
        if subject.startswith(OUTCOME_PREFIX + "."):
            decode = partial(outcome_on, subject)
        elif subject.startswith(FEEDBACK_PREFIX + "."):
            decode = FeedbackGiven.decode
        elif subject == STATE_IMPORT:
            decode = StateImported.decode
        else:
            raise ValueError(f"subject {subject} carries no fact to learn from")
        if sequence <= self.sequence:
            return Applied.BEHIND
        try:
            fact = decode(data)
        except ForeignOutcome:
            return self._read(sequence, Applied.FOREIGN)
        except ContractViolation:
            return self._read(sequence, Applied.UNDECODABLE)
        return self.apply(sequence, fact)

    def apply(
        self, sequence: int, fact: OutcomeObserved | FeedbackGiven | StateImported
    ) -> Applied:
        """Take one fact. What is wrong with it is counted, never raised.

        Args:
            sequence: Its stream sequence, above 0.
            fact: What was observed.
        """
        if sequence <= self.sequence:
            return Applied.BEHIND
        if isinstance(fact, OutcomeObserved):
            return self._read(sequence, self._take_outcome(fact))
        if isinstance(fact, StateImported):
            return self._read(sequence, self._take_import(fact))
        return self._read(sequence, self._take_feedback(fact))

    def state_hash(self) -> str:
        """Return 32 hex digits over the whole state; equal states have equal hashes."""
        return hash_parts(self.canonical())

    def canonical(self) -> tuple[bytes, ...]:
        """Return the state as bytes, as `localforge.bandit.state` describes."""
        counts = {applied.value: count for applied, count in self.counts.items()}
        failing = self.learner.checked.failing
        return canonical_parts(self.learner, self.ids, failing, self.sequence, counts)

    def _read(self, sequence: int, applied: Applied) -> Applied:
        self.sequence = sequence
        self.counts[applied] += 1
        return applied

    def _take_outcome(self, fact: OutcomeObserved) -> Applied:
        failed = is_own_failure(fact)
        if fact.status != "ok" and not failed:
            return Applied.NOT_OK
        if not self.ids.add(fact.identity):
            return Applied.DUPLICATE
        if failed:
            return Applied.LEARNED if self.learner.reliability.learn(fact) else Applied.NUMBERS
        self.learner.checked.note_answer(fact.model)
        if fact.cascade is not None and fact.cascade.compared:
            try:
                learn_agreement(self.learner.cascade, fact.cascade)
            except (ValueError, LookupError):
                return Applied.NUMBERS
        if not self.learner.usage.learn(fact):
            return Applied.NUMBERS
        self.learner.billing.learn(fact)
        self.learner.reliability.learn(fact)
        return Applied.LEARNED

    def _take_feedback(self, fact: FeedbackGiven) -> Applied:
        if not 0.0 <= fact.score <= 1.0:
            return Applied.SCORE
        if not 0.0 < fact.weight <= 1.0:
            return Applied.WEIGHT
        # What checks say teaches nothing that depends on the request.
        z = None if fact.source == CHECKS else self._design(fact)
        if isinstance(z, Applied):
            return z
        if not self.ids.add(f"feedback {fact.feedback_id}"):
            return Applied.DUPLICATE
        learn_check(self.learner.checked, fact)
        return self._learn_check(fact) if z is None else self._learn_score(fact, z)

    def _design(self, fact: FeedbackGiven) -> Vector | Applied:
        if fact.feature_schema != self.learner.feature_schema:
            return Applied.SCHEMA
        z = self.learner.read(fact.features)
        return Applied.FEATURES if z is None else z

    def _learn_check(self, fact: FeedbackGiven) -> Applied:
        failed = fact.score < FAILED_BELOW
        self.learner.soundness.learn(fact.model, fact.weight if failed else 0.0)
        return Applied.LEARNED

    def _learn_score(self, fact: FeedbackGiven, z: Vector) -> Applied:
        learner = self.learner
        credited: tuple[Credit, ...] = (Credit(fact.model, fact.score),)
        if fact.cascade is not None and fact.weight >= TRUSTED:
            try:
                credited = learn_score(learner.cascade, fact)
            except (ValueError, LookupError):
                return Applied.NUMBERS
        for credit in credited:
            if learner.arms.learn(
                credit.model, z, credit.score, fact.weight, noticed=credit.noticed
            ):
                learner.soundness.forget(credit.model)
        return Applied.LEARNED

    def _take_import(self, fact: StateImported) -> Applied:
        """Replace what was learned; what was read of this stream, and its ids, stay."""
        if not self.ids.add(f"import {fact.import_id}"):
            return Applied.DUPLICATE
        # It brings cryptography along, and few routers ever import.
        from localforge.bandit.transfer import read_learner  # noqa: PLC0415

        before = self.learner
        try:
            self.learner = read_learner(fact.file, before.feature_schema, before.dim, before.prior)
        except StateError:
            return Applied.STATE
        self.learner.checked.failing = before.checked.failing
        return Applied.IMPORTED
