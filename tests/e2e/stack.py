"""LocalForge as its user runs it: `localforge up` in a process of its own, with fake providers.

A stack is real in every part: NATS, Redis, every service in its process, SmolLM2. Only what would
need an account, the model providers, is a fake.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import nats
import psutil
from nats.aio.client import Client

from localforge.bus.connection import options
from localforge.config import NatsConfig
from tests.fakes.openai_server import Behaviour, FakeOpenAIServer, Seen

READY_S = 60
STOP_S = 30
EDGE = "edge+profiler+router+sweeper"
"""The child that holds the four services which `localforge up` puts into one process."""
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "TZ")


class Provider:
    """A fake provider in a thread of its own, so that plain tests can use it too."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = FakeOpenAIServer()
        self._call(self._server.start())

    @property
    def url(self) -> str:
        """Base URL, `/v1` included."""
        return self._server.url

    @property
    def seen(self) -> list[Seen]:
        """Every request so far."""
        return self._server.seen

    def saw(self, text: str) -> list[Seen]:
        """Requests with a text anywhere in their body."""
        return [seen for seen in self._server.seen if text.encode() in seen.raw]

    @contextlib.contextmanager
    def behaving(self, **behaviours: Behaviour) -> Iterator[None]:
        """Give models, by upstream name with `_` for `-`, a behaviour for a while."""
        scripted = {name.replace("_", "-"): b for name, b in behaviours.items()}
        self._server.behaviours.update(scripted)
        try:
            yield
        finally:
            for name in scripted:
                self._server.behaviours.pop(name, None)

    def close(self) -> None:
        """Stop the server and its thread."""
        self._call(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)


def saw_nothing(text: str, *providers: Provider) -> None:
    """Check that no provider ever saw a text."""
    assert [seen.raw for provider in providers for seen in provider.saw(text)] == []


class Reply:
    """What came back over HTTP."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


class Stack:
    """One running `localforge up`.

    Args:
        folder: Gets the configuration, the data directory and the log.
        config: Text of `localforge.toml`.
        environment: Added to the little that is passed on.
    """

    def __init__(
        self, folder: Path, config: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.config = folder / "localforge.toml"
        self.data = folder / "data"
        self.log = folder / "up.log"
        self.config.write_text(config)
        # Nothing of the tester's own: no provider key, no setting of LocalForge.
        self.environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self.environment |= environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._last_runtime: dict[str, Any] = {}

    def start(self, *arguments: str) -> None:
        """Start it and wait for its `ready` line."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self._command("up", "--config", str(self.config), "--port", "0", *arguments),
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.environment | {"LOCALFORGE_UP__DATA_DIR": str(self.data)},
                start_new_session=True,
            )
        started = self.log.stat().st_size
        end = time.monotonic() + READY_S
        while "\nready in " not in self.log.read_text()[max(0, started - 1) :]:
            assert self._process.poll() is None, f"it ended:\n{self.tail()}"
            assert time.monotonic() < end, f"not ready after {READY_S} s:\n{self.tail()}"
            time.sleep(0.05)

    def stop(self) -> None:
        """Press Ctrl-C and see that it ends well and leaves nobody behind."""
        if self._process is None:
            return
        process, self._process = self._process, None
        tree = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        left = [p for p in tree if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        assert (code, left) == (0, []), self.tail()

    def crash(self) -> None:
        """Kill it the hard way, if it runs; for the end of a test that failed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def runtime(self) -> dict[str, Any]:
        """What `localforge up` says of itself."""
        with contextlib.suppress(OSError, ValueError):
            self._last_runtime = json.loads((self.data / "runtime.json").read_text())
        return self._last_runtime

    @property
    def url(self) -> str:
        """Of the edge, without `/v1`."""
        return str(self.runtime["base_url"])

    def password(self, user: str) -> str:
        """Return the password of one of its NATS users."""
        return str(json.loads(Path(self.runtime["credentials"]).read_text())[user])

    @property
    def own_pid(self) -> int:
        """Process id of `localforge up`; 0 while it does not run."""
        return self._process.pid if self._process is not None else 0

    def pid(self, child: str) -> int:
        """Process id of one child; 0 while it is between two runs."""
        found = self.runtime["children"].get(child)
        return int(found["pid"]) if found else 0

    def kill(self, child: str) -> int:
        """Kill one child the hard way; returns the pid it had."""
        pid = self.pid(child)
        assert pid, f"{child} does not run; children: {sorted(self.runtime['children'])}"
        os.kill(pid, signal.SIGKILL)
        return pid

    def serves(self, child: str) -> bool:
        """Whether a child runs and has said that it is ready, which one that was killed has not."""
        pid = self.pid(child)
        if not self.events("service_ready", pid=pid):
            return False
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def events(self, name: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the log's events of a name and with these fields."""
        found = []
        for line in self.log.read_text().splitlines():
            if line.startswith("{") and f'"{name}"' in line:
                event = json.loads(line)
                if event["event"] == name and fields.items() <= event.items():
                    found.append(event)
        return found

    def tail(self, lines: int = 60) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def http(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 50,
    ) -> Reply:
        """Send one request; bytes go as they are, anything else as JSON. Never raises a status."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data=data, method=method, headers=dict(headers or {})
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return Reply(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as exc:
            with exc:
                return Reply(exc.code, dict(exc.headers), exc.read())

    def chat(self, body: Mapping[str, Any], **headers: str) -> Reply:
        """Ask for a completion; header names have `_` for `-` and no `x-localforge-`."""
        named = {f"x-localforge-{k.replace('_', '-')}": v for k, v in headers.items()}
        return self.http("POST", "/v1/chat/completions", body, named)

    def route(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask what would be decided."""
        reply = self.http("POST", "/v1/route", body)
        assert reply.status == 200, reply.body
        decision: dict[str, Any] = reply.json["decision"]
        return decision

    def readiness(self) -> dict[str, str]:
        """Return the status of everything that readiness looks at, and `status` of all."""
        told = self.http("GET", "/readyz").json
        return {"status": told["status"]} | {
            name: dependency["status"] for name, dependency in told["dependencies"].items()
        }

    def cli(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run `localforge` for this stack, as from the user's other terminal."""
        return subprocess.run(
            self._command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.environment
            | {
                "LOCALFORGE_CONFIG": str(self.config),
                "LOCALFORGE_UP__DATA_DIR": str(self.data),
                "COLUMNS": "160",
            },
        )

    @contextlib.asynccontextmanager
    async def nats(self, user: str) -> AsyncIterator[Client]:
        """Connect to its broker as one of its users."""
        config = NatsConfig(url=self.runtime["nats_url"], credentials=self.runtime["credentials"])

        async def quiet(_: Exception) -> None:
            return

        client = await nats.connect(config.url, error_cb=quiet, **options(config, user))
        try:
            yield client
        finally:
            await client.close()

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "localforge.cli.main", *arguments]


@contextlib.contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """Start a stack and stop it at the end, which checks that it leaves nothing behind."""
    try:
        stack.start()
        yield stack
        stack.stop()
    finally:
        stack.crash()
