"""Notice that the terminal that a command was started on is gone."""

import asyncio
import select
import sys
from collections.abc import Callable


def watch_terminal(gone: Callable[[], None]) -> None:
    """Call `gone` once when the terminal behind standard input is closed; nothing without one.

    The kernel sends SIGHUP to the leader of the session alone, which may be a program that keeps it
    to itself. A closed terminal is always hung up, though. What is typed wakes nobody.
    """
    if not hasattr(select, "epoll") or sys.stdin is None or not sys.stdin.isatty():
        return
    loop = asyncio.get_running_loop()
    hangup = select.epoll()
    # Without any event asked for, only errors and a hang-up are told.
    hangup.register(sys.stdin.fileno(), 0)

    def on_hangup() -> None:
        loop.remove_reader(hangup)
        hangup.close()
        gone()

    loop.add_reader(hangup, on_hangup)
