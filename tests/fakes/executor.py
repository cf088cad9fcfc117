"""An executor around a fake backend, for tests without a broker."""

from typing import Any

from localforge.config import BackendConfig
from localforge.executor.service import ExecutorService
from tests.fakes.backend import FakeAdapter, KeepingSink
from tests.fakes.calls import VERIFIER


def make(
    adapter: FakeAdapter,
    *,
    zone: str = "local",
    verifier: Any = VERIFIER,
    clock: Any = None,
    retries: int = 0,
) -> ExecutorService:
    """Return the service of a backend in a zone."""
    backend = BackendConfig(
        name="fake", kind="openai", zone=zone, url="http://fake/v1", retries=retries
    )
    more = {"clock": clock} if clock else {}
    return ExecutorService(backend, adapter, replica="replica-1", verifier=verifier, **more)


async def run(adapter: FakeAdapter, call: Any, **service: Any) -> KeepingSink:
    """Run one call and return what was told of it."""
    sink = KeepingSink()
    await make(adapter, **service).run(call, sink)
    return sink
