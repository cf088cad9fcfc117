"""LocalForge's own options in a request's body, and what their values may be."""

import math
from typing import get_args

import msgspec

from localforge.config.sections import PreferenceName
from localforge.config.values import PolicyName
from localforge.contracts.trust import Label
from localforge.errors import RequestRefused

PREFERENCES: tuple[str, ...] = get_args(PreferenceName)
MAX_NUMBERS = 200
"""Characters of a preference in numbers."""
POLICIES: tuple[str, ...] = get_args(PolicyName)
LABELS: tuple[str, ...] = tuple(Label)


class Extension(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """LocalForge's own options, for clients that cannot set headers."""

    preference: str | None = None
    """`quality`, `balanced`, `cheap` or `fast`."""
    label: str | None = None
    """`public`, `internal`, `confidential` or `restricted`; detection can only make it stricter."""
    deadline_s: float | None = None
    """Seconds in which the answer is wanted."""
    fallback: bool | None = None
    """False: only the first choice is tried."""
    cascade: bool | None = None
    """Whether cheap models may be asked first and a stream waits for an accepted answer."""
    max_cost_usd: float | None = None
    """Models predicted to cost more for this request are out."""
    max_latency_ms: float | None = None
    """Models predicted to take longer for the whole answer are out."""
    policy: str | None = None
    """The decision rule, a name that `router.policy` may have."""


NO_EXTENSION = Extension()


def preference_of(value: str | None, where: str) -> str:
    """Check a preference; numbers (`cost=40,latency=0.01`) are the router's to read.

    Raises:
        RequestRefused: It is neither a name nor numbers; says where, which, and what may be.
    """
    if value is not None and "=" in value and len(value) <= MAX_NUMBERS:
        return value
    return one_of(PREFERENCES, value, where)


def one_of(allowed: tuple[str, ...], value: str | None, where: str) -> str:
    """Return a value that is allowed; empty when there is none.

    Raises:
        RequestRefused: It is not allowed; says where, which, and what is.
    """
    if value is None or value in allowed:
        return value or ""
    raise RequestRefused(
        f"`{where}` must be one of {', '.join(allowed)}; got {value[:64]!r}",
        code="invalid_value",
        param=where,
    )


def limit_of(value: str | float | None, where: str) -> float:
    """Return a hard limit, 0 for none.

    Raises:
        RequestRefused: It is not a number above 0; says where and which.
    """
    if value is None:
        return 0.0
    try:
        limit = float(value)
    except ValueError:
        limit = -1
    if 0 < limit < math.inf:
        return limit
    raise RequestRefused(
        f"`{where}` must be a number above 0; got {str(value)[:64]!r}",
        code="invalid_value",
        param=where,
    )


def tightest(one: float, other: float) -> float:
    """Return the tighter of two limits of which 0 is none."""
    return min(one, other) if one and other else one or other
