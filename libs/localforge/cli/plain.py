"""Lines for people from a process that stays: rich would stay in memory with it."""

import os
import sys

BOLD_GREEN, BOLD_RED, DIM = "1;32", "1;31", "2"


def say(text: str, style: str = "", rest: str = "") -> None:
    """Write a line to standard output.

    Args:
        text: Its beginning.
        style: How that looks on a terminal; empty means as usual.
        rest: The rest of it, as usual.
    """
    sys.stdout.write(f"{_styled(text, style, is_terminal=sys.stdout.isatty())}{rest}\n")
    sys.stdout.flush()


def fail(message: str) -> None:
    """Write an error to standard error, as `localforge.cli.output.fail` does, and exit with 1."""
    error = _styled("error:", BOLD_RED, is_terminal=sys.stderr.isatty())
    sys.exit(f"{error} {message}")


def _styled(text: str, style: str, *, is_terminal: bool) -> str:
    """Respect https://no-color.org."""
    if not style or not is_terminal or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{style}m{text}\x1b[0m"
