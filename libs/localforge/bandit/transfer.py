"""A trained learner as a signed file: what `localforge router export` writes and `import` reads.

Layout: `MAGIC`, the header's length (4 bytes, big endian), the header (MessagePack), the learner's
state as `stored` packs it, and an Ed25519 signature (64 bytes) over everything before it. Only what
was learned is in it: no decision, no message id, no text.
"""

import struct

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from localforge.bandit.ids import RecentIds
from localforge.bandit.learner import Learner
from localforge.bandit.parameters import CONSTANTS_HASH, LEARNER
from localforge.bandit.shipped import ShippedPrior
from localforge.bandit.state import FORMAT, canonical_parts, hash_parts
from localforge.bandit.stored import fill, mismatch, pack, unpack
from localforge.errors import StateError
from localforge.trust.signed import SIGNATURE_BYTES, is_signed, key_id, sign

MAGIC = b"LFROUTER"
VERSION = 1
"""Of the file's layout; the state in it has a version of its own."""
CONTEXT = b"localforge router state v1"
_PREFIX = struct.Struct(f">{len(MAGIC)}sI")


class RouterFile(msgspec.Struct, frozen=True, kw_only=True):
    """The header of an exported router, readable without the state."""

    version: int
    format: int
    policy: str
    constants: str
    """Hash of the learners' constants."""
    feature_schema: str
    dim: int
    state_hash: str
    """32 hex digits over the learner's state."""
    models: tuple[str, ...]
    """Those with scores."""
    scores: int
    """Verdicts it has learned from."""
    exported_at: float
    key_id: str
    """Names the public key to verify with."""


_headers = msgspec.msgpack.Decoder(RouterFile)


def learner_hash(learner: Learner) -> str:
    """Return 32 hex digits over what was learned, whatever stream it came from."""
    return hash_parts(_parts(learner))


def export_learner(learner: Learner, key: Ed25519PrivateKey, exported_at: float) -> bytes:
    """Return the learner as a signed file.

    Args:
        learner: Not changed.
        key: Signs the file.
        exported_at: Unix seconds.
    """
    parts = _parts(learner)
    header = msgspec.msgpack.encode(
        RouterFile(
            version=VERSION,
            format=FORMAT,
            policy=LEARNER,
            constants=CONSTANTS_HASH,
            feature_schema=learner.feature_schema,
            dim=learner.dim,
            state_hash=hash_parts(parts),
            models=tuple(learner.arms.names),
            scores=learner.arms.updates,
            exported_at=exported_at,
            key_id=key_id(key.public_key()),
        )
    )
    signed = _PREFIX.pack(MAGIC, len(header)) + header + pack(parts)
    return signed + sign(key, CONTEXT, signed)


def read_header(data: bytes) -> RouterFile:
    """Return what an exported router says of itself; its signature is not looked at.

    Raises:
        StateError: It is no such file, or one of another version.
    """
    return _split(data)[0]


def verify_signature(data: bytes, key: Ed25519PublicKey) -> None:
    """Return when the owner of `key` signed the whole file.

    Raises:
        StateError: Says whether another key signed it or the file was changed.
    """
    header = read_header(data)
    if is_signed(key, CONTEXT, data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]):
        return
    trusted = key_id(key)
    if header.key_id != trusted:
        raise StateError(
            f"router file: it says that key {header.key_id} signed it, you trust key {trusted}; "
            "name the exporter's public key with `--public-key`"
        )
    raise StateError(
        f"router file: the signature of key {trusted} does not fit; the file was changed after it "
        "was exported"
    )


def read_learner(
    data: bytes, feature_schema: str, dim: int, prior: ShippedPrior | None = None
) -> Learner:
    """Return the learner in an exported file.

    The signature is not looked at: a fold has no keys, and who publishes to it has verified.

    Args:
        data: The whole file.
        feature_schema: The schema this program computes features in.
        dim: Values in a feature vector of that schema.
        prior: The one it learned on top of.

    Raises:
        StateError: The file is damaged or does not fit this program; names the field.
    """
    _, state = _split(data)
    header, arrays = unpack(state)
    if found := mismatch(header, feature_schema, dim, prior):
        raise StateError(
            f"router file: `{found.field}` is {found.found!r}, this program has {found.wanted!r}; "
            + _ADVICE.get(found.field, "export it with the same version of LocalForge")
        )
    learner = Learner(feature_schema, dim, prior)
    fill(learner, header, arrays)
    return learner


_ADVICE = {
    "feature_schema": "what was learned on other features cannot be used; export it from a router "
    "with the same feature schema",
    "prior": "both routers need the same `router.prior`",
    "constants": "the learners' constants differ; export it with the same version of LocalForge",
}


def _parts(learner: Learner) -> tuple[bytes, ...]:
    return canonical_parts(learner, RecentIds(), RecentIds(), 0, {})


def _split(data: bytes) -> tuple[RouterFile, bytes]:
    """Return the header and the state."""
    if data[: len(MAGIC)] != MAGIC:
        raise StateError(
            f"router file: starts with {data[: len(MAGIC)]!r}, expected {MAGIC!r}; not an export"
        )
    end = len(data) - SIGNATURE_BYTES
    if end < _PREFIX.size:
        raise StateError(f"router file: {len(data)} bytes are too few; it was cut off")
    _, length = _PREFIX.unpack_from(data)
    try:
        header = _headers.decode(data[_PREFIX.size : _PREFIX.size + length])
    except msgspec.DecodeError as exc:
        raise StateError(f"router file: header damaged or of another version: {exc}") from exc
    if header.version != VERSION:
        raise StateError(
            f"router file: layout version {header.version}, this program reads {VERSION}"
        )
    return header, data[_PREFIX.size + length : end]
