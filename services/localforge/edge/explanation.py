"""A decision with every field, defaults included, and why it came out so, for people to read."""

import msgspec

from localforge.contracts.facts import DecisionMade, Exclusion
from localforge.contracts.live import Explained
from localforge.contracts.trust import Label
from localforge.explanation import Explanation
from localforge.explanation import explain as explain_decision


class CandidateView(msgspec.Struct, frozen=True):
    """One eligible model; `localforge.contracts.facts.Candidate` says what the numbers are."""

    model: str
    backend: str
    zone: str
    probability: float
    utility: float
    quality: float
    quality_std: float
    evidence: float
    completion_tokens: float
    cost_usd: float
    latency_s: float
    queue_depth: float
    price_in: float
    price_out: float
    tier: int
    cost_std: float = 0.0
    latency_std: float = 0.0


class CascadeView(msgspec.Struct, frozen=True):
    """The plan of a cascade; `localforge.contracts.facts.CascadePlan` says what the fields are."""

    test: str
    models: tuple[str, ...]
    asks_pair: bool
    probability: float
    qualities: tuple[float, ...]
    beliefs: dict[str, float]
    escalation: float
    if_agreed: str
    if_agreed_probability: float
    if_split: str
    if_split_probability: float
    if_passed: str
    if_failed: str


class DecisionView(msgspec.Struct, frozen=True):
    """The decision; `localforge.contracts.facts.DecisionMade` says what the fields are."""

    decision_id: str
    made_at: float
    chosen: str
    propensity: float
    plan: tuple[str, ...]
    candidates: tuple[CandidateView, ...]
    exclusions: tuple[Exclusion, ...]
    label: Label
    zones: tuple[str, ...]
    requested_model: str
    preference: str
    preference_stated: bool
    goal: str
    shadow_price: float
    incumbent: str
    switching_cost: float
    cost_weight: float
    latency_weight: float
    explore: bool
    prompt_tokens: int
    max_tokens: int
    domain: str
    complexity: float
    rule: str
    weights: dict[str, float]
    policy: str
    policy_stated: bool
    policy_hash: str
    state_sequence: int
    registry_version: int
    cascade: CascadeView | None = None


class RouteExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """What would be chosen, the probabilities, and what was excluded and why."""

    object: str = "route"
    decision: DecisionView
    explanation: Explanation
    findings: tuple[str, ...] = ()
    """Codes of what made the label strict, never the content."""


def explain(frame: Explained) -> RouteExplanation:
    """Turn the router's answer into the client's."""
    return RouteExplanation(
        decision=_view(frame.decision),
        explanation=explain_decision(frame.decision),
        findings=frame.findings,
    )


class DecisionExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """A decision from the log."""

    object: str = "decision"
    decision: DecisionView
    explanation: Explanation


def explain_record(record: DecisionMade) -> DecisionExplanation:
    """Turn a logged decision into what the client gets; its features stay in the log."""
    return DecisionExplanation(decision=_view(record), explanation=explain_decision(record))


def _view(record: DecisionMade) -> DecisionView:
    return msgspec.convert(record, DecisionView, from_attributes=True)
