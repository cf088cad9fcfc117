"""Every fault in every wire format is an error or a whole answer, and its work is stopped."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import msgspec
import pytest
import pytest_asyncio

from localforge.config import BackendConfig
from localforge.contracts.cards import Capability, Health
from localforge.errors import BackendUnavailable, StreamBroken
from localforge.executor.inventory import Inventory
from localforge.executor.pool import build_pool
from localforge.faults import Fault, FaultServer, Settings
from localforge.inference import (
    Adapter,
    Completion,
    OpenAICompatibleAdapter,
    Reply,
    Timeouts,
)
from localforge.inference.anthropic_messages import AnthropicAdapter
from localforge.inference.ollama import OllamaAdapter
from localforge.inference.tgi import TgiAdapter
from localforge.inference.vllm import VllmAdapter
from localforge.registry import cards_of
from tests.fakes.pages import serve_pages
from tests.support import Lateness, wait_until

SETTINGS = Settings(
    slow_s=0.05,
    settle_s=0.02,
    line_bytes=17_000_000,
    retry_after_s=7,
)
TEXT = " ".join(SETTINGS.words)
GENERATING = "tgi-generate"
"""A TGI whose model has no chat template."""
KINDS = ("openai", "vllm", "anthropic", "ollama", "tgi", GENERATING)
EARLY = {
    Fault.SILENT: "backend_timeout",
    Fault.ERROR_IN_200: "backend_error",
    Fault.EMPTY: "backend_empty",
    Fault.RATE_LIMITED_SECONDS: "backend_rate_limited",
    Fault.HTTP_500: "backend_http_500",
    Fault.HTTP_503: "backend_http_503",
    Fault.WRONG_CONTENT_TYPE: "backend_content_type",
}
LATE = {
    Fault.STALL: {"backend_timeout"},
    Fault.CUT: {"backend_cut"},
    Fault.ENDED_EARLY: {"backend_cut"},
    Fault.MALFORMED: {"backend_malformed"},
    Fault.TRUNCATED_UTF8: {"backend_malformed"},
    Fault.ERROR_MID_STREAM: {"backend_error"},
    Fault.LONG_LINE: {"backend_event_too_long", "backend_answer_too_long"},
}
WHOLE = (Fault.HEALTHY, Fault.SLOW_FIRST_TOKEN, Fault.USAGE_WITH_CHOICES, Fault.NO_USAGE)


@pytest_asyncio.fixture(name="server", scope="module", loop_scope="module")
async def _server() -> AsyncIterator[FaultServer]:
    server = FaultServer(SETTINGS)
    await server.start()
    yield server
    await server.close()


@pytest.fixture(name="kind", params=KINDS, scope="module")
def _kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture(name="behind", scope="module", loop_scope="module")
async def _behind(kind: str) -> AsyncIterator[FaultServer]:
    """The server behind the adapter."""
    has_template = kind != GENERATING
    server = FaultServer(msgspec.structs.replace(SETTINGS, chat_template=has_template))
    await server.start()
    yield server
    await server.close()


def _build(kind: str, behind: FaultServer, timeouts: Timeouts) -> Adapter:
    match kind:
        case "anthropic":
            return AnthropicAdapter(behind.url, timeouts=timeouts)
        case "ollama":
            return OllamaAdapter(behind.url, timeouts=timeouts)
        case "openai":
            return OpenAICompatibleAdapter(f"{behind.url}/v1", timeouts=timeouts)
        case "vllm":
            return VllmAdapter(f"{behind.url}/v1", timeouts=timeouts)
        case _:
            return TgiAdapter(behind.url, timeouts=timeouts)


@pytest_asyncio.fixture(name="adapter", scope="module", loop_scope="module")
async def _adapter(kind: str, behind: FaultServer) -> AsyncIterator[Adapter]:
    adapter = _build(kind, behind, Timeouts())
    await adapter.start()
    yield adapter
    await adapter.close()


@pytest_asyncio.fixture(name="hasty", scope="module", loop_scope="module")
async def _hasty(kind: str, behind: FaultServer) -> AsyncIterator[Adapter]:
    """An adapter for a server that says nothing; one of a server that does might give up too."""
    timeouts = Timeouts(first_token_s=0.4, chunk_s=0.4, attempt_s=0.8)
    adapter = _build(kind, behind, timeouts)
    await adapter.start()
    yield adapter
    await adapter.close()


class Try:
    """One request with what came of it; a fault is named in the prompt, as not all name a model."""

    def __init__(
        self,
        adapter: Adapter,
        fault: Fault = Fault.HEALTHY,
        *,
        stream: bool,
        model: str = "healthy",
    ) -> None:
        self.batches: list[bytes] = []
        self.reply = Reply(self._write)
        prompt = "Hello there" if fault is Fault.HEALTHY else f"fault:{fault} Hello there"
        body = {"messages": [{"role": "user", "content": prompt}]}
        self._run = adapter.complete(
            Completion(
                completion_id="c1",
                model="mine",
                upstream=model,
                body=json.dumps(body).encode(),
                stream=stream,
            ),
            self.reply,
        )

    async def _write(self, data: bytes) -> None:
        self.batches.append(data)

    async def __call__(self) -> "Try":
        await self._run
        return self


both = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
pytestmark = pytest.mark.asyncio(loop_scope="module")


@both
@pytest.mark.parametrize("fault", EARLY)
async def test_a_failure_before_content_leaves_the_request_to_another_model(
    adapter: Adapter, hasty: Adapter, fault: Fault, stream: bool
) -> None:
    attempt = Try(hasty if fault is Fault.SILENT else adapter, fault, stream=stream)

    with pytest.raises(BackendUnavailable) as caught:
        await attempt()

    assert (caught.value.code, type(caught.value)) == (EARLY[fault], BackendUnavailable)
    assert (attempt.batches, attempt.reply.started) == ([], False)
    expected = 7 if fault is Fault.RATE_LIMITED_SECONDS else 1
    assert caught.value.retry_after_s == expected


@both
@pytest.mark.parametrize("fault", LATE)
async def test_a_failure_after_content_is_never_a_short_answer(
    adapter: Adapter, hasty: Adapter, fault: Fault, stream: bool
) -> None:
    attempt = Try(hasty if fault is Fault.STALL else adapter, fault, stream=stream)

    with pytest.raises(BackendUnavailable) as caught:
        await attempt()

    assert isinstance(caught.value, StreamBroken) is bool(attempt.batches)
    assert bool(attempt.batches) is stream
    if stream:
        assert caught.value.code in LATE[fault]
    assert attempt.reply.answer == {}


@both
@pytest.mark.parametrize("fault", WHOLE)
async def test_odd_but_whole_answers_are_whole(
    adapter: Adapter, fault: Fault, stream: bool
) -> None:
    attempt = await Try(adapter, fault, stream=stream)()

    assert "".join(attempt.reply.text) == TEXT
    assert (attempt.reply.usage is None) is (fault is Fault.NO_USAGE)
    assert attempt.reply.finish_reason == "stop"


@both
async def test_a_cancel_closes_the_connection_to_the_backend_at_once(
    adapter: Adapter, behind: FaultServer, stream: bool
) -> None:
    fault = Fault.STALL if stream else Fault.SILENT
    behind.journal.clear()
    attempt = Try(adapter, fault, stream=stream)
    task = asyncio.ensure_future(attempt())
    await wait_until(
        lambda: attempt.batches if stream else behind.journal.requests,
        description="the backend works on it",
    )

    async with Lateness() as late:
        at = time.time()
        task.cancel()
        [seen] = behind.journal.requests
        await wait_until(lambda: seen.ended_at, description="the backend noticed")

    assert seen.client_gone
    assert seen.ended_at - at < late.allowed(1, at_most=5)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_connections_are_used_again(adapter: Adapter, behind: FaultServer) -> None:
    behind.journal.clear()

    for number in range(4):
        await Try(adapter, stream=number % 2 == 0)()

    assert len({seen.connection for seen in behind.journal.requests}) == 1


async def test_a_server_that_is_not_there_is_down(adapter: Adapter) -> None:
    gone = type(adapter)("http://127.0.0.1:9")  # type: ignore[call-arg]
    await gone.start()

    probe = await gone.probe()
    with pytest.raises(BackendUnavailable) as caught:
        await Try(gone, stream=True)()

    assert (probe.health, "cannot be reached" in probe.detail) == (Health.DOWN, True)
    assert caught.value.code == "backend_unreachable"
    await gone.close()


async def test_anthropics_own_client_understands_the_fake(server: FaultServer) -> None:
    question: Any = {
        "model": "healthy",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hello there"}],
    }
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="sk-ant-test") as client:
        whole = await client.messages.create(**question)
        async with client.messages.stream(**question) as stream:
            streamed = await stream.get_final_message()

    for message in (whole, streamed):
        [block] = message.content
        assert block.type == "text"
        assert block.text == TEXT
        assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 12)


async def test_vllm_tells_its_load_while_it_works(server: FaultServer) -> None:
    adapter = VllmAdapter(f"{server.url}/v1")
    await adapter.start()
    attempt = Try(adapter, Fault.STALL, stream=True)
    task = asyncio.ensure_future(attempt())
    await wait_until(lambda: attempt.batches, description="the backend works on it")

    load = await adapter.load()
    task.cancel()

    assert (load.running, load.waiting) == (1, 0)
    await adapter.close()


async def test_vllms_models_register_themselves_beside_those_of_others() -> None:
    settings = Settings(models=("llama", "shared"))
    server = FaultServer(settings)
    await server.start()
    backend = BackendConfig(name="gpu", kind="vllm", url=f"{server.url}/v1")
    pool, inventory = build_pool(backend, ""), Inventory(backend)
    await pool.start()
    inventory.take(await pool.probe(), frozenset({"shared"}))
    await pool.close()
    await server.close()

    assert {(c.name, c.upstream_name) for c in inventory.cards} >= {
        ("llama", "llama"),
        ("gpu/shared", "shared"),
    }


async def test_vllm_names_the_weights_behind_a_name_of_the_operators() -> None:
    models = [{"id": "house", "root": "Qwen/Qwen2.5-32B-Instruct"}, {"id": "bare", "root": None}]
    async with serve_pages({"/v1/models": {"data": models}}, []) as url:
        adapter = VllmAdapter(f"{url}/v1")
        await adapter.start()
        probe = await adapter.probe()
        await adapter.close()

    cards = cards_of(BackendConfig(name="gpu", kind="vllm", url=f"{url}/v1"), probe.found)

    assert {card.name: card.parameters_b for card in cards} == {"house": 32.0, "bare": None}


async def test_anthropic_models_are_found_with_what_they_can_do() -> None:
    supported, not_supported = {"supported": True}, {"supported": False}
    told = {
        "effort": not_supported,
        "image_input": supported,
        "pdf_input": supported,
        "structured_outputs": not_supported,
        "thinking": {
            "supported": True,
            "types": {"adaptive": not_supported, "enabled": supported},
        },
    }
    model = {
        "type": "model",
        "id": "claude-x-20260101",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
        "capabilities": told,
    }
    seen: list[dict[str, Any]] = []
    async with serve_pages({"/v1/models": {"data": [model]}}, seen) as url:
        adapter = AnthropicAdapter(url, api_key="sk-ant-test")
        await adapter.start()
        probe = await adapter.probe()
        with pytest.raises(BackendUnavailable):
            await Try(adapter, stream=True, model="claude-x")()
        await adapter.close()

    [found] = probe.found or ()
    assert (found.name, found.context_tokens, found.max_output_tokens) == (
        "claude-x-20260101",
        200_000,
        64_000,
    )
    assert found.capabilities == {
        Capability.TOOLS,
        Capability.VISION,
        Capability.FILES,
        Capability.REASONING,
    }
    assert seen[0]["headers"]["x-api-key"] == "sk-ant-test"
    assert seen[0]["headers"]["anthropic-version"] == "2023-06-01"
    # The name without its date is the same model, with the same bound.
    assert seen[1]["body"]["max_tokens"] == 64_000


async def test_tgi_without_a_chat_template_generates_from_a_transcript() -> None:
    seen: list[dict[str, Any]] = []
    event = {
        "index": 1,
        "token": {"id": 1, "text": "Hi", "logprob": -0.1, "special": False},
        "generated_text": "Hi",
        "details": {"finish_reason": "eos_token", "generated_tokens": 1, "input_length": 5},
    }
    refusal = {"error": "Template error: template not found", "error_type": "template_error"}
    pages = {
        "/v1/chat/completions": (422, refusal),
        "/": b"data:%b\n\n" % json.dumps(event).encode(),
    }
    async with serve_pages(pages, seen) as url:
        adapter = TgiAdapter(url)
        await adapter.start()
        streamed = await Try(adapter, stream=True)()
        whole = await Try(adapter, stream=False)()
        await adapter.close()

    assert streamed.reply.text == whole.reply.text == ["Hi"]
    assert streamed.reply.usage is not None
    assert streamed.reply.usage.prompt_tokens == 5
    # Only the first request found out.
    assert [request["path"] for request in seen] == ["/v1/chat/completions", "/", "/"]
    assert seen[1]["body"]["inputs"] == "Hello there"
