"""From single checks to one score and how much it counts."""

import msgspec

from localforge.contracts.live import EvaluateCall
from localforge.scoring import checks
from localforge.scoring.request_view import view

FAILURE_WEIGHTS = {
    "not_empty": 0.9,
    "valid_json": 0.9,
    "not_looping": 0.8,
    "parsable_code": 0.6,
    "same_language": 0.5,
    "not_cut_off": 0.4,
    # A refusal may be right: no check can tell.
    "not_refused": 0.3,
}
"""How much a failed check counts; a clear defect nearly as much as a user's verdict."""
LOOKS_FINE_WEIGHT = 0.1
"""Nothing is wrong with the form of the answer, which says little about its content."""
FITS_FORM_WEIGHT = 0.25
"""It also has a form that was asked for and is easily missed: JSON, code that parses."""
FORM_CHECKS = frozenset({"valid_json", "parsable_code"})
FAILED_BELOW = 0.5
"""Score of a check, or of all of them, below which an answer has failed."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks say of one answer."""

    score: float
    """0 to 1."""
    weight: float
    """0 < weight <= 1."""
    checks: dict[str, float]
    """Score of each check that applied."""


def judge(call: EvaluateCall) -> Verdict | None:
    """Return the verdict on one answer, or None when there is nothing to go by."""
    request = view(call.body)
    if request is None:
        return None
    answer = call.answer
    cut_off = checks.not_cut_off(call.finish_reason, is_bounded=request.is_bounded)
    found = {
        "not_empty": checks.not_empty(answer, call.tool_calls),
        "not_refused": checks.not_refused(answer),
        "not_cut_off": cut_off,
        "not_looping": checks.not_looping(answer),
        "same_language": checks.same_language(answer, request.question),
    }
    # What a bound cut off cannot be whole, and tool calls come without the final form.
    if call.finish_reason != "length":
        found["parsable_code"] = checks.parsable_code(answer)
        if not call.tool_calls:
            found["valid_json"] = checks.valid_json(answer, request)
    scores = {name: score for name, score in found.items() if score is not None}
    return _combine(scores) if scores else None


def _combine(scores: dict[str, float]) -> Verdict:
    failed = [name for name, score in scores.items() if score < FAILED_BELOW]
    if failed:
        weight = max(FAILURE_WEIGHTS[name] for name in failed)
        return Verdict(score=min(scores.values()), weight=weight, checks=scores)
    weight = FITS_FORM_WEIGHT if FORM_CHECKS & scores.keys() else LOOKS_FINE_WEIGHT
    return Verdict(score=min(scores.values()), weight=weight, checks=scores)
