"""Lines for people from a process that stays: rich would stay in memory with it."""

import os
import sys
from contextlib import suppress

BOLD_GREEN, BOLD_RED, DIM = "1;32", "1;31", "2"


def say(text: str, style: str = "", rest: str = "") -> None:
    """Write a line to standard output.

    Args:
        text: Its beginning.
        style: How that looks on a terminal; empty means as usual.
        rest: The rest of it, as usual.
    """
    # A reader that has gone away is no reason to stop.
    with suppress(OSError):
        sys.stdout.write(f"{_styled(text, style, is_terminal=sys.stdout.isatty())}{rest}\n")
        sys.stdout.flush()


def fail(message: str) -> None:
    """Write an error to standard error, as `localforge.cli.output.fail` does, and exit with 1."""
    error = _styled("error:", BOLD_RED, is_terminal=sys.stderr.isatty())
    sys.exit(f"{error} {message}")


def _styled(text: str, style: str, *, is_terminal: bool) -> str:
    """Respect https://no-color.org, and terminals without styles."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown")
    if not style or not is_terminal or plain:
        return text
    return f"\x1b[{style}m{text}\x1b[0m"
