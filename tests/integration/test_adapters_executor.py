"""The executor with real adapters against fake servers over HTTP: both lanes' core promises."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from localforge.config import BackendConfig
from localforge.contracts.chat import Usage
from localforge.executor.service import ExecutorService
from localforge.faults import Fault, FaultServer, Settings
from localforge.inference import Adapter, build_adapter
from tests.fakes.backend import KeepingSink
from tests.fakes.calls import VERIFIER, execute_call, target
from tests.fakes.openai_server import Behaviour, FakeOpenAIServer, fake_openai
from tests.support import Lateness, wait_until

KINDS = ("openai", "vllm", "anthropic", "ollama", "tgi", "tgi-generate")


@pytest.fixture(name="server")
async def _server() -> AsyncIterator[FakeOpenAIServer]:
    async with fake_openai() as server:
        yield server


@pytest.fixture(name="service")
async def _service(server: FakeOpenAIServer) -> AsyncIterator[ExecutorService]:
    backend = BackendConfig(name="fake", kind="openai", url=server.url, slots=2)
    adapter: Adapter = build_adapter(backend, "sk-test")
    await adapter.start()
    yield ExecutorService(backend, adapter, replica="r", verifier=VERIFIER)
    await adapter.close()


@pytest.mark.parametrize("gives_usage", [True, False])
async def test_usage_and_cost_are_equal_streamed_or_not(
    server: FakeOpenAIServer, service: ExecutorService, gives_usage: bool
) -> None:
    server.default = Behaviour(usage=gives_usage)
    whole, streamed = KeepingSink(), KeepingSink()

    await service.run(execute_call(request_id="a"), whole)
    await service.run(execute_call(request_id="b", stream=True), streamed)

    assert whole.frames[-1].usage == streamed.frames[-1].usage
    assert whole.frames[-1].usage.estimated is not gives_usage
    assert whole.outcomes[0].cost_usd == streamed.outcomes[0].cost_usd > 0
    body = json.loads(whole.frames[-1].body)
    assert body["usage"]["completion_tokens"] == streamed.frames[-1].usage.completion_tokens
    assert body["id"] == "chatcmpl-a"


async def test_a_failing_backend_hands_on_and_a_stream_that_began_does_not(
    service: ExecutorService, server: FakeOpenAIServer
) -> None:
    plan = (target("fault-500"), target("second", backend="other"))
    early, late = KeepingSink(), KeepingSink()
    server.behaviours["breaks"] = Behaviour(cut_after=3, pace_s=0.01)

    await service.run(execute_call(*plan, request_id="a", stream=True), early)
    await service.run(execute_call(target("breaks"), plan[1], request_id="b", stream=True), late)

    assert (early.kinds, early.handed_on[0][0].step) == ([], 1)
    assert (set(late.kinds[:-1]), late.kinds[-1], late.handed_on) == ({"Delta"}, "Failed", [])
    assert b"[DONE]" not in b"".join(frame.data for frame in late.frames[:-1])


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_cancel_reaches_the_backend_within_a_second(
    service: ExecutorService, server: FakeOpenAIServer, stream: bool
) -> None:
    server.default = Behaviour(words=["word"] * 400, first_s=0 if stream else 30, pace_s=0.1)
    sink = KeepingSink()
    running = asyncio.ensure_future(service.run(execute_call(request_id="a", stream=stream), sink))
    await wait_until(
        lambda: sink.frames if stream else server.seen, description="the backend works on it"
    )

    async with Lateness() as late:
        at = time.monotonic()
        service.cancel("a")
        await running
        await wait_until(lambda: server.seen[0].closed_at, description="the backend noticed")

    assert server.seen[0].closed_at - at < late.allowed(1, at_most=5)
    assert sink.outcomes[0].status == "cancelled"
    assert sink.outcomes[0].usage.prompt_tokens > 0
    assert sink.outcomes[0].usage.estimated
    assert service.load().in_flight == 0


@pytest.fixture(name="slow", params=KINDS)
async def _slow(
    request: pytest.FixtureRequest,
) -> AsyncIterator[tuple[ExecutorService, FaultServer]]:
    """A server of each kind, which may take a minute before it says anything, and its executor."""
    kind, _, way = request.param.partition("-")
    fault = FaultServer(Settings(slow_s=60, chat_template=not way))
    await fault.start()
    url = fault.url + ("/v1" if kind in ("openai", "vllm") else "")
    backend = BackendConfig(name="fake", kind=kind, url=url, retries=0)
    adapter = build_adapter(backend, "sk-test")
    await adapter.start()
    yield ExecutorService(backend, adapter, replica="r", verifier=VERIFIER), fault
    await adapter.close()
    await fault.close()


def _asking_for(fault: Fault) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": f"fault:{fault}"}]}).encode()


@pytest.mark.parametrize(
    ("end", "stream"), [("deadline", False), ("client gone", False), ("client gone", True)]
)
async def test_a_prompt_that_was_sent_and_never_answered_is_billed(
    slow: tuple[ExecutorService, FaultServer], end: str, stream: bool
) -> None:
    service, server = slow
    sink = KeepingSink()
    call = execute_call(
        target("healthy"),
        request_id="a",
        body=_asking_for(Fault.SLOW_FIRST_TOKEN),
        stream=stream,
        deadline_s=1 if end == "deadline" else 30,
    )

    running = asyncio.ensure_future(service.run(call, sink))
    await wait_until(lambda: server.journal.requests, description="the backend works on it")
    if end == "client gone":
        service.cancel("a")
    await running

    (outcome,) = sink.outcomes
    assert outcome.status == ("error" if end == "deadline" else "cancelled")
    assert outcome.usage == Usage(prompt_tokens=call.prompt_tokens, estimated=True)
    assert outcome.cost_usd == pytest.approx(call.prompt_tokens / 1e6)
    if end == "deadline":
        assert sink.frames[-1].summary.cost_usd == outcome.cost_usd


@pytest.mark.parametrize("fault", ["500", "refused"])
async def test_a_request_that_nobody_took_costs_nothing(
    slow: tuple[ExecutorService, FaultServer], fault: str
) -> None:
    service, server = slow
    sink = KeepingSink()
    if fault == "refused":
        await server.refuse()

    await service.run(execute_call(target("healthy"), body=_asking_for(Fault.HTTP_500)), sink)

    assert {(o.status, o.usage, o.cost_usd) for o in sink.outcomes} == {("error", Usage(), 0.0)}
