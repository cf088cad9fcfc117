"""One process and its services: a reload reaches all of them, and so does the end."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest

from localforge.config import Config
from localforge.embedded.reports import REPORT_FILE, ReloadReport, wait_for_report
from localforge.errors import ConfigError, DependencyUnavailable
from localforge.hosting.host import Host, _reload, _serve
from tests.support import wait_until


async def nothing() -> None:
    return


class Part:
    """A service that notes what it is told."""

    def __init__(self) -> None:
        self.on_start: Callable[[], Awaitable[None]] = nothing
        self.on_reload: Callable[[], Awaitable[None]] = nothing
        self.on_stop: Callable[[], Awaitable[None]] = nothing
        self.is_started = False
        self.taken: list[Config] = []
        self.is_stopped = False

    async def start(self) -> None:
        await self.on_start()
        self.is_started = True

    async def reload(self, config: Config) -> None:
        await self.on_reload()
        self.taken.append(config)

    async def stop(self) -> None:
        await self.on_stop()
        self.is_stopped = True


class Process:
    """Two parts in one process, which the test's own process stands for.

    Attributes:
        wanted: What the configuration is when it is read next.
    """

    def __init__(self) -> None:
        self.first, self.second = Part(), Part()
        self.wanted = named("start")
        self.host = Host(self.wanted, {})
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        self._task = asyncio.create_task(_serve(["first", "second"], self.host, self._read))
        await wait_until(lambda: self.second.is_started, description="the start")

    def _read(self) -> Config:
        return self.wanted

    async def end(self) -> None:
        assert self._task is not None
        signal.raise_signal(signal.SIGTERM)
        await self._task


@pytest.fixture(name="process")
def _process(monkeypatch):
    threshold = gc.get_threshold()
    process = Process()
    for name in ("first", "second"):
        app = SimpleNamespace(create=lambda _, name=name: getattr(process, name))
        monkeypatch.setitem(sys.modules, f"localforge.{name}.app", app)
    yield process
    gc.set_threshold(*threshold)
    gc.unfreeze()


def named(name: str) -> Config:
    return Config(aliases={"which": name})


def names(part: Part) -> list[str]:
    return [config.aliases["which"] for config in part.taken]


async def hang_up(process: Process, name: str) -> None:
    """Ask for a reload, and let it begin where it may."""
    process.wanted = named(name)
    signal.raise_signal(signal.SIGHUP)
    for _ in range(100):
        await asyncio.sleep(0)


def raising(error: Exception) -> Callable[[], Awaitable[None]]:
    async def fail() -> None:
        raise error

    return fail


async def test_a_reload_that_is_asked_for_during_the_start_reaches_every_part(process):
    process.second.on_start = lambda: hang_up(process, "new")
    await process.begin()

    await wait_until(lambda: process.first.taken, description="the reload")
    await process.end()

    assert (names(process.first), names(process.second)) == (["new"], ["new"])
    assert process.host.config == named("new")


async def test_of_two_reloads_the_later_one_stays(process):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait_once() -> None:
        if not begun.is_set():
            begun.set()
            await go_on.wait()

    process.first.on_reload = wait_once
    await process.begin()
    await hang_up(process, "older")
    await begun.wait()
    await hang_up(process, "newer")
    go_on.set()

    await wait_until(lambda: len(process.second.taken) == 2, description="both reloads")
    await process.end()

    assert names(process.first) == names(process.second) == ["older", "newer"]


async def test_a_part_that_cannot_stop_keeps_no_other_from_it(process):
    process.second.on_stop = raising(ZeroDivisionError())
    await process.begin()

    await process.end()

    assert process.first.is_stopped


async def report_of(parts, reread, tmp_path) -> ReloadReport | None:
    host = Host(Config(), {REPORT_FILE: str(tmp_path / "report.json")})
    await _reload(parts, reread, host)
    return await wait_for_report(tmp_path / "report.json", after=0, patience_s=1)


async def test_a_part_that_fails_keeps_no_other_from_a_reload_and_is_reported(tmp_path):
    crashing, incomplete, fine = Part(), Part(), Part()
    crashing.on_reload = raising(ZeroDivisionError())
    incomplete.on_reload = raising(DependencyUnavailable("the broker does not answer"))

    report = await report_of([crashing, incomplete, fine], lambda: named("new"), tmp_path)

    assert names(fine) == ["new"]
    assert report.problems == (
        "Part failed with ZeroDivisionError; see the log",
        "the broker does not answer",
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConfigError("`port` is wrong"), "`port` is wrong"),
        (OSError("no such file"), "reading the configuration failed with OSError; see the log"),
    ],
)
async def test_a_configuration_that_cannot_be_read_is_reported(tmp_path, error, told):
    part = Part()

    def read() -> Config:
        raise error

    report = await report_of([part], read, tmp_path)

    assert (report.problems, part.taken) == ((told,), [])
