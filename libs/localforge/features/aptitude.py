"""Lexical columns that were trained on outcomes: what in a text tells which model will be right.

They are part of the shipped prior (`localforge.bandit.shipped` holds its other part, the weights of
the models) and the only features that outcomes had a say in. A learner without the prior does not
look at them. Made by `deploy/train/train_prior.py`; `data/aptitude.json` says from what.
"""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load

from localforge.errors import StateError
from localforge.features.tables import Floats

FILE = Path(__file__).parent / "data" / "aptitude.safetensors"
APTITUDES = 8


class Aptitudes(msgspec.Struct, frozen=True, kw_only=True):
    """The trained arrays; B hash buckets, A = `APTITUDES`."""

    digest: str
    """Hex SHA-256 of the file."""
    table: npt.NDArray[np.int8]
    """(B, A), times `scale`; of the same tf-idf vector as `Tables.lexical`."""
    scale: Floats
    """(A,)."""
    mean: Floats
    """(A,)."""
    spread: Floats
    """(A,), reciprocal of the standard deviation."""


def aptitudes() -> Aptitudes:
    """Read the trained arrays; whoever needs them keeps them.

    Raises:
        StateError: The file is missing or is not what this program expects.
    """
    try:
        return read_aptitudes(FILE.read_bytes())
    except OSError as exc:
        raise StateError(f"{FILE}: cannot read the prior's features: {exc.strerror}") from exc


def read_aptitudes(raw: bytes) -> Aptitudes:
    """Read the bytes of a resource file.

    Raises:
        StateError: It is not what this program expects.
    """
    try:
        arrays: dict[str, Any] = load(raw)
        return Aptitudes(digest=hashlib.sha256(raw).hexdigest(), **arrays)
    except Exception as exc:
        raise StateError(f"{FILE.name}: not a file of this version: {exc}") from exc
