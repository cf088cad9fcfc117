"""The trained part of the features: one resource file, made by `deploy/train/train_profiler.py`.

It holds no pickle and no model outcome: word statistics and the weights of the domain classifier,
learned from question texts and their subjects. `data/provenance.json` says from which.
"""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load

from localforge.errors import StateError

FILE = Path(__file__).parent / "data" / "profiler.safetensors"

Floats = npt.NDArray[np.float32]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says about itself, JSON in its safetensors metadata."""

    domains: tuple[str, ...]
    lexical_dim: int
    embedding_dim: int
    surface_dim: int
    """Surface features the file was standardised for."""
    weights_sha256: str
    """Of the embedding weights in the `wordllama` package."""
    tokenizer_sha256: str


class Tables(msgspec.Struct, frozen=True, kw_only=True):
    """The trained arrays. K domains, L lexical and E embedding dimensions, B hash buckets."""

    header: Header
    digest: str
    """Hex SHA-256 of the file."""
    lexical: npt.NDArray[np.int8]
    """(B, K + L), times `lexical_scale`: domain weights, then the projection."""
    lexical_scale: Floats
    """(K + L,)."""
    bucket_norm: Floats
    """(B,), squared inverse document frequency."""
    projection: Floats
    """(256, E), from the token embedding."""
    embedding_mean: Floats
    """(E,)."""
    embedding_scale: Floats
    """(E,), reciprocal of the standard deviation."""
    domain_embedding: Floats
    """(E, K), weights of the standardised embedding."""
    domain_bias: Floats
    """(K,)."""
    lexical_mean: Floats
    """(L,)."""
    lexical_spread: Floats
    """(L,), reciprocal of the standard deviation."""
    surface_mean: Floats
    """(S,)."""
    surface_scale: Floats
    """(S,), reciprocal of the standard deviation."""
    token_weights: Floats
    """(COUNTS,), tokens per counted thing."""


def tables() -> Tables:
    """Read the trained arrays; whoever needs them keeps them.

    Raises:
        StateError: The file is missing or is not what this program expects.
    """
    try:
        raw = FILE.read_bytes()
    except OSError as exc:
        raise StateError(f"{FILE}: cannot read the profiler's tables: {exc.strerror}") from exc
    return read_tables(raw)


def read_tables(raw: bytes) -> Tables:
    """Read the bytes of a resource file.

    Raises:
        StateError: It is not what this program expects.
    """
    try:
        arrays: dict[str, Any] = load(raw)
        size = int.from_bytes(raw[:8], "little")
        metadata = msgspec.json.decode(raw[8 : 8 + size])["__metadata__"]
        header = msgspec.json.decode(metadata["header"], type=Header)
        return Tables(header=header, digest=hashlib.sha256(raw).hexdigest(), **arrays)
    except Exception as exc:
        raise StateError(f"{FILE.name}: not a table file of this version: {exc}") from exc
