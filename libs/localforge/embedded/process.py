"""Spawn processes that cannot outlive their parent, and tell a process from a later one.

Linux: the kernel kills a child when its parent dies (`PR_SET_PDEATHSIG`), however the parent died.
Elsewhere a parent killed with SIGKILL leaves its children; `DataDir.end_leftovers` ends them at
the next start.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import msgspec

_PR_SET_PDEATHSIG = 1
_PRIVATE = 0o077
_DRAIN_S = 1.0
"""Patience for output still in the pipe after a child's end."""


class ProcessId(msgspec.Struct, frozen=True, kw_only=True):
    """A process id with the start time that makes it unique until the next boot."""

    pid: int
    started: int
    """Clock ticks since boot; 0 where the system does not tell."""

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        """Return the identity of a running process."""
        return cls(pid=pid, started=_start_ticks(pid))

    @property
    def running(self) -> bool:
        """True while this very process lives; a zombie does not."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return _start_ticks(self.pid) == self.started


class ChildProcess(asyncio.SubprocessProtocol):
    """One running program. Its output, both streams merged, goes to a callback.

    Not `asyncio.subprocess`: that reports an exit only when the output pipe is closed too, which a
    grandchild can put off for ever.

    Args:
        output: Gets what was read, in pieces; empty at the end.
    """

    def __init__(self, output: Callable[[bytes], None]) -> None:
        self._output = output
        self._exited = asyncio.Event()
        self._drained = asyncio.Event()
        self._transport: asyncio.SubprocessTransport | None = None
        self.pid = 0

    @classmethod
    async def spawn(
        cls,
        args: Sequence[str],
        environment: Mapping[str, str],
        output: Callable[[bytes], None],
        pass_fds: Sequence[int] = (),
    ) -> "ChildProcess":
        """Start a program in a process group of its own.

        The group keeps the terminal's Ctrl-C away from it: the supervisor stops children in order.
        What it writes is its owner's alone.

        Raises:
            OSError: The program cannot be started.
        """
        _, protocol = await asyncio.get_running_loop().subprocess_exec(
            lambda: cls(output),
            *args,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
            pass_fds=pass_fds,
            umask=_PRIVATE,
            preexec_fn=_die_with_parent(),
        )
        return protocol

    @property
    def status(self) -> str:
        """How it ended, in words; empty while it runs."""
        code = self._transport.get_returncode() if self._transport else None
        if code is None:
            return ""
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    async def wait(self) -> None:
        """Wait for its end, end what it started itself, and take the last output."""
        await self._exited.wait()
        self.signal(signal.SIGKILL)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), _DRAIN_S)
        assert self._transport is not None
        self._transport.close()

    async def end(self, grace_s: float) -> None:
        """Ask it to stop, wait, then kill it."""
        if not self._exited.is_set():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._exited.wait(), grace_s)
            self.signal(signal.SIGKILL)
        await self.wait()

    def signal(self, sig: signal.Signals) -> None:
        """Send a signal to it and to everything it started; nothing if all are gone."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, sig)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio once it runs."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self.pid = self._transport.get_pid()

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        """Called by asyncio with output."""
        self._output(data)

    def pipe_connection_lost(self, _fd: int, _exc: Exception | None) -> None:
        """Called by asyncio when the output pipe, the only one, is closed."""
        self._output(b"")
        self._drained.set()

    def process_exited(self) -> None:
        """Called by asyncio at its end."""
        self._exited.set()


def _die_with_parent() -> Callable[[], None] | None:
    if _PRCTL is None:
        return None
    prctl = _PRCTL
    parent = os.getpid()

    # Runs between fork and exec: nothing but system calls.
    def set_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL.value, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return set_signal


def _start_ticks(pid: int) -> int:
    """Field 22 of /proc/<pid>/stat, proc(5); -1 for a zombie or a process that is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1 if sys.platform == "linux" else 0
    # The second field is the program's name in brackets and may hold anything.
    state, *fields = stat.rpartition(")")[2].split()
    return -1 if state in ("Z", "X") else int(fields[18])


# Looked up before any fork.
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
