"""Ask a running `localforge up` to reload, and hear what came of it."""

import asyncio
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from localforge.config import Config
from localforge.embedded import ChildSpec, DataDir
from localforge.embedded.reports import REPORT_FILE, SUMMARY_FILE, wait_for_report
from localforge.errors import DependencyUnavailable

CHILD_S = 20.0
"""For one process to read the configuration again."""
ALL_S = 150.0
"""For everything, new executors included, which may have models to load."""
_AT_START = ("edge", "nats", "redis", "seal", "telemetry", "up")
"""Sections that are read at the start only."""
_ROUTER_AT_START = ("prior", "checkpoint_every")


def reload_running(config: Config) -> tuple[str, ...]:
    """Have the `localforge up` of the configured data directory reload.

    Returns:
        What it could not take over, and why; everything else is in force.

    Raises:
        DependencyUnavailable: None runs there, or it does not come to an end.
    """
    folder = Path(config.up.data_dir)
    running = DataDir(folder).running() if folder.exists() else None
    if running is None:
        raise DependencyUnavailable(f"no `localforge up` runs in {config.up.data_dir}")
    asked_at = time.time()
    os.kill(running.process.pid, signal.SIGHUP)
    report = asyncio.run(wait_for_report(folder / SUMMARY_FILE, asked_at, ALL_S))
    if report is None:
        raise DependencyUnavailable(
            f"`localforge up` has not said within {ALL_S:g} s what came of the reload; see its log"
        )
    return report.problems


def without_restart(running: Config, asked: Config, wanted: Config) -> tuple[Config, list[str]]:
    """Return what of a changed configuration can be taken over, and what cannot, in words.

    Args:
        running: What is in force.
        asked: What was read at the start.
        wanted: What is read now.
    """
    fields = [
        *((name, field) for name in _AT_START for field in getattr(wanted, name).__struct_fields__),
        *(("router", field) for field in _ROUTER_AT_START),
    ]
    problems = [
        f"`{section}.{field}` is read at the start only: restart `localforge up`"
        for section, field in fields
        if getattr(getattr(wanted, section), field) != getattr(getattr(asked, section), field)
    ]
    kept = {section: getattr(running, section) for section in _AT_START}
    router = {field: getattr(running.router, field) for field in _ROUTER_AT_START}
    kept["router"] = msgspec.structs.replace(wanted.router, **router)
    return msgspec.structs.replace(wanted, **kept), problems


async def children_reports(specs: Iterable[ChildSpec], asked_at: float) -> list[str]:
    """Wait for the reports of children that were told to reload, and return their problems.

    Args:
        specs: Of the children.
        asked_at: Unix time in seconds, before they were told.
    """
    found = await asyncio.gather(*(_report(spec, asked_at) for spec in specs))
    return [problem for problems in found for problem in problems]


async def _report(spec: ChildSpec, asked_at: float) -> tuple[str, ...]:
    report = await wait_for_report(Path(spec.environment[REPORT_FILE]), asked_at, CHILD_S)
    if report is None:
        return (f"`{spec.name}` has not said within {CHILD_S:g} s what came of the reload",)
    return report.problems
