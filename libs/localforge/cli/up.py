"""`localforge up`: the servers, the services and one executor per backend, supervised.

This process lives as long as all of them, so it holds no library that it needs only at the start:
the command line makes way for it (`localforge.cli.supervisor`), and Redis is spoken to by a process
of its own.
"""

import asyncio
import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec

from localforge.bus.permissions import executor_user, permissions
from localforge.cli.children import (
    READY_S,
    Children,
    command,
    keep_registry,
    plain_environment,
)
from localforge.cli.discover import find_backends
from localforge.cli.plain import BOLD_GREEN, DIM, say
from localforge.cli.registered import Wanted
from localforge.cli.reloading import children_reports, without_restart
from localforge.cli.terminal import watch_terminal
from localforge.config import (
    DEFAULT_FILE,
    BackendConfig,
    Config,
    RedisConfig,
    check_environment,
    check_secrets,
    load,
)
from localforge.embedded import (
    ChildFailed,
    ChildSpec,
    ChildStatus,
    DataDir,
    LogForwarder,
    ProcessId,
    Runtime,
    Supervisor,
    child_processes,
    start_nats,
    start_redis,
    supervise,
    update_nats_users,
)
from localforge.embedded.listener import listen
from localforge.embedded.redis_acl import acl_users
from localforge.embedded.reports import SUMMARY_FILE, write_report
from localforge.embedded.stand_in import StandIn
from localforge.embedded.state import EFFECTIVE_FILE, write_private
from localforge.errors import ConfigError, LocalforgeError
from localforge.lean import settle_memory

SETTLE_S = 0.6
"""Each service has its own copy of the registry, as old as its last poll."""
SERVERS_S = 3.0
"""How long a start waits for any model server to be up."""


def run_up(path: Path | None, overrides: Mapping[str, Any], *, update: bool = False) -> None:
    """Run until Ctrl-C.

    Args:
        path: The configuration file; None for ./localforge.toml, now or whenever it is there.
        overrides: From the command line.
        update: Change streams and consumers that differ from what this program wants.

    Raises:
        ConfigError: The configuration is wrong, the port is taken, or the data directory is.
        ChildFailed: A server or service did not start.
    """

    def read() -> Config:
        nonlocal path
        if path is None and Path(DEFAULT_FILE).exists():
            # From now on it has to be there: without it keys and policy would be gone.
            path = Path(DEFAULT_FILE)
        return _complete(load(path, os.environ, overrides))

    config = read()
    check_environment(config, os.environ)
    check_secrets(config, os.environ)
    data = DataDir(Path(config.up.data_dir))
    # The lock first: that another one runs on this data says more than that its port is taken.
    with data.lock(), listen(config.edge.host, config.edge.port) as listener:
        instance = Instance(config, data, listener, read, update=update)
        forwarder = LogForwarder(level=config.telemetry.log_level)
        supervisor = Supervisor(forwarder, on_change=instance.on_change)
        asyncio.run(_supervise(supervisor, instance))
    say("stopped")


async def _supervise(supervisor: Supervisor, instance: "Instance") -> None:
    await supervise(supervisor, instance.main)


