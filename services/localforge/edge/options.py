"""LocalForge's own request options: headers first, then the body, then the key's defaults."""

import difflib
from collections.abc import Mapping

import msgspec

from localforge.contracts.openrouter import ProviderRules
from localforge.contracts.trust import Label, strictest
from localforge.edge.body import ChatBody
from localforge.edge.keys import ApiKey
from localforge.errors import RequestRefused
from localforge.request.options import (
    LABELS,
    NO_EXTENSION,
    POLICIES,
    limit_of,
    one_of,
    preference_of,
    tightest,
)
from localforge.request.provider import rules_of
from localforge.telemetry import tracing

PREFERENCE_HEADER = b"x-localforge-preference"
LABEL_HEADER = b"x-localforge-label"
DEADLINE_HEADER = b"x-localforge-deadline-s"
FALLBACK_HEADER = b"x-localforge-fallback"
CASCADE_HEADER = b"x-localforge-cascade"
COST_HEADER = b"x-localforge-max-cost-usd"
LATENCY_HEADER = b"x-localforge-max-latency-ms"
POLICY_HEADER = b"x-localforge-policy"
TRACE_HEADER = b"traceparent"
STATE_HEADER = b"tracestate"

_ASKING = frozenset(
    {
        PREFERENCE_HEADER,
        LABEL_HEADER,
        DEADLINE_HEADER,
        FALLBACK_HEADER,
        CASCADE_HEADER,
        COST_HEADER,
        LATENCY_HEADER,
        POLICY_HEADER,
        TRACE_HEADER,
    }
)
"""Headers of which each asks for something."""
_OWN = b"x-localforge"
_KNOWN = frozenset(name for name in _ASKING if name.startswith(_OWN))
_ANSWERS = {"yes": True, "no": False, "true": True, "false": False}


class Options(msgspec.Struct, frozen=True, gc=False):
    """What the caller asks of LocalForge, checked."""

    preference: str
    """Empty means the configured default."""
    label: Label | None
    deadline_s: float
    allow_fallback: bool
    cascade: bool | None
    """None means the configured default."""
    max_cost_usd: float
    """0 means no limit."""
    max_latency_s: float
    provider: ProviderRules | None
    traceparent: str
    tracestate: str = ""
    """W3C trace context; empty when there is none or it is malformed."""
    policy: str = ""
    """Empty means the configured one."""


def refuse_unknown(headers: Mapping[bytes, bytes]) -> None:
    """Let no header pass that asks LocalForge for what it does not know: a label, misspelt.

    Args:
        headers: Lower-case names.

    Raises:
        RequestRefused: There is one; names it, and the one that was probably meant.
    """
    for header in headers:
        if header.startswith(_OWN) and header not in _KNOWN:
            name, known = header.decode("latin-1")[:128], sorted(n.decode() for n in _KNOWN)
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}"
            raise RequestRefused(
                f"the header `{name}` is no option of LocalForge; {hint}",
                code="invalid_value",
                param=name,
            )


def read_options(
    body: ChatBody, headers: Mapping[bytes, bytes], key: ApiKey | None, deadline_s: float
) -> Options:
    """Combine headers, body and key.

    A header wins over the body, except where one of them is stricter: the stricter label, the
    shorter deadline, the lower limit and the refusal to fall back hold. A `provider.sort` wins over
    the key's preference.

    Args:
        body: The request.
        headers: Lower-case names.
        key: The caller's key, when keys are configured.
        deadline_s: The longest allowed; the default.

    Raises:
        RequestRefused: A value that is not allowed; says where, which, and what is.
    """
    provider = rules_of(body.provider)
    if not body.localforge and body.preference is None and _ASKING.isdisjoint(headers):
        # Most requests ask for nothing.
        return Options(
            preference=_of_key(key, provider),
            label=None,
            deadline_s=deadline_s,
            allow_fallback=True,
            cascade=key.cascade if key else None,
            max_cost_usd=0.0,
            max_latency_s=0.0,
            provider=provider,
            traceparent="",
            policy=key.policy if key else "",
        )
    extension = body.localforge or NO_EXTENSION
    preference = (
        preference_of(_text(headers, PREFERENCE_HEADER), PREFERENCE_HEADER.decode())
        or preference_of(extension.preference, "localforge.preference")
        or preference_of(body.preference, "preference")
        or _of_key(key, provider)
    )
    header_label = one_of(LABELS, _text(headers, LABEL_HEADER), LABEL_HEADER.decode())
    body_label = one_of(LABELS, extension.label, "localforge.label")
    labels = [Label(label) for label in (header_label, body_label) if label]
    fallback = one_of(tuple(_ANSWERS), _text(headers, FALLBACK_HEADER), FALLBACK_HEADER.decode())
    cascade = one_of(tuple(_ANSWERS), _text(headers, CASCADE_HEADER), CASCADE_HEADER.decode())
    trace = _text(headers, TRACE_HEADER) or ""
    state = _text(headers, STATE_HEADER) if trace else None
    policy = one_of(POLICIES, _text(headers, POLICY_HEADER), POLICY_HEADER.decode()) or one_of(
        POLICIES, extension.policy, "localforge.policy"
    )
    # A cascade draws in its own way: a request that names a policy has to ask for one itself.
    by_default = key.cascade if key and not policy else None
    return Options(
        preference=preference,
        label=strictest(*labels) if labels else None,
        deadline_s=min(
            _seconds(_text(headers, DEADLINE_HEADER), DEADLINE_HEADER.decode(), deadline_s),
            _seconds(extension.deadline_s, "localforge.deadline_s", deadline_s),
        ),
        max_cost_usd=tightest(
            limit_of(_text(headers, COST_HEADER), COST_HEADER.decode()),
            limit_of(extension.max_cost_usd, "localforge.max_cost_usd"),
        ),
        max_latency_s=tightest(
            limit_of(_text(headers, LATENCY_HEADER), LATENCY_HEADER.decode()),
            limit_of(extension.max_latency_ms, "localforge.max_latency_ms"),
        )
        / 1000,
        provider=provider,
        cascade=_ANSWERS.get(cascade, _first(extension.cascade, by_default)),
        allow_fallback=extension.fallback is not False and _ANSWERS.get(fallback, True),
        traceparent=tracing.traceparent_of(trace),
        tracestate=tracing.tracestate_of(state) if state else "",
        policy=policy or (key.policy if key else ""),
    )


def _first(one: bool | None, other: bool | None) -> bool | None:
    return other if one is None else one


def _of_key(key: ApiKey | None, provider: ProviderRules | None) -> str:
    return key.preference if key and not (provider and provider.sort) else ""


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1").strip().lower()


def _seconds(value: str | float | None, where: str, longest: float) -> float:
    if value is None:
        return longest
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1
    if 0 < seconds <= longest:
        return seconds
    raise RequestRefused(
        f"`{where}` must be a number of seconds above 0 and at most {longest:g} "
        f"(`edge.deadline_s`); got {str(value)[:64]!r}",
        code="invalid_value",
        param=where,
    )
