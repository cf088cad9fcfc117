"""The seal: the profiler's signature over where one body may go.

A remote executor holds only the public key. It verifies the seal against the body in its hands, so
neither a wrong router nor a forged message can make it send a body to its zone.

Only remote executors check signatures, and a signature is a large part of the profiler's time. So a
seal that names no remote zone is not signed at all. That fails closed: an unsigned seal is refused
by every verifier, whatever it says.
"""

import hashlib
import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from localforge.contracts.trust import LOCAL_ZONE, Label, Seal
from localforge.errors import RequestRefused

_CONTEXT = b"localforge seal v1"
"""Keeps a signature made for something else from passing as a seal."""
_UNSIGNED = frozenset({LOCAL_ZONE})
"""Nobody checks a seal on the way there."""


class Sealer:
    """Makes seals; only the profiler has one."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._key = private_key

    def derived_key(self, purpose: bytes) -> bytes:
        """Return 32 secret bytes for another purpose, the same in every profiler of this site.

        Args:
            purpose: At most 16 bytes.
        """
        secret = self._key.private_bytes_raw()
        return hashlib.blake2b(secret, digest_size=32, person=purpose).digest()

    def seal(
        self,
        *,
        request_id: str,
        body: bytes,
        label: Label,
        zones: tuple[str, ...],
        expires_at: float,
    ) -> Seal:
        """Sign where `body` may go; no signature when that is nowhere or only the local zone.

        Args:
            request_id: The seal is void for any other request.
            body: The client's bytes.
            label: For the record; the zones decide.
            zones: Allowed zones, in any order.
            expires_at: Unix time in seconds.
        """
        digest = hashlib.sha256(body).digest()
        zones = tuple(sorted(zones))
        signature = b""
        if not _UNSIGNED.issuperset(zones):
            signature = self._key.sign(_signed_bytes(request_id, digest, label, zones, expires_at))
        return Seal(
            request_id=request_id,
            body_sha256=digest,
            label=label,
            zones=zones,
            expires_at=expires_at,
            signature=signature,
        )


class SealVerifier:
    """Checks seals; every remote executor has one."""

    def __init__(self, public_key: Ed25519PublicKey) -> None:
        self._key = public_key

    def verify(self, seal: Seal, body: bytes, zone: str, request_id: str, now: float) -> None:
        """Return when `body` may be sent to `zone` now.

        Raises:
            RequestRefused: Status 403, code `seal_invalid`; names the check that failed.
        """
        if not seal.signature:
            raise _refusal("it has no signature, so it is for the local zone only")
        # First the signature: before it the other fields are anybody's words.
        if not self.is_signed(seal):
            raise _refusal("its signature is not the profiler's")
        if seal.request_id != request_id:
            raise _refusal("it was made for another request id")
        if seal.body_sha256 != hashlib.sha256(body).digest():
            raise _refusal("the body is not the one that was sealed")
        if zone not in seal.zones:
            raise _refusal(f"zone `{zone}` is not among its zones {list(seal.zones)}")
        # Written so that an expiry that is not a number fails.
        if not now < seal.expires_at:
            raise _refusal(f"it expired at {seal.expires_at:.3f}, now is {now:.3f}")

    def is_signed(self, seal: Seal) -> bool:
        """Tell whether the profiler signed these words; says nothing about a body or the time."""
        signed = _signed_bytes(
            seal.request_id, seal.body_sha256, seal.label, seal.zones, seal.expires_at
        )
        try:
            self._key.verify(seal.signature, signed)
        except InvalidSignature:
            return False
        return True


def _refusal(reason: str) -> RequestRefused:
    return RequestRefused(
        f"the seal does not allow this request here: {reason}", code="seal_invalid", status=403
    )


def _signed_bytes(
    request_id: str, digest: bytes, label: Label, zones: tuple[str, ...], expires_at: float
) -> bytes:
    """Encode the fields so that no two different seals share their bytes: each has its length."""
    fields = [
        _CONTEXT,
        request_id.encode(),
        digest,
        label.value.encode(),
        struct.pack(">d", expires_at),
        *(zone.encode() for zone in zones),
    ]
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)
