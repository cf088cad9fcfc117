"""A terminal that goes away is noticed, whoever leads its session."""

import asyncio
import os
import pty
import sys

from localforge.cli.terminal import watch_terminal
from tests.support import wait_until


async def test_a_closed_terminal_is_noticed_once_and_typing_is_not(monkeypatch):
    told: list[str] = []
    master, slave = pty.openpty()
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        watch_terminal(lambda: told.append("gone"))
        os.write(master, b"typed\n")
        for _ in range(10):
            await asyncio.sleep(0)
        assert told == []

        os.close(master)
        await wait_until(lambda: told == ["gone"], description="the hang-up")


async def test_without_a_terminal_there_is_nothing_to_watch(monkeypatch, tmp_path):
    (tmp_path / "in").touch()
    with (tmp_path / "in").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        watch_terminal(lambda: None)


async def test_a_closed_standard_input_is_no_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    watch_terminal(lambda: None)
