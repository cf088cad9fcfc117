"""The data directory of `localforge up`: what is where, who holds it, and what runs.

<data dir>/           0700
  lock                held while an instance runs; the kernel lets go of it when that dies
  runtime.json        0600  pids, ports and URLs of the running instance
  credentials.json    0600  NATS user -> password, made once
  redis-password      0600
  feedback-made-at    0600  when the feedback stream was made first
  nats/               nats-server.conf (0600) and JetStream's files
  redis/              redis.conf (0600) and the append-only file
  keys/               the seal's key pair
"""

import asyncio
import fcntl
import os
import secrets
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from localforge.embedded.process import ProcessId
from localforge.errors import ConfigError

EFFECTIVE_FILE = "config.json"
"""The complete configuration of a running `localforge up`, written for its children."""
_DIE_S = 5.0


_RUNTIME = "runtime.json"


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """A running instance, for the commands that talk to it."""

    process: ProcessId
    base_url: str
    """Of the edge, without `/v1`."""
    nats_url: str
    redis_url: str
    """With the password."""
    credentials: str
    """Path of the NATS credentials file."""
    children: dict[str, ProcessId] = {}


class DataDir:
    """One data directory; made if it is not there.

    Args:
        path: `up.data_dir`.

    Raises:
        ConfigError: It cannot be made or used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.nats = self.path / "nats"
        self.redis = self.path / "redis"
        self.keys = self.path / "keys"
        self.credentials = self.path / "credentials.json"
        self._runtime = self.path / _RUNTIME
        self._redis_password = self.path / "redis-password"
        self._lock = self.path / "lock"
        try:
            for folder in (self.path, self.nats, self.redis, self.keys):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(f"`up.data_dir` {self.path}: {exc.strerror}") from exc

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory.

        A lock of an instance that was killed is taken over: the kernel let go of it.

        Raises:
            ConfigError: Another instance holds it; names its pid.
        """
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
                raise ConfigError(
                    f"{self.path} is in use by another `localforge up` (pid {holder or '?'}); "
                    "stop it, or set `up.data_dir` to another directory"
                ) from None
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            try:
                yield
            finally:
                self._runtime.unlink(missing_ok=True)
                os.truncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def passwords(self, users: Iterable[str]) -> dict[str, str]:
        """Return the password of every known NATS user, made up for those that are new.

        Raises:
            ConfigError: The credentials file is damaged.
        """
        known: dict[str, str] = {}
        if self.credentials.exists():
            try:
                known = msgspec.json.decode(self.credentials.read_bytes(), type=dict[str, str])
            except msgspec.DecodeError as exc:
                raise ConfigError(
                    f"{self.credentials} is damaged ({exc}); remove it and new passwords are made"
                ) from exc
        missing = [user for user in users if user not in known]
        if missing:
            known |= {user: new_password() for user in missing}
            write_private(self.credentials, msgspec.json.format(msgspec.json.encode(known)))
        return known

    def redis_password(self) -> str:
        """Return the password of this directory's Redis, made up at the first call."""
        if not self._redis_password.exists():
            write_private(self._redis_password, new_password().encode())
        return self._redis_password.read_text().strip()

    def write_runtime(self, runtime: Runtime) -> None:
        """Say what runs. Only while holding the lock."""
        write_private(self._runtime, msgspec.json.format(msgspec.json.encode(runtime)))

    def running(self) -> Runtime | None:
        """Return the instance that runs now; None when there is none."""
        return running_in(self.path)

    async def end_leftovers(self) -> list[str]:
        """End what an instance that was killed has left running; call while holding the lock.

        Two servers on the same files would damage them. On Linux there is nothing to end: the
        kernel did it.

        Returns:
            The names of the children that were ended.

        Raises:
            ConfigError: One does not die; names its pid.
        """
        runtime = _read_runtime(self.path)
        children = runtime.children if runtime else {}
        left = {name: process for name, process in children.items() if process.running}
        for process in left.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        end = time.monotonic() + _DIE_S
        for name, process in left.items():
            while process.running:
                if time.monotonic() > end:
                    raise ConfigError(
                        f"`{name}` of an earlier `localforge up` (pid {process.pid}) does not die; "
                        f"end it before {self.path} is used again"
                    )
                await asyncio.sleep(0.02)
        return sorted(left)


def running_in(folder: Path) -> Runtime | None:
    """Return the instance that runs now with a data directory, which may be somebody else's.

    Args:
        folder: `up.data_dir`; nothing is made in it.

    Returns:
        None when there is none, or none that may be known of.
    """
    runtime = _read_runtime(folder)
    return runtime if runtime and runtime.process.running else None


def _read_runtime(folder: Path) -> Runtime | None:
    try:
        return msgspec.json.decode((folder / _RUNTIME).read_bytes(), type=Runtime)
    except (OSError, msgspec.DecodeError):
        # Written whole or not at all: what cannot be decoded is from another version.
        return None


def child_processes(pids: Mapping[str, int]) -> dict[str, ProcessId]:
    """Return the identities of running children, for `Runtime.children`."""
    return {name: ProcessId.of(pid) for name, pid in pids.items() if pid}


def new_password() -> str:
    """Return 192 random bits as letters, digits, `-` and `_`.

    It starts with a letter: nats-server reads a variable that starts with a digit as a number.
    """
    return "lf" + secrets.token_urlsafe(24)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file at once, readable by its owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
