"""What every adapter must do, against a fake provider over real HTTP and the real small model."""

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytest_asyncio

from localforge.config import BackendConfig
from localforge.contracts.cards import Health
from localforge.errors import BackendRefused, BackendUnavailable, RequestRefused
from localforge.faults import Fault, FaultServer, Settings
from localforge.inference import (
    Adapter,
    Completion,
    EmbeddedAdapter,
    Reply,
    build_adapter,
)
from localforge.inference.answers import render_answer
from localforge.inference.chunks import closing_events
from localforge.inference.usage import settle_usage
from tests.support import Lateness, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclasses.dataclass
class Subject:
    adapter: Adapter
    upstream: str
    server: FaultServer | None = None
    """What is behind it; None for those that need no server."""


QUESTION = "Say something about the sea."
GENERATING = "tgi-generate"
"""A TGI whose model has no chat template."""
KINDS = ("openai", "vllm", "tgi", GENERATING, "ollama", "anthropic")
"""Played by the fault server."""


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[*KINDS, "recorded", "embedded"],
    name="subject",
)
async def _subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Subject]:
    kind = request.param
    server = FaultServer(Settings(models=("healthy",), chat_template=kind != GENERATING))
    backend = BackendConfig(name="b", kind=kind.partition("-")[0], pace=0)
    upstream = {"embedded": "SmolLM2-135M-Instruct"}.get(kind, "healthy")
    if kind in KINDS:
        await server.start()
        url = server.url + ("/v1" if kind in ("openai", "vllm") else "")
        backend = msgspec.structs.replace(backend, url=url)
    elif kind == "recorded":
        file = write_outcomes(tmp_path_factory.mktemp("data") / "outcomes.parquet")
        backend = msgspec.structs.replace(backend, data_file=str(file))
    adapter = build_adapter(backend, "sk-test")
    await adapter.start()
    yield Subject(adapter, upstream, server if kind in KINDS else None)
    await adapter.close()
    await server.close()


def write_outcomes(file: Path) -> Path:
    columns = {
        "query_id": ["q1"],
        "prompt": [QUESTION],
        "healthy|score": [1.0],
        "healthy|cost_usd": [0.002],
        "healthy|prompt_tokens": [6],
        "healthy|completion_tokens": [40],
    }
    pq.write_table(pa.table(columns), file)
    return file


@dataclasses.dataclass
class Result:
    reply: Reply
    batches: list[bytes]
    request: Completion

    @property
    def events(self) -> list[dict[str, Any]]:
        closing = closing_events(self.request, self.reply, settle_usage(self.reply, 0))
        events = b"".join([*self.batches, closing]).split(b"\n\n")
        assert events[-2:] == [b"data: [DONE]", b""]
        return [json.loads(event.removeprefix(b"data: ")) for event in events[:-2]]


async def ask(
    subject: Subject,
    *,
    stream: bool,
    include_usage: bool = False,
    batches: list[bytes] | None = None,
    **body: Any,
) -> Result:
    batches = [] if batches is None else batches

    async def write(data: bytes) -> None:
        batches.append(data)

    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 8,
        "temperature": 0,
        "preference": "cheap",
        **body,
    }
    request = Completion(
        completion_id="chatcmpl-test",
        model="my-model",
        upstream=subject.upstream,
        body=json.dumps(body).encode(),
        stream=stream,
        include_usage=include_usage,
    )
    reply = Reply(write)
    await subject.adapter.complete(request, reply)
    return Result(reply, batches, request)


async def test_a_whole_answer_has_openai_shape_with_our_names(subject: Subject) -> None:
    result = await ask(subject, stream=False)

    answer = json.loads(render_answer(result.reply, settle_usage(result.reply, 0)))
    assert (answer["id"], answer["model"], answer["object"]) == (
        "chatcmpl-test",
        "my-model",
        "chat.completion",
    )
    assert answer["choices"][0]["message"]["content"] == "".join(result.reply.text) != ""
    assert answer["choices"][0]["finish_reason"] == "length" == result.reply.finish_reason
    assert answer["usage"]["completion_tokens"] == 8
    assert (result.batches, result.reply.started) == ([], False)


