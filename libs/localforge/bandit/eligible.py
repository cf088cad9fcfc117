"""Which registered models may answer a request, and for each other one the reason.

The reasons form an order; a model is listed with the first that applies. When nothing is left the
request is refused: a zone is never widened.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from localforge.contracts.cards import (
    BreakerState,
    Capability,
    Health,
    ModelCard,
    RegistrySnapshot,
    ReplicaState,
)
from localforge.contracts.facts import NOTHING, Candidate, Exclusion
from localforge.contracts.trust import Label
from localforge.errors import RequestRefused

BREAKER = "breaker"
LEAST_ANSWER_TOKENS = 16
"""Room that an answer without a stated bound must at least have."""


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """What one request asks of a model."""

    zones: frozenset[str]
    label: Label
    needs: frozenset[Capability]
    prompt_tokens: int
    max_tokens: int = 0


class Backend(msgspec.Struct, frozen=True):
    """One backend's replicas at the time of a decision."""

    live: tuple[ReplicaState, ...]
    queue_depth: float
    """Requests ahead of a new one, per slot."""
    detail: str
    """Why there is none, when `live` is empty."""
    reason: str = "health"
    """`health`, or `breaker` when there are some but none takes requests."""
    hour_share: float = 1.0
    """What share of the price of a machine's hour one more request would bear, in (0, 1]."""
    served: frozenset[str] | None = None
    """Models that are there now; None means all of them."""


class _Found(NamedTuple):
    """A backend's state, which lasts until a heartbeat becomes too old to count."""

    since: float
    """Heartbeats up to here do not count."""
    until: float
    """The oldest that does."""
    backend: Backend


class Registry:
    """A registry snapshot arranged for decisions; made once per snapshot.

    Args:
        snapshot: What is registered.
        heartbeat_timeout_s: A replica silent for longer is not live. While the registry cannot be
            reached its heartbeats cannot be new, and are not held against the replicas.
    """

    def __init__(self, snapshot: RegistrySnapshot, heartbeat_timeout_s: float) -> None:
        self.snapshot = snapshot
        self.cards = tuple(sorted(snapshot.cards.values(), key=lambda card: card.name))
        self._timeout_s = heartbeat_timeout_s
        self._replicas: dict[str, list[ReplicaState]] = {}
        for replica in sorted(snapshot.replicas.values(), key=lambda replica: replica.replica):
            self._replicas.setdefault(replica.backend, []).append(replica)
        self._found: dict[str, _Found] = {}
        self._offers: dict[str, tuple[Backend, Candidate]] = {}

    def backend(self, name: str, now: float) -> Backend:
        """Return the state of a backend's replicas at `now` (Unix seconds)."""
        oldest = now - self._timeout_s
        found = self._found.get(name)
        if found is not None and found.since < oldest <= found.until:
            return found.backend
        replicas = self._replicas.get(name, ())
        able = [r for r in replicas if r.health != Health.DOWN]
        since, until = -math.inf, math.inf
        if self.snapshot.fresh:
            since = max((r.sent_at for r in able if r.sent_at < oldest), default=since)
            able = [r for r in able if r.sent_at >= oldest]
            until = min((r.sent_at for r in able), default=until)
        live = tuple(r for r in able if r.breaker is not BreakerState.OPEN)
        if live:
            backend = _state(live)
            self._found[name] = _Found(since, until, backend)
            return backend
        if able:
            return Backend((), 0.0, f"every server of backend {name} has an open breaker", BREAKER)
        return Backend((), 0.0, _why_none_live(name, replicas, now))

    def offer(self, card: ModelCard, backend: Backend) -> Candidate:
        """Return what a decision has to know of a model while its backend is as it is."""
        kept = self._offers.get(card.name)
        if kept is not None and kept[0] is backend:
            return kept[1]
        offer = Candidate(
            model=card.name,
            backend=card.backend,
            zone=card.zone,
            price_in=card.price_in,
            price_out=card.price_out,
            queue_depth=backend.queue_depth or NOTHING,
            usd_per_hour=card.usd_per_hour * backend.hour_share or NOTHING,
            hour_share=backend.hour_share,
            quality_prior=card.quality_prior,
            published_score=card.published_score,
        )
        self._offers[card.name] = (backend, offer)
        return offer


class Eligibility(msgspec.Struct, frozen=True):
    """The models that may answer, by name, with their backends, and the rest with reasons."""

    models: tuple[tuple[ModelCard, Backend], ...]
    exclusions: tuple[Exclusion, ...]


def filter_models(
    registry: Registry, cards: Iterable[ModelCard], required: Requirements, now: float
) -> Eligibility:
    """Divide `cards` into those that may answer and those that may not.

    Args:
        registry: Where the cards come from.
        cards: All of `registry.cards`, or the one that was asked for.
        required: What the request asks.
        now: Unix seconds.
    """
    backends: dict[str, Backend] = {}
    models: list[tuple[ModelCard, Backend]] = []
    exclusions: list[Exclusion] = []
    for card in cards:
        backend = backends.get(card.backend)
        if backend is None:
            backend = backends[card.backend] = registry.backend(card.backend, now)
        for reason, detail in _objections(card, backend, required):
            exclusions.append(Exclusion(model=card.name, reason=reason, detail=detail))
            break
        else:
            models.append((card, backend))
    return Eligibility(tuple(models), tuple(exclusions))


