"""Start nats-server and redis-server as supervised children on free loopback ports.

A port is free when it is looked for and may be taken when the server binds it; a server that
fails for that reason is started again on another one. Once it serves it keeps its port over
restarts, so that clients reconnect.
"""

import asyncio
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from localforge.bus.permissions import CONSUMER_INFO_PREFIX, SITE, Permissions, inbox_of
from localforge.embedded import binaries
from localforge.embedded.child import ChildFailed, ChildSpec
from localforge.embedded.logs import parse_nats_line, parse_redis_line
from localforge.embedded.nats_conf import nats_conf
from localforge.embedded.readiness import nats_answers, nats_serves, redis_answers
from localforge.embedded.redis_acl import acl_file
from localforge.embedded.redis_conf import ACL_FILE, redis_conf
from localforge.embedded.state import DataDir, write_private
from localforge.embedded.supervisor import Supervisor
from localforge.errors import ConfigError
from localforge.lean.cores import available_cores

HOST = "127.0.0.1"
NATS = "nats"
REDIS = "redis"
_ATTEMPTS = 10
_RELOAD_S = 10.0
_LOOK_AGAIN_S = 0.05
_PORTS = range(20000, 30000)
"""Below the range from which Linux takes ports for outgoing connections (32768 and up): such a
connection could take a server's port while it restarts."""
_HEAP_GROWTH = "40"
"""Per cent by which Go's heap may grow before it is collected; 100 is the default. Most of it are
blocks of messages without a pointer in them, which cost the collector little. A limit in bytes
would be too low one day, since the index of the feedback stream grows with it, and from then on
the collector would run all the time."""
_PASSED_ON = ("PATH", "HOME", "TZ", "LANG", "LC_ALL", "TMPDIR")


def free_port() -> int:
    """Return a loopback port that nobody listens on now.

    Raises:
        ConfigError: There is none to be found.
    """
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ConfigError(f"no free port on {HOST} from {_PORTS.start} to {_PORTS.stop}")


async def start_nats(
    supervisor: Supervisor,
    data: DataDir,
    users: Mapping[str, Permissions],
    *,
    choose_port: Callable[[], int] = free_port,
) -> str:
    """Start nats-server with JetStream and return its URL, without credentials.

    Args:
        supervisor: Gets a child named `nats`.
        data: Locked by the caller. Passwords are in `data.credentials` afterwards.
        users: From `localforge.bus.permissions`.
        choose_port: Tried again when somebody else takes the port first.

    Raises:
        ChildFailed: It did not start for another reason than its port; has its last lines.
        ConfigError: There is no such program.
    """
    program = binaries.nats_server()
    conf = data.nats / "nats-server.conf"
    _adopt_streams(_store_dir(data))

    def spec(port: int) -> ChildSpec:
        # The name proves that the server that answers on the port is this one.
        name = f"localforge-{secrets.token_hex(4)}"
        _write_nats_conf(data, users, port, name)
        return ChildSpec(
            name=NATS,
            args=(str(program), "-c", str(conf)),
            environment=_environment() | _go_runtime(),
            ready=nats_answers(HOST, port, name),
            parse_line=parse_nats_line,
        )

    port = await _start(supervisor, spec, choose_port)
    return f"nats://{HOST}:{port}"


async def update_nats_users(
    supervisor: Supervisor, data: DataDir, users: Mapping[str, Permissions], url: str
) -> None:
    """Give the running nats-server new users or permissions; they are in force on return.

    Connections of users that did not change stay up; the others reconnect.

    Args:
        supervisor: Runs the server.
        data: The one it was started with; gets the new users' passwords.
        users: All of them.
        url: What `start_nats` returned.

    Raises:
        ConfigError: The server does not take them.
    """
    text = (data.nats / "nats-server.conf").read_text()
    name = text.partition('server_name: "')[2].partition('"')[0]
    port = int(url.rpartition(":")[2])
    _write_nats_conf(data, users, port, name)
    supervisor.signal(NATS, signal.SIGHUP)
    passwords = data.passwords(users)
    end = time.monotonic() + _RELOAD_S
    for user, subject in _asking_jetstream(users):
        inbox = inbox_of(user).replace(">", "reload")
        while not (
            served := await nats_serves(
                HOST, port, user, passwords[user], subject=subject, inbox=inbox
            )
        ):
            if time.monotonic() > end:
                raise ConfigError(f"nats-server does not take the user `{user}`; see its log")
            if served is False:
                # nats-server 2.15 lets an account that a reload has added into no other one before
                # the next reload.
                supervisor.signal(NATS, signal.SIGHUP)
            await asyncio.sleep(_LOOK_AGAIN_S)


