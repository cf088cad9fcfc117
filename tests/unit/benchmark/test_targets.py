"""The yardstick: every line, with what was reached and whether that is enough."""

import pytest

from localforge.bandit.goal import Goal
from localforge.benchmark import protocol, targets
from localforge.benchmark.frontier import Point
from localforge.benchmark.protocol import Frontier, Result
from localforge.benchmark.timing import Timing
from localforge.config import RouterConfig
from tests.unit.benchmark.synthetic import stream

ROUTER = RouterConfig()
TIMING = Timing(
    policy="default",
    models=20,
    features=300,
    decide_p50_ms=0.1,
    decide_p99_ms=0.2,
    learn_p50_ms=0.4,
    learn_p99_ms=0.5,
)


@pytest.fixture(scope="module", name="result")
def _result() -> Result:
    given = stream(60)
    outcomes = given.outcomes._replace(name="mmlu_routellm")
    found = protocol.contenders((given,), "none", ("default",), ROUTER)
    return protocol.run(outcomes, found, 2, lambda _: None)


def with_goal(result: Result, goal: Goal, points: tuple[Point, ...]) -> Result:
    kept = Frontier(
        "kept", "shipped", tuple((point,) for point in points), points, is_swept=False, goal=goal
    )
    return result._replace(frontiers=(kept,), measures=result.measures[:1])


def test_every_line_is_there_and_what_was_not_measured_says_so(result: Result) -> None:
    lines = targets.reached([result], lambda: TIMING)

    measured = [line for line in lines if line.is_met is not None]
    assert len(lines) == len(targets.TARGETS) + 2
    assert [line.measure for line in measured] == [
        "APGR, cold start, one pass",
        "time to decide, p50, 20 models, 300 features",
        "time to learn, p50, 20 models, 300 features",
    ]
    assert [line.is_met for line in measured[1:]] == [True, False]
    assert {line.reached for line in lines if line.is_met is None} == {"not measured"}


def test_parts_of_the_same_data_have_lines_each(result: Result) -> None:
    parts = [
        result._replace(outcomes=result.outcomes._replace(name=f"mmlu_routellm.{part}"))
        for part in ("dev", "holdout")
    ]
    lines = targets.reached(parts, lambda: TIMING)

    cold = [line for line in lines if line.measure == "APGR, cold start, one pass"]
    assert [line.data for line in cold] == ["mmlu_routellm.dev", "mmlu_routellm.holdout"]
    assert cold[0].reached == cold[1].reached != "not measured"
    assert [line.data for line in lines if line.data.startswith("mmlu_helm")] == ["mmlu_helm"] * 4


def test_other_data_has_no_yardstick(result: Result) -> None:
    other = result._replace(outcomes=result.outcomes._replace(name="other"))

    assert targets.reached([other], lambda: TIMING) == []


def test_the_cascade_is_required_to_save_as_it_is_shipped_and_shown_cold_beside_that() -> None:
    cascades = {t.prior: t.required for t in targets.TARGETS if t.policy == "cascade"}

    assert cascades == {"shipped": 0.58, "none": None}


def test_a_line_without_a_requirement_says_what_was_reached_and_no_verdict(result: Result) -> None:
    """Nothing is judged that nobody asked for, and nothing measured is kept back."""
    target = targets.TARGETS[0]._replace(required=None, aim=None)
    judged, shown = (targets._line(t, result) for t in (targets.TARGETS[0], target))

    assert judged.is_met is not None
    assert shown.is_met is None
    assert (shown.required, shown.aim) == ("", "")
    assert shown.reached == judged.reached != "not measured"


@pytest.mark.parametrize(
    ("lost", "is_met"),
    [((0.03, 0.04), True), ((0.02, 0.05), False), ((0.02, 0.02), False), ((0.05, 0.05), False)],
)
def test_a_floor_is_judged_as_a_goal_for_loss_is(
    result: Result, lost: tuple[float, ...], is_met: bool
) -> None:
    strong = result.ends.strong
    points = tuple(Point(strong.cost, strong.accuracy - loss) for loss in lost)
    goal = Goal(min_quality=strong.accuracy - 0.035)

    lines = targets.reached([with_goal(result, goal, points)], lambda: TIMING)

    (line,) = (line for line in lines if line.measure.startswith("goal"))
    assert (line.is_met, line.required) == (is_met, "1 points")


@pytest.mark.parametrize(
    ("lost", "is_met"),
    [((0.03, 0.04), True), ((0.02, 0.05), False), ((0.02, 0.02), False), ((0.05, 0.05), False)],
)
def test_misses_to_both_sides_do_not_make_up_for_one_another(
    result: Result, lost: tuple[float, ...], is_met: bool
) -> None:
    strong = result.ends.strong
    points = tuple(Point(strong.cost / 2, strong.accuracy - loss) for loss in lost)

    lines = targets.reached([with_goal(result, Goal(max_loss=0.035), points)], lambda: TIMING)

    (line,) = (line for line in lines if line.measure.startswith("goal"))
    assert line.is_met is is_met
