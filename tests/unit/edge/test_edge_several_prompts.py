"""Several prompts in one text completion, as the official client sees them."""

import asyncio
import json
from typing import Any

import aiohttp
import msgspec
import openai
import pytest
from structlog.testing import capture_logs

from localforge.contracts.chat import Usage
from localforge.contracts.live import ChatCall
from tests.support import wait_until
from tests.unit.edge.lane import Lane, chunk, completed, delta, failed, silent, summary

PROMPTS = ["one", "two", "three"]


@pytest.fixture
async def client(edge):
    async with openai.AsyncOpenAI(
        base_url=f"{edge.url}/v1", api_key="none", max_retries=0
    ) as client:
        yield client


def prompt_of(call: ChatCall) -> str:
    content: str = json.loads(call.body)["messages"][0]["content"]
    return content


def echo(lane: Lane, call: ChatCall) -> None:
    """Answer each choice with the prompt and the choice's number; a word is a token."""
    text, count = prompt_of(call), json.loads(call.body).get("n") or 1
    usage = Usage(prompt_tokens=len(text), completion_tokens=count)
    told = summary(call, cost_usd=0.001, model=f"model-{text}")
    if call.stream:
        lane.emit(delta(call, f"{text} ", first=True))
        lane.emit(delta(call, "streamed"))
        end = completed(call, data=chunk(call, "", "stop") + b"data: [DONE]\n\n")
    else:
        choices = [
            {"index": i, "message": {"content": f"{text}-{i}"}, "finish_reason": "stop"}
            for i in range(count)
        ]
        body = {"id": f"chatcmpl-{call.request_id}", "created": 1, "model": "m", "choices": choices}
        end = completed(call, body=msgspec.json.encode(body))
    lane.emit(msgspec.structs.replace(end, usage=usage, summary=told))


async def test_every_prompt_is_answered_in_order_with_all_its_choices(edge, client):
    edge.lane.script = echo

    raw = await client.completions.with_raw_response.create(model="auto", prompt=PROMPTS, n=2)
    answer = raw.parse()

    assert [(choice.index, choice.text) for choice in answer.choices] == [
        (0, "one-0"),
        (1, "one-1"),
        (2, "two-0"),
        (3, "two-1"),
        (4, "three-0"),
        (5, "three-1"),
    ]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3 + 3 + 5, 6)
    assert answer.usage.total_tokens == 17
    decisions = [call.request_id for call in edge.lane.sent]
    assert answer.id == f"cmpl-{decisions[0]}"
    assert raw.headers["x-localforge-decision"] == ",".join(decisions)
    assert raw.headers["x-localforge-model"] == "model-one,model-two,model-three"
    assert raw.headers["x-localforge-cost-usd"] == "0.00300000"
    assert [prompt_of(call) for call in edge.lane.sent] == PROMPTS
    assert edge.service.in_flight == 0


@pytest.mark.parametrize("usage", [True, False])
async def test_streams_are_told_apart_by_their_index(edge, client, usage):
    edge.lane.script = echo

    stream = await client.completions.create(
        model="auto", prompt=PROMPTS, stream=True, stream_options={"include_usage": usage}
    )
    texts: dict[int, str] = {}
    counted = []
    async for event in stream:
        for choice in event.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
        counted += [event.usage.total_tokens] if event.usage else []

    assert texts == {0: "one streamed", 1: "two streamed", 2: "three streamed"}
    assert counted == ([3 + 3 + 5 + 3] if usage else [])


async def test_one_failure_is_the_answer_and_calls_the_others_off(edge, client):
    def script(lane: Lane, call: ChatCall) -> None:
        if prompt_of(call) == "two":
            lane.emit(failed(call, 503))
        else:
            silent(lane, call)

    edge.lane.script = script
    with pytest.raises(openai.InternalServerError) as caught:
        await client.completions.create(model="auto", prompt=PROMPTS)

    assert caught.value.status_code == 503
    first, _, third = (call.request_id for call in edge.lane.sent)
    await wait_until(
        lambda: {first, third} <= set(edge.lane.cancelled), description="the others are called off"
    )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_failure_has_the_cost_of_what_was_answered_before_it(edge, stream):
    def script(lane: Lane, call: ChatCall) -> None:
        if prompt_of(call) != "three":
            echo(lane, call)
        else:
            lane.emit(failed(call, summary=summary(call, cost_usd=0.25)))

    edge.lane.script = script
    asked = {"model": "auto", "prompt": PROMPTS, "stream": stream}
    with capture_logs() as lines:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{edge.url}/v1/completions", json=asked) as answer,
        ):
            await answer.read()

    assert lines[0]["cost_usd"] == pytest.approx(0.252)
    told = answer.headers.get("x-localforge-cost-usd")
    assert told == (None if stream else "0.25200000")


async def test_a_failure_after_content_ends_the_stream_with_an_error_and_no_done(edge):
    begun: list[ChatCall] = []

    def script(lane: Lane, call: ChatCall) -> None:
        lane.emit(delta(call, "half", first=True))
        begun.append(call)
        if len(begun) == len(PROMPTS):
            lane.emit(failed(call))

    edge.lane.script = script
    asked = {"model": "auto", "prompt": PROMPTS, "stream": True}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{edge.url}/v1/completions", json=asked) as answer,
    ):
        body = await answer.text()

    assert answer.status == 200
    assert "[DONE]" not in body
    last = json.loads(body.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] == "backend_unavailable"


async def test_a_client_that_hangs_up_calls_all_of_them_off(edge, client):
    edge.lane.script = silent
    task = asyncio.create_task(client.completions.create(model="auto", prompt=PROMPTS))
    await wait_until(lambda: len(edge.lane.sent) == len(PROMPTS), description="all are sent")

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    sent = {call.request_id for call in edge.lane.sent}
    await wait_until(lambda: set(edge.lane.cancelled) == sent, description="all are called off")
    await wait_until(lambda: edge.service.in_flight == 0, description="nothing is left")


async def test_all_are_accepted_or_none_is(run_edge):
    edge = await run_edge(max_in_flight=2)
    edge.lane.script = silent
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{edge.url}/v1/completions", json={"model": "auto", "prompt": PROMPTS}
        ) as answer,
    ):
        assert answer.status == 503

    assert (edge.lane.sent, edge.service.in_flight) == ([], 0)


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        (["one", 2], "token ids"),
        ([], "list of strings"),
        (["x"] * 65, "65 prompts; send at most 64"),
    ],
)
async def test_what_is_no_list_of_prompts_is_refused(client, prompt: Any, told: str):
    with pytest.raises(openai.BadRequestError) as caught:
        await client.completions.create(model="auto", prompt=prompt)

    assert told in caught.value.message
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_deadline_that_one_prompt_misses_is_told_though_others_have_ended(
    run_edge, stream: bool
):
    def mostly(lane: Lane, call: ChatCall) -> None:
        (silent if prompt_of(call) == "two" else echo)(lane, call)

    edge = await run_edge(deadline_s=0.3)
    edge.lane.script = mostly

    body = {"model": "auto", "prompt": PROMPTS, "stream": stream}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{edge.url}/v1/completions", json=body) as reply,
    ):
        answer = await reply.read()

    if stream:
        assert reply.status == 200
        last = answer.strip().split(b"\n\n")[-1].removeprefix(b"data: ")
    else:
        assert reply.status == 504
        last = answer
    assert json.loads(last)["error"]["code"] == "deadline_exceeded"
    assert edge.service.in_flight == 0
