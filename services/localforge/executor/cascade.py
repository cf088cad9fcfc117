"""What becomes of a whole answer in a cascade: delivered, or kept while another model is asked.

No broker and no clock. The plan and both of its verdicts were drawn by the router; here the answers
are compared, or the form of one is checked, and what was drawn for that case happens.
"""

from typing import Protocol

import msgspec

from localforge.contracts.chat import Usage
from localforge.contracts.facts import CascadePlan, CascadeResult
from localforge.contracts.live import CascadeCall, Completed, EvaluateCall, ExecuteCall, HeldAnswer
from localforge.errors import RetryableError
from localforge.scoring import FAILED_BELOW, judge
from localforge.scoring.agreement import agree, comparable

AGREEMENT = "agreement"
SELF_CONSISTENCY = "self-consistency"
CLEAR_DEFECT = 0.8
"""Weight from which on what the checks have found is never accepted: an empty answer, one that
repeats itself, JSON that is none."""
PAIR = 2
"""Answers that are compared."""


class Ended(Protocol):
    """An attempt that is over, as far as it matters here."""

    call: ExecuteCall

    def spent_usd(self) -> float:
        """What this attempt and all before it cost."""

    def spent_usage(self) -> Usage:
        """Tokens of this attempt and all before it."""


class Answered(Ended, Protocol):
    """A complete answer."""

    is_repeat: bool
    """It was asked for in a way in which the model must say the same again."""

    def completed(self) -> Completed:
        """The last frame, with the whole body."""

    def evaluation(self) -> EvaluateCall | None:
        """The answer to be scored."""

    def text(self) -> str:
        """The first choice's content."""


class NextStep(RetryableError):  # noqa: N818  # the reason for a hand-on, not a failure
    """The answer at hand is not enough; the next model of the cascade is asked."""

    code = "cascade_next"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What follows an answer."""

    deliver: HeldAnswer | None = None
    """The answer that the caller gets; None while another model is asked."""
    following: ExecuteCall | None = None
    """The call for the next model."""
    result: CascadeResult | None = None
    """For the outcome of the attempt."""


def is_held(call: ExecuteCall) -> bool:
    """Tell whether the answer to this step is held back until it is accepted."""
    if call.cascade is None or call.step + 1 >= len(call.plan):
        return False
    if not _compares(call.cascade):
        return call.step == 0
    return call.cascade.plan.asks_pair and call.step < PAIR


def is_second_ask(call: ExecuteCall) -> bool:
    """Tell whether this step asks a model again whose answer is at hand, for another one."""
    cascade = call.cascade
    if cascade is None or cascade.plan.test != SELF_CONSISTENCY:
        return False
    return cascade.held is not None and call.step + 1 == PAIR


def step_after_failure(call: ExecuteCall) -> int:
    """Return the step that follows when this one has failed: that of another model."""
    asks_twice = call.cascade is not None and call.cascade.plan.test == SELF_CONSISTENCY
    return PAIR if asks_twice and call.step < PAIR else call.step + 1


def failed_before(call: ExecuteCall) -> int:
    """Return how many models of the plan were asked before this step and failed."""
    if not call.step:
        return 0
    models = {target.model for target in call.plan[: call.step]}
    if call.cascade is not None:
        models.difference_update(call.cascade.texts)
        if call.cascade.held is not None:
            models.discard(call.cascade.held.completed.summary.model)
    return len(models)


def uncompared(attempt: Ended) -> Step:
    """Say what follows a second ask that told nothing: what was drawn for answers that differ.

    Nothing is learned from it.
    """
    cascade = attempt.call.cascade
    assert cascade is not None
    assert cascade.held is not None
    if cascade.plan.if_split == cascade.plan.models[0]:
        return Step(deliver=_charged(cascade.held, attempt.spent_usd(), attempt.spent_usage()))
    return _ask_next(attempt, cascade, cascade.held)


def weigh(answer: Answered) -> Step:
    """Say what follows a held answer."""
    call = answer.call
    cascade = call.cascade
    assert cascade is not None
    held = HeldAnswer(completed=answer.completed(), evaluation=answer.evaluation())
    if _compares(cascade):
        return _compare(answer, cascade, held)
    is_enough = _is_enough(held, cascade.plan)
    return Step(deliver=held) if is_enough else _ask_next(answer, cascade, held)


def _compare(answer: Answered, cascade: CascadeCall, held: HeldAnswer) -> Step:
    call = answer.call
    target = call.target.model
    text = comparable(answer.text())
    if not is_second_ask(call):
        texts = {**cascade.texts, target: text}
        cascade = msgspec.structs.replace(cascade, texts=texts)
    if call.step == 0:
        return _ask_next(answer, cascade, held)
    before = cascade.held
    if before is None:
        # The first of the pair failed, so there is nothing to compare with.
        return Step(deliver=held)
    if answer.is_repeat:
        return uncompared(answer)
    first = cascade.plan.models[0]
    agreed = agree(cascade.texts.get(first, ""), text)
    chosen = cascade.plan.if_agreed if agreed else cascade.plan.if_split
    cascade = msgspec.structs.replace(cascade, agreed=agreed)
    if chosen == first:
        charged = _charged(before, answer.spent_usd(), answer.spent_usage())
        return Step(deliver=charged, result=_result(cascade, first))
    if chosen == target:
        return Step(deliver=held, result=_result(cascade, target))
    return msgspec.structs.replace(_ask_next(answer, cascade, before), result=_result(cascade, ""))


def escalated(call: ExecuteCall, text: str) -> CascadeResult | None:
    """Return what is learned from the last model's answer; None when no pair was compared."""
    cascade = call.cascade
    if cascade is None or cascade.agreed is None:
        return None
    last = comparable(text)
    same = tuple(model for model, other in cascade.texts.items() if agree(other, last))
    result = _result(cascade, call.target.model)
    return msgspec.structs.replace(result, compared=False, same=same)