def spare(eligible: Eligibility, backends: Iterable[str]) -> Eligibility:
    """Take backends out whose executor was just lost, as long as something is left."""
    avoided = frozenset(backends)
    if not avoided:
        return eligible
    kept = tuple(entry for entry in eligible.models if entry[0].backend not in avoided)
    if not kept:
        return eligible
    gone = tuple(
        Exclusion(
            model=card.name, reason="health", detail=f"an executor of {card.backend} was lost"
        )
        for card, _ in eligible.models
        if card.backend in avoided
    )
    return Eligibility(kept, eligible.exclusions + gone)


def refuse_ambiguous(cards: Iterable[ModelCard]) -> None:
    """Refuse to choose among embedding models whose vectors cannot be compared.

    Cards that name the same model of their backends are one model at several places.

    Raises:
        RequestRefused: Several embedding models are meant.
    """
    names: dict[str, str] = {}
    for card in cards:
        if card.enabled and Capability.EMBEDDINGS in card.capabilities:
            names.setdefault(card.upstream_name, card.name)
    if len(names) > 1:
        raise RequestRefused(
            f"name one of the embedding models ({', '.join(sorted(names.values()))}): vectors of "
            "different models cannot be compared, so none is chosen among them",
            code="ambiguous_model",
            param="model",
        )


def refuse_empty(
    registry: Registry,
    cards: Iterable[ModelCard],
    required: Requirements,
    now: float,
    exclusions: Iterable[Exclusion],
) -> RequestRefused:
    """Return the error for a request that no model may answer.

    Status 503 when a model would do but is not up now, 403 when only the zone policy keeps one
    away, 400 when the request asks for what no allowed model has, 503 when there is no model.
    """
    found = [
        {reason for reason, _ in _objections(card, registry.backend(card.backend, now), required)}
        for card in cards
    ]
    if any(reasons in ({"health"}, {BREAKER}) for reasons in found):
        status = 503
    elif any("zone" in reasons <= {"zone", "health", BREAKER} for reasons in found):
        status = 403
    elif any("disabled" not in reasons for reasons in found):
        status = 400
    else:
        status = 503
    told = "; ".join(f"{e.model}: {e.reason} ({e.detail})" for e in exclusions)
    message = (
        f"no registered model may answer this request. {told}."
        if told
        else "no model is registered; add a backend to the configuration or start its executor."
    )
    refused = RequestRefused(message, code="no_eligible_model", param="model", status=status)
    refused.retry_after_s = 1.0 if status == 503 else 0.0
    return refused


def refuse_unread() -> RequestRefused:
    """Return the error while nothing is known of any model, because the registry was never read."""
    refused = RequestRefused(
        "the registry of models cannot be read yet (Redis is away or slow); try again.",
        code="registry_unavailable",
        status=503,
    )
    refused.retry_after_s = 1.0
    return refused


def _objections(
    card: ModelCard, backend: Backend, required: Requirements
) -> Iterable[tuple[str, str]]:
    if not card.enabled:
        yield "disabled", "switched off"
    if card.zone not in required.zones:
        allowed = ", ".join(sorted(required.zones)) or "none"
        yield "zone", f"in zone {card.zone}; label {required.label} allows {allowed}"
    answer = required.max_tokens or LEAST_ANSWER_TOKENS
    if Capability.EMBEDDINGS in required.needs:
        answer = 0
    if required.prompt_tokens + answer > card.context_tokens:
        told = f"{required.prompt_tokens} prompt and {answer} answer tokens"
        yield "context", f"{told} do not fit into {card.context_tokens}"
    elif 0 < card.max_output_tokens < required.max_tokens:
        yield (
            "context",
            f"max_tokens {required.max_tokens} is above its bound {card.max_output_tokens}",
        )
    if not required.needs <= card.capabilities:
        lacking = ", ".join(sorted(required.needs - card.capabilities))
        yield "capability", f"lacks {lacking}"
    elif Capability.EMBEDDINGS in card.capabilities and Capability.EMBEDDINGS not in required.needs:
        yield "capability", "makes embeddings and nothing else"
    if not backend.live:
        yield backend.reason, backend.detail
    elif backend.served is not None and card.name not in backend.served:
        yield "health", f"backend {card.backend} is up but does not serve it now"


def _state(live: tuple[ReplicaState, ...]) -> Backend:
    """Return what some replicas that take requests come to."""
    slots = sum(max(r.slots, 1) for r in live)
    ours = sum(max(r.in_flight, 0) for r in live)
    # What a model server says of itself counts other clients' requests too.
    running = max(ours, *(r.backend_running + r.backend_waiting for r in live))
    return Backend(
        live,
        queue_depth=max(running + 1 - slots, 0) / slots,
        detail="",
        hour_share=1.0 / max(min(ours + 1, slots), 1),
        served=frozenset().union(*(r.models for r in live))
        if all(r.models for r in live)
        else None,
    )


def _why_none_live(name: str, replicas: Iterable[ReplicaState], now: float) -> str:
    newest = max(replicas, key=lambda replica: replica.sent_at, default=None)
    if newest is None:
        return f"no executor for backend {name} has reported"
    if newest.health == Health.DOWN:
        return f"backend {name} is down: {newest.detail or 'no reason given'}"
    return f"backend {name} was last heard of {now - newest.sent_at:.1f} s ago"