class Instance:
    """One running `localforge up`.

    Args:
        config: Complete: with backends.
        data: Locked.
        listener: Where the edge is to listen; closed when `main` ends.
        read: Reads the configuration again, for a reload.
        update: Change streams and consumers that differ.
    """

    def __init__(
        self,
        config: Config,
        data: DataDir,
        listener: socket.socket,
        read: Callable[[], Config],
        *,
        update: bool,
    ) -> None:
        self._update = ("--update",) if update else ()
        self._warning = ""
        edge = msgspec.structs.replace(config.edge, port=listener.getsockname()[1])
        self._asked = config
        self._config = msgspec.structs.replace(config, edge=edge)
        self._data = data
        self._listener = listener
        self._read = read
        self._nats_url = config.nats.url
        self._redis_url = config.redis.url
        self._processes: Mapping[str, ChildStatus] = {}
        self._wake = asyncio.Event()
        self._reload_asked = False
        self._nats_restarts = 0
        self._children = Children(data, listener)
        self._stand_in = StandIn(listener)

    @property
    def base_url(self) -> str:
        """Where the edge listens."""
        edge = self._config.edge
        host = "127.0.0.1" if edge.host in ("0.0.0.0", "::") else edge.host  # noqa: S104
        return f"http://[{host}]:{edge.port}" if ":" in host else f"http://{host}:{edge.port}"

    def on_change(self, status: Mapping[str, ChildStatus]) -> None:
        """Keep what other commands read up to date."""
        self._processes = status
        edge = next((child for name, child in status.items() if "edge" in name.split("+")), None)
        if edge:
            self._stand_in.edge_serves(serves=edge.is_ready)
        nats = status.get("nats")
        if nats and nats.is_ready and nats.restarts != self._nats_restarts:
            self._wake.set()
        if self._nats_url and self._redis_url:
            self._write_runtime()

    async def main(self, supervisor: Supervisor) -> None:
        """Start everything, say so, then reload whenever asked to."""
        # Cancelled by a signal: nobody shall wait for an edge that does not come back.
        with self._listener, closing(self._stand_in):
            await self._run_all(supervisor)

    async def _run_all(self, supervisor: Supervisor) -> None:
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._ask_reload)
        # A closed terminal sends the same signal as `localforge reload`, or none at all where
        # somebody else leads its session.
        watch_terminal(lambda: os.kill(os.getpid(), signal.SIGTERM))
        await self._data.end_leftovers()
        await self._start_servers(supervisor)
        await self._prepare()
        specs = self._specs()
        _say(f"starting {', '.join(specs)}")
        await supervisor.start(*specs.values())
        await self._wait_ready()
        self._announce(time.monotonic() - started)
        settle_memory()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._attend(supervisor)
            except Exception as exc:  # noqa: BLE001  # what runs goes on running
                _say(f"failed: {_told(exc)}")

    def _ask_reload(self) -> None:
        self._reload_asked = True
        self._wake.set()

    async def _attend(self, supervisor: Supervisor) -> None:
        nats = supervisor.status.get("nats")
        if nats and nats.is_ready and nats.restarts != self._nats_restarts:
            self._nats_restarts = nats.restarts
            # Streams in memory have gone with the old process.
            await self._provision()
        if self._reload_asked:
            self._reload_asked = False
            problems = ["it was broken off"]
            try:
                problems = await self._apply(supervisor)
            except Exception as exc:
                problems = [_told(exc)]
                raise
            finally:
                write_report(self._data.path / SUMMARY_FILE, problems)
            _say("reloaded" if not problems else f"reloaded, except: {'; '.join(problems)}")

    async def _start_servers(self, supervisor: Supervisor) -> None:
        users = permissions(_backends(self._config))
        if not self._config.nats.url:
            self._nats_url = await start_nats(supervisor, self._data, users)
            _say(f"nats-server   {self._nats_url}")
        if not self._config.redis.url:
            self._redis_url = await start_redis(supervisor, self._data)
            _say(f"redis-server  redis://{self._redis_url.rpartition('@')[2]}")
        self._write_config()
        self._write_runtime()

    async def _prepare(self) -> None:
        """Make the servers ready for the services: streams, consumers, users, known backends.

        Raises:
            ConfigError: One of them does not answer, or is not as it should be.
        """
        ours: dict[str, Any] = {}
        if not self._config.redis.url:
            ours = {"users": self._redis_users(), "only": frozenset(self._config.names)}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._provision())
                group.create_task(self._keep_registry(**ours))
        except ExceptionGroup as exc:
            raise exc.exceptions[0] from None

    def _redis_users(self) -> dict[str, tuple[str, ...]]:
        backends = _backends(self._config)
        names = [executor_user(zone, backend) for zone, backend in backends]
        return acl_users(self._config.redis.prefix, backends, self._data.passwords(names))

    async def _keep_registry(self, **wanted: Any) -> None:
        given = msgspec.json.encode(Wanted(redis=self._redis, **wanted))
        await self._run(keep_registry(), plain_environment(), given)

    async def _provision(self) -> None:
        await self._run(
            command(
                "provision",
                *self._update,
                *("--seal-keys", str(self._data.keys)),
                *("--origin", str(self._data.path)),
                "--json",
            ),
            self._children.environment(self._config, self._redis_url, "admin"),
        )
        _say("streams and consumers are provisioned")

    async def _run(
        self, arguments: Sequence[str], environment: Mapping[str, str], given: bytes = b""
    ) -> None:
        """Run a short-lived child to its end.

        Raises:
            ConfigError: It failed; has its last word.
        """
        process = await asyncio.create_subprocess_exec(
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, errors = await process.communicate(given)
        finally:
            if process.returncode is None:  # stopped meanwhile: nobody is left behind
                process.kill()
                await process.wait()
        if process.returncode:
            told = errors.decode(errors="replace").strip()
            # After what it has logged; of what was not raised on purpose the traceback's end.
            _, is_told, reason = f"\n{told}".rpartition("\nerror: ")
            reason = reason if is_told else told[-300:]
            raise ConfigError(
                reason.replace("localforge provision --update", "localforge up --update")
            )

    def _specs(self) -> dict[str, ChildSpec]:
        return self._children.all(self._config, self._redis_url)

    @property
    def _redis(self) -> RedisConfig:
        return msgspec.structs.replace(self._config.redis, url=self._redis_url)

    @property
    def _config_file(self) -> Path:
        return self._data.path / EFFECTIVE_FILE

    def _write_config(self) -> None:
        """Write the configuration that the children read: complete, and with the servers."""
        replace = msgspec.structs.replace
        config = replace(
            self._config,
            nats=replace(self._config.nats, url=self._nats_url),
            # Each child gets the address with a password of its own.
            redis=replace(self._config.redis, url=self._config.redis.url or _open(self._redis_url)),
            seal=replace(
                self._config.seal,
                public_key_file=self._config.seal.public_key_file
                or str(self._data.keys / "seal-public.pem"),
            ),
        )
        write_private(self._config_file, msgspec.json.format(msgspec.json.encode(config)))

    def _write_runtime(self) -> None:
        credentials = self._config.nats.credentials
        if not self._config.nats.url:
            credentials = str(self._data.credentials)
        self._data.write_runtime(
            Runtime(
                process=ProcessId.of(os.getpid()),
                base_url=self.base_url,
                nats_url=self._nats_url,
                redis_url=self._redis_url,
                credentials=credentials,
                children=child_processes({n: s.pid for n, s in self._processes.items()}),
            )
        )

    async def _wait_ready(self) -> None:
        """Wait for the edge's word; executors have registered before they count as started.

        Model servers that are down are no reason not to begin.
        """
        begun = time.monotonic()
        answer: dict[str, Any] = {}
        while (waited_s := time.monotonic() - begun) < READY_S:
            answer = await asyncio.to_thread(_get_json, f"{self.base_url}/readyz")
            found = answer.get("dependencies", {})
            missing = {name for name, one in found.items() if one["status"] != "ok"}
            if found and (not missing or (missing == {"models"} and waited_s > SERVERS_S)):
                self._warning = "; ".join(found[name]["detail"] for name in missing)
                await asyncio.sleep(SETTLE_S)
                return
            await asyncio.sleep(0.1)
        raise ConfigError(f"not ready after {READY_S} s: {json.dumps(answer)}")

    def _announce(self, seconds: float) -> None:
        zones: dict[str, list[str]] = {}
        for backend in self._config.backends:
            names = [model.name for model in backend.models if model.enabled]
            found = [f"what {backend.name} serves"] if backend.discovers else []
            zones.setdefault(backend.zone, []).extend(names + found)
        say("\nready", BOLD_GREEN, f" in {seconds:.1f} s")
        if self._warning:
            say(f"  warning   {self._warning}")
        say(f"  base URL  {self.base_url}/v1")
        for zone, models in sorted(zones.items()):
            say(f"  models    {', '.join(models)}  (zone {zone})")
        key = " -H 'authorization: Bearer YOUR-KEY'" if self._config.keys else ""
        body = '{"model":"auto","messages":[{"role":"user","content":"Say hello"}]}'
        say(f"  try       curl {self.base_url}/v1/chat/completions{key} -d '{body}'")
        say("  stop      Ctrl-C\n")

    async def _apply(self, supervisor: Supervisor) -> list[str]:
        """Start new backends' executors, stop those that are gone, tell the others.

        Returns:
            What was not taken over, and why.

        Raises:
            LocalforgeError: Nothing was taken over.
        """
        try:
            new = self._read()
        except ConfigError as exc:
            raise ConfigError(f"reload refused, nothing changed: {exc.message}") from exc
        old = self._config
        self._config, problems = without_restart(old, self._asked, new)
        try:
            if not self._config.nats.url and _backends(old) != _backends(self._config):
                users = permissions(_backends(self._config))
                await update_nats_users(supervisor, self._data, users, self._nats_url)
            if not self._config.redis.url:
                await self._keep_registry(users=self._redis_users())
            self._write_config()
            await self._provision()
        except LocalforgeError:
            self._config = old
            raise
        before = {b.name: b for b in old.backends}
        gone = before.keys() - self._config.names
        for name in gone:
            await supervisor.remove(f"executor-{name}")
        if gone:
            await self._keep_registry(gone=frozenset(gone))
        for backend in self._config.backends:
            problems += await self._start_backend(supervisor, before.get(backend.name), backend)
        return problems + await self._tell_children(supervisor)

    async def _tell_children(self, supervisor: Supervisor) -> list[str]:
        """Have every service read the configuration, and return what they could not take."""
        asked_at = time.time()
        status = supervisor.status
        told = [spec for name, spec in self._specs().items() if status[name].is_ready]
        for spec in told:
            supervisor.signal(spec.name, signal.SIGHUP)
        return await children_reports(told, asked_at)

    async def _start_backend(
        self, supervisor: Supervisor, old: BackendConfig | None, new: BackendConfig
    ) -> list[str]:
        """Start a backend's executor, or start it again when its settings ask for that."""
        spec = self._children.executor(self._config, self._redis_url, new)
        try:
            if old is None:
                await supervisor.start(spec)
            elif _needs_restart(old, new):
                await supervisor.restart(spec.name, spec)
        except ChildFailed as exc:
            # As if it were not configured, so that the next reload tries again.
            others = tuple(b for b in self._config.backends if b.name != new.name)
            self._config = msgspec.structs.replace(self._config, backends=others)
            return [f"backend `{new.name}` is left out: {exc.message}"]
        return []


def _get_json(url: str) -> dict[str, Any]:
    """Return what one of our own URLs answers, an error's body too; nothing when it does not."""
    with suppress(OSError, ValueError):
        try:
            answer = urllib.request.urlopen(url, timeout=2)  # noqa: S310  # our own edge
        except urllib.error.HTTPError as exc:
            answer = exc
        with answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found
    return {}


def _open(url: str) -> str:
    """The address without what stands before the @."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _told(exc: Exception) -> str:
    return exc.message if isinstance(exc, LocalforgeError) else repr(exc)


def _complete(config: Config) -> Config:
    if config.backends or not config.up.discover:
        return config
    return msgspec.structs.replace(config, backends=find_backends(os.environ))


def _backends(config: Config) -> list[tuple[str, str]]:
    return [(backend.zone, backend.name) for backend in config.backends]


def _needs_restart(old: BackendConfig, new: BackendConfig) -> bool:
    """Cards are re-registered without a restart; everything else of a backend needs one."""
    return msgspec.structs.replace(old, models=()) != msgspec.structs.replace(new, models=())


def _say(text: str) -> None:
    say(text, DIM)
