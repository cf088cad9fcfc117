"""The protocol: sweep the cost preference with fresh runs, in several orders, and report."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from localforge.bandit.goal import PER_THOUSAND, Goal
from localforge.bandit.policies import POLICIES
from localforge.benchmark import references
from localforge.benchmark.cascade import for_cascade
from localforge.benchmark.frontier import Ends, Measures, Point, alone, measure
from localforge.benchmark.online import Policy
from localforge.benchmark.outcomes import Outcomes
from localforge.benchmark.passes import (
    Contender,
    cascade_pass,
    goal_pass,
    plain_pass,
    play_all,
)
from localforge.benchmark.priors import NONE, SHIPPED
from localforge.benchmark.report import Row, make_row
from localforge.benchmark.stream import Advance, Stream
from localforge.config import RouterConfig

EXCHANGE_RATES = (
    0,
    0.01,
    0.02,
    0.03,
    0.04,
    0.05,
    0.06,
    0.07,
    0.08,
    0.09,
    0.1,
    0.11,
    0.12,
    0.13,
    0.14,
    0.15,
    0.16,
    0.175,
    0.19,
    0.21,
    0.23,
    0.3,
    0.5,
)
"""The sweep: accuracy (in shares) that the cost of one answer of the strong model is worth."""
DEFAULT, CASCADE, GOAL = "default", "cascade", "goal"
NAMES = (DEFAULT, CASCADE, GOAL, *POLICIES)
"""What can be measured."""
LEARNING_REFERENCES = ("linucb", "thompson")
"""Simple policies to compare with. What they reach, they reach without a prior."""
COLD = (DEFAULT, CASCADE, *LEARNING_REFERENCES)
"""What is measured without a prior unless something else is asked for."""
WITH_PRIOR = (DEFAULT, CASCADE, GOAL)
"""The same with one."""
MAX_LOSS = 0.035
"""Of the goal for quality."""
SPEND_SHARE = 0.4
"""Of the strong model's cost that the goal for spending allows."""


class Frontier(NamedTuple):
    """Operating points on one file."""

    name: str
    prior: str
    orders: tuple[tuple[Point, ...], ...]
    """For each stream order the points of the sweep; one for what has no order."""
    at_default: tuple[Point, ...]
    """For each order the point at the shipped default preference."""
    is_swept: bool = True
    goal: Goal | None = None


class Result(NamedTuple):
    """Everything measured on one file."""

    outcomes: Outcomes
    ends: Ends
    frontiers: tuple[Frontier, ...]
    measures: tuple[tuple[Measures, ...], ...]
    """For each frontier, for each order."""
    rows: tuple[Row, ...]


def contenders(
    streams: tuple[Stream, ...], prior: str, names: Sequence[str], router: RouterConfig
) -> list[Contender]:
    """Return what is run on a file with one prior.

    Args:
        streams: The file's questions.
        prior: Its name in the report.
        names: Of `NAMES`. `default` is the policy that `router` names; `cascade` and `goal` rest
            on it. A cascade is left out where the file does not tell answers.
        router: The configuration that is measured.
    """
    found: list[Contender] = []
    default = Policy(DEFAULT, router)
    for name in names:
        if name == CASCADE:
            chained = [chain for stream in streams if (chain := for_cascade(stream))]
            if len(chained) == len(streams):
                run = partial(cascade_pass, default)
                found.append(Contender(name, prior, tuple(chained), run))
        elif name == GOAL:
            found += [
                Contender(told, prior, streams, partial(goal_pass, default, goal), goal=goal)
                for told, goal in _goals(streams).items()
            ]
        else:
            chosen = default if name == DEFAULT else Policy(name, _with_policy(router, name))
            found.append(Contender(name, prior, streams, partial(plain_pass, chosen)))
    return found


def plan_of(names: Sequence[str], prior: str | None) -> dict[str, Sequence[str]]:
    """Return what is measured with which prior: prior -> names.

    Args:
        names: What was asked for; nothing means all that the yardstick and the table have.
        prior: The only one that was asked for; None means none and the shipped one.
    """
    if names:
        return dict.fromkeys([prior] if prior else [NONE, SHIPPED], names)
    if prior is None:
        return {NONE: COLD, SHIPPED: WITH_PRIOR}
    return {NONE: COLD} if prior == NONE else {prior: WITH_PRIOR, NONE: LEARNING_REFERENCES}


