"""Take parts of the running system away, again and again, while both lanes are used.

    just chaos                       ten minutes
    just chaos --seconds 60 --json chaos.json

Services are killed, the broker is away for 10 s, the store is away or takes 2 s for a command.
Exit code 1 when a promise did not hold: accepted work lost, a result given twice, an answer that
is not what the model said, a client that waits beyond its deadline, memory that grows.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.chaos.run import Figures, run

TEN_MINUTES = 600


def main() -> None:
    """Run the command line of this module."""
    parser = argparse.ArgumentParser(
        prog="just chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=TEN_MINUTES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="keep the logs in this new folder")
    chosen = parser.parse_args()
    console = Console()
    started = time.monotonic()

    def tell(what: str) -> None:
        console.print(f"{time.monotonic() - started:6.1f} s  {what}", highlight=False)

    with contextlib.ExitStack() as stack:
        if chosen.logs:
            chosen.logs.mkdir(parents=True)
            folder = chosen.logs.resolve()
        else:
            made = tempfile.TemporaryDirectory(prefix="localforge-chaos-")
            folder = Path(stack.enter_context(made))
        tell(f"starting, logs in {folder}")
        figures = asyncio.run(run(folder, chosen.seconds, chosen.seed, tell))
    _print(console, figures)
    if chosen.json:
        document = {**msgspec.to_builtins(figures), "broken": figures.broken}
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(document)))
    sys.exit(1 if figures.broken else 0)


def _print(console: Console, figures: Figures) -> None:
    table = Table(
        title=f"{figures.seconds:g} seconds of chaos; memory in its first and last third",
        title_justify="left",
    )
    table.add_column("what")
    table.add_column("figure", justify="right")
    rows = {f"fault: {name}": number for name, number in sorted(figures.faults.items())}
    rows |= {f"live: {end}": number for end, number in sorted(figures.live.items())}
    rows |= {f"whole: {name}": number for name, number in sorted(figures.live_whole.items())}
    rows |= {f"durable: {status}": n for status, n in sorted(figures.durable_results.items())}
    for name, value in rows.items():
        table.add_row(name, str(value))
    table.add_row("live p50 / p99", f"{figures.live_p50_s:.3f} / {figures.live_p99_s:.3f} s")
    table.add_row("durable accepted", str(figures.durable_accepted))
    table.add_row("accepted work lost", str(figures.lost))
    table.add_row("results stored / heard twice", f"{figures.stored_twice} / {figures.heard_twice}")
    table.add_row("dead letters", str(figures.dead_letters))
    table.add_row("NATS away, at least", f"{figures.nats_away_s:.1f} s")
    table.add_row(
        "Redis: connections refused / commands slow",
        f"{figures.redis_refused} / {figures.redis_delayed}",
    )
    for name, thirds in {**figures.memory_mb, "all": figures.memory_of_all_mb}.items():
        table.add_row(f"memory, {name}", "{:.0f} / {:.0f} MB".format(*thirds))
    console.print(table)
    for problem in figures.broken:
        console.print(f"[bold red]broken:[/] {problem}", highlight=False)


if __name__ == "__main__":
    main()
