"""Why a decision came out as it did, and what would have tipped it: read off its record alone."""

import math
from collections.abc import Sequence

import msgspec

from localforge.contracts.facts import Candidate, CascadePlan, DecisionMade
from localforge.explanation import cascade
from localforge.explanation.cascade import CascadeTold

SURE = 0.9
"""Probability of being better from which on one model is said to be better."""
SEEN_FAILING = 0.01
"""Share of failed attempts from which on a person is told of it."""
LEAST_EVIDENCE = 10.0
"""Scored answers below which nothing is said to be known of a model."""


class Tipping(msgspec.Struct, frozen=True, kw_only=True):
    """One change that alone would have made the runner-up the best."""

    what: str
    """`cost_weight`, `latency_weight`, `switching_cost` or `quality` of the runner-up."""
    now: float
    at: float
    """Beyond this value the runner-up is ahead."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What a record says to a person."""

    reason: str
    """One sentence."""
    best: str
    """The model of the highest utility, asked alone, among those drawn from."""
    runner_up: str = ""
    """The next, or empty when there was no other."""
    margin: float = 0.0
    """Utility between the two."""
    confidence: float = 1.0
    """Probability that the best is ahead of the runner-up, by the uncertainty of their quality."""
    enough_evidence: bool = True
    evidence: str = ""
    """What is known, in words."""
    tipping: tuple[Tipping, ...] = ()
    """Empty where no single model's prediction decided: it was appointed, or answers may be
    compared."""
    cascade: CascadeTold | None = None
    """Whom else is asked and when, in a cascade."""


def explain(record: DecisionMade) -> Explanation:
    """Explain a complete record.

    Raises:
        ValueError: It has no candidate.
    """
    if not record.candidates:
        raise ValueError(f"decision {record.decision_id} has no candidate")
    tier = min(candidate.tier for candidate in record.candidates)
    # The order of equal utilities is that of the record, as in the decision.
    ranked = sorted(
        (c for c in record.candidates if c.tier == tier), key=lambda c: c.utility, reverse=True
    )
    best = ranked[0]
    if len(ranked) == 1:
        others = len(record.candidates) - 1
        told = "is the only model of the first place in the order" if others else "alone may answer"
        known = best.evidence >= LEAST_EVIDENCE
        return Explanation(
            reason=f"{best.model} {told}.",
            best=best.model,
            enough_evidence=known,
            evidence="" if known else _little([best]),
        )
    runner_up = ranked[1]
    if record.cascade and record.cascade.test != cascade.CHECKS:
        return _of_a_pair(record, record.cascade, best, runner_up)
    margin = best.utility - runner_up.utility
    confidence = _confidence(margin, best, runner_up)
    little = [c for c in (best, runner_up) if c.evidence < LEAST_EVIDENCE]
    enough = not little and confidence >= SURE
    return Explanation(
        reason=_reason(record, best, runner_up, margin),
        best=best.model,
        runner_up=runner_up.model,
        margin=margin,
        confidence=confidence,
        enough_evidence=enough,
        evidence=_little(little) if little else _known(best, runner_up, confidence),
        # What was appointed does not depend on any prediction.
        tipping=() if _is_appointed(record) else tuple(_tipping(record, best, runner_up, margin)),
        cascade=cascade.tell(record),
    )


def _of_a_pair(
    record: DecisionMade, plan: CascadePlan, best: Candidate, runner_up: Candidate
) -> Explanation:
    """Explain a decision between asking models alone and comparing the answers of two."""
    margin = best.utility - runner_up.utility
    little = [
        c for c in record.candidates if c.model in plan.models and c.evidence < LEAST_EVIDENCE
    ]
    return Explanation(
        reason=cascade.reason(record, plan),
        best=best.model,
        runner_up=runner_up.model,
        margin=margin,
        confidence=_confidence(margin, best, runner_up),
        enough_evidence=not little,
        evidence=_little(little) if little else "",
        cascade=cascade.tell(record),
    )


def _is_appointed(record: DecisionMade) -> bool:
    return record.chosen in record.weights


