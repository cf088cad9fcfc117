"""The canonical bytes of a learner's state: what is hashed and what a checkpoint stores.

A MessagePack header (`StateHeader`), then the arrays of `RidgeArms.arrays` as float64 and the
remembered ids as uint64, all little endian, without padding. Nothing in them depends on how the
state came to be: not on restarts, not on spare memory.
"""

import hashlib
from collections.abc import Iterable, Mapping

import msgspec
import numpy as np

from localforge.bandit.cascade import BeliefState
from localforge.bandit.checked import CheckedState
from localforge.bandit.ids import RecentIds
from localforge.bandit.learner import Learner
from localforge.bandit.parameters import CONSTANTS_HASH, LEARNER
from localforge.bandit.reliability import ReliabilityEntry
from localforge.bandit.soundness import SoundnessEntry
from localforge.bandit.usage import MeanEntry

FORMAT = 2
"""Version of the layout."""


class ArmEntry(msgspec.Struct, frozen=True, array_like=True):
    """One arm's row in the arrays."""

    model: str
    learned_at: int
    weight: float
    score: float
    drifts: int = 0
    errors: tuple[float, ...] = ()
    """State of its drift detector."""


class StateHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a state that is not an array, and what is needed to read the arrays."""

    format: int
    policy: str
    constants: str
    """Hash of the learners' constants; another one means another arithmetic."""
    feature_schema: str
    dim: int
    sequence: int
    counts: dict[str, int]
    updates: int
    arms: tuple[ArmEntry, ...]
    usage: tuple[tuple[MeanEntry, ...], ...]
    ids: int
    """How many ids are remembered."""
    beliefs: tuple[BeliefState, ...] = ()
    checked: CheckedState = CheckedState()
    soundness: tuple[SoundnessEntry, ...] = ()
    reliability: tuple[ReliabilityEntry, ...] = ()
    failing: tuple[int, ...] = ()
    """Hashes of the answers whose failed checks wait for a verdict, oldest first."""
    prior: str = ""
    """Digest of the shipped prior that it was learned on top of; empty for none."""


def canonical_parts(
    learner: Learner,
    ids: RecentIds,
    failing: RecentIds,
    sequence: int,
    counts: Mapping[str, int],
) -> tuple[bytes, ...]:
    """Return the header and the arrays as bytes, in the order they are stored in."""
    arms = learner.arms
    remembered = ids.array()
    header = StateHeader(
        format=FORMAT,
        policy=LEARNER,
        constants=CONSTANTS_HASH,
        feature_schema=learner.feature_schema,
        dim=learner.dim,
        prior=learner.prior_digest,
        sequence=sequence,
        counts=dict(sorted(counts.items())),
        updates=arms.updates,
        arms=tuple(
            ArmEntry(
                name,
                arms.learned_at[row],
                arms.weights[row],
                arms.scores[row],
                arms.drifts[row],
                arms.detectors[row].errors,
            )
            for row, name in enumerate(arms.names)
        ),
        usage=tuple(tuple(table.entries()) for table in learner.tables),
        ids=len(remembered),
        beliefs=learner.cascade.state(),
        checked=learner.checked.state(),
        soundness=learner.soundness.state(),
        reliability=learner.reliability.state(),
        failing=tuple(failing.array().tolist()),
    )
    arrays = (np.ascontiguousarray(array, dtype="<f8").tobytes() for array in arms.arrays())
    return msgspec.msgpack.encode(header), *arrays, remembered.tobytes()


def hash_parts(parts: Iterable[bytes]) -> str:
    """Return 32 hex digits over the parts."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
