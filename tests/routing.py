"""Builders for the tests of deciding, learning and replaying."""

import msgspec
import numpy as np

from localforge.bandit import Applied, Fold
from localforge.config import Config
from localforge.contracts.cards import Capability, ModelCard, RegistrySnapshot, ReplicaState
from localforge.contracts.chat import Usage
from localforge.contracts.facts import DecisionMade, FeedbackGiven, OutcomeObserved
from localforge.contracts.live import ChatCall, Lane, Profile, RouteCall
from localforge.contracts.trust import Label, Seal
from localforge.router.service import RouterService

SCHEMA = "test.v1"
DIM = 8
NOW = 1_000_000.0


def vector(*values: float, dim: int = DIM) -> bytes:
    """Features: the bias, then `values`, then zeros."""
    x = np.zeros(dim, dtype="<f4")
    x[0] = 1.0
    x[1 : len(values) + 1] = values
    return x.tobytes()


def card(name: str, **changes: object) -> ModelCard:
    """A capable local model at a backend of its own, unless `changes` say otherwise."""
    given = {
        "backend": f"{name}-backend",
        "zone": "local",
        "context_tokens": 8192,
        "quality_prior": 0.5,
        **changes,
    }
    return ModelCard(name=name, **given)


def snapshot(*cards: ModelCard, version: int = 1, fresh: bool = True) -> RegistrySnapshot:
    """A registry in which every backend of the cards has one idle replica."""
    replicas = {
        c.backend: ReplicaState(
            replica=c.backend, backend=c.backend, zone=c.zone, slots=4, sent_at=NOW
        )
        for c in cards
    }
    return RegistrySnapshot(
        version=version, cards={c.name: c for c in cards}, replicas=replicas, fresh=fresh
    )


class View:
    """A registry view whose snapshot a test sets."""

    def __init__(self, current: RegistrySnapshot) -> None:
        self.snapshot = current


def route_call(
    request_id: str = "r1",
    *,
    features: bytes | None = None,
    zones: tuple[str, ...] = ("local",),
    label: Label = Label.INTERNAL,
    needs: frozenset[Capability] = frozenset(),
    prompt_tokens: int = 100,
    max_tokens: int = 0,
    domain: str = "general",
    schema: str = SCHEMA,
    in_tool_loop: bool = False,
    latency_tolerance: float = 0.0,
    seal_zones: tuple[str, ...] | None = None,
    **chat: object,
) -> RouteCall:
    """A profiled and sealed request."""
    return RouteCall(
        call=ChatCall(request_id=request_id, lane=Lane.LIVE, body=b"{}", deadline=NOW + 60, **chat),
        profile=Profile(
            feature_schema=schema,
            features=vector() if features is None else features,
            prompt_tokens=prompt_tokens,
            domain=domain,
            complexity=0.5,
            latency_tolerance=latency_tolerance,
            needs=needs,
            max_tokens=max_tokens,
            in_tool_loop=in_tool_loop,
            label=label,
            zones=zones,
        ),
        seal=Seal(
            request_id=request_id,
            body_sha256=b"",
            label=label,
            zones=zones if seal_zones is None else seal_zones,
            expires_at=NOW + 60,
            signature=b"",
        ),
    )


def service(
    *cards: ModelCard, fold: Fold | None = None, config: Config | None = None
) -> RouterService:
    """A router over the cards, with a new learner unless one is given."""
    return RouterService(config or Config(), View(snapshot(*cards)), fold or Fold(SCHEMA, DIM))


def feedback(
    identity: str,
    model: str,
    score: float,
    features: bytes | None = None,
    *,
    weight: float = 1.0,
    source: str = "user",
    schema: str = SCHEMA,
) -> FeedbackGiven:
    """A verdict."""
    return FeedbackGiven(
        feedback_id=identity,
        decision_id=identity,
        model=model,
        score=score,
        weight=weight,
        source=source,
        feature_schema=schema,
        features=vector() if features is None else features,
    )


def outcome(
    identity: str,
    model: str,
    *,
    tokens: int = 100,
    first_token_s: float = 0.5,
    total_s: float = 2.0,
    status: str = "ok",
    domain: str = "general",
    finish_reason: str = "stop",
) -> OutcomeObserved:
    """What one attempt took."""
    return OutcomeObserved(
        outcome_id=identity,
        decision_id=identity,
        request_id=identity,
        model=model,
        backend=f"{model}-backend",
        zone="local",
        replica="one",
        status=status,
        finish_reason=finish_reason,
        usage=Usage(prompt_tokens=100, completion_tokens=tokens),
        first_token_s=first_token_s,
        total_s=total_s,
        domain=domain,
    )


def failure(
    identity: str, model: str, *, total_s: float = 10.0, code: str = "backend_http_500"
) -> OutcomeObserved:
    """One attempt that failed."""
    fact = outcome(identity, model, tokens=0, first_token_s=0.0, total_s=total_s, status="error")
    return msgspec.structs.replace(fact, error_code=code, finish_reason="")


def learn(fold: Fold, *facts: FeedbackGiven | OutcomeObserved) -> list[Applied]:
    """Fold the facts behind what is already there."""
    return [fold.apply(fold.sequence + 1, fact) for fact in facts]


def probabilities(decision: DecisionMade) -> dict[str, float]:
    """Probability of every candidate."""
    return {c.model: c.probability for c in decision.candidates}
