"""The embedded servers and their supervisor, with real processes."""

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import nats
import psutil
import pytest
from redis.asyncio import Redis

from localforge.bus.connection import options
from localforge.bus.permissions import ADMIN, permissions
from localforge.bus.provision import provision
from localforge.config import NatsConfig
from localforge.embedded import (
    Backoff,
    ChildFailed,
    ChildSpec,
    DataDir,
    LogForwarder,
    Supervisor,
    start_nats,
    start_redis,
)
from localforge.errors import ConfigError
from tests.support import unclaimed_ports, wait_until

INSTANCE = Path(__file__).with_name("embedded_instance.py")


@pytest.fixture(name="output")
def _output() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture(name="supervisor")
async def _supervisor(output: io.BytesIO) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(LogForwarder(output, console=False), backoff=Backoff(next_s=0.05))
    yield supervisor
    await supervisor.stop()


@pytest.fixture(name="new_children")
def _new_children() -> Callable[[], set[int]]:
    """Pids of what this test started: the same worker may hold other tests' servers."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    return lambda: {c.pid for c in psutil.Process().children(recursive=True)} - before


@pytest.fixture(name="data")
def _data(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path / "data")


@pytest.fixture(name="taken_port")
def _taken_port() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


def _python(name: str, code: str, **settings: Any) -> ChildSpec:
    return ChildSpec(
        name=name,
        args=(sys.executable, "-c", f"from localforge.embedded import notify_ready\n{code}"),
        environment={},
        **settings,
    )


SERVES = "import time; notify_ready(); time.sleep(1000)"


async def test_nats_keeps_its_streams_and_its_port_when_it_is_killed(
    supervisor: Supervisor, data: DataDir
):
    url = await start_nats(supervisor, data, permissions([]))
    config = NatsConfig(url=url, credentials=str(data.credentials))

    async def quiet(_: Exception) -> None:
        return

    client = await nats.connect(url, error_cb=quiet, **options(config, ADMIN))
    await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
    await client.jetstream().publish("kept", b"message")
    before = supervisor.status["nats"]

    os.kill(before.pid, signal.SIGKILL)
    await wait_until(
        lambda: supervisor.status["nats"].restarts == 1 and supervisor.status["nats"].is_ready,
        description="nats serves again",
    )
    await wait_until(lambda: client.stats["reconnects"], description="the client is back")
    message = await client.jetstream().get_last_msg("KEPT", "kept")
    await client.close()

    assert message.data == b"message"
    assert supervisor.status["nats"].pid != before.pid


async def test_streams_of_a_version_without_accounts_are_taken_over(
    supervisor: Supervisor, data: DataDir
):
    """There all users, and the streams, were in the account `$G`."""
    url = await start_nats(supervisor, data, permissions([]))
    config = NatsConfig(url=url, credentials=str(data.credentials))
    client = await nats.connect(url, **options(config, ADMIN))
    await provision(client, [])
    await client.jetstream().publish("lf.decision.d1", b"decision")
    await client.close()
    await supervisor.stop()
    folder = data.nats / "jetstream" / "jetstream"
    (folder / "SITE").rename(folder / "$G")

    second = Supervisor(LogForwarder(io.BytesIO(), console=False))
    try:
        url = await start_nats(second, data, permissions([("cloud", "openai")]))
        config = NatsConfig(url=url, credentials=str(data.credentials))
        client = await nats.connect(url, **options(config, ADMIN))
        kept = await client.jetstream().get_msg("LF_FEEDBACK", 1)
        changes = {change.action for change in await provision(client, [])}
        await client.close()
    finally:
        await second.stop()

    assert kept.data == b"decision"
    # The streams in memory were gone anyway.
    assert changes == {"created", "unchanged"}
    assert not (folder / "$G").exists()


async def test_redis_keeps_every_write_when_it_is_killed(supervisor: Supervisor, data: DataDir):
    redis = Redis.from_url(await start_redis(supervisor, data))
    await redis.set("key", "value")
    await redis.aclose()

    os.kill(supervisor.status["redis"].pid, signal.SIGKILL)
    await wait_until(
        lambda: supervisor.status["redis"].restarts == 1 and supervisor.status["redis"].is_ready,
        description="redis serves again",
    )
    value = await redis.get("key")
    await redis.aclose()

    assert value == b"value"


async def test_redis_asks_for_its_password(supervisor: Supervisor, data: DataDir):
    url = await start_redis(supervisor, data)
    port = int(url.rpartition(":")[2].removesuffix("/0"))

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PING\r\n")
    answer = await reader.readline()
    writer.close()

    assert answer.startswith(b"-NOAUTH")


@pytest.mark.parametrize("server", ["nats", "redis"])
async def test_a_port_taken_by_somebody_else_is_left_for_another(
    supervisor: Supervisor, data: DataDir, taken_port: int, server: str
):
    free = unclaimed_ports()[0]
    ports = iter([taken_port, free])

    if server == "nats":
        url = await start_nats(supervisor, data, permissions([]), choose_port=lambda: next(ports))
    else:
        url = await start_redis(supervisor, data, choose_port=lambda: next(ports))

    assert f":{free}" in url


async def test_a_server_that_cannot_start_fails_with_its_own_words(
    supervisor: Supervisor, data: DataDir
):
    (data.nats / "jetstream").write_text("a file where the directory should be")

    with pytest.raises(
        ChildFailed, match=r"(?s)`nats` did not start: exit status 1.*storage directory"
    ):
        await start_nats(supervisor, data, permissions([]))

    assert supervisor.status == {}


async def test_servers_get_nothing_of_the_environment_that_is_not_theirs(
    supervisor: Supervisor, data: DataDir, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")

    await start_nats(supervisor, data, permissions([]))

    environment = psutil.Process(supervisor.status["nats"].pid).environ()
    assert "PATH" in environment
    assert "OPENAI_API_KEY" not in environment


async def test_secrets_are_readable_by_their_owner_only(supervisor: Supervisor, data: DataDir):
    await start_nats(supervisor, data, permissions([]))
    await start_redis(supervisor, data)
    holding = (
        data.credentials,
        data.path / "redis-password",
        data.nats / "nats-server.conf",
        data.redis / "redis.conf",
    )

    assert [oct(path.stat().st_mode & 0o777) for path in holding] == ["0o600"] * len(holding)


async def test_what_the_servers_write_themselves_is_their_owners_alone(
    supervisor: Supervisor, data: DataDir
):
    url = await start_nats(supervisor, data, permissions([]))
    config = NatsConfig(url=url, credentials=str(data.credentials))
    client = await nats.connect(url, **options(config, ADMIN))
    await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
    await client.jetstream().publish("kept", b"message")
    await client.close()
    redis = Redis.from_url(await start_redis(supervisor, data))
    await redis.set("kept", "value")
    await redis.acl_save()
    await redis.aclose()

    written = [path for path in data.path.rglob("*") if path.is_file()]
    assert {path.name for path in written} >= {"users.acl", "1.blk"}
    assert any(path.name.startswith("appendonly.aof") for path in written)
    assert [path for path in written if path.stat().st_mode & 0o077] == []


async def test_a_child_that_ends_is_started_again_after_growing_pauses(
    supervisor: Supervisor, output: io.BytesIO
):
    await supervisor.start(_python("brief", "notify_ready()"))

    await wait_until(lambda: supervisor.status["brief"].restarts >= 3, description="3 restarts")

    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    pauses = [line["restart_in_s"] for line in lines if line["event"] == "child_ended"]
    assert pauses[:3] == [0, 0.05, 0.1]


async def test_a_child_that_does_not_get_ready_in_time_is_killed(
    supervisor: Supervisor, new_children: Callable[[], set[int]]
):
    # No Python: it may take as long as that to say anything.
    args = ("/bin/sh", "-c", "echo thinking; exec sleep 99")
    spec = ChildSpec(name="late", args=args, environment={}, ready_timeout_s=2)

    with pytest.raises(ChildFailed, match=r"`late` did not start: not ready after 2 s.*\nthinking"):
        await supervisor.start(spec)

    assert new_children() == set()


# asyncio may drop a program whose start is cancelled before it has seen its end; the test looks for
# what is left of it by itself.
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
async def test_when_one_of_a_stage_fails_the_others_are_stopped(
    supervisor: Supervisor, new_children: Callable[[], set[int]]
):
    with pytest.raises(ChildFailed, match="`bad` did not start: exit status 3"):
        await supervisor.start(_python("good", SERVES), _python("bad", "import sys; sys.exit(3)"))

    assert supervisor.status == {}
    assert new_children() == set()


async def test_a_missing_program_is_named(supervisor: Supervisor):
    spec = ChildSpec(name="none", args=("/no/such/program",), environment={})

    with pytest.raises(ChildFailed, match="No such file or directory: /no/such/program"):
        await supervisor.start(spec)


async def test_stages_stop_in_reverse_order(supervisor: Supervisor, output: io.BytesIO):
    says = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('{0} stops', flush=True)))\n"
        "notify_ready(); signal.pause()"
    )
    for name in ("first", "second", "third"):
        await supervisor.start(_python(name, says.format(name)))

    await supervisor.stop()

    events = [json.loads(line)["event"] for line in output.getvalue().splitlines()]
    assert events == ["third stops", "second stops", "first stops"]


async def test_children_come_and_go_at_run_time(
    supervisor: Supervisor, new_children: Callable[[], set[int]]
):
    await supervisor.start(_python("a", SERVES), _python("b", SERVES))
    first = supervisor.status["a"].pid

    await supervisor.restart("a", _python("a", SERVES))
    await supervisor.remove("b")
    await supervisor.start(_python("c", SERVES))

    assert list(supervisor.status) == ["a", "c"]
    assert supervisor.status["a"].pid != first
    assert {supervisor.status[n].pid for n in "ac"} == new_children()
    with pytest.raises(ConfigError, match="two children are named 'c'"):
        await supervisor.start(_python("c", SERVES))


async def test_what_a_child_started_itself_ends_with_it(supervisor: Supervisor):
    starts = "import subprocess, time; subprocess.Popen(['sleep', '999']); "
    await supervisor.start(_python("parent", starts + SERVES))
    child = psutil.Process(supervisor.status["parent"].pid)
    (grandchild,) = await wait_until(child.children, description="the grandchild")

    os.kill(child.pid, signal.SIGKILL)
    await wait_until(
        lambda: supervisor.status["parent"].restarts == 1, description="the parent is restarted"
    )

    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


class Instance:
    """A supervising process of its own."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(INSTANCE), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        self.told: dict[str, Any] = json.loads(line) if line else {}

    def end(self) -> str:
        """Wait until it has ended and return its errors."""
        return self.process.communicate(timeout=20)[1]

    @property
    def left(self) -> list[str]:
        """Names of its children that still run."""
        return [name for name, pid in self.told["pids"].items() if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(name="instance")
def _instance(tmp_path: Path) -> Iterator[Instance]:
    instance = Instance(tmp_path / "data")
    yield instance
    instance.process.kill()
    instance.end()


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_every_child_even_one_that_ignores_it(
    instance: Instance, sig: signal.Signals
):
    instance.process.send_signal(sig)
    errors = instance.end()

    assert (instance.process.returncode, instance.left) == (0, []), errors


async def test_no_child_survives_a_killed_supervisor(instance: Instance):
    assert sorted(instance.left) == ["nats", "redis", "stubborn"]

    instance.process.kill()
    await wait_until(lambda: not instance.left, description="every child is gone")


def test_a_second_instance_on_the_same_data_is_refused_with_the_pid_of_the_first(
    instance: Instance, tmp_path: Path
):
    second = Instance(tmp_path / "data")
    errors = second.end()

    assert second.process.returncode == 1
    assert f"in use by another `localforge up` (pid {instance.process.pid})" in errors
    assert sorted(instance.left) == ["nats", "redis", "stubborn"]


async def test_the_data_of_a_killed_instance_is_taken_over(instance: Instance, tmp_path: Path):
    data = DataDir(tmp_path / "data")
    runtime = data.running()
    assert runtime is not None
    assert set(runtime.children) == {"nats", "redis", "stubborn"}
    redis = Redis.from_url(instance.told["redis"])
    await redis.set("key", "value")
    await redis.aclose()

    instance.process.kill()
    instance.end()
    assert data.running() is None
    successor = Instance(tmp_path / "data")
    try:
        redis = Redis.from_url(successor.told["redis"])
        value = await redis.get("key")
        await redis.aclose()
    finally:
        successor.process.terminate()
        successor.end()

    assert value == b"value"
    assert successor.left == []


async def test_children_left_by_a_killed_instance_are_ended_at_the_next_start(tmp_path: Path):
    """As on systems whose kernel does not end them."""
    instance = Instance(tmp_path / "data")
    os.kill(instance.process.pid, signal.SIGSTOP)
    try:
        await DataDir(tmp_path / "data").end_leftovers()

        assert instance.left == []
    finally:
        instance.process.kill()
        instance.end()


async def test_two_histories_in_one_data_directory_are_refused(tmp_path: Path):
    """An older version that ran after the streams were taken over has begun anew."""
    data = DataDir(tmp_path)
    for account in ("$G", "SITE"):
        (data.nats / "jetstream" / "jetstream" / account).mkdir(parents=True)

    with pytest.raises(ConfigError, match="an older version has run on this data directory"):
        await start_nats(Supervisor(LogForwarder()), data, {})
