"""`localforge up`, or each service by itself, with a broker and a store that are there already."""

import asyncio
import contextlib
import io
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

from localforge.contracts import subjects
from localforge.embedded import ChildSpec, DataDir, LogForwarder, Supervisor, start_redis
from localforge.embedded.binaries import nats_server
from localforge.embedded.readiness import nats_answers
from localforge.telemetry import tracing
from tests.e2e.stack import EDGE, STOP_S, Provider, Stack
from tests.fakes.collector import FakeCollector
from tests.support import unclaimed_ports, wait_until

CONFIG = """\
[[backends]]
name = "fake"
kind = "openai"
url = "{local}"
[[backends.models]]
name = "fake-a"
"""


TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SERVED = (
    ("executor", "--backend", "fake"),
    ("edge", "profiler", "router", "sweeper"),
    ("evaluator",),
)
"""Arguments of `localforge serve`, one process each."""


class Served(Stack):
    """The services in processes that nobody supervises, as a container or systemd has them."""

    _url = ""

    @property
    def url(self) -> str:
        """Of the edge, without `/v1`."""
        return self._url

    @contextlib.contextmanager
    def running(self) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Run `localforge serve` for every process, and kill what is left at the end."""
        port = str(unclaimed_ports()[0])
        self._url = f"http://127.0.0.1:{port}"
        environment = {"LOCALFORGE_CONFIG": str(self.config), "LOCALFORGE_EDGE__PORT": port}
        with self.log.open("ab") as out:
            processes = [
                subprocess.Popen(
                    self._command("serve", *arguments),
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=self.environment | environment,
                )
                for arguments in SERVED
            ]
        try:
            yield processes
        finally:
            for process in processes:
                process.kill()
                process.wait()

    def is_ready(self) -> bool:
        """Whether everything answers that a request needs."""
        with contextlib.suppress(OSError):
            return self.readiness()["status"] == "ok"
        return False


@pytest.fixture(name="collecting")
def _collecting() -> Iterator[FakeCollector]:
    with FakeCollector().serving() as collector:
        yield collector


@pytest.fixture(name="supervisor")
async def _supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(LogForwarder(io.BytesIO(), console=False))
    yield supervisor
    await supervisor.stop()


@pytest.fixture(name="servers")
async def _servers(tmp_path: Path, supervisor: Supervisor) -> AsyncIterator[dict[str, str]]:
    """A nats-server without users, as a developer would start one, and a redis-server."""
    port = unclaimed_ports()[0]
    broker = ChildSpec(
        name="own-nats",
        args=(
            *(str(nats_server()), "-js", "-a", "127.0.0.1", "-p", str(port)),
            *("-n", "mine", "-sd", str(tmp_path / "jetstream")),
        ),
        environment={},
        ready=nats_answers("127.0.0.1", port, "mine"),
    )
    await supervisor.start(broker)
    redis_url = await start_redis(supervisor, DataDir(tmp_path / "redis"))
    yield {
        "LOCALFORGE_NATS_URL": f"nats://127.0.0.1:{port}",
        "LOCALFORGE_REDIS_URL": redis_url,
    }
    assert {status.restarts for status in supervisor.status.values()} == {0}


async def test_it_uses_yours_and_starts_none(
    tmp_path: Path, servers: dict[str, str], local: Provider
):
    stack = Stack(tmp_path, CONFIG.format(local=local.url), servers)
    try:
        stack.start()
        children = set(stack.runtime["children"])
        answer = stack.chat(_ask("own servers"))
        replay = stack.cli("audit", "replay", "--json")
        stack.stop()
    finally:
        stack.crash()

    assert children == {EDGE, "evaluator", "executor-fake"}
    assert (answer.status, answer.json["model"]) == (200, "fake-a")
    assert replay.returncode == 0, replay.stderr


async def test_each_service_by_itself_serves_without_its_log_and_ends_without_a_broker(
    tmp_path: Path,
    servers: dict[str, str],
    supervisor: Supervisor,
    local: Provider,
    collecting: FakeCollector,
):
    keys = tmp_path / "keys"
    seal = {
        "LOCALFORGE_SEAL__PRIVATE_KEY_FILE": str(keys / "seal-private.pem"),
        "LOCALFORGE_SEAL__PUBLIC_KEY_FILE": str(keys / "seal-public.pem"),
    }
    collector = {tracing.ENDPOINT: collecting.url}
    stack = Served(tmp_path, CONFIG.format(local=local.url), servers | seal | collector)

    made = await asyncio.to_thread(stack.cli, "provision", "--seal-keys", str(keys), "--json")
    with stack.running() as processes:
        await wait_until(
            lambda: asyncio.to_thread(stack.is_ready), timeout=30, description="all services"
        )
        first = await asyncio.to_thread(
            stack.http,
            "POST",
            "/v1/chat/completions",
            _ask("by itself"),
            {"traceparent": f"00-{TRACE}-{PARENT}-01"},
        )
        client = await nats.connect(servers["LOCALFORGE_NATS_URL"])
        await client.jetstream().delete_stream(subjects.FEEDBACK.name)
        second = await asyncio.to_thread(stack.chat, _ask("without its log"))
        # What a request leaves behind waits for its stream, at the end too.
        again = await asyncio.to_thread(stack.cli, "provision", "--json")
        await wait_until(lambda: asyncio.to_thread(stack.is_ready), description="the facts")

        async def evaluated() -> bool:
            durable = subjects.EVALUATOR_DURABLE
            info = await client.jetstream().consumer_info(durable.stream, durable.name)
            return bool(info.delivered and info.delivered.consumer_seq)

        await wait_until(evaluated, description="the evaluator has the first answer")
        await client.close()
        await supervisor.remove("own-nats")
        await wait_until(
            lambda: len(stack.events("nats_disconnected")) >= len(processes),
            description="everybody sees that the broker is away",
        )
        for process in processes:
            process.send_signal(signal.SIGTERM)
        codes = [await asyncio.to_thread(process.wait, STOP_S) for process in processes]

    assert (made.returncode, again.returncode) == (0, 0), made.stderr + again.stderr
    assert {change["action"] for change in json.loads(made.stdout)} == {"created"}
    created = [c["name"] for c in json.loads(again.stdout) if c["action"] == "created"]
    assert created == [subjects.FEEDBACK.name]
    assert [(r.status, r.json["model"]) for r in (first, second)] == [(200, "fake-a")] * 2
    assert codes == [0] * len(processes), stack.tail()
    spans = {s.name: s for s in collecting.spans if s.trace_id.hex() == TRACE}
    request = spans["chat"]
    assert request.parent_span_id.hex() == PARENT
    assert {name for name, span in spans.items() if span.parent_span_id == request.span_id} == {
        "profile",
        "decide",
        "chat fake-a",
        "evaluate",
    }


def _ask(text: str) -> dict[str, Any]:
    return {"model": "auto", "max_tokens": 16, "messages": [{"role": "user", "content": text}]}


def test_a_broker_that_is_not_there_is_named(tmp_path: Path, local: Provider):
    stack = Stack(
        tmp_path,
        CONFIG.format(local=local.url),
        {
            "LOCALFORGE_NATS_URL": "nats://me:secret@127.0.0.1:9",
            "LOCALFORGE_NATS__CONNECT_TIMEOUT_S": "1",
            "LOCALFORGE_REDIS_URL": "redis://127.0.0.1:9/0",
        },
    )

    done = stack.cli("up", "--port", "0")

    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_redis_that_is_not_there_is_named(tmp_path: Path, local: Provider):
    stack = Stack(
        tmp_path,
        CONFIG.format(local=local.url),
        {"LOCALFORGE_REDIS_URL": "redis://:secret@127.0.0.1:9/0"},
    )

    done = stack.cli("up", "--port", "0")

    assert done.returncode == 1
    assert "Redis does not answer" in done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