def _goals(streams: Sequence[Stream]) -> dict[str, Goal]:
    """Return goals that bind: they lie between what the cheapest and the strong model give."""
    strong = [stream.outcomes.costs[:, stream.outcomes.strong] for stream in streams]
    usd = 1_000 * SPEND_SHARE * float(np.concatenate(strong).mean())
    ends = [s.outcomes.scores[:, [s.outcomes.cheapest, s.outcomes.strong]] for s in streams]
    floor = round(float(np.concatenate(ends).mean()), 3)
    return {
        f"lose {100 * MAX_LOSS:g} points": Goal(max_loss=MAX_LOSS),
        f"reach {100 * floor:.1f} %": Goal(min_quality=floor),
        f"spend ${usd:.3f}/1,000": Goal(spend_usd=usd, per=PER_THOUSAND),
    }


def _with_policy(router: RouterConfig, name: str) -> RouterConfig:
    return msgspec.convert({**msgspec.to_builtins(router), "policy": name}, RouterConfig)


def steps(contender: Contender, orders: int) -> int:
    """Return how many questions a contender will be asked, for a progress bar."""
    return len(_weights(contender)) * orders * contender.questions


def run(
    outcomes: Outcomes,
    found: Sequence[Contender],
    orders: int,
    advance: Advance,
    jobs: int = 1,
) -> Result:
    """Measure contenders and references on one file.

    Args:
        outcomes: The whole file.
        found: What to measure; each is asked `steps` questions.
        orders: How many stream orders, at least 1; the first is the file's own.
        advance: Called with the number of questions done since the last call.
        jobs: Processes that share the passes, at least 1.
    """
    compared = references.ends(outcomes)
    played = play_all(found, [_weights(contender) for contender in found], orders, advance, jobs)
    frontiers = [
        *(_frontier(contender, points) for contender, points in zip(found, played, strict=True)),
        *_references(outcomes, found[0].streams, compared),
    ]
    two = len(outcomes.models) == 2
    measures = [
        tuple(_measure(frontier, points, compared, two_models=two) for points in frontier.orders)
        for frontier in frontiers
    ]
    rows = [
        make_row(outcomes.name, frontier.name, frontier.prior, values, frontier.at_default)
        for frontier, values in zip(frontiers, measures, strict=True)
    ]
    return Result(outcomes, compared, tuple(frontiers), tuple(measures), tuple(rows))


def _weights(contender: Contender) -> list[float]:
    """Return the cost weights of the sweep, the shipped default preference's last."""
    if contender.goal is not None:
        return [_default_weight()]
    unit = sum(stream.cost_unit * len(stream.questions) for stream in contender.streams)
    unit /= contender.questions
    return [*(rate / unit for rate in EXCHANGE_RATES), _default_weight()]


def _frontier(contender: Contender, points: tuple[tuple[Point, ...], ...]) -> Frontier:
    return Frontier(
        contender.name,
        contender.prior,
        points,
        tuple(swept[-1] for swept in points),
        contender.goal is None,
        contender.goal,
    )


def _measure(
    frontier: Frontier, points: Sequence[Point], compared: Ends, *, two_models: bool
) -> Measures:
    if frontier.is_swept:
        return measure(points, compared, two_models=two_models)
    (point,) = points
    return alone(point, compared)


def _references(outcomes: Outcomes, streams: Sequence[Stream], compared: Ends) -> list[Frontier]:
    weight = _default_weight()
    swept: dict[str, Sequence[Point]] = {
        "random mix": compared,
        "static hull": references.single_models(outcomes),
        "keyword rule": references.keyword_rule(streams),
        "oracle": references.oracle(outcomes),
    }
    return [
        Frontier("always-strong", "none", ((compared.strong,),), (compared.strong,), False),
        Frontier("always-cheapest", "none", ((compared.weak,),), (compared.weak,), False),
        *(
            Frontier(
                name,
                "none",
                (tuple(points),),
                (max(points, key=lambda p: p.accuracy - weight * p.cost),),
            )
            for name, points in swept.items()
        ),
    ]


def _default_weight() -> float:
    router = RouterConfig()
    return float(router.weights(router.preference).cost)
