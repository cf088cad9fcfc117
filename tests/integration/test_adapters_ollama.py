"""The Ollama adapter: discovery, load, and the request and answer in Ollama's words."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from localforge.config import BackendConfig, ModelConfig
from localforge.contracts.cards import Capability, Health
from localforge.errors import BackendUnavailable
from localforge.executor.inventory import Inventory
from localforge.executor.pool import build_pool
from localforge.inference import Completion, Reply, ollama
from localforge.inference.ollama import OllamaAdapter
from tests.fakes.ollama_server import COUNTS, FakeOllama, fake_ollama, shown

PIXEL = base64.b64encode(b"a picture").decode()
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture(name="server")
async def _server() -> AsyncIterator[FakeOllama]:
    async with fake_ollama() as server:
        yield server


@pytest.fixture(name="adapter")
async def _adapter(server: FakeOllama) -> AsyncIterator[OllamaAdapter]:
    adapter = OllamaAdapter(server.url, contexts={"mine": 2048}, keep_alive="10m")
    await adapter.start()
    yield adapter
    await adapter.close()


async def ask(adapter: OllamaAdapter, upstream: str = "small", **body: Any) -> Reply:
    async def nowhere(_: bytes) -> None:
        return

    reply = Reply(nowhere)
    body = {"messages": [{"role": "user", "content": "Hi"}], **body}
    request = Completion(
        completion_id="c1", model="m", upstream=upstream, body=json.dumps(body).encode()
    )
    await adapter.complete(request, reply)
    return reply


async def embed(adapter: OllamaAdapter, upstream: str) -> Reply:
    async def nowhere(_: bytes) -> None:
        return

    reply = Reply(nowhere)
    request = Completion(
        completion_id="c1", model="mine", upstream=upstream, body=b'{"input":"A sea."}'
    )
    await adapter.embed(request, reply)
    return reply


Ask = Callable[[OllamaAdapter, str], Awaitable[Reply]]


def message_of(reply: Reply) -> dict[str, Any]:
    return json.loads(bytes(reply.answer["choices"]))[0]["message"]


async def test_models_are_found_with_what_they_can_do(
    server: FakeOllama, adapter: OllamaAdapter
) -> None:
    server.models |= {
        "seer:4b": shown("completion", "vision", "thinking", context=4096),
        "tuned": shown("completion", parameters='stop "x"\nnum_ctx                 32768'),
        "vectors": shown("embedding", context=512),
        "filler": shown("insert"),
        "elsewhere:cloud": shown("completion") | {"remote_host": "https://ollama.com"},
        "ancient": {"template": "{{ if .Tools }}", "model_info": {}},
    }

    probe = await adapter.probe()

    assert probe.health is Health.UP
    found = {model.name: model for model in probe.found or ()}
    assert found.keys() == {"small:latest", "seer:4b", "tuned", "vectors", "ancient"}
    assert {name: model.context_tokens for name, model in found.items()} == {
        "small:latest": 8192,
        "seer:4b": 4096,
        "tuned": 32768,
        "vectors": 512,
        "ancient": 8192,
    }
    grammar = {Capability.JSON_OBJECT, Capability.JSON_SCHEMA, Capability.SEED}
    assert found["seer:4b"].capabilities == grammar | {Capability.VISION, Capability.REASONING}
    assert found["vectors"].capabilities == {Capability.EMBEDDINGS}
    assert found["ancient"].capabilities == grammar | {Capability.TOOLS}


async def test_the_size_of_a_model_is_as_counted_else_as_rounded(
    server: FakeOllama, adapter: OllamaAdapter
) -> None:
    counted = {"general.parameter_count": 8_030_261_248}
    server.models = {
        "counted": shown("completion", model_info=counted, details={"parameter_size": "9B"}),
        "rounded": shown("completion", details={"parameter_size": "134.52M"}),
        "odd": shown("completion", details={"parameter_size": "huge"}),
        "silent": shown("completion"),
    }

    found = {model.name: model.parameters_b for model in (await adapter.probe()).found or ()}

    assert found.pop("rounded") == pytest.approx(0.13452)
    assert found == {"counted": 8.030261248, "odd": None, "silent": None}


async def test_a_model_is_asked_about_once_until_it_changes(
    server: FakeOllama, adapter: OllamaAdapter
) -> None:
    await adapter.probe()
    await adapter.probe()
    server.models["small:latest"] = shown("completion", "vision")
    await adapter.probe()

    assert server.shown == ["small:latest", "small:latest"]


async def test_what_is_in_memory_is_its_load(server: FakeOllama, adapter: OllamaAdapter) -> None:
    server.loaded = ["small:latest"]

    assert (await adapter.load()).loaded == ("small:latest",)


async def test_models_register_themselves_and_vanish_when_gone(server: FakeOllama) -> None:
    backend = BackendConfig(name="ollama", kind="ollama", url=server.url)
    pool, inventory = build_pool(backend, ""), Inventory(backend)
    await pool.start()

    inventory.take(await pool.probe(), frozenset())
    first = [(card.name, card.price_in) for card in inventory.cards]
    server.models = {"other": shown("completion")}
    inventory.take(await pool.probe(), frozenset({"other"}))
    second = [(card.name, card.upstream_name) for card in inventory.cards]
    await server.close()
    inventory.take(await pool.probe(), frozenset({"other"}))

    assert first == [("small:latest", 0.0)]
    assert second == [("ollama/other", "other")]
    assert [card.name for card in inventory.cards] == ["ollama/other"]
    await pool.close()


async def test_a_configured_model_that_is_not_there_is_not_served(server: FakeOllama) -> None:
    models = (ModelConfig(name="fast", upstream="small"), ModelConfig(name="big"))
    backend = BackendConfig(name="ollama", kind="ollama", url=server.url, models=models)
    pool, inventory = build_pool(backend, ""), Inventory(backend)
    await pool.start()

    inventory.take(await pool.probe(), frozenset())

    assert [card.name for card in inventory.cards] == ["fast", "big"]
    assert inventory.served == ("fast",)
    assert Capability.TOOLS in inventory.cards[0].capabilities
    assert not inventory.is_bare

    server.models = {}
    inventory.take(await pool.probe(), frozenset())

    assert inventory.is_bare
    await pool.close()


async def test_a_request_goes_to_the_host_that_has_its_model(server: FakeOllama) -> None:
    async with fake_ollama() as other:
        other.models = {"rare": shown("completion")}
        urls = (server.url, other.url)
        pool = build_pool(BackendConfig(name="ollama", kind="ollama", urls=urls), "")
        await pool.start()
        probe = await pool.probe()

        for _ in range(3):
            await ask(pool, "rare")  # type: ignore[arg-type]

        assert {model.name for model in probe.found or ()} == {"small:latest", "rare"}
        assert (len(server.asked), len(other.asked)) == (0, 3)
        await pool.close()


async def test_a_request_is_said_in_ollamas_words(
    server: FakeOllama, adapter: OllamaAdapter
) -> None:
    called = {"id": "call_1", "type": "function"}
    called["function"] = {"name": "weather", "arguments": '{"city":"Oslo"}'}  # type: ignore[assignment]
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    server.models["mine:latest"] = shown("completion", "tools", "vision")

    await ask(
        adapter,
        "mine",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]},
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        ],
        tools=[TOOL],
        max_completion_tokens=50,
        temperature=0.5,
        stop="END",
        seed=7,
        response_format={"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
    )

    assert server.asked == [
        {
            "model": "mine",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What is it?", "images": [PIXEL]},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
                    ],
                },
                {"role": "tool", "content": "rain", "tool_name": "weather"},
            ],
            "stream": True,
            "options": {
                "temperature": 0.5,
                "seed": 7,
                "num_predict": 50,
                "stop": ["END"],
                "num_ctx": 2048,
            },
            "tools": [TOOL],
            "format": {"type": "object"},
            "keep_alive": "10m",
        }
    ]


@pytest.mark.parametrize(
    ("values", "effort", "think"),
    [
        ([], "high", True),
        (["low", "medium", "high"], "high", "high"),
        ([False, True], "none", False),
    ],
)
async def test_thinking_is_asked_for_as_the_model_takes_it(
    server: FakeOllama, adapter: OllamaAdapter, values: list[Any], effort: str, think: Any
) -> None:
    server.models["small:latest"] = shown("completion", "thinking", thinking={"values": values})
    await adapter.probe()

    await ask(adapter, reasoning_effort=effort)

    assert server.asked[0]["think"] == think


async def test_tools_are_called_and_thoughts_are_kept_apart(
    server: FakeOllama, adapter: OllamaAdapter
) -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    server.lines = [
        {"message": {"role": "assistant", "content": "", "thinking": "Hm."}, "done": False},
        {"message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": False},
        {"done": True, "done_reason": "stop", **COUNTS},
    ]

    reply = await ask(adapter)

    message = message_of(reply)
    assert message["content"] is None
    assert message["reasoning_content"] == "Hm."
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"city": "Oslo"}
    assert message["tool_calls"][0]["id"]
    assert (reply.finish_reason, reply.tool_calls) == ("tool_calls", 1)
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (12, 3)


async def test_an_error_in_the_stream_is_no_answer(
    server: FakeOllama, adapter: OllamaAdapter
) -> None:
    server.lines = [{"error": "the model runner has stopped"}]

    with pytest.raises(BackendUnavailable) as caught:
        await ask(adapter)

    assert caught.value.code == "backend_error"


async def test_a_picture_by_address_is_left_to_another_model(
    server: FakeOllama, adapter: OllamaAdapter
) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}

    with pytest.raises(BackendUnavailable, match="base64") as caught:
        await ask(adapter, messages=[{"role": "user", "content": [picture]}])

    assert (caught.value.code, caught.value.status, server.asked) == ("backend_cannot", 400, [])


CLOUD = {"remote_host": "https://ollama.com"}
BIG = {"big:cloud": shown("completion", "embedding") | CLOUD}


@pytest.mark.parametrize("operation", [ask, embed], ids=["chat", "embeddings"])
@pytest.mark.parametrize(
    ("models", "upstream"),
    [
        (BIG, "big:cloud"),
        ({"big:latest": shown("completion") | CLOUD}, "big"),
        ({"big:cloud": shown("completion") | {"remote_model": "big"}}, "big:cloud"),
        ({"big:cloud": shown("completion") | {"remote_host": 123}}, "big:cloud"),
        (BIG, "BIG:cloud"),
        (BIG, "library/big:cloud"),
        (BIG, "registry.ollama.ai/library/big:cloud"),
        (BIG | {"Big:Cloud": shown("completion")}, "Big:Cloud"),
        ({}, "big:cloud"),
    ],
    ids=[
        "listed", "without tag", "by its model", "odd host", "upper case", "library", "full name",
        "a name twice", "not listed",
    ],
)  # fmt: skip
async def test_only_a_model_listed_as_ollamas_own_gets_content(
    server: FakeOllama,
    adapter: OllamaAdapter,
    operation: Ask,
    models: dict[str, Any],
    upstream: str,
) -> None:
    server.models |= models

    with pytest.raises(BackendUnavailable, match="leave this site") as caught:
        await operation(adapter, upstream)

    assert (caught.value.code, server.asked) == ("backend_not_found", [])
    await operation(adapter, "small")
    assert len(server.asked) == 1


@pytest.mark.parametrize("operation", [ask, embed], ids=["chat", "embeddings"])
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((500, "broken"), "backend_http_500"),
        ((404, "no such page"), "backend_not_found"),
        ((200, '{"models":[{"name":1}]}'), "backend_malformed"),
        ((200, "\xff"), "backend_malformed"),
    ],
    ids=["500", "404", "other shape", "no JSON"],
)
async def test_nothing_is_sent_while_the_list_of_models_cannot_be_read(
    server: FakeOllama,
    adapter: OllamaAdapter,
    operation: Ask,
    answer: tuple[int, str],
    code: str,
) -> None:
    server.tags = answer
    await adapter.probe()

    with pytest.raises(BackendUnavailable) as caught:
        await operation(adapter, "small")

    assert (caught.value.code, server.asked) == (code, [])
    server.tags = None
    await operation(adapter, "small")
    assert len(server.asked) == 1


async def test_a_list_that_is_no_longer_ollamas_counts_no_more(
    server: FakeOllama, adapter: OllamaAdapter
) -> None:
    await ask(adapter)
    server.tags = (200, '{"models":[{"name":1}]}')
    await adapter.probe()

    with pytest.raises(BackendUnavailable, match="cannot be read"):
        await ask(adapter)


async def test_an_old_list_is_asked_for_again_before_content_goes(
    server: FakeOllama, adapter: OllamaAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(adapter)
    server.models["small:latest"] = shown("completion") | CLOUD
    monkeypatch.setattr(ollama, "LIST_VALID_S", 0.0)

    with pytest.raises(BackendUnavailable, match="leave this site"):
        await ask(adapter)

    assert len(server.asked) == 1


async def test_a_model_that_cannot_be_described_is_still_ollamas_own(
    server: FakeOllama, adapter: OllamaAdapter
) -> None:
    server.models["small:latest"] = {"capabilities": 5}

    await ask(adapter)

    assert len(server.asked) == 1


async def test_texts_become_vectors(server: FakeOllama, adapter: OllamaAdapter) -> None:
    server.models["vectors"] = shown("embedding")

    reply = await embed(adapter, "vectors")

    assert server.asked == [{"input": "A sea.", "model": "vectors"}]
    assert json.loads(bytes(reply.answer["data"]))[0]["embedding"] == [0.5, 0.25]
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 4
