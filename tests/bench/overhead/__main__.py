"""Measure what LocalForge adds to a request, beside two floors and, if asked for, its peers.

    just bench-overhead                        about ten minutes
    just bench-overhead --quick                a smoke run of under a minute
    just bench-overhead --peers litellm,portkey --json before.json

Every round is written to bench-overhead.json, or to the file of --json.

Exit code 1 when an answer was wrong, work was left undone or a target failed; a missed bar is
printed and is no error, for a busy machine misses bars too.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.bench.overhead import machine
from tests.bench.overhead.localforge_target import separate, together
from tests.bench.overhead.peers import LiteLLM, Portkey
from tests.bench.overhead.report import make_report, print_report, write_json
from tests.bench.overhead.rounds import FULL, QUICK, Run
from tests.bench.overhead.targets import Direct, PyPassthrough, Target

TARGETS: dict[str, Callable[[], Target]] = {
    "py-passthrough": PyPassthrough,
    "separate": separate,
    "together": together,
}
WRITTEN_TO = Path("bench-overhead.json")
PEERS: dict[str, Callable[[], Target]] = {"litellm": LiteLLM, "portkey": Portkey}


class _Lines:
    """Shows progress. It draws between blocks only: drawing takes the client's CPU."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total)

    def begins(self, what: str) -> None:
        """Show what runs now."""
        self._progress.update(self._task, description=what, refresh=True)

    def ended(self, what: str, found: str) -> None:
        """Show the finding, one line each where there is no terminal to redraw."""
        self._progress.advance(self._task)
        if not self._progress.console.is_terminal:
            self._progress.console.print(f"{what}: {found}", highlight=False)


def _names(allowed: Iterable[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(
                    f"{name!r} is not known; there are: {', '.join(allowed)}"
                )
        return names

    return parse


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="just bench-overhead",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one short round, 2,000 requests")
    parser.add_argument("--rounds", type=int, help=f"default {FULL.rounds}")
    parser.add_argument(
        "--targets",
        type=_names(TARGETS),
        default=list(TARGETS),
        help=f"beside direct, some of {','.join(TARGETS)} (default: all)",
    )
    parser.add_argument(
        "--peers",
        type=_names(PEERS),
        default=[],
        help=f"installed on demand, some of {','.join(PEERS)}",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        default=WRITTEN_TO,
        help=f"write every round here (default: {WRITTEN_TO} in the working directory)",
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep logs and state here")
    arguments = parser.parse_args()
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {arguments.rounds}")
    return arguments


def main() -> int:
    """Run the benchmark and return the exit code."""
    arguments = _arguments()
    plan = QUICK if arguments.quick else FULL
    if arguments.rounds:
        plan = msgspec.structs.replace(plan, rounds=arguments.rounds)
    targets: list[Target] = [Direct()]
    targets += [TARGETS[name]() for name in arguments.targets]
    targets += [PEERS[name]() for name in arguments.peers]
    console = Console(width=None if sys.stdout.isatty() else 160)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with (
        tempfile.TemporaryDirectory(prefix="localforge-bench-") as temporary,
        Progress(*columns, console=console, auto_refresh=False, transient=True) as progress,
    ):
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        watcher = _Lines(progress, plan.steps * len(targets))
        results = Run(targets, plan, folder, watcher)()
    report = make_report(machine.describe(), plan, results)
    print_report(report, console)
    write_json(report, arguments.json)
    console.print(f"written: {arguments.json}")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
