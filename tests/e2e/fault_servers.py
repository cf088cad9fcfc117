"""What the fault matrix runs against: the whole stack, and model servers that fail on request."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from localforge.faults import Fault, FaultServer, Schedule
from localforge.faults.certificate import CERTIFICATE_FILE, make_context
from localforge.faults.journal import SeenRequest
from tests.e2e.fault_cells import GENERATING, KINDS, OPENAI, SETTINGS, Cell
from tests.e2e.stack import Stack, running

PRICES = {"first": 1, "last": 5, "second": 2, "opener": 3}
"""US dollars per million tokens, by what follows the last hyphen of a model's name."""

CONFIG = """\
[edge]
# Some cells take as long as a timeout; that is no overload.
queue_target_s = 60

[router]
# The plan is in order of price, whatever is learned.
gamma = 1e6
preferences.balanced = {{ cost = 1e7, latency = 0 }}

[[backends]]
name = "rest"
kind = "openai"
url = "{rest}/v1"
breaker_failures = 100000
[[backends.models]]
name = "second"
upstream = "healthy"
capabilities = ["json_object"]
price_in = 2
price_out = 2
[[backends.models]]
name = "opener"
upstream = "fault-503"
capabilities = ["tools", "logprobs"]
price_in = 3
price_out = 3
"""
FAULTY = """
[[backends]]
name = "{name}"
kind = "{kind}"
url = "{url}"
# Longer than a busy machine keeps a healthy server waiting.
first_token_timeout_s = 3
stall_timeout_s = 3
timeout_s = 4.5
retries = 1
breaker_failures = 100000
# The first probe finds it well; a later one would take it out of the plans.
probe_s = 3600
[[backends.models]]
name = "{name}-first"
upstream = "faulty"
capabilities = ["json_object"]
price_in = 1
price_out = 1
[[backends.models]]
name = "{name}-last"
upstream = "faulty"
capabilities = ["tools", "logprobs"]
price_in = 5
price_out = 5
"""
BASE_PATHS = {OPENAI: "/v1", "vllm": "/v1"}


class Servers:
    """Fault servers in a thread of their own: with the faults, and one for all else.

    Args:
        folder: Gets the certificate that those with the faults speak TLS with.
    """

    def __init__(self, folder: Path) -> None:
        tls = make_context(folder)
        self.faulty = FaultServer(SETTINGS, tls=tls)
        no_template = msgspec.structs.replace(SETTINGS, chat_template=False)
        self.generating = FaultServer(no_template, tls=tls)
        self.rest = FaultServer(SETTINGS)
        self.environment = {"SSL_CERT_FILE": str(folder / CERTIFICATE_FILE)}
        self._all = (self.faulty, self.generating, self.rest)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        for server in self._all:
            self._call(server.start())

    @property
    def config(self) -> str:
        """Configuration of the backends, and what it takes to know the plans."""
        parts = [CONFIG.format(rest=self.rest.url)]
        for kind in KINDS:
            server = self.generating if kind == GENERATING else self.faulty
            url = server.url + BASE_PATHS.get(kind, "")
            parts.append(FAULTY.format(name=kind, kind=kind.partition("-")[0], url=url))
        return "".join(parts)

    @contextlib.contextmanager
    def switched(self, fault: Fault) -> Iterator[None]:
        """Have the servers with the faults refuse connections, or break TLS, for a while."""
        for server in (self.faulty, self.generating):
            self._call(server.refuse() if fault is Fault.REFUSED else server.break_tls())
        try:
            yield
        finally:
            for server in (self.faulty, self.generating):
                self._call(server.listen())

    def schedule(self, faults: str) -> None:
        """Set the faults of requests to the faulty model that name none."""
        self.faulty.schedule = Schedule.parse(faults)

    def close(self) -> None:
        """Stop all, and the thread."""
        for server in self._all:
            self._call(server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def requests(self, cell: Cell) -> list[SeenRequest]:
        """Return the requests of a cell, in order of time."""
        found = [
            request
            for server in self._all
            for request in tuple(server.journal.requests)
            if f"{cell.marker} " in request.body
        ]
        return sorted(found, key=lambda request: request.at)

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)


@contextlib.contextmanager
def matrix_stack(folder: Path) -> Iterator[tuple[Stack, Servers]]:
    """Start the stack and its model servers."""
    servers = Servers(folder)
    try:
        with running(Stack(folder, servers.config, servers.environment)) as stack:
            yield stack, servers
    finally:
        servers.close()