async def test_a_stream_has_openai_shape_with_our_names(subject: Subject) -> None:
    result = await ask(subject, stream=True)

    assert {(e["id"], e["model"], e["object"]) for e in result.events} == {
        ("chatcmpl-test", "my-model", "chat.completion.chunk")
    }
    assert all("usage" not in event for event in result.events)
    content = [event["choices"][0]["delta"].get("content") for event in result.events]
    assert "".join(filter(None, content)) == "".join(result.reply.text) != ""
    assert result.events[-1]["choices"][0]["finish_reason"] == "length"
    assert result.reply.first_content_at > 0


async def test_usage_and_text_are_equal_streamed_or_not(subject: Subject) -> None:
    whole = (await ask(subject, stream=False)).reply
    streamed = (await ask(subject, stream=True)).reply

    assert "".join(whole.text) == "".join(streamed.text)
    assert whole.usage is not None
    assert streamed.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (
        streamed.usage.prompt_tokens,
        streamed.usage.completion_tokens,
    )


async def test_usage_is_the_last_event_where_it_was_asked_for(subject: Subject) -> None:
    result = await ask(subject, stream=True, include_usage=True)

    assert [event["usage"] is None for event in result.events] == [True] * (
        len(result.events) - 1
    ) + [False]
    assert result.events[-1]["choices"] == []


async def test_several_requests_run_side_by_side(subject: Subject) -> None:
    results = await asyncio.gather(
        *(ask(subject, stream=number % 2 == 0, max_tokens=4) for number in range(6))
    )

    assert {result.reply.finish_reason for result in results} == {"length"}


async def test_a_body_that_is_no_object_never_leaves(subject: Subject) -> None:
    async def nowhere(_: bytes) -> None:
        raise AssertionError("nothing to write")

    request = Completion(completion_id="c", model="m", upstream=subject.upstream, body=b"[1]")
    reply = Reply(nowhere)

    with pytest.raises(RequestRefused):
        await subject.adapter.complete(request, reply)
    assert not reply.accepted


async def test_a_healthy_backend_says_so_and_names_its_models(subject: Subject) -> None:
    probe = await subject.adapter.probe()

    assert (probe.health, probe.models) == (Health.UP, (subject.upstream,))


async def test_a_cancelled_request_ends_at_once_and_the_next_one_is_served(
    subject: Subject,
) -> None:
    began = time.monotonic()
    await ask(subject, stream=True, max_tokens=1)
    usual_s = time.monotonic() - began
    batches: list[bytes] = []
    # A server that begins and never ends; the embedded model has enough to do without.
    endless = {"content": "fault:stall-mid-stream"} if subject.server else {"content": QUESTION}
    messages = [{"role": "user", **endless}]
    tasks = [
        asyncio.ensure_future(
            ask(
                subject,
                stream=True,
                max_tokens=1000,
                ignore_eos=True,
                batches=batches,
                messages=messages,
            )
        )
        for _ in range(subject.adapter.slots)
    ]
    await wait_until(
        lambda: len(batches) >= len(tasks) if subject.server else batches,
        timeout=60,
        description="the backend answers",
    )
    cancelled_at = time.time()
    async with Lateness() as late:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        if subject.server:
            stalled = [s for s in subject.server.journal.requests if s.fault == Fault.STALL]
            await wait_until(lambda: all(s.ended_at for s in stalled), description="it has noticed")
            assert len(stalled) == len(tasks)
            assert all(s.client_gone for s in stalled)
            took = max(s.ended_at for s in stalled) - cancelled_at
            assert took < late.allowed(1, at_most=4)

    # With every slot taken by a request that goes on, this one would wait for a thousand tokens.
    async with asyncio.timeout(5 + 10 * usual_s):
        assert (await ask(subject, stream=True, max_tokens=1)).reply.text


async def test_a_closed_adapter_is_unavailable_and_does_not_crash() -> None:
    for kind in {kind.partition("-")[0] for kind in (*KINDS, "recorded", "embedded")}:
        adapter = build_adapter(BackendConfig(name="b", kind=kind, url="http://127.0.0.1:9/v1"), "")
        with pytest.raises(BackendUnavailable):
            await ask(Subject(adapter, "m"), stream=False)


async def test_the_embedded_model_refuses_what_it_cannot_read(subject: Subject) -> None:
    if not isinstance(subject.adapter, EmbeddedAdapter):
        pytest.skip("the fake reads everything")

    with pytest.raises(BackendRefused, match="temperature"):
        await ask(subject, stream=True, temperature="hot")
    with pytest.raises(BackendRefused, match="context size"):
        await ask(subject, stream=False, messages=[{"role": "user", "content": "word " * 9000}])