def _reason(record: DecisionMade, best: Candidate, runner_up: Candidate, margin: float) -> str:
    if _is_appointed(record):
        by = f"rule {record.rule!r}" if record.rule else "the configuration"
        return f"{record.chosen} is appointed by {by}, with probability {record.propensity:.3f}."
    if record.chosen != best.model:
        return (
            f"{record.chosen} was drawn with probability {record.propensity:.3f} to learn about "
            f"it; {best.model} has the highest utility."
        )
    answered = _answered(best, runner_up)
    if record.incumbent == best.model and answered * record.switching_cost >= margin > 0:
        if record.switching_cost >= 1.0:
            return f"{best.model} answered before, and a tool loop is not handed over."
        return (
            f"{best.model} answered this conversation before; {runner_up.model} would gain less "
            f"than the {record.switching_cost:.4f} that losing its cache costs."
        )
    gains = (
        ("quality", answered * (best.quality - runner_up.quality)),
        ("cost", answered * record.cost_weight * (runner_up.cost_usd - best.cost_usd)),
        ("time", answered * record.latency_weight * (runner_up.latency_s - best.latency_s)),
        ("failed attempts", record.latency_weight * _lost_s(runner_up, best)),
    )
    for_it = ", ".join(f"{name} {gain:+.4f}" for name, gain in gains if abs(gain) > 5e-5)
    return (
        f"{best.model} has the highest utility, {margin:.4f} above {runner_up.model}"
        f"{f' ({for_it})' if for_it else ''}."
        f"{_held_down(best)}{_held_down(runner_up)}{_fails(best)}{_fails(runner_up)}"
    )


def _answered(best: Candidate, runner_up: Candidate) -> float:
    """Return what failures leave of that in which two answers differ, each followed by the other.

    A utility falls back on the model that is worth most; of these two, that is the other one.
    """
    return (1.0 - best.failed_share) * (1.0 - runner_up.failed_share)


def _lost_s(one: Candidate, other: Candidate) -> float:
    """Return by how many seconds failures delay the answer more where `one` is asked first."""
    return one.failed_share * (1.0 - other.failed_share) * one.lost_s - (
        other.failed_share * (1.0 - one.failed_share) * other.lost_s
    )


def _fails(candidate: Candidate) -> str:
    """Tell of a model whose attempts fail often enough to be seen."""
    if candidate.failed_share < SEEN_FAILING:
        return ""
    return (
        f" {candidate.failed_share:.0%} of the attempts at {candidate.model} fail, after "
        f"{candidate.lost_s:.1f} s."
    )


def _held_down(candidate: Candidate) -> str:
    """Tell of a model that would be predicted to be better, did all its answers pass."""
    if candidate.quality < candidate.sound or candidate.sound >= 1.0:
        return ""
    return (
        f" {candidate.model} is held down by failed checks: {candidate.sound:.0%} of its recent "
        "answers are whole."
    )


def _tipping(
    record: DecisionMade, best: Candidate, runner_up: Candidate, margin: float
) -> Sequence[Tipping]:
    """Solve `margin = 0` for each quantity on its own, where that can be."""
    found = []
    answered = _answered(best, runner_up)
    slower_s = answered * (best.latency_s - runner_up.latency_s) + _lost_s(best, runner_up)
    weights = (
        ("cost_weight", record.cost_weight, answered * (best.cost_usd - runner_up.cost_usd)),
        ("latency_weight", record.latency_weight, slower_s),
    )
    for what, now, more in weights:
        # The margin falls by `more` for each unit of the weight.
        if more and math.isfinite(at := now + margin / more) and at >= 0:
            found.append(Tipping(what=what, now=now, at=at))
    if record.incumbent == best.model and answered * record.switching_cost >= margin:
        found.append(
            Tipping(
                what="switching_cost",
                now=record.switching_cost,
                at=record.switching_cost - (margin / answered if answered else 0.0),
            )
        )
    if answered and (at := runner_up.quality + margin / answered) <= runner_up.sound:
        found.append(Tipping(what="quality", now=runner_up.quality, at=at))
    return found


def _confidence(margin: float, best: Candidate, runner_up: Candidate) -> float:
    spread = math.hypot(best.quality_std, runner_up.quality_std)
    if spread <= 0:
        return 1.0 if margin > 0 else 0.5
    return 0.5 * (1.0 + math.erf(margin / (spread * math.sqrt(2.0))))


def _little(candidates: Sequence[Candidate]) -> str:
    told = " and ".join(f"{c.model} has {c.evidence:.3g} scored answers" for c in candidates)
    return f"not enough evidence yet: {told}"


def _known(best: Candidate, runner_up: Candidate, confidence: float) -> str:
    told = f"{best.model} is ahead of {runner_up.model} with probability {confidence:.2f}"
    return told if confidence >= SURE else f"not enough evidence yet: {told}"
