"""One supervised child: started, watched, started again when it ends without being asked to."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from localforge.embedded.logs import LogForwarder, ParseLine
from localforge.embedded.process import ChildProcess
from localforge.embedded.readiness import READY_FD, Probe
from localforge.errors import LocalforgeError

_PROBE_EVERY_S = 0.05


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and how to tell that it serves."""

    name: str
    """Unique; shown in front of its lines."""
    args: tuple[str, ...]
    environment: Mapping[str, str]
    """All of it: nothing is inherited, so that a child gets no secret that is not its own."""
    descriptors: tuple[int, ...] = ()
    """Open files that it gets, under the same numbers."""
    ready: Probe | None = None
    """Asked until true; None: the child calls `notify_ready` itself."""
    ready_timeout_s: float = 30
    """Not ready within this time: killed, and counted as a failure."""
    grace_s: float = 10
    """From SIGTERM to SIGKILL."""
    parse_line: ParseLine | None = None
    """Understands a server's own log format; None: JSON lines."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Pauses between restarts, in seconds: first, then next and its doubles, at most last."""

    first_s: float = 0.0
    """Whoever served and died is missed; only one that dies again has something wrong with it."""
    next_s: float = 0.2
    last_s: float = 10.0
    stable_s: float = 5.0
    """A child that served this long starts again from the first pause."""

    def pause_s(self, failures: int) -> float:
        """Return the pause after the n-th failure in a row, counted from 0."""
        if failures == 0:
            return self.first_s
        doubled = self.next_s * 2 ** min(failures - 1, 30)
        return float(max(self.first_s, min(self.last_s, doubled)))


class ChildFailed(LocalforgeError):  # noqa: N818  # reads as what happened
    """A child did not come up; says how it ended and what it said last."""

    code = "child_failed"

    def __init__(self, name: str, status: str, tail: str) -> None:
        said = f"; it said:\n{tail}" if tail else ", and said nothing"
        super().__init__(f"`{name}` did not start: {status}{said}")
        self.tail = tail


class Child:
    """One child process over all its restarts.

    Args:
        spec: What to run.
        forwarder: Where its output goes.
        backoff: Pauses between restarts.
        on_change: Called whenever its pid or readiness has changed.
    """

    def __init__(
        self,
        spec: ChildSpec,
        forwarder: LogForwarder,
        backoff: Backoff,
        on_change: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.restarts = 0
        self.is_ready = False
        self._forwarder = forwarder
        self._backoff = backoff
        self._on_change = on_change
        self._process: ChildProcess | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._log = forwarder.child(spec.name, spec.parse_line)

    @property
    def pid(self) -> int:
        """0 while it is not running."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start it, wait until it serves, and keep it running from then on.

        Raises:
            ChildFailed: It ended or did not serve in time. It is not started again.
        """
        await self._launch()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.spec.name}")

    def retire(self) -> None:
        """Start it no more, whatever becomes of it; `stop` still has to be awaited."""
        if self._keeper:
            self._keeper.cancel()

    async def stop(self) -> None:
        """Stop it for good."""
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        await self._end()

    def signal(self, sig: signal.Signals) -> None:
        """Send a signal to it, if it runs."""
        if self._process:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, sig)

    def kill(self) -> None:
        """Kill it and everything it started, now, and for good."""
        self.retire()
        if self._process:
            self._process.signal(signal.SIGKILL)

    async def _launch(self) -> None:
        spec = self.spec
        environment = dict(spec.environment)
        heard, told = os.pipe()
        try:
            try:
                environment[READY_FD] = str(told)
                passed = (told, *spec.descriptors)
                process = await ChildProcess.spawn(spec.args, environment, self._log.feed, passed)
            except OSError as exc:
                reason = f"{exc.strerror or exc}: {spec.args[0]}"
                raise ChildFailed(spec.name, reason, "") from exc
            finally:
                os.close(told)
            self._process = process
            self._on_change()
            try:
                status = await self._wait_ready(process, heard)
            except BaseException:
                await self._end()
                raise
        finally:
            os.close(heard)
        if status:
            await self._end()
            raise ChildFailed(spec.name, status, self._log.tail)
        self._log.ready = self.is_ready = True
        self._on_change()

    async def _wait_ready(self, process: ChildProcess, heard: int) -> str:
        """Return "" once it serves, else why it does not."""
        probe = self.spec.ready
        serves = asyncio.create_task(_answers(probe) if probe else _notified(heard))
        ended = asyncio.create_task(process.wait())
        try:
            await asyncio.wait(
                (serves, ended),
                timeout=self.spec.ready_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if ended.done():
                return process.status
            return "" if serves.done() else f"not ready after {self.spec.ready_timeout_s:g} s"
        finally:
            serves.cancel()
            ended.cancel()
            await asyncio.gather(serves, ended, return_exceptions=True)

    async def _keep(self) -> None:
        failures = 0
        while True:
            served_from = time.monotonic()
            if self._process:
                await self._process.wait()
                if time.monotonic() - served_from >= self._backoff.stable_s:
                    failures = 0
                pause_s = self._backoff.pause_s(failures)
                self._tell("child_ended", status=self._process.status, restart_in_s=pause_s)
                await self._end()
            else:
                pause_s = self._backoff.pause_s(failures)
            await asyncio.sleep(pause_s)
            failures += 1
            self.restarts += 1
            try:
                await self._launch()
            except ChildFailed as exc:
                self._tell("child_restart_failed", reason=exc.message, failures=failures)
            else:
                self._tell("child_restarted", level="info", pid=self.pid)

    async def _end(self) -> None:
        # What a server says while it is stopped is of no interest either.
        self._log.ready = self.is_ready = False
        if self._process:
            await self._process.end(self.spec.grace_s)
            self._process = None
        self._on_change()

    def _tell(self, event: str, *, level: str = "warning", **fields: object) -> None:
        self._forwarder.event(event, level=level, child=self.spec.name, **fields)


async def _answers(probe: Probe) -> None:
    while not await probe():  # noqa: ASYNC110  # another process: there is no event to wait for
        await asyncio.sleep(_PROBE_EVERY_S)


async def _notified(descriptor: int) -> None:
    """Wait for the byte of `notify_ready`; for ever when the child closes the pipe without it."""
    loop = asyncio.get_running_loop()
    said: asyncio.Future[bytes] = loop.create_future()

    def on_readable() -> None:
        loop.remove_reader(descriptor)
        said.set_result(os.read(descriptor, 1))

    loop.add_reader(descriptor, on_readable)
    try:
        if not await said:
            await asyncio.Event().wait()
    finally:
        loop.remove_reader(descriptor)
