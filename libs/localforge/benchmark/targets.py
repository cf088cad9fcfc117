"""What the router is required to reach, beside what is published: the project's own yardstick."""

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from localforge.benchmark.frontier import cost_at, hull
from localforge.benchmark.priors import NONE, SHIPPED
from localforge.benchmark.protocol import (
    CASCADE,
    DEFAULT,
    Frontier,
    Result,
)
from localforge.benchmark.report import deviation
from localforge.benchmark.timing import Timing

CASCADE_LOSS = 0.015
MODELS, FEATURES = 20, 300
"""What a decision is timed with."""


class Target(NamedTuple):
    """One line of the yardstick; shares, larger is better."""

    measure: str
    data: str
    policy: str
    prior: str
    figure: str
    """`apgr`, a key of `save_at`, or `cascade`: saved at `CASCADE_LOSS`."""
    published: str
    required: float | None
    """None: a line beside the requirements, for who wants to know that, too."""
    aim: float | None


class Line(NamedTuple):
    """One line as it is printed."""

    measure: str
    data: str
    published: str
    required: str
    aim: str
    reached: str
    """Mean and standard deviation over the stream orders."""
    is_met: bool | None
    """None: not measured, or nothing is required."""


TARGETS = (
    Target(
        "APGR, cold start, one pass",
        "mmlu_routellm", DEFAULT, NONE, "apgr",
        "RouteLLM's best 0.603, LinUCB 0.611", 0.62, 0.65,
    ),
    Target(
        "APGR, unseen questions, shipped prior",
        "mmlu_routellm", DEFAULT, SHIPPED, "apgr",
        "offline models with all labels 0.64-0.67", 0.665, 0.70,
    ),
    Target(
        "save@3.5, 9 models, cold start",
        "mmlu_helm", DEFAULT, NONE, "3.5",
        "static hull 46.5 %, LinUCB 42.9 %, with a price prior 60-67 %", 0.62, 0.72,
    ),
    Target(
        "save@3.5, 9 models, unseen questions, shipped prior",
        "mmlu_helm", DEFAULT, SHIPPED, "3.5",
        "static hull 53.6 %, LinUCB 69.3 %, offline stack 81 %", 0.76, 0.84,
    ),
    Target(
        "save@3.5, 20 models, cold start with cards",
        "mmlu_redux", DEFAULT, NONE, "3.5",
        "static hull 81 %, LinUCB 80 %", 0.81, 0.86,
    ),
    Target(
        "cascade, saved at 1.5 points, unseen questions, shipped prior",
        "mmlu_helm", CASCADE, SHIPPED, "cascade",
        "agreement of two cheap models 53-55 %", 0.58, 0.65,
    ),
    Target(
        "cascade, saved at 1.5 points, cold start (nothing is required)",
        "mmlu_helm", CASCADE, NONE, "cascade",
        "agreement of two cheap models 53-55 %", None, None,
    ),
)  # fmt: skip


def reached(results: Sequence[Result], speed: Callable[[], Timing]) -> list[Line]:
    """Return every line of the yardstick with what was reached; nothing for other data.

    Goals are kept on questions the prior has not seen, in each file that the yardstick names. Parts
    of the same data, told apart by what follows the first dot of their names, have lines each.

    Args:
        results: What was measured. Lines that need another file or policy are not met and not
            missed: they say that they were not measured.
        speed: Measures `MODELS` models and `FEATURES` features; called when there are lines.
    """
    by_name: dict[str, list[Result]] = {}
    for result in results:
        by_name.setdefault(result.outcomes.name.partition(".")[0], []).append(result)
    named = dict.fromkeys(target.data for target in TARGETS)
    if by_name.keys().isdisjoint(named):
        return []
    lines = [
        _line(target, result) for target in TARGETS for result in by_name.get(target.data, [None])
    ]
    for name in named:
        for result in by_name.get(name, ()):
            lines += _goal_lines(result)
    return [*lines, *_speed_lines(speed())]


def _values(target: Target, result: Result | None) -> list[float]:
    """Return the figure of each order; nothing when it was not measured."""
    if result is None:
        return []
    for frontier, measures in zip(result.frontiers, result.measures, strict=True):
        if (frontier.name, frontier.prior) != (target.policy, target.prior):
            continue
        if target.figure == "apgr":
            return [measure.apgr for measure in measures]
        if target.figure == "cascade":
            return _saved(frontier, result)
        place = list(result.rows[0].save_at).index(target.figure)
        return [measure.save_at[place] for measure in measures]
    return []


def _saved(frontier: Frontier, result: Result) -> list[float]:
    """Return what is saved at `CASCADE_LOSS`, points mixed as for `save_at`."""
    strong = result.ends.strong
    return [
        1.0 - cost_at(hull([*points, *result.ends]), strong.accuracy - CASCADE_LOSS) / strong.cost
        for points in frontier.orders
    ]


def _line(target: Target, result: Result | None) -> Line:
    values = _values(target, result)

    def told(value: float | None) -> str:
        if value is None:
            return ""
        return f"{value:.3f}" if target.figure == "apgr" else f"{100 * value:.1f} %"

    reached, is_met = "not measured", None
    if values:
        mean = statistics.fmean(values)
        reached = f"{told(mean)} ± {told(deviation(values)).removesuffix(' %')}"
        is_met = None if target.required is None else mean >= target.required
    return Line(
        target.measure,
        result.outcomes.name if result else target.data,
        target.published,
        told(target.required),
        told(target.aim),
        reached,
        is_met,
    )


def _goal_lines(result: Result) -> list[Line]:
    lines = []
    for frontier in result.frontiers:
        goal = frontier.goal
        if goal is None or frontier.prior != SHIPPED:
            continue
        points = [point for (point,) in frontier.orders]
        if goal.spend_usd is not None:
            misses = [100 * (1_000 * point.cost / goal.spend_usd - 1.0) for point in points]
            required, aim, unit = 5.0, 2.5, "%"
        else:
            least = goal.min_quality or result.ends.strong.accuracy - (goal.max_loss or 0.0)
            misses = [100 * (least - point.accuracy) for point in points]
            required, aim, unit = 1.0, 0.5, "points"
        # A miss to one side does not make up for one to the other.
        missed = statistics.fmean(map(abs, misses))
        lines.append(
            Line(
                f"goal `{frontier.name}`: missed by, unseen questions",
                result.outcomes.name,
                "up to 2.4 points",
                f"{required:g} {unit}",
                f"{aim:g} {unit}",
                f"{missed:.2f} ({statistics.fmean(misses):+.2f} ± {deviation(misses):.2f}) {unit}",
                missed <= required,
            )
        )
    return lines


def _speed_lines(timing: Timing) -> list[Line]:
    return [
        Line(
            f"time to {what}, p50, {MODELS} models, {FEATURES} features",
            "random",
            "River's LinUCBDisjoint 1.2 ms at 8 models" if what == "decide" else "",
            "0.30 ms",
            "0.15 ms",
            f"{spent:.2f} ms",
            spent <= 0.3,
        )
        for what, spent in (("decide", timing.decide_p50_ms), ("learn", timing.learn_p50_ms))
    ]
