"""What goes wrong between the client and the model, as the client and the model see it."""

import asyncio
import http.client
import json
import socket
import time
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from openai import OpenAI

from tests.e2e.slow_server import check_took
from tests.e2e.stack import Provider, Stack
from tests.fakes.openai_server import Behaviour, Seen
from tests.support import Lateness, wait_until

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def _ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "fake-a", "messages": [{"role": "user", "content": text}], **more}


def _post(stack: Stack, body: dict[str, Any]) -> socket.socket:
    """Send a request and return the bare connection."""
    address = urlsplit(stack.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=20)
    data = json.dumps(body).encode()
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"content-length: %d\r\n\r\n" % len(data) + data
    )
    return connection


def _finished(seen: list[Seen]) -> bool:
    return bool(seen) and seen[0].closed_at > 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_stops_the_model_within_a_second(
    stack: Stack, local: Provider, late: Lateness, stream: bool
):
    marker = f"gone-client-{stream}"
    with local.behaving(fake_a=Behaviour(words=["word"] * 400, pace_s=0.05)):
        with closing(_post(stack, _ask(marker, stream=stream))) as connection:
            await wait_until(lambda: local.saw(marker), description="the model works")
            if stream:
                assert b"200 OK" in connection.recv(1000)
        gone_at = time.monotonic()
        await wait_until(lambda: _finished(local.saw(marker)), description="the model stops")

    (seen,) = local.saw(marker)
    check_took(seen.closed_at - gone_at, 1, late)
    assert not seen.finished


async def test_a_cancelled_request_is_recorded_as_such(stack: Stack, local: Provider):
    with local.behaving(fake_a=Behaviour(first_s=30)):
        with closing(_post(stack, _ask("cancel-recorded"))):
            await wait_until(lambda: local.saw("cancel-recorded"), description="the model works")

        def line() -> Any:
            return [e for e in stack.events("request") if e["status"] == 499]

        await wait_until(line, description="the log line of a client that went")
    assert line()[-1]["requested"] == "fake-a"


def test_before_the_first_token_the_next_model_of_the_plan_answers(stack: Stack, local: Provider):
    """`fake-a`, which the rule puts first, fails; of the others one has tools."""
    with local.behaving(fake_a=Behaviour(status=503, error={"message": "busy"})):
        for index in range(3):
            reply = stack.chat(
                _ask(f"fallback {index}", tools=TOOLS, model="auto"),
                label="confidential",
                policy="rules",
            )
            assert reply.status == 200, reply.body
            assert reply.json["model"] == reply.headers["x-localforge-model"] == "fake-b"
            assert reply.headers["x-localforge-fallbacks"] == "1"


@pytest.mark.parametrize("fault", ["cut", "error in the body", "not JSON"])
def test_a_stream_that_fails_before_its_first_token_falls_back_too(
    stack: Stack, local: Provider, fault: str
):
    behaviour = {
        "cut": Behaviour(cut_after=0),
        "error in the body": Behaviour(error_after=0),
        "not JSON": Behaviour(malformed_after=0),
    }[fault]
    with local.behaving(fake_a=behaviour, fake_b=behaviour):
        reply = stack.chat(
            _ask("no token", model="auto", stream=True, max_tokens=8), label="confidential"
        )

    assert reply.status == 200
    assert reply.headers["x-localforge-model"] in ("left", "right", "smollm2-135m")
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert b'"error"' not in reply.body


def test_a_caller_who_wants_no_fallback_gets_the_error(stack: Stack, local: Provider):
    with local.behaving(fake_a=Behaviour(status=503), fake_b=Behaviour(status=503)):
        reply = stack.chat(
            _ask("no fallback", model="auto", tools=TOOLS), label="confidential", fallback="no"
        )

    assert reply.status in (502, 503)
    assert reply.headers["x-localforge-fallbacks"] == "0"


def test_a_stream_that_breaks_ends_with_an_error_and_without_done(stack: Stack, local: Provider):
    with local.behaving(fake_a=Behaviour(cut_after=3)):
        reply = stack.chat(_ask("breaks in the middle", stream=True))

    events = [e for e in reply.body.decode().split("\n\n") if e]
    assert reply.status == 200
    assert '"content":"The"' in reply.body.decode().replace('": ', '":')
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "backend_cut"
    assert "[DONE]" not in reply.body.decode()


def test_the_official_client_raises_on_a_broken_stream(stack: Stack, local: Provider):
    heard: list[str] = []
    with (
        local.behaving(fake_a=Behaviour(cut_after=3)),
        OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client,
    ):
        stream = client.chat.completions.create(**_ask("breaks", stream=True))
        with pytest.raises(openai.APIError):
            heard.extend(chunk.choices[0].delta.content or "" for chunk in stream)

    assert "".join(heard) == "The sea is"


async def test_a_silent_model_ends_with_504_at_the_deadline(
    stack: Stack, local: Provider, late: Lateness
):
    began = time.monotonic()
    with local.behaving(fake_a=Behaviour(first_s=30)):
        reply = await asyncio.to_thread(stack.chat, _ask("deadline"), deadline_s="1")
    took = time.monotonic() - began

    assert (reply.status, reply.json["error"]["code"]) == (504, "deadline_exceeded")
    assert 0.9 < took < late.allowed(3, at_most=10)


def test_the_providers_own_refusal_is_passed_on(stack: Stack, local: Provider):
    refusal = Behaviour(status=400, error={"message": "no such top_k", "param": "top_k"})
    with local.behaving(fake_a=refusal):
        reply = stack.chat(_ask("refused"))

    assert reply.status == 400
    assert "no such top_k" in reply.json["error"]["message"]
    assert reply.json["error"]["param"] == "top_k"


def test_a_providers_rate_limit_comes_with_its_retry_after(stack: Stack, local: Provider):
    limited = Behaviour(status=429, headers={"Retry-After": "7"}, error={"message": "slow down"})
    with local.behaving(fake_a=limited):
        reply = stack.chat(_ask("limited"))

    assert (reply.status, reply.headers["retry-after"]) == (429, "7")
    assert reply.json["error"]["code"] == "backend_rate_limited"


def test_many_requests_on_one_connection(stack: Stack):
    address = urlsplit(stack.url)
    with closing(http.client.HTTPConnection(address.hostname or "", address.port)) as connection:
        for index in range(20):
            connection.request("POST", "/v1/chat/completions", json.dumps(_ask(f"keep {index}")))
            answer = connection.getresponse()
            assert (answer.status, answer.read()[:5]) == (200, b'{"id"')
