"""How the command line speaks: tables for people, JSON for programs, one line for an error."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import msgspec
from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

console = Console(soft_wrap=not sys.stdout.isatty())
errors = Console(stderr=True)


def print_json(data: Any) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data, enc_hook=str)).decode() + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, tight: bool = False
) -> None:
    """Write a table; numbers are right-aligned.

    Args:
        title: Above it.
        columns: Their headings.
        rows: Cells.
        tight: Without lines, so that more fits into a terminal of 80 columns.
    """
    table = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD if tight else HEAVY_HEAD,
        padding=(0, 0) if tight else (0, 1),
        pad_edge=not tight,
    )
    rows = [[_cell(value) for value in row] for row in rows]
    for index, column in enumerate(columns):
        numeric = all(_is_number(row[index]) for row in rows) and bool(rows)
        table.add_column(
            column,
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=numeric or index == 0,
        )
    for row in rows:
        table.add_row(*row)
    console.print(table)


def fail(message: str, *, code: int = 1) -> NoReturn:
    """Write one line to standard error and exit."""
    errors.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(code)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        # An exponent is hard to compare with anything.
        if abs(value) >= 1000:
            return f"{value:,.0f}"
        return f"{value:.4g}" if abs(value) >= 1e-4 or not value else f"{value:.8f}".rstrip("0")
    return escape(str(value))


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").replace("-", "").replace("e", "").isdigit()
