"""What becomes of each way in which a provider can fail, over real HTTP."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from localforge.config import VENDORS, BackendConfig, ModelConfig
from localforge.contracts.cards import Health
from localforge.errors import BackendRefused, BackendUnavailable, LocalforgeError, StreamBroken
from localforge.executor.pool import build_pool
from localforge.inference import Adapter, Completion, OpenAICompatibleAdapter, Reply, Timeouts
from localforge.inference.failures import MAX_PARAM_CHARS
from localforge.inference.usage import settle_usage
from tests.fakes.openai_server import WORDS, Behaviour, FakeOpenAIServer, fake_openai
from tests.support import Lateness, wait_until

PACED = {"pace_s": 0.01}
KEY = "sk-Proj-0123456789.abcdefghij"


@pytest.fixture(name="server")
async def _server() -> AsyncIterator[FakeOpenAIServer]:
    async with fake_openai() as server:
        yield server


@pytest.fixture(name="adapter")
async def _adapter(server: FakeOpenAIServer) -> AsyncIterator[OpenAICompatibleAdapter]:
    adapter = OpenAICompatibleAdapter(server.url, api_key="sk-test")
    await adapter.start()
    yield adapter
    await adapter.close()


@pytest.fixture(name="hasty")
async def _hasty(server: FakeOpenAIServer) -> AsyncIterator[OpenAICompatibleAdapter]:
    """An adapter for servers that say nothing; one of a server that does might give up too."""
    timeouts = Timeouts(first_token_s=0.5, chunk_s=0.5, attempt_s=0.8)
    adapter = OpenAICompatibleAdapter(server.url, api_key="sk-test", timeouts=timeouts)
    await adapter.start()
    yield adapter
    await adapter.close()


class Try:
    """One request with what came of it."""

    def __init__(self, adapter: Adapter, upstream: str, **body: Any) -> None:
        self.batches: list[bytes] = []
        self.reply = Reply(self._write)
        self.stream = body.pop("stream", True)
        deadline = body.pop("deadline", 0.0)
        body = {"messages": [{"role": "user", "content": "Hello there"}], **body}
        self._run = adapter.complete(
            Completion(
                completion_id="chatcmpl-1",
                model="mine",
                upstream=upstream,
                body=json.dumps(body).encode(),
                stream=self.stream,
                deadline=deadline,
            ),
            self.reply,
        )

    async def _write(self, data: bytes) -> None:
        self.batches.append(data)

    async def __call__(self) -> "Try":
        await self._run
        return self


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("vendor", "expected"), [("openrouter", 0.95), ("generic", None)])
async def test_what_a_vendor_says_it_cost_counts_where_that_is_its_way(
    server: FakeOpenAIServer, vendor: str, expected: float | None, stream: bool
):
    server.default = Behaviour(usage_more={"cost": 0.95, "is_byok": False})
    adapter = OpenAICompatibleAdapter(server.url, vendor=VENDORS[vendor])
    await adapter.start()
    attempt = await Try(adapter, "fake-model", stream=stream)()
    await adapter.close()

    assert attempt.reply.cost_usd == expected
    assert server.seen[-1].body.get("usage") == ({"include": True} if expected else None)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("fault-429", "backend_rate_limited"),
        ("fault-500", "backend_http_500"),
        ("fault-503", "backend_http_503"),
        ("fault-401", "backend_auth"),
        ("fault-error-200", "backend_error"),
        ("fault-empty", "backend_empty"),
        ("fault-html", "backend_content_type"),
        ("fault-cut-first", "backend_cut"),
        ("fault-malformed-first", "backend_malformed"),
        ("fault-silent", "backend_timeout"),
    ],
)
async def test_a_failure_before_content_leaves_the_request_to_another_model(
    adapter: OpenAICompatibleAdapter,
    hasty: OpenAICompatibleAdapter,
    model: str,
    code: str,
    stream: bool,
) -> None:
    attempt = Try(hasty if code == "backend_timeout" else adapter, model, stream=stream)

    with pytest.raises(BackendUnavailable) as caught:
        await attempt()

    assert (caught.value.code, type(caught.value)) == (code, BackendUnavailable)
    assert (attempt.batches, attempt.reply.started) == ([], False)
    assert caught.value.retry_after_s == (7 if model == "fault-429" else 1)


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (Behaviour(cut_after=3, **PACED), "backend_cut"),
        (Behaviour(end_after=3, **PACED), "backend_cut"),
        (Behaviour(malformed_after=3, **PACED), "backend_malformed"),
        (Behaviour(bad_utf8_after=3, **PACED), "backend_malformed"),
        (Behaviour(error_after=3, **PACED), "backend_error"),
        (Behaviour(stall_after=3, **PACED), "backend_timeout"),
        (Behaviour(pace_s=0.2), "backend_timeout"),
    ],
    ids=["cut", "ended early", "malformed", "utf-8", "error event", "stall", "over all time"],
)
async def test_a_failure_after_content_is_a_broken_stream_and_never_a_short_answer(
    server: FakeOpenAIServer,
    adapter: OpenAICompatibleAdapter,
    hasty: OpenAICompatibleAdapter,
    behaviour: Behaviour,
    code: str,
) -> None:
    server.behaviours["m"] = behaviour
    attempt = Try(hasty if code == "backend_timeout" else adapter, "m")

    with pytest.raises(StreamBroken) as caught:
        await attempt()

    assert caught.value.code == code
    assert attempt.batches
    assert attempt.reply.finish_reason == ""
    assert settle_usage(attempt.reply, 2).completion_tokens >= 1


@pytest.mark.parametrize(
    ("patience_s", "error"),
    [(60, BackendUnavailable), (0.2, TimeoutError)],
    ids=["longer than its own", "shorter"],
)
async def test_the_first_of_two_clocks_ends_a_whole_answer_that_does_not_come(
    hasty: OpenAICompatibleAdapter, patience_s: float, error: type[Exception]
) -> None:
    attempt = Try(hasty, "fault-silent", stream=False, deadline=time.time() + patience_s)

    with pytest.raises(error):
        await asyncio.wait_for(attempt(), patience_s)


async def test_the_words_of_a_refusal_reach_the_client(adapter: OpenAICompatibleAdapter) -> None:
    with pytest.raises(BackendRefused) as caught:
        await Try(adapter, "fault-400")()

    assert (caught.value.status, caught.value.message, caught.value.param) == (
        400,
        "no such thing",
        "top_k",
    )


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(status=400, error={"message": f"Incorrect key Bearer {KEY}"}),
        Behaviour(status=422, error={"message": f"bad {KEY.upper()}", "param": f"key={KEY}"}),
        Behaviour(status=400, error={"message": "bad", "code": KEY}),
        Behaviour(status=400, error={"message": f"{'x' * 1980} {KEY}", "param": "p" * 250 + KEY}),
        Behaviour(error={"message": "bad", "type": KEY}),
    ],
    ids=["message", "param", "code", "cut off", "an error for an answer"],
)
async def test_the_api_key_that_a_provider_repeats_is_not_passed_on(
    server: FakeOpenAIServer, behaviour: Behaviour, stream: bool
) -> None:
    backend = BackendConfig(
        name="b", kind="openai", url=server.url, models=(ModelConfig(name="m", upstream="m"),)
    )
    pool = build_pool(backend, KEY)
    server.behaviours["m"] = behaviour

    with pytest.raises(LocalforgeError) as caught:
        await Try(pool, "m", stream=stream)()
    await pool.close()

    error = caught.value
    told = f"{error} {error.as_api_error()}".lower()
    assert KEY[:12].lower() not in told
    assert "***" in told
    assert len(error.param or "") <= MAX_PARAM_CHARS


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(done=False),
        Behaviour(usage_with_choices=True),
        Behaviour(line_ending="\r\n"),
        Behaviour(one_byte_writes=True),
        Behaviour(pace_s=0.001),
        Behaviour(extra={"vendor": {"né": [1]}}),
    ],
    ids=["no [DONE]", "usage on a choice", "crlf", "byte by byte", "paced", "vendor field"],
)
async def test_odd_but_whole_streams_are_whole_answers(
    server: FakeOpenAIServer, adapter: OpenAICompatibleAdapter, behaviour: Behaviour
) -> None:
    server.behaviours["m"] = behaviour

    attempt = await Try(adapter, "m")()

    assert "".join(attempt.reply.text) == " ".join(WORDS)
    assert attempt.reply.usage is not None
    assert attempt.reply.usage.completion_tokens == len(WORDS)
    assert b"".join(attempt.batches).count(b"data: ") == len(WORDS) + 2


async def test_a_connection_that_breaks_after_the_last_word_spoils_only_usage(
    server: FakeOpenAIServer, adapter: OpenAICompatibleAdapter
) -> None:
    server.behaviours["m"] = Behaviour(cut_before_usage=True)

    attempt = await Try(adapter, "m")()

    assert (attempt.reply.finish_reason, attempt.reply.usage) == ("stop", None)
    assert settle_usage(attempt.reply, 2).estimated


async def test_every_choice_of_n_is_waited_for(
    server: FakeOpenAIServer, adapter: OpenAICompatibleAdapter
) -> None:
    attempt = await Try(adapter, "m", n=3)()

    assert "".join(attempt.reply.text) == " ".join(WORDS)
    assert "".join(attempt.reply.hidden) == " ".join(WORDS) * 2


async def test_tool_calls_pass_untouched(
    server: FakeOpenAIServer, adapter: OpenAICompatibleAdapter
) -> None:
    server.behaviours["m"] = Behaviour(echo_tools=True)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"x": 1}}}]

    streamed = await Try(adapter, "m", tools=tools)()
    whole = await Try(adapter, "m", tools=tools, stream=False)()

    assert server.seen[0].body["tools"] == tools
    assert (streamed.reply.tool_calls, whole.reply.tool_calls) == (1, 1)
    message = json.loads(bytes(whole.reply.answer["choices"]))[0]["message"]
    assert message["tool_calls"][0]["function"] == {
        "name": "weather",
        "arguments": '{"city":"Oslo"}',
    }


async def test_the_key_is_sent_and_nothing_of_localforge(
    server: FakeOpenAIServer, adapter: OpenAICompatibleAdapter
) -> None:
    await Try(adapter, "m", preference="cheap", made_up=[1])()

    [seen] = server.seen
    assert seen.headers["Authorization"] == "Bearer sk-test"
    assert seen.body == {
        "messages": [{"role": "user", "content": "Hello there"}],
        "made_up": [1],
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_cancel_closes_the_connection_to_the_backend_at_once(
    server: FakeOpenAIServer, stream: bool
) -> None:
    server.default = Behaviour(words=["word"] * 400, pace_s=0.2, first_s=0.0 if stream else 30)
    adapter = OpenAICompatibleAdapter(server.url)
    await adapter.start()
    attempt = Try(adapter, "m", stream=stream)
    task = asyncio.ensure_future(attempt())
    await wait_until(
        lambda: attempt.batches if stream else server.seen, description="the backend works on it"
    )

    async with Lateness() as late:
        at = time.monotonic()
        task.cancel()
        await wait_until(lambda: server.seen[0].closed_at, description="the backend noticed")

    assert server.seen[0].closed_at - at < late.allowed(1, at_most=5)
    assert not server.seen[0].finished
    with pytest.raises(asyncio.CancelledError):
        await task
    await adapter.close()


async def test_connections_are_used_again(
    server: FakeOpenAIServer, adapter: OpenAICompatibleAdapter
) -> None:
    for number in range(4):
        await Try(adapter, "m", stream=number % 2 == 0)()

    assert len({seen.peer for seen in server.seen}) == 1


async def test_a_pooled_connection_that_the_server_just_closed_costs_no_request() -> None:
    """The server answers once and closes the second time before a byte, as on an idle timeout."""
    answer = b'{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}]}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"false}")
        writer.write(head % len(answer) + answer)
        await reader.read(1)
        writer.close()
        closed.append(writer)

    closed: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    adapter = OpenAICompatibleAdapter(f"http://127.0.0.1:{port}/v1")
    await adapter.start()

    for _ in range(2):
        assert (await Try(adapter, "m", stream=False)()).reply.text == ["a"]

    assert connections == 2
    await adapter.close()
    await wait_until(lambda: len(closed) == 2, description="the server closes too")
    server.close()


async def test_a_backend_that_is_not_there_is_unreachable() -> None:
    adapter = OpenAICompatibleAdapter("http://127.0.0.1:9/v1")
    await adapter.start()

    with pytest.raises(BackendUnavailable) as caught:
        await Try(adapter, "m")()
    probe = await adapter.probe()

    assert caught.value.code == "backend_unreachable"
    assert (probe.health, "cannot be reached" in probe.detail) == (Health.DOWN, True)
    await adapter.close()


async def test_a_backend_without_tls_where_tls_is_configured_is_named_as_such(
    server: FakeOpenAIServer,
) -> None:
    adapter = OpenAICompatibleAdapter(server.url.replace("http:", "https:"))
    await adapter.start()

    with pytest.raises(BackendUnavailable) as caught:
        await Try(adapter, "m")()

    assert caught.value.code == "backend_tls"
    await adapter.close()
