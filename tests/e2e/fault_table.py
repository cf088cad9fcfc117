"""Writes what the fault matrix saw: `python -m tests.e2e.fault_table docs/faults.md README.md`."""

import asyncio
import sys
import tempfile
from pathlib import Path

from localforge.faults import Fault
from tests.e2e.fault_answers import Seen
from tests.e2e.fault_cells import GENERATING, OPENAI, OTHER_KINDS, PLACES, Cell
from tests.e2e.fault_matrix import run_matrix
from tests.e2e.fault_servers import matrix_stack

LANES = ("whole", "streamed", "durable")
HEAD = ["| fault | whole | streamed | durable |", "| --- | --- | --- | --- |"]
BEGIN, END = "<!-- fault-matrix -->", "<!-- /fault-matrix -->"
"""Around the short table in the README."""


def table(seen: dict[Cell, Seen]) -> str:
    """Return the table in Markdown: fault × lane, first and last model where they differ."""
    lines = [f"| `{fault}` | {' | '.join(row)} |" for fault, row in _rows(seen, OPENAI).items()]
    return "\n".join(HEAD + lines)


def short_table(seen: dict[Cell, Seen]) -> str:
    """Return the table with one row for all faults that come to the same."""
    groups: dict[tuple[str, ...], list[Fault]] = {}
    for fault, row in _rows(seen, OPENAI).items():
        groups.setdefault(row, []).append(fault)
    lines = [
        f"| {', '.join(f'`{fault}`' for fault in faults)} | {' | '.join(row)} |"
        for row, faults in groups.items()
    ]
    return "\n".join(HEAD + lines)


def other_kinds(seen: dict[Cell, Seen]) -> str:
    """Return in Markdown where the other kinds of backends come to something else."""
    usual = _rows(seen, OPENAI)
    lines = []
    for kind in OTHER_KINDS:
        for fault, row in _rows(seen, kind).items():
            for lane, words in zip(LANES, row, strict=True):
                if words not in ("—", usual[fault][LANES.index(lane)]):
                    lines.append(f"- `{kind}`, `{fault}`, {lane}: {words}.")
    return "\n".join(lines) if lines else "All of them come to what the table has."


def _rows(seen: dict[Cell, Seen], kind: str) -> dict[Fault, tuple[str, ...]]:
    return {fault: tuple(_words(seen, fault, lane, kind) for lane in LANES) for fault in Fault}


def _words(seen: dict[Cell, Seen], fault: Fault, lane: str, kind: str) -> str:
    first, last = (
        "; ".join(
            sorted(
                {
                    found.outcome
                    for cell, found in seen.items()
                    if (cell.fault, cell.lane, cell.place, cell.kind) == (fault, lane, place, kind)
                }
            )
        )
        for place in PLACES
    )
    if not first:
        return "—"
    return first if first == last else f"{first}; last in the plan: {last}"


PAGE = f"""\
# What a client sees of a model server's failure

`just fault-matrix` writes this page: it runs every fault of `localforge faults serve` against the
whole stack and notes what came back.
[Failure](failure.md) says how it comes about.

The faulty model stands first in the plan with a healthy one behind it, or last, with none.
`whole` and `streamed` are both live APIs, `/v1/chat/completions` and `/v1/messages`, which says 500
where the table has 502; `durable` is a request over NATS, which comes again until its deadline.

## In short

{{short}}

## One by one

{{table}}

## Backends of other kinds

The tables are of backends of the kind `openai`.
Every fault also strikes backends of the kinds `vllm`, `anthropic`, `ollama` and `tgi` in their own
formats, streamed and whole, first and last; those of the kind `anthropic` are asked through both
live APIs, the others through `/v1/chat/completions`. `{GENERATING}` is a TGI whose model has no
chat template.

{{others}}

{{count}} requests. In every one of them the client got one complete answer or one explicit error,
the log has every attempt, and cost and usage are those of the attempts.
"""


def main() -> None:
    """Run the matrix, write the page, and the short table into the README."""
    with tempfile.TemporaryDirectory() as folder, matrix_stack(Path(folder)) as (stack, servers):
        seen = asyncio.run(run_matrix(stack, servers))
    page, readme = map(Path, sys.argv[1:])
    page.write_text(
        PAGE.format(
            short=short_table(seen), table=table(seen), others=other_kinds(seen), count=len(seen)
        )
    )
    before, _, rest = readme.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    readme.write_text(f"{before}{BEGIN}\n\n{short_table(seen)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
