"""Keep a set of child processes running: started in order, stopped in reverse."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from localforge.embedded.child import Backoff, Child, ChildSpec
from localforge.embedded.logs import LogForwarder
from localforge.errors import ConfigError


class ChildStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One child as of now."""

    pid: int
    """0 while it is between two runs."""
    is_ready: bool
    restarts: int


class Supervisor:
    """Starts children, restarts those that end by themselves, stops all.

    Args:
        forwarder: Where output and the supervisor's own events go.
        backoff: Pauses between restarts.
        on_change: Called with the status of every child whenever one has changed.
    """

    def __init__(
        self,
        forwarder: LogForwarder,
        *,
        backoff: Backoff | None = None,
        on_change: Callable[[Mapping[str, ChildStatus]], None] = lambda _: None,
    ) -> None:
        self._forwarder = forwarder
        self._backoff = backoff or Backoff()
        self._on_change = on_change
        self._children: dict[str, Child] = {}
        self._stages: list[list[str]] = []

    @property
    def status(self) -> dict[str, ChildStatus]:
        """Every child by name, in start order."""
        return {
            name: ChildStatus(pid=child.pid, is_ready=child.is_ready, restarts=child.restarts)
            for name, child in self._children.items()
        }

    async def start(self, *specs: ChildSpec) -> None:
        """Start children at the same time and return when all of them serve.

        What one call starts is one stage; `stop` ends the stages in reverse order.

        Raises:
            ChildFailed: One did not come up; the others of this call have been stopped.
            ConfigError: A name is taken.
        """
        names = [spec.name for spec in specs]
        taken = sorted(
            {n for n in names if n in self._children} | {n for n in names if names.count(n) > 1}
        )
        if taken:
            raise ConfigError(f"two children are named {taken[0]!r}")
        stage = [Child(spec, self._forwarder, self._backoff, self._changed) for spec in specs]
        self._children |= {child.spec.name: child for child in stage}
        self._stages.append(names)
        try:
            async with asyncio.TaskGroup() as group:
                for child in stage:
                    group.create_task(child.start())
        except BaseException as exc:
            await self._stop_stage(names)
            self._stages.remove(names)
            if isinstance(exc, BaseExceptionGroup):
                raise exc.exceptions[0] from None
            raise

    async def remove(self, name: str) -> None:
        """Stop one child and forget it; `KeyError` when there is none."""
        child = self._children[name]
        await child.stop()
        del self._children[name]
        for stage in self._stages:
            if name in stage:
                stage.remove(name)
        self._changed()

    async def restart(self, name: str, spec: ChildSpec | None = None) -> None:
        """Stop one child and start it, or its new spec, in the same place.

        Raises:
            KeyError: There is none of this name.
            ChildFailed: It did not come up; it is forgotten.
        """
        old = self._children[name]
        await old.stop()
        new = Child(spec or old.spec, self._forwarder, self._backoff, self._changed)
        if new.spec.name != name:
            raise ConfigError(f"child {name!r} cannot be replaced by one named {new.spec.name!r}")
        self._children[name] = new
        try:
            await new.start()
        except BaseException:
            await self.remove(name)
            raise

    def signal(self, name: str, sig: signal.Signals) -> None:
        """Send a signal to one child; `KeyError` when there is none."""
        self._children[name].signal(sig)

    async def stop(self) -> None:
        """Stop every child, the stages in reverse order, each stage at the same time."""
        # One that dies while others are stopped is missed by nobody.
        for child in self._children.values():
            child.retire()
        while self._stages:
            await self._stop_stage(self._stages.pop())

    def kill(self) -> None:
        """Kill every child now; `stop` still has to be awaited."""
        for child in self._children.values():
            child.kill()

    def announce_stop(self) -> None:
        """Say that it may take a while, and how not to wait."""
        self._forwarder.event(
            "stopping", level="info", hint="answers may end first; Ctrl-C again stops at once"
        )

    async def _stop_stage(self, names: list[str]) -> None:
        await asyncio.gather(*(self._children[name].stop() for name in names))
        for name in names:
            del self._children[name]
        self._changed()

    def _changed(self) -> None:
        self._on_change(self.status)


async def supervise(
    supervisor: Supervisor, main: Callable[[Supervisor], Awaitable[None]]
) -> signal.Signals | None:
    """Run `main` until it returns or SIGINT or SIGTERM comes, then stop every child.

    A second signal kills the children instead of waiting for them.

    Args:
        supervisor: Not yet used.
        main: Starts children and then waits, for ever if nothing else is to be done. Cancelled by
            the first signal.

    Returns:
        The signal that ended it; None when `main` returned.

    Raises:
        Exception: What `main` raised, after every child has been stopped.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main(supervisor))
    received: list[signal.Signals] = []

    def on_signal(sig: signal.Signals) -> None:
        if received:
            supervisor.kill()
        else:
            supervisor.announce_stop()
        received.append(sig)
        task.cancel()

    for sig in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sig, on_signal, sig)
    try:
        await task
    except asyncio.CancelledError:
        if not received:
            raise
    finally:
        await supervisor.stop()
        for sig in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(sig)
    return received[0] if received else None
