"""What each API key has spent in the present hour, day and month: a fold of the outcomes."""

import hashlib
import math

import msgspec

from localforge.bandit.eligible import Eligibility
from localforge.bandit.goal import period_of
from localforge.bandit.ids import RecentIds
from localforge.contracts.facts import Exclusion, OutcomeObserved, outcome_on
from localforge.contracts.problems import ContractViolation
from localforge.contracts.subjects import OUTCOME_PREFIX
from localforge.errors import StateError

FORMAT = 2
PERIODS = ("hour", "day", "month")
STATE_NAME = "budgets"
"""Name of its stored state."""


class _State(msgspec.Struct, frozen=True, array_like=True):
    format: int
    sequence: int
    spent: dict[str, dict[str, tuple[float, float]]]
    ids: tuple[int, ...]


_states = msgspec.msgpack.Decoder(_State)


class Spending:
    """Feed it every outcome in stream order. It knows no budgets, so that they may change."""

    def __init__(self) -> None:
        self.sequence = 0
        """Stream sequence of the last message read."""
        self._spent: dict[str, dict[str, tuple[float, float]]] = {}
        self._ids = RecentIds()

    def spent_usd(self, key_id: str, per: str, now: float) -> float:
        """Return what a key has spent in the period that `now` (Unix seconds) falls into.

        Args:
            key_id: Of `[[keys]]`.
            per: `hour`, `day` or `month`, UTC.
            now: Unix seconds.
        """
        begin, spent = self._spent.get(key_id, {}).get(per, (0.0, 0.0))
        return spent if begin == period_of(per, now)[0] else 0.0

    def observe(self, fact: OutcomeObserved) -> None:
        """Take one outcome, failed attempts included. What makes no sense changes nothing."""
        known_when = 0 < fact.observed_at < 1e11
        if not fact.key_id or not known_when or not 0 < fact.cost_usd < math.inf:
            return
        if not self._ids.add(fact.identity):
            return
        kept = self._spent.setdefault(fact.key_id, {})
        for per in PERIODS:
            begin = period_of(per, fact.observed_at)[0]
            last, spent = kept.get(per, (begin, 0.0))
            # A late outcome of a period that is over counts for the present one: it was not there
            # when that one was judged.
            kept[per] = (max(begin, last), fact.cost_usd + (spent if begin <= last else 0.0))

    def apply_bytes(self, sequence: int, subject: str, data: bytes) -> None:
        """Take one message as it is on the stream; other subjects and repeats change nothing."""
        if sequence <= self.sequence:
            return
        self.sequence = sequence
        if subject.startswith(OUTCOME_PREFIX + "."):
            try:
                self.observe(outcome_on(subject, data))
            except ContractViolation:
                return

    def dump(self) -> bytes:
        """Return the state as bytes, with a checksum."""
        state = msgspec.msgpack.encode(
            _State(FORMAT, self.sequence, self._spent, tuple(self._ids.array().tolist()))
        )
        return hashlib.blake2b(state, digest_size=16).digest() + state

    @classmethod
    def load(cls, data: bytes) -> "Spending":
        """Return what `dump` wrote.

        Raises:
            StateError: The bytes are damaged or of another version.
        """
        digest, state = data[:16], data[16:]
        if hashlib.blake2b(state, digest_size=16).digest() != digest:
            raise StateError("spending: the stored state is damaged")
        try:
            found = _states.decode(state)
        except msgspec.DecodeError as exc:
            raise StateError(f"spending: the stored state is not readable: {exc}") from exc
        if found.format != FORMAT:
            raise StateError(f"spending: stored in format {found.format}, expected {FORMAT}")
        spending = cls()
        spending.sequence = found.sequence
        spending._spent = found.spent
        spending._ids.restore(found.ids)
        return spending


def exclude_priced(eligible: Eligibility, told: str) -> Eligibility:
    """Exclude every model that costs by the token or by the hour, for the reason `budget`."""
    priced = [
        card.name
        for card, _ in eligible.models
        if card.price_in or card.price_out or card.usd_per_hour
    ]
    return Eligibility(
        tuple((card, backend) for card, backend in eligible.models if card.name not in priced),
        eligible.exclusions
        + tuple(Exclusion(model=name, reason="budget", detail=told) for name in priced),
    )
