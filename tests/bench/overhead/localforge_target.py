"""LocalForge as a target, with everything on: a key, profiling, decisions, outcomes, metrics.

Requests ask for `auto` and three models are eligible, so each one is profiled, predicted for, drawn
and recorded. After the run the feedback stream must hold exactly one decision and one outcome per
request: a figure for work that was not done is no figure.
"""

import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import msgspec
import uvloop
from nats.errors import Error as NatsError

from localforge.config import NatsConfig
from tests.bench.overhead.child import Child, free_port
from tests.bench.overhead.client import Endpoint
from tests.bench.overhead.feedback_count import await_facts
from tests.bench.overhead.procs import Tree
from tests.bench.overhead.targets import MODEL, Gateway

KEY = "bench-key-0f4c1d"
_KEY_VARIABLE = "LOCALFORGE_BENCH_KEY"
_CONFIG = """\
[[keys]]
id = "bench"
secret = "env:{key_variable}"

[[backends]]
name = "mock"
kind = "openai"
url = "{upstream}"
slots = 64

[[backends.models]]
name = "{model}"
price_in = 0.05
price_out = 0.2
context_tokens = 32768

[[backends.models]]
name = "mock-medium"
price_in = 0.4
price_out = 1.6
context_tokens = 131072

[[backends.models]]
name = "mock-large"
price_in = 2.5
price_out = 10.0
context_tokens = 131072

[up]
together = {together}
discover = false
"""
TOGETHER = ("edge", "profiler", "router", "sweeper")


class _Runtime(msgspec.Struct, frozen=True):
    """The part of `runtime.json` that tells where the broker is and how to log in."""

    nats_url: str
    credentials: str


class LocalForge:
    """`localforge up` in one of its two placements.

    Args:
        name: Row name.
        together: Services that share one process; empty for one process per service.
    """

    def __init__(self, name: str, together: tuple[str, ...]) -> None:
        self.name = name
        self._together = together
        self._child: Child | None = None
        self._port = 0
        self._data = Path()

    def start(self, mock: Endpoint, folder: Path) -> Gateway:
        """Write a configuration, start the whole stack, wait until it is ready."""
        self._port = free_port()
        self._data = folder / self.name
        config = folder / f"{self.name}.toml"
        config.write_text(
            _CONFIG.format(
                key_variable=_KEY_VARIABLE,
                upstream=mock.url,
                model=MODEL,
                together=msgspec.json.encode(self._together).decode(),
            )
        )
        command = [sys.executable, "-m", "localforge.cli.main", "up", "--config", str(config)]
        command += ["--port", str(self._port), "--data-dir", str(self._data)]
        self._child = Child(command, folder / f"{self.name}.log", {_KEY_VARIABLE: KEY})
        start_s = self._child.wait_ready(self._port, "/readyz", 60)
        return Gateway(
            endpoint=Endpoint(
                port=self._port, model="auto", headers={"authorization": f"Bearer {KEY}"}
            ),
            tree=Tree([self._child.pid]),
            start_s=start_s,
        )

    def problems(self, sent: int) -> list[str]:
        """Check that keys were asked for, metrics kept, and every request left its facts."""
        try:
            return self._unkept(sent)
        except (OSError, HTTPException, NatsError, msgspec.MsgspecError) as exc:
            # Minutes of measurements must not be lost with the check, nor pass without it.
            return [f"cannot check that its features were on: {type(exc).__name__}: {exc}"]

    def _unkept(self, sent: int) -> list[str]:
        found = []
        refused, _ = self._ask("POST", "/v1/chat/completions", b"{}")
        if refused != 401:
            found.append(f"a request without a key got {refused} instead of 401")
        status, metrics = self._ask("GET", "/metrics")
        if status != 200 or b"localforge_" not in metrics:
            found.append(f"/metrics answered {status} without localforge_* series")
        runtime = msgspec.json.decode((self._data / "runtime.json").read_bytes(), type=_Runtime)
        broker = NatsConfig(url=runtime.nats_url, credentials=runtime.credentials)
        facts = uvloop.run(await_facts(broker, sent))
        for kind, count in (("DecisionMade", facts.decisions), ("OutcomeObserved", facts.outcomes)):
            if count != sent:
                found.append(f"{count} {kind} facts for {sent} requests")
        return found

    def stop(self) -> list[str]:
        """Interrupt `up` as Ctrl-C does; it must leave no process behind."""
        if self._child is None:
            return []
        left = self._child.stop()
        return [f"`up` left {left} processes behind"] if left else []

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def separate() -> LocalForge:
    """One process per service."""
    return LocalForge("localforge-separate", ())


def together() -> LocalForge:
    """Edge, profiler and router in one process."""
    return LocalForge("localforge-together", TOGETHER)
