"""What `localforge up` runs beside the servers: commands, and environments with nothing else in."""

import os
import socket
import sys

import msgspec

from localforge.bus.permissions import executor_user
from localforge.config import BackendConfig, Config
from localforge.embedded import ChildSpec, DataDir
from localforge.embedded.listener import LISTEN_FD
from localforge.embedded.redis_acl import executor_url
from localforge.embedded.reports import REPORT_FILE, report_path
from localforge.embedded.state import EFFECTIVE_FILE, write_private

SERVICES = ("edge", "profiler", "router", "sweeper", "evaluator")
READY_S = 120
REDIS_URL = "LOCALFORGE_REDIS_URL"
_PASSED_ON = (
    "PATH",
    "HOME",
    "TZ",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
)
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "0"}
"""A matrix of a few hundred rows gains nothing from threads and loses the other services' cores."""


class Children:
    """The specifications of the services and executors of one instance.

    Args:
        data: Its passwords, keys and files.
        listener: Where the edge is to listen.
    """

    def __init__(self, data: DataDir, listener: socket.socket) -> None:
        self._data = data
        self._listener = listener
        self._metrics_ports: dict[str, int] = {}

    def all(self, config: Config, redis_url: str) -> dict[str, ChildSpec]:
        """Return every service and executor by name, in start order."""
        together: list[str] = [name for name in SERVICES if name in config.up.together]
        groups = [together] if together else []
        groups += [[name] for name in SERVICES if name not in together]
        specs = {"+".join(group): self._service(config, redis_url, group) for group in groups}
        for backend in config.backends:
            spec = self.executor(config, redis_url, backend)
            specs[spec.name] = spec
        return specs

    def _service(self, config: Config, redis_url: str, group: list[str]) -> ChildSpec:
        environment = self.environment(config, redis_url, *group)
        if "profiler" in group:
            environment["LOCALFORGE_SEAL__PRIVATE_KEY_FILE"] = str(
                self._data.keys / "seal-private.pem"
            )
        descriptors: tuple[int, ...] = ()
        if "edge" in group:
            environment |= _secrets(*(key.secret for key in config.keys))
            descriptors = (self._listener.fileno(),)
            environment[LISTEN_FD] = str(self._listener.fileno())
        else:
            environment |= self._metrics_port(config, "+".join(group))
        return ChildSpec(
            name="+".join(group),
            args=serve(*group),
            environment=environment,
            descriptors=descriptors,
        )

    def executor(self, config: Config, redis_url: str, backend: BackendConfig) -> ChildSpec:
        """Return the executor of one backend."""
        # Provider keys live only with the executor that uses them.
        environment = self.environment(config, redis_url, executor_user(backend.zone, backend.name))
        environment |= _secrets(backend.api_key)
        if not config.redis.url:
            user = executor_user(backend.zone, backend.name)
            password = self._data.passwords([user])[user]
            environment[REDIS_URL] = executor_url(redis_url, user, password)
        environment |= self._metrics_port(config, f"executor-{backend.name}")
        return ChildSpec(
            name=f"executor-{backend.name}",
            args=serve("executor", "--backend", backend.name),
            environment=environment,
            ready_timeout_s=READY_S,
        )

    def _metrics_port(self, config: Config, child: str) -> dict[str, str]:
        """Each child that needs one gets the next port, and keeps it as long as this runs."""
        first = config.telemetry.metrics_port
        if not first:
            return {}
        port = self._metrics_ports.setdefault(child, first + len(self._metrics_ports))
        return {"LOCALFORGE_TELEMETRY__METRICS_PORT": str(port)}

    def environment(self, config: Config, redis_url: str, *users: str) -> dict[str, str]:
        """Return what one child gets: of ours its own passwords and the configuration only."""
        environment = plain_environment()
        environment["LOCALFORGE_CONFIG"] = str(self._data.path / EFFECTIVE_FILE)
        if not config.redis.url:
            environment[REDIS_URL] = redis_url
        environment[REPORT_FILE] = str(report_path(self._data.path, "+".join(users)))
        if self._data.credentials.exists() and not config.nats.url:
            passwords = self._data.passwords(users)
            path = self._data.path / "credentials" / f"{'+'.join(users)}.json"
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_private(path, msgspec.json.encode({user: passwords[user] for user in users}))
            environment["LOCALFORGE_NATS__CREDENTIALS"] = str(path)
        return environment


def plain_environment() -> dict[str, str]:
    """Return what a child gets that needs nothing of ours."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _ONE_THREAD


def command(*arguments: str) -> tuple[str, ...]:
    """Return what runs `localforge` with this interpreter."""
    return _run("main", *arguments)


def supervisor(*arguments: str) -> tuple[str, ...]:
    """Return what supervises everything else, without the command line's libraries."""
    return _run("supervisor", *arguments)


def keep_registry() -> tuple[str, ...]:
    """Return what takes a `registered.Wanted` on standard input."""
    return _run("registered")


def serve(*arguments: str) -> tuple[str, ...]:
    """Return what runs services in a process of their own."""
    return _run("service", "serve", *arguments)


def _run(module: str, *arguments: str) -> tuple[str, ...]:
    # Without -P a file in the working directory could take a library's place.
    return (sys.executable, "-P", "-m", f"localforge.cli.{module}", *arguments)


def _secrets(*references: str) -> dict[str, str]:
    names = [ref.removeprefix("env:") for ref in references if ref.startswith("env:")]
    return {name: os.environ[name] for name in names if name in os.environ}
