"""`localforge explain`, and how `route --explain` shows the same: one decision on one screen."""

import asyncio
import math
import os
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

from localforge.cli.connection import (
    ConfigOption,
    JsonOption,
    call,
    is_elsewhere,
    load_config,
    with_servers,
)
from localforge.cli.output import console, print_json, print_table
from localforge.config import Config

_SAY = {
    "cost_weight": "a US dollar weighing {at:.4g} instead of {now:.4g} would",
    "latency_weight": "a second weighing {at:.4g} instead of {now:.4g} would",
    "switching_cost": "a switch costing {at:.4g} instead of {now:.4g} would",
    "quality": "its predicted quality at {at:.3f} instead of {now:.3f} would",
}


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(explain)


def explain(
    decision_id: Annotated[
        str, typer.Argument(help="From x-localforge-decision, or the `id` of the completion.")
    ],
    config: ConfigOption = None,
    json_: JsonOption = False,
) -> None:
    """Show why a decision came out as it did, from the log.

    With API keys configured it shows those of the key in LOCALFORGE_API_KEY. Without that variable
    it reads the log itself, as the NATS user admin, and shows any.

    Example: localforge explain 01m824155j3rttpntxf98s31fb
    """
    settings = load_config(config)
    if settings.keys and not (os.environ.get("LOCALFORGE_API_KEY") or is_elsewhere()):
        answer = asyncio.run(_from_log(settings, decision_id))
    else:
        answer = call(settings, "GET", f"/v1/decisions/{decision_id}")
    if json_:
        print_json(answer)
        return
    show_headline(answer["decision"])
    show_explanation(answer)


async def _from_log(config: Config, given: str) -> Any:
    from localforge.bus.bus import Bus
    from localforge.bus.decision_log import read_decision
    from localforge.edge.decisions import find_decision, no_decision
    from localforge.edge.explanation import explain_record

    bus = Bus(with_servers(config).nats, "admin")
    await bus.connect()
    try:
        record = await find_decision(lambda found: read_decision(bus.client, found), given)
    finally:
        await bus.close()
    if record is None:
        raise no_decision(given)
    return msgspec.to_builtins(explain_record(record))


def show_headline(decision: dict[str, Any]) -> None:
    """Print what was chosen and on what terms, in a line."""
    first, *second = _asked(decision)
    asked = f"{first} twice" if second == [first] else " and ".join((first, *second))
    console.print(
        f"[bold]{asked}[/] with probability {decision['propensity']:.3f} · "
        f"label {decision['label']} → zones {', '.join(decision['zones'])} · "
        f"domain {decision['domain'] or '-'} · {decision['prompt_tokens']} prompt tokens",
        highlight=False,
    )


def show_explanation(answer: dict[str, Any]) -> None:
    """Print everything else: models, reasons, evidence, and what would have tipped it."""
    decision, told = answer["decision"], answer["explanation"]
    print_table(
        "Eligible",
        ("model", "zone", "quality", "n", "$ per 1,000", "s", "utility", "p"),
        [
            _row(candidate, _asked(decision))
            for candidate in sorted(
                decision["candidates"], key=lambda c: (c["tier"], -c["probability"], -c["utility"])
            )
        ],
        tight=True,
    )
    if decision["exclusions"]:
        excluded = [(e["model"], e["reason"], e.get("detail", "")) for e in decision["exclusions"]]
        print_table("Excluded", ("model", "reason", "detail"), excluded)
    console.print(_terms(decision), highlight=False)
    console.print(told["reason"], highlight=False)
    for sentence in (told.get("cascade") or {}).get("told", ()):
        console.print(f"  · {sentence}", highlight=False)
    if told.get("evidence"):
        console.print(told["evidence"], highlight=False)
    if told.get("tipping"):
        console.print(f"What would have put {told['runner_up']} ahead:", highlight=False)
        for change in told["tipping"]:
            said = _SAY[change["what"]].format(now=change["now"], at=change["at"])
            console.print(f"  · {said}", highlight=False)
    if answer.get("findings"):
        console.print(f"label raised by: {', '.join(answer['findings'])}", highlight=False)


def _terms(decision: dict[str, Any]) -> str:
    weights = decision["cost_weight"], decision["latency_weight"]
    by_default = "" if decision["preference_stated"] else " (nobody stated one)"
    parts = [
        "utility = quality - {:.4g} · US dollars - {:.4g} · seconds".format(*weights),
        f"preference {decision['preference']}{by_default}",
    ]
    if decision["goal"]:
        parts.append(f"goal: {decision['goal']}")
    if decision["incumbent"]:
        parts.append(
            f"{decision['incumbent']} answered before, a switch costs "
            f"{decision['switching_cost']:.4g}"
        )
    if not decision["explore"]:
        parts.append("no exploration")
    return " · ".join(parts)


def _asked(decision: dict[str, Any]) -> list[str]:
    """Return whom the draw fell on: one model, or both whose answers are compared."""
    plan = decision.get("cascade") or {}
    return list(plan["models"][:-1]) if plan.get("asks_pair") else [decision["chosen"]]


def _row(candidate: dict[str, Any], asked: Sequence[str]) -> tuple[str, ...]:
    name = candidate["model"]
    return (
        f"→ {name}" if name in asked else name,
        candidate["zone"],
        f"{candidate['quality']:.2f}±{candidate['quality_std']:.2f}",
        f"{candidate['evidence']:.0f}",
        _plus_minus(1000 * candidate["cost_usd"], 1000 * candidate["cost_std"]),
        _plus_minus(candidate["latency_s"], candidate["latency_std"]),
        f"{candidate['utility']:.3f}",
        f"{candidate['probability']:.3f}",
    )


def _plus_minus(value: float, std: float) -> str:
    """Show a figure as exactly as its standard deviation allows; three places without one."""
    places = min(max(1 - math.floor(math.log10(std)), 0), 6) if std > 0 else 3
    return f"{value:.{places}f}±{std:.{places}f}" if std > 0 else f"{value:.{places}f}"
