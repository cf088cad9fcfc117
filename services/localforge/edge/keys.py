"""API keys: who calls, and what the key's policy adds to the request."""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping

import msgspec

from localforge.config import KeyConfig
from localforge.contracts.trust import Label
from localforge.errors import ConfigError, RequestRefused


class ApiKey(msgspec.Struct, frozen=True):
    """One caller, as far as requests are concerned. Never holds the secret."""

    id: str
    preference: str = ""
    cascade: bool | None = None
    """Whether cheap models may be asked first; None means the configured default."""
    minimum_label: Label | None = None
    policy: str = ""
    """The decision rule where the request names none; empty means the configured one."""


class KeyRing:
    """The configured keys.

    Args:
        keys: From the configuration; none means that no key is asked for.
        resolve: Turns a secret reference into the secret.

    Attributes:
        problems: A key whose secret cannot be resolved, is empty, or is that of another key is
            left out, and this says why. A key is asked for all the same, if it was the only one.
    """

    def __init__(self, keys: Iterable[KeyConfig], resolve: Callable[[str], str]) -> None:
        self.problems: list[str] = []
        self._keys: list[tuple[bytes, ApiKey]] = []
        self._is_open = True
        for key in keys:
            self._is_open = False
            try:
                digest = self._digest(key, resolve)
            except ConfigError as exc:
                self.problems.append(f"key `{key.id}`: {exc.message}")
                continue
            found = ApiKey(
                id=key.id,
                preference=key.preference or "",
                cascade=key.cascade,
                minimum_label=key.minimum_label,
                policy=key.policy or "",
            )
            self._keys.append((digest, found))

    @property
    def is_open(self) -> bool:
        """True when no key is configured."""
        return self._is_open

    def authenticate(self, headers: Mapping[bytes, bytes]) -> ApiKey | None:
        """Return the caller's key; None when no key is configured.

        Raises:
            RequestRefused: Status 401, no key or a wrong one.
        """
        if self._is_open:
            return None
        given = _given(headers)
        if not given:
            raise RequestRefused(
                "an API key is needed: send `Authorization: Bearer <key>` or `x-api-key: <key>`",
                code="missing_api_key",
                status=401,
            )
        digest = _digest(given)
        found = None
        # Every key is compared, each in constant time, so that time says nothing about any.
        for known, key in self._keys:
            if hmac.compare_digest(known, digest):
                found = key
        if found is None:
            raise RequestRefused(
                "this API key is not known here; see `keys` in the configuration",
                code="invalid_api_key",
                status=401,
            )
        return found

    def _digest(self, key: KeyConfig, resolve: Callable[[str], str]) -> bytes:
        secret = resolve(key.secret)
        if not secret:
            raise ConfigError("`secret` is empty; use env:NAME or file:/path")
        digest = _digest(secret.encode())
        if any(known == digest for known, _ in self._keys):
            raise ConfigError("another key has the same secret")
        return digest


def _given(headers: Mapping[bytes, bytes]) -> bytes:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and token.strip():
        return token.strip()
    return headers.get(b"x-api-key", b"").strip()


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
