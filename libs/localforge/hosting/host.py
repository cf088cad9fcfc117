"""One process and the services in it."""

import asyncio
import gc
import importlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Protocol

import uvloop

from localforge.bus.bus import Bus, LocalHops
from localforge.config import BackendConfig, Config, resolve_secret
from localforge.embedded.readiness import notify_ready
from localforge.embedded.reports import report_to_starter
from localforge.errors import ConfigError, LocalforgeError
from localforge.lean import settle_memory
from localforge.telemetry import log, tracing
from localforge.telemetry.scrape import serve_metrics

if TYPE_CHECKING:
    from localforge.registry import RegistryView

_log = log.get("hosting")

GC_THRESHOLD = (20_000, 20, 50)
"""Requests leave few cycles behind; looking for them every 700 objects costs more than it finds."""
START_ORDER = ("executor", "evaluator", "sweeper", "router", "profiler", "edge")
"""Downstream first, so that nobody forwards to a hop that is not there yet."""


class Service(Protocol):
    """What `localforge.<name>.app.create` returns."""

    async def start(self) -> None:
        """Connect, subscribe, begin."""

    async def stop(self) -> None:
        """Finish what is in flight within a grace time, then disconnect."""

    async def reload(self, config: Config) -> None:
        """Take what can be taken from a changed configuration without a restart.

        Raises:
            LocalforgeError: Some of it could not be; says what. The rest is in force.
        """


class Host:
    """What the services of one process share.

    Attributes:
        config: As last read; what a reload does not take is in force as it was at the start.
        environment: Read once; secrets are resolved from it.
        backend: Which backend the executor of this process serves; None without an executor.
        local: Live subjects served in this process.
    """

    def __init__(
        self, config: Config, environment: Mapping[str, str], backend: BackendConfig | None = None
    ) -> None:
        self.config = config
        self.environment = environment
        self.backend = backend
        self.local: LocalHops = {}
        self._view: RegistryView | None = None

    def bus(self, user: str, service: str = "") -> Bus:
        """Return a new connection for one NATS user."""
        return Bus(self.config.nats, user, service=service, local=self.local)

    def secret(self, reference: str) -> str:
        """Resolve a secret reference."""
        return resolve_secret(reference, self.environment)

    async def registry(self) -> "RegistryView":
        """Return this process's registry view, started."""
        # The Redis client is 6 MiB, which a service without the registry does without.
        from localforge.registry import RegistryStore, RegistryView  # noqa: PLC0415

        if self._view is None:
            self._view = RegistryView(RegistryStore(self.config.redis, self.config.backends))
            await self._view.start()
        return self._view

    def reload(self, config: Config) -> None:
        """Take a changed configuration for what is shared, and for who looks here."""
        self.config = config
        if self._view:
            self._view.configure(config.backends)

    async def close(self) -> None:
        """Close what was shared."""
        if self._view:
            await self._view.close()


def run(
    names: Sequence[str],
    config: Config,
    environment: Mapping[str, str],
    *,
    backend: str = "",
    reread: Callable[[], Config],
) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads the configuration.

    Args:
        names: Services, in any order.
        config: The checked configuration.
        environment: Usually `os.environ`.
        backend: Backend of the executor, when there is one.
        reread: Reads the configuration again.

    Raises:
        ConfigError: An unknown service or backend, or a service that cannot be built.
    """
    unknown = sorted(set(names) - set(START_ORDER))
    if unknown:
        raise ConfigError(f"no service is called {unknown[0]!r}; known: {', '.join(START_ORDER)}")
    log.configure(config.telemetry, "+".join(names))
    tracing.configure("+".join(names), environment)
    host = Host(config, environment, _backend(config, backend) if "executor" in names else None)
    uvloop.run(_serve([n for n in START_ORDER if n in names], host, reread))


def _backend(config: Config, name: str) -> BackendConfig:
    try:
        return config.backend(name)
    except KeyError:
        known = ", ".join(sorted(config.names)) or "none"
        raise ConfigError(f"no backend is called {name!r}; configured: {known}") from None


async def _serve(names: Sequence[str], host: Host, reread: Callable[[], Config]) -> None:
    loop = asyncio.get_running_loop()
    stop, hangup = asyncio.Event(), asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    started: list[Service] = []
    telemetry = host.config.telemetry
    shared = AsyncExitStack()
    try:
        if telemetry.metrics_port and "edge" not in names:
            await shared.enter_async_context(
                serve_metrics(telemetry.metrics_host, telemetry.metrics_port)
            )
        for name in names:
            service: Service = importlib.import_module(f"localforge.{name}.app").create(host)
            await service.start()
            started.append(service)
            _log.info("service_ready", name=name, pid=os.getpid())
        settle_memory()
        gc.set_threshold(*GC_THRESHOLD)
        notify_ready()
        reloading = loop.create_task(_reload_when_told(hangup, started, reread, host))
        await stop.wait()
        reloading.cancel()
    finally:
        for service in reversed(started):
            await _stop(service)
        await host.close()
        await shared.aclose()
        tracing.shutdown()


async def _stop(service: Service) -> None:
    try:
        await service.stop()
    except Exception:  # noqa: BLE001  # the others have work to finish and facts to flush
        _log.exception("stop_failed", part=type(service).__name__)


async def _reload_when_told(
    hangup: asyncio.Event, services: Sequence[Service], reread: Callable[[], Config], host: Host
) -> None:
    """Reload one after the other, so that the configuration that was read last stays in force."""
    while True:
        await hangup.wait()
        hangup.clear()
        await _reload(services, reread, host)


async def _reload(services: Sequence[Service], reread: Callable[[], Config], host: Host) -> None:
    problems: list[str] = []
    try:
        config = reread()
    except ConfigError as exc:
        problems.append(exc.message)
        _log.error("reload_refused", reason=exc.message)
    except Exception as exc:  # noqa: BLE001  # whoever asked is told, and may ask again
        problems.append(_failed("reading the configuration", exc))
        _log.exception("reload_failed")
    else:
        host.reload(config)
        for service in services:
            part = type(service).__name__
            # What could not be taken over is left out; everything else is in force.
            try:
                await service.reload(config)
            except LocalforgeError as exc:
                problems.append(exc.message)
                _log.error("reload_incomplete", part=part, reason=exc.message)
            except Exception as exc:  # noqa: BLE001  # the others take it, and whoever asked is told
                problems.append(_failed(part, exc))
                _log.exception("reload_failed", part=part)
        _log.info("reloaded", problems=len(problems))
    report_to_starter(problems, host.environment)


def _failed(part: str, exc: Exception) -> str:
    return f"{part} failed with {type(exc).__name__}; see the log"
