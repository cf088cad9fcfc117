"""`localforge bench`: measure the router on recorded outcomes, and its speed."""

import functools
import os
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from localforge.cli.connection import ConfigOption, JsonOption, load_config
from localforge.cli.output import console, errors, print_json, print_table
from localforge.config import RouterConfig
from localforge.errors import ConfigError

if TYPE_CHECKING:
    from localforge.benchmark.outcomes import Outcomes
    from localforge.benchmark.protocol import Result

MODELS, FEATURES, ROUNDS = 20, 300, 2_000
"""What a decision is timed with: the yardstick's case."""

_SHARED_FROM = 100_000
"""Decisions; fewer are made before other processes have started."""
_WIDTH = 120
"""Of a table that goes to a file or a pipe."""

app = typer.Typer(no_args_is_help=True, help="Measure the router.")


@app.callback()
def bench() -> None:
    """Measure the router."""


@app.command()
def routing(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="More files, as after --data.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Parquet file of outcomes; may be repeated. The shipped sample when none.",
        ),
    ] = None,
    *,
    order: Annotated[int, typer.Option(min=1, help="How many stream orders.")] = 3,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="default, cascade, goal, or one of `router.policy`; may be repeated.",
        ),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            metavar="none|shipped|FOLDER",
            help="What is known before the first question; without it, both are measured.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=0, help="Processes that share the work; 0 for one per core.")
    ] = 0,
    json_: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write the rows to this file.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw the frontiers into this file.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Play recorded outcomes through the router: what it costs, how often it is right.

    One pass over each file per cost preference and stream order. The router sees the prompt and,
    of the model it chose, score, cost and token counts. docs/routing.md explains every figure.

    Example: localforge bench routing --data mmlu_helm.parquet --json rows.json --plot rows.png
    """
    from localforge.benchmark.report import Report

    router = load_config(config).router
    _check_names(policy or (), router)
    paths = [*(data or ()), *(files or ())]
    results = _measure(paths, policy or (), prior, order, router, jobs or _cores())
    for result in results:
        _show(result)
    _show_targets(results, router)
    if json_ is not None:
        report = Report(tuple(row for result in results for row in result.rows))
        json_.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if plot is not None:
        _draw(results, plot)


@app.command()
def decide(
    models: Annotated[int, typer.Option(min=1, help="Candidates of a decision.")] = MODELS,
    features: Annotated[int, typer.Option(min=1, help="Values in a feature vector.")] = FEATURES,
    config: ConfigOption = None,
    json_: JsonOption = False,
) -> None:
    """Time one decision and one update on one core.

    Example: localforge bench decide --models 20 --features 300
    """
    from localforge.benchmark.online import Policy
    from localforge.benchmark.timing import measure_speed

    policy = Policy("default", load_config(config).router)
    timing = measure_speed(policy, models, features, ROUNDS)
    if json_:
        print_json(timing)
        return
    columns = ("policy", "models", "features", "decide p50 ms", "p99", "learn p50 ms", "p99")
    print_table("Time on one core", columns, [msgspec.structs.astuple(timing)])


def _check_names(names: Sequence[str], router: RouterConfig) -> None:
    from localforge.bandit.rules import RULES, STATIC
    from localforge.benchmark.protocol import NAMES

    for name in names:
        if name not in NAMES:
            raise ConfigError(f"--policy: {name!r} is not one of {', '.join(NAMES)}")
        if (name == STATIC and not router.static) or (name == RULES and not router.rules):
            raise ConfigError(f"--policy {name}: `router.{name}` of the configuration is empty")


def _measure(
    paths: Sequence[Path],
    names: Sequence[str],
    prior: str | None,
    orders: int,
    router: RouterConfig,
    jobs: int,
) -> list["Result"]:
    from localforge.benchmark import protocol
    from localforge.benchmark.cards import published_levels
    from localforge.benchmark.priors import make_streams

    results = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    wanted = protocol.plan_of(names, prior)
    with Progress(*columns, console=errors, transient=True) as progress:
        for outcomes in _read(paths):
            count = len(outcomes.prompts)
            task = progress.add_task(f"{outcomes.name}: features", total=count * len(wanted))
            advance = functools.partial(progress.advance, task)
            levels = published_levels(outcomes.models)
            found = []
            for known, chosen in wanted.items():
                streams = make_streams(outcomes, known, levels, advance)
                found += protocol.contenders(streams, known, chosen, router)
            total = sum(protocol.steps(contender, orders) for contender in found)
            progress.update(
                task, description=f"{outcomes.name}: decisions", completed=0, total=total
            )
            shared_by = jobs if total >= _SHARED_FROM else 1
            results.append(protocol.run(outcomes, found, orders, advance, shared_by))
    return results


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _read(paths: Sequence[Path]) -> list["Outcomes"]:
    """Read all files before any is played: a wrong one is found at once."""
    try:
        from localforge.benchmark.parquet import SAMPLE, read_outcomes
    except ModuleNotFoundError as exc:
        raise _not_installed(exc) from exc
    paths = paths or [SAMPLE]
    short = [path.name.partition(".")[0] for path in paths]
    return [
        # Two parts of the same data are told apart by the rest of their names.
        read_outcomes(path, name if short.count(name) == 1 else path.stem)
        for path, name in zip(paths, short, strict=True)
    ]


def _draw(results: Sequence["Result"], path: Path) -> None:
    try:
        from localforge.benchmark.plot import draw
    except ModuleNotFoundError as exc:
        raise _not_installed(exc) from exc
    draw(results, path)


def _not_installed(exc: ModuleNotFoundError) -> ConfigError:
    return ConfigError(
        f"{exc.name} is not installed; `pip install 'localforge[data]'` brings what is needed to "
        "read outcomes and to draw"
    )


def _show(result: "Result") -> None:
    from localforge.benchmark.cards import published_levels

    outcomes = result.outcomes
    strong, cheapest = (escape(outcomes.models[k]) for k in (outcomes.strong, outcomes.cheapest))
    cards = " with cards" if published_levels(outcomes.models) else ""
    console.print(
        f"[bold]{escape(outcomes.name)}[/]: {len(outcomes.prompts):,} questions, "
        f"{len(outcomes.models)} models{cards}, always-strong is {strong}, "
        f"always-cheapest {cheapest}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(header_style="bold", box=SIMPLE, padding=(0, 1))
    for column in ("policy", "prior"):
        table.add_column(column, no_wrap=True)
    for column in ("APGR", "CPT50", "CPT80", "save@0", "@1", "@2", "@3.5", "right", "$/1,000"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in result.rows:
        table.add_row(
            row.policy,
            row.prior,
            _number(row.apgr) + (f" ± {row.spread:.3f}" if row.spread > 0 else ""),
            *(_percent(share) for share in (row.cpt50, row.cpt80, *row.save_at.values())),
            _percent(row.accuracy),
            f"{1_000 * row.cost_usd:.3f}",
        )
    Console(width=max(console.width, _WIDTH)).print(table)


def _show_targets(results: Sequence["Result"], router: RouterConfig) -> None:
    from localforge.benchmark.online import Policy
    from localforge.benchmark.targets import reached
    from localforge.benchmark.timing import measure_speed

    policy = Policy("default", router)
    lines = reached(results, lambda: measure_speed(policy, MODELS, FEATURES, ROUNDS))
    if not lines:
        return
    table = Table(
        title="The yardstick", title_justify="left", header_style="bold", box=SIMPLE, padding=(0, 1)
    )
    for column in ("measure", "data", "published or simple best"):
        table.add_column(column)
    for column in ("required", "aim", "reached", "met"):
        table.add_column(column, justify="right", no_wrap=True)
    verdicts = {True: "[green]yes[/]", False: "[red]no[/]", None: "-"}
    for line in lines:
        table.add_row(
            line.measure,
            line.data,
            line.published,
            line.required,
            line.aim,
            escape(line.reached),
            verdicts[line.is_met],
        )
    Console(width=max(console.width, _WIDTH)).print(table)


def _number(value: float) -> str:
    return "-" if isnan(value) else f"{value:.3f}"


def _percent(share: float) -> str:
    return "-" if isnan(share) else f"{round(100 * share, 1) + 0.0:.1f}"
