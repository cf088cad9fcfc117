"""Stored states as bytes: packed, unpacked, compared with this program, filled into a learner.

Layout: `MAGIC`, the state hash (16 bytes), the header's length (4 bytes, big endian), the header,
the arrays. The hash is the checksum too. Nothing in it is executed on loading.
"""

import struct
from collections.abc import Sequence

import msgspec
import numpy as np

from localforge.bandit.drift import DriftDetector
from localforge.bandit.learner import Learner
from localforge.bandit.parameters import CONSTANTS_HASH, LEARNER
from localforge.bandit.shipped import ShippedPrior
from localforge.bandit.state import FORMAT, StateHeader, hash_parts
from localforge.errors import StateError

MAGIC = b"LFSTATE1"
_PREFIX = struct.Struct(f">{len(MAGIC)}s16sI")
_headers = msgspec.msgpack.Decoder(StateHeader)


class Mismatch(msgspec.Struct, frozen=True):
    """Where a stored state does not fit this program."""

    field: str
    found: str | int
    wanted: str | int


def pack(parts: Sequence[bytes]) -> bytes:
    """Return what `canonical_parts` gave as one blob."""
    prefix = _PREFIX.pack(MAGIC, bytes.fromhex(hash_parts(parts)), len(parts[0]))
    return b"".join((prefix, *parts))


def unpack(data: bytes) -> tuple[StateHeader, memoryview]:
    """Return the header and the arrays of a blob.

    Raises:
        StateError: The bytes are damaged, or their header is of another version.
    """
    view = memoryview(data)
    if len(view) < _PREFIX.size:
        raise StateError(f"checkpoint: {len(view)} bytes are too few; it was cut off")
    magic, digest, length = _PREFIX.unpack_from(view)
    if magic != MAGIC:
        raise StateError(f"checkpoint: starts with {magic!r}, expected {MAGIC!r}; not a checkpoint")
    body = view[_PREFIX.size :]
    found = hash_parts((bytes(body),))
    if found != digest.hex():
        raise StateError(f"checkpoint: its hash is {found}, expected {digest.hex()}; it is damaged")
    try:
        return _headers.decode(body[:length]), body[length:]
    except msgspec.DecodeError as exc:
        raise StateError(f"checkpoint: header of another version: {exc}") from exc


def mismatch(
    header: StateHeader, feature_schema: str, dim: int, prior: ShippedPrior | None
) -> Mismatch | None:
    """Return the first thing in which a state and this program differ.

    Args:
        header: Of the state.
        feature_schema: The schema this program computes features in.
        dim: Values in a feature vector of that schema.
        prior: What this program learns on top of.
    """
    expected: dict[str, str | int] = {
        "format": FORMAT,
        "policy": LEARNER,
        "constants": CONSTANTS_HASH,
        "feature_schema": feature_schema,
        "dim": dim,
        "prior": prior.digest if prior else "",
    }
    for field, wanted in expected.items():
        found = getattr(header, field)
        if found != wanted:
            return Mismatch(field, found, wanted)
    return None


def fill(learner: Learner, header: StateHeader, data: memoryview) -> list[int]:
    """Put a state that fits into a new learner, and return the remembered ids.

    Raises:
        StateError: The arrays are not those that the header names.
    """
    arms = learner.arms
    count = len(header.arms)
    size = arms.size
    shapes = ((count, size, size), (count, size))
    arrays = []
    offset = 0
    for shape in shapes:
        values = int(np.prod(shape))
        if offset + 8 * values > len(data):
            raise StateError("checkpoint: its arrays are shorter than its header says")
        array = np.frombuffer(data, dtype="<f8", count=values, offset=offset)
        if not np.isfinite(array).all():
            raise StateError("checkpoint: its arrays hold values that are not finite")
        arrays.append(array.reshape(shape))
        offset += 8 * values
    if len(data) - offset != 8 * header.ids:
        raise StateError("checkpoint: its remembered ids are not as many as its header says")
    known = len(learner.tables)
    if len(header.usage) != known:
        raise StateError(f"checkpoint: {len(header.usage)} tables of means, expected {known}")
    arms.restore(
        [entry.model for entry in header.arms], arrays, [entry.weight for entry in header.arms]
    )
    for row, entry in enumerate(header.arms):
        arms.learned_at[row] = entry.learned_at
        arms.scores[row] = entry.score
        arms.drifts[row] = entry.drifts
        arms.detectors[row] = DriftDetector(entry.errors)
    arms.updates = header.updates
    for table, entries in zip(learner.tables, header.usage, strict=True):
        table.restore(entries)
    learner.cascade.restore(header.beliefs)
    learner.checked.restore(header.checked)
    learner.soundness.restore(header.soundness)
    learner.reliability.restore(header.reliability)
    learner.checked.failing.restore(header.failing)
    return [int(value) for value in np.frombuffer(data, dtype="<u8", offset=offset)]
