"""What a cascade asks and whose answer it delivers: read off the plan in a decision's record.

Where two answers may be compared, the draw was among asking each model alone and asking for both.
The option with the highest expected worth has the highest probability there, so the record says
which one that was without doing the sums again.
"""

from collections.abc import Iterator

import msgspec

from localforge.contracts.facts import Candidate, CascadePlan, DecisionMade

CHECKS = "checks"
_AGREED = ("agreed", "agreed", "last_agreed")
_SPLIT = ("first_split", "second_split", "last_split")
"""Beliefs about the answers of the pair and of the last model, as the record names them. Where the
pair agrees it has one answer between the two."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that may come of the answers, and what is done then."""

    when: str
    """`agreed` or `split` of two answers; `passed` or `failed` of one whose form is checked."""
    likely: float | None = None
    """Believed probability of this case; None where nothing is believed about it."""
    deliver: str
    """Whose answer the caller gets."""
    probability: float
    """With which that was drawn for this case, before anything was asked."""
    beliefs: dict[str, float] = msgspec.field(default_factory=dict)
    """Believed probability that the answer of each model is good in this case."""
    cost_usd: float
    """Predicted of all models that are asked in this case together."""
    latency_s: float
    """Likewise; one is asked after the other."""


class CascadeTold(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of a cascade, for a person."""

    test: str
    """`agreement`, `self-consistency` or `checks`."""
    asked: tuple[str, ...]
    """Models that are asked in any case, in this order; one that is asked twice stands twice."""
    last: str
    """The model to escalate to."""
    escalation: float
    """Price of asking it, in units of quality; 0 in older logs that went by the checks alone."""
    cases: tuple[Case, ...]
    """None where one model is asked alone."""
    told: tuple[str, ...]
    """The same in sentences."""


def tell(record: DecisionMade) -> CascadeTold | None:
    """Return what a record's cascade does; None without one."""
    plan = record.cascade
    if plan is None:
        return None
    by_model = {candidate.model: candidate for candidate in record.candidates}
    *before, last = plan.models
    asked: tuple[str, ...] = tuple(before)
    cases: tuple[Case, ...] = ()
    if plan.test == CHECKS:
        cases = tuple(_checked(plan, by_model))
    elif plan.asks_pair:
        cases = tuple(_compared(plan, by_model))
    else:
        asked = (record.chosen,)
    return CascadeTold(
        test=plan.test,
        asked=asked,
        last=last,
        escalation=plan.escalation,
        cases=cases,
        told=tuple(_sentences(record, plan, cases)),
    )


def reason(record: DecisionMade, plan: CascadePlan) -> str:
    """Say why answers are compared, or one model is asked alone, where the plan allows both."""
    alone = max(record.candidates, key=lambda candidate: candidate.probability)
    comparing = _comparing(plan)
    best = comparing if plan.probability >= alone.probability else _alone(alone.model)
    drawn = comparing if plan.asks_pair else _alone(record.chosen)
    told = f"{drawn[0].upper()}{drawn[1:]} was drawn with probability {record.propensity:.3f}"
    if not plan.asks_pair:
        told += f" ({comparing} had {plan.probability:.3f})"
    if drawn == best:
        return f"{told}: nothing is expected to be worth more."
    return f"{told} to learn about it: {best} is expected to be worth more."


def _comparing(plan: CascadePlan) -> str:
    first, second, _ = plan.models
    return (
        f"comparing two answers of {first}"
        if first == second
        else f"comparing the answers of {first} and {second}"
    )


def _alone(model: str) -> str:
    return f"asking {model} alone"


def _compared(plan: CascadePlan, by_model: dict[str, Candidate]) -> Iterator[Case]:
    beliefs, agree = plan.beliefs, plan.beliefs.get("agree")
    splits = None if agree is None else 1.0 - agree
    for when, likely, deliver, drawn, names in (
        ("agreed", agree, plan.if_agreed, plan.if_agreed_probability, _AGREED),
        ("split", splits, plan.if_split, plan.if_split_probability, _SPLIT),
    ):
        asked = plan.models if deliver == plan.models[-1] else plan.models[:-1]
        yield Case(
            when=when,
            likely=likely,
            deliver=deliver,
            probability=drawn,
            beliefs={
                model: beliefs[name]
                for model, name in zip(plan.models, names, strict=True)
                if name in beliefs
            },
            cost_usd=sum(by_model[model].cost_usd for model in asked),
            latency_s=sum(by_model[model].latency_s for model in asked),
        )


def _checked(plan: CascadePlan, by_model: dict[str, Candidate]) -> Iterator[Case]:
    first, last = plan.models
    others = dict(zip((last,), plan.qualities[1:], strict=False))
    # An older log says nothing of either case, where it went by the checks alone.
    for when, deliver in (("passed", plan.if_passed or first), ("failed", plan.if_failed or last)):
        asked = plan.models if deliver == last else (first,)
        own = {first: plan.beliefs[when]} if when in plan.beliefs else {}
        yield Case(
            when=when,
            deliver=deliver,
            probability=1.0,
            beliefs={**own, **others},
            cost_usd=sum(by_model[model].cost_usd for model in asked),
            latency_s=sum(by_model[model].latency_s for model in asked),
        )


def _sentences(record: DecisionMade, plan: CascadePlan, cases: tuple[Case, ...]) -> Iterator[str]:
    *before, last = plan.models
    for case in cases:
        expected = "" if case.likely is None else f" (expected with {case.likely:.2f})"
        which = "first answer" if before == [case.deliver] * 2 else "answer"
        does = (
            f"{last} is asked, too, and its answer delivered"
            if case.deliver == last
            else f"{case.deliver}'s {which} is delivered"
        )
        # What follows the checks is not drawn.
        drawn = f"; drawn with probability {case.probability:.3f}" if plan.test != CHECKS else ""
        good = ", ".join(f"{model} {belief:.2f}" for model, belief in case.beliefs.items())
        believed = f" Believed good: {good}." if good else ""
        # The executor never delivers what is clearly broken while another model can be asked.
        accepted = case.when == "failed" and case.deliver != last
        unless = ", unless it is empty, a loop or broken JSON" if accepted else ""
        yield f"{_WHEN[case.when].format(before[0])}{expected}, {does}{unless}{drawn}.{believed}"
    if cases and plan.escalation:
        dear = next(c for c in record.candidates if c.model == last)
        terms = f"{record.cost_weight:.4g} · {dear.cost_usd:.6f} US dollars"
        if record.latency_weight:
            terms += f" + {record.latency_weight:.4g} · {dear.latency_s:.1f} seconds"
        yield f"Asking {last} costs {plan.escalation:.4f} of quality: {terms}."


_WHEN = {
    "agreed": "If the answers agree",
    "split": "If the answers differ",
    "passed": "If {}'s answer passes the checks",
    "failed": "If {}'s answer fails the checks",
}
