"""A durable request as a call: what the edge reads on the live lane is read here on this one."""

import msgspec

from localforge.contracts.chat import ChatRequested
from localforge.contracts.live import ChatCall, Lane
from localforge.contracts.openrouter import ProviderObject
from localforge.contracts.trust import Label, strictest
from localforge.request.options import (
    LABELS,
    NO_EXTENSION,
    POLICIES,
    Extension,
    limit_of,
    one_of,
    preference_of,
)
from localforge.request.provider import rules_of
from localforge.request.reading import read


class DurableBody(msgspec.Struct, gc=False):
    """What LocalForge itself is asked for in the body of a request."""

    model: str = "auto"
    preference: str | None = None
    localforge: Extension | msgspec.UnsetType | None = msgspec.UNSET
    provider: ProviderObject | msgspec.UnsetType | None = msgspec.UNSET


_decoder = msgspec.json.Decoder(DurableBody)


def call_of(request: ChatRequested, accepted_at: float) -> ChatCall:
    """Return the call of a durable request.

    The message's own fields win over the body's, except that the stricter label and the shorter
    deadline hold.

    Args:
        request: As it was published.
        accepted_at: When the stream took it, unix time in seconds; deadlines count from there.

    Raises:
        RequestRefused: Something that is asked for is not known, or cannot be; says what.
    """
    body = bytes(request.request)
    found = read(_decoder, body)
    extension = found.localforge or NO_EXTENSION
    label = one_of(LABELS, extension.label, "localforge.label")
    labels = [Label(label)] if label else []
    if request.label:
        labels.append(request.label)
    deadline_s = limit_of(extension.deadline_s, "localforge.deadline_s")
    return ChatCall(
        request_id=request.id,
        lane=Lane.DURABLE,
        body=body,
        deadline=accepted_at + min(deadline_s or request.deadline_s, request.deadline_s),
        model=found.model,
        provider=rules_of(found.provider),
        preference=(
            preference_of(request.preference.strip().lower() or None, "preference")
            or preference_of(extension.preference, "localforge.preference")
            or preference_of(found.preference, "request.preference")
        ),
        declared_label=strictest(*labels) if labels else None,
        allow_fallback=extension.fallback is not False,
        cascade=extension.cascade if request.cascade is None else request.cascade,
        max_cost_usd=limit_of(extension.max_cost_usd, "localforge.max_cost_usd"),
        max_latency_s=limit_of(extension.max_latency_ms, "localforge.max_latency_ms") / 1000,
        policy=(
            one_of(POLICIES, request.policy.strip().lower() or None, "policy")
            or one_of(POLICIES, extension.policy, "localforge.policy")
        ),
    )