async def start_redis(
    supervisor: Supervisor, data: DataDir, *, choose_port: Callable[[], int] = free_port
) -> str:
    """Start redis-server and return its URL, password included.

    Args:
        supervisor: Gets a child named `redis`.
        data: Locked by the caller.
        choose_port: Tried again when somebody else takes the port first.

    Raises:
        ChildFailed: It did not start for another reason than its port; has its last lines.
        ConfigError: There is no such program.
    """
    program = binaries.redis_server()
    password = data.redis_password()
    conf = data.redis / "redis.conf"
    # Whoever started it adds the executors' users, which the server then keeps in this file.
    write_private(data.redis / ACL_FILE, acl_file(password, {}).encode())

    def spec(port: int) -> ChildSpec:
        write_private(conf, redis_conf(HOST, port, data.redis).encode())
        return ChildSpec(
            name=REDIS,
            args=(str(program), str(conf)),
            environment=_environment(),
            ready=redis_answers(HOST, port, password),
            parse_line=parse_redis_line,
        )

    port = await _start(supervisor, spec, choose_port)
    return f"redis://:{password}@{HOST}:{port}/0"


def _write_nats_conf(
    data: DataDir, users: Mapping[str, Permissions], port: int, server_name: str
) -> None:
    text = nats_conf(
        users,
        data.passwords(users),
        listen=f"{HOST}:{port}",
        store_dir=str(_store_dir(data)),
        server_name=server_name,
    )
    write_private(data.nats / "nats-server.conf", text.encode())


def _asking_jetstream(users: Mapping[str, Permissions]) -> list[tuple[str, str]]:
    """Users with a subject that JetStream answers, whatever it has; every executor is one."""
    return [
        (user, subject)
        for user, lists in users.items()
        for subject in lists.publish
        if subject.startswith(CONSUMER_INFO_PREFIX) and "*" not in subject
    ]


def _store_dir(data: DataDir) -> Path:
    return data.nats / "jetstream"


def _adopt_streams(store_dir: Path) -> None:
    """Give the site's account what a version without accounts has stored.

    nats-server has a folder for each account; whoever was in none was in `$G`.

    Raises:
        ConfigError: Both are there: an older version has run on this data since.
    """
    old, new = (store_dir / "jetstream" / account for account in ("$G", SITE))
    if not old.is_dir():
        return
    if new.exists():
        raise ConfigError(
            f"{old}: an older version has run on this data directory and kept a history of its "
            f"own there, which is not part of the one in {new.name}; move that folder away"
        )
    old.rename(new)


async def _start(
    supervisor: Supervisor, spec: Callable[[int], ChildSpec], choose_port: Callable[[], int]
) -> int:
    for attempt in range(1, _ATTEMPTS + 1):
        port = choose_port()
        try:
            await supervisor.start(spec(port))
        except ChildFailed as exc:
            if attempt == _ATTEMPTS or "address already in use" not in exc.tail.lower():
                raise
        else:
            return port
    raise AssertionError("the last attempt returns or raises")


def _go_runtime() -> dict[str, str]:
    """Settings of Go's runtime: the collector, and no more threads than half of the cores.

    With more, they look for work on the cores that the services need.
    """
    return {"GOGC": _HEAP_GROWTH, "GOMAXPROCS": str(max(1, available_cores() // 2))}


def _environment() -> dict[str, str]:
    """What a server needs of the environment: no provider key, no setting of ours."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