def fallback_answer(call: ExecuteCall, spent_usd: float, used: Usage) -> HeldAnswer | None:
    """Return the answer that is at hand when no better one will come.

    Args:
        call: The step that has failed.
        spent_usd: On all attempts so far.
        used: Tokens of all attempts so far.
    """
    held = call.cascade.held if call.cascade else None
    return _charged(held, spent_usd, used) if held else None


def _compares(cascade: CascadeCall) -> bool:
    return cascade.plan.test in (AGREEMENT, SELF_CONSISTENCY)


def _is_enough(held: HeldAnswer, plan: CascadePlan) -> bool:
    first = plan.models[0]
    verdict = judge(held.evaluation) if held.evaluation else None
    if verdict is None or verdict.score >= FAILED_BELOW:
        return (plan.if_passed or first) == first
    return plan.if_failed == first and verdict.weight < CLEAR_DEFECT


def _ask_next(answer: Ended, cascade: CascadeCall, held: HeldAnswer) -> Step:
    call = answer.call
    return Step(
        following=msgspec.structs.replace(
            call,
            step=call.step + 1,
            spent_usd=answer.spent_usd(),
            spent_usage=answer.spent_usage(),
            cascade=msgspec.structs.replace(cascade, held=held),
        )
    )


def _charged(held: HeldAnswer, spent_usd: float, used: Usage) -> HeldAnswer:
    """Return an answer with the cost and the tokens of all that was asked."""
    completed = held.completed
    summary = msgspec.structs.replace(completed.summary, cost_usd=spent_usd, used=used)
    return msgspec.structs.replace(
        held, completed=msgspec.structs.replace(completed, summary=summary)
    )


def _result(cascade: CascadeCall, delivered: str) -> CascadeResult:
    plan = cascade.plan
    return CascadeResult(
        models=plan.models,
        qualities=plan.qualities,
        beliefs=plan.beliefs,
        agreed=bool(cascade.agreed),
        compared=True,
        delivered=delivered,
    )
