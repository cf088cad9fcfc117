"""A fake OpenAI-compatible provider: real HTTP and wire format, canned words, scripted faults.

    python -m tests.fakes.openai_server --port 9000

The behaviour of a request is `Behaviour`, taken from the server's `behaviours` by the model's
name; a model whose name is one of `FAULTS` has that fault.
"""

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import json
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

WORDS = ["The", "sea", "is", "wide", "and", "the", "sky", "above", "it", "is", "clear", "today."]


@dataclasses.dataclass
class Behaviour:
    """What the fake does with a request."""

    words: list[str] = dataclasses.field(default_factory=lambda: list(WORDS))
    sampled: list[str] = dataclasses.field(default_factory=list)
    """Words for a request that names a temperature above 0; empty means `words`."""
    pace_s: float = 0.0
    """Between two chunks, or before an unstreamed answer."""
    first_s: float = 0.0
    usage: bool = True
    usage_more: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Further members of usage."""
    usage_with_choices: bool = False
    """Usage rides on the last chunk with choices instead of one of its own."""
    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    error: dict[str, Any] | None = None
    """The error object of a status other than 200, or of a 200 when `status` is 200."""
    cut_after: int | None = None
    """Close the connection after so many chunks, or before an unstreamed answer."""
    end_after: int | None = None
    """End the stream cleanly, without finish reason or `[DONE]`, after so many chunks."""
    cut_before_usage: bool = False
    """Close the connection between the finish reason and what follows it."""
    stall_after: int | None = None
    """Say nothing more after so many chunks."""
    malformed_after: int | None = None
    bad_utf8_after: int | None = None
    error_after: int | None = None
    """An error event after so many chunks."""
    content_type: str | None = None
    finish_reason: str = "stop"
    done: bool = True
    line_ending: str = "\n"
    one_byte_writes: bool = False
    echo_tools: bool = False
    """Answer with a call of the first tool, unless there is none or it has given its result."""
    thoughts: list[str] = dataclasses.field(default_factory=list)
    """Come before the words, as `reasoning_content`."""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    """More members of each chunk and answer."""

    def event_at(self, number: int) -> bytes | None:
        """Return the broken event that stands in for chunk `number`, if any."""
        if number == self.malformed_after:
            return b'data: {"id": "x", "choices": [{"del\n\n'
        if number == self.bad_utf8_after:
            return b'data: {"choices":[{"index":0,"delta":{"content":"\xe2\x82"}}]}\n\n'
        if number == self.error_after:
            return b'data: {"error":{"message":"fell over","type":"server_error"}}\n\n'
        return None


FAULTS: dict[str, Behaviour] = {
    "fault-429": Behaviour(status=429, headers={"Retry-After": "7"}, error={"message": "slow"}),
    "fault-500": Behaviour(status=500, error={"message": "broken"}),
    "fault-503": Behaviour(status=503, error={"message": "busy"}),
    "fault-400": Behaviour(
        status=400, error={"message": "no such thing", "code": "bad_value", "param": "top_k"}
    ),
    "fault-401": Behaviour(status=401, error={"message": "bad key sk-secret"}),
    "fault-error-200": Behaviour(error={"message": "overloaded", "type": "overloaded_error"}),
    "fault-empty": Behaviour(words=[]),
    "fault-html": Behaviour(content_type="text/html"),
    "fault-cut": Behaviour(cut_after=3),
    "fault-cut-first": Behaviour(cut_after=0),
    "fault-end": Behaviour(end_after=3),
    "fault-malformed": Behaviour(malformed_after=3),
    "fault-malformed-first": Behaviour(malformed_after=0),
    "fault-bad-utf8": Behaviour(bad_utf8_after=3),
    "fault-error-mid": Behaviour(error_after=3),
    "fault-silent": Behaviour(first_s=3600),
    "fault-stall": Behaviour(stall_after=3),
    "fault-no-usage": Behaviour(usage=False),
    "slow": Behaviour(first_s=0.5, pace_s=0.05),
}


@dataclasses.dataclass
class Seen:
    """One request as the fake saw it."""

    raw: bytes
    body: dict[str, Any]
    headers: dict[str, str]
    at: float
    peer: tuple[str, int]
    """Address of the client's end of the connection."""
    closed_at: float = 0.0
    """`time.monotonic` when the handler ended or the client's connection closed."""
    finished: bool = False
    chunks_sent: int = 0


class FakeOpenAIServer:
    """The fake; `url` is its base URL once started."""

    def __init__(self, models: tuple[str, ...] = ("fake-model",)) -> None:
        self.models = models
        self.behaviours: dict[str, Behaviour] = {}
        self.default = Behaviour()
        self.seen: list[Seen] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._models)
        # A handler is cancelled when its client goes, as a model server stops its work.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        assert self._runner.addresses
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"object": "list", "data": [{"id": m, "object": "model"} for m in self.models]}
        )

    async def _embeddings(self, request: web.Request) -> web.Response:
        """Give each text the vector of its length and of its words, encoded as was asked."""
        body = (await self._see(request)).body
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if isinstance(texts[0], int):
            texts = [texts]
        vectors = [[float(len(text)), float(str(text).count(" ") + 1)] for text in texts]
        if self.behaviours.get(body["model"], self.default).cut_after is not None:
            vectors.pop()
        tokens = sum(len(str(text).split()) for text in texts)
        return web.json_response(
            {
                "object": "list",
                "model": body["model"],
                "data": [
                    {
                        "object": "embedding",
                        "index": index,
                        "embedding": _base64(vector)
                        if body.get("encoding_format") == "base64"
                        else vector,
                    }
                    for index, vector in enumerate(vectors)
                ],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    async def _see(self, request: web.Request) -> Seen:
        raw = await request.read()
        seen = Seen(
            raw=raw,
            body=json.loads(raw),
            headers=dict(request.headers),
            at=time.monotonic(),
            peer=_peer(request),
        )
        self.seen.append(seen)
        return seen

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        seen = await self._see(request)
        body = seen.body
        model = body.get("model", "")
        behaviour = self.behaviours.get(model) or FAULTS.get(model) or self.default
        try:
            await asyncio.sleep(behaviour.first_s)
            if behaviour.status != 200 or behaviour.error is not None:
                return web.json_response(
                    {"error": behaviour.error or {"message": "scripted"}},
                    status=behaviour.status,
                    headers=behaviour.headers,
                )
            answer = _Answer(body, behaviour)
            if body.get("stream"):
                return await self._stream(request, answer, seen)
            return await self._whole(request, answer, seen)
        finally:
            seen.closed_at = time.monotonic()

    async def _whole(self, request: web.Request, answer: "_Answer", seen: Seen) -> web.Response:
        behaviour = answer.behaviour
        await asyncio.sleep(behaviour.pace_s * len(behaviour.words))
        if behaviour.cut_after is not None:
            assert request.transport is not None
            request.transport.close()
        if behaviour.malformed_after is not None:
            return web.Response(body=b'{"id": "x", "choices": [', content_type="application/json")
        if behaviour.stall_after is not None:
            await asyncio.sleep(3600)
        seen.finished = True
        return web.Response(
            body=json.dumps(answer.whole()).encode(),
            content_type=behaviour.content_type or "application/json",
        )

    async def _stream(
        self, request: web.Request, answer: "_Answer", seen: Seen
    ) -> web.StreamResponse:
        behaviour = answer.behaviour
        response = web.StreamResponse(
            headers={"Content-Type": behaviour.content_type or "text/event-stream"}
        )
        await response.prepare(request)

        async def send(event: bytes) -> None:
            event = event.replace(b"\n", behaviour.line_ending.encode())
            for piece in (bytes([b]) for b in event) if behaviour.one_byte_writes else (event,):
                await response.write(piece)

        async for number, event in answer.events():
            if number == behaviour.end_after:
                return response
            is_usage = b'"choices": []' in event
            if number == behaviour.cut_after or (is_usage and behaviour.cut_before_usage):
                assert request.transport is not None
                request.transport.close()
                return response
            if number == behaviour.stall_after:
                await asyncio.sleep(3600)
            scripted = behaviour.event_at(number) or event
            await send(scripted)
            seen.chunks_sent += 1
            if behaviour.pace_s:
                await asyncio.sleep(behaviour.pace_s)
        if behaviour.done:
            await send(b"data: [DONE]\n\n")
        seen.finished = True
        return response


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _peer(request: web.Request) -> tuple[str, int]:
    assert request.transport is not None
    host, port = request.transport.get_extra_info("peername")[:2]
    return host, port


class _Answer:
    """The fake's words in OpenAI's shapes."""

    def __init__(self, body: dict[str, Any], behaviour: Behaviour) -> None:
        self.body = body
        self.behaviour = behaviour
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        words = (behaviour.sampled if body.get("temperature") else []) or behaviour.words
        self.words = words[:limit]
        cut = limit is not None and limit < len(words)
        self.finish_reason = "length" if cut else behaviour.finish_reason
        self.calls = bool(
            behaviour.echo_tools and body.get("tools") and body["messages"][-1]["role"] != "tool"
        )
        if self.calls:
            self.finish_reason = "tool_calls"

    @property
    def usage(self) -> dict[str, Any]:
        prompt = sum(len(str(m.get("content", "")).split()) for m in self.body["messages"])
        return {
            "prompt_tokens": prompt,
            "completion_tokens": len(self.words),
            "total_tokens": prompt + len(self.words),
            "prompt_tokens_details": {"cached_tokens": 1},
            **self.behaviour.usage_more,
        }

    @property
    def pieces(self) -> list[str]:
        return [word if i == 0 else f" {word}" for i, word in enumerate(self.words)]

    def logprobs(self, pieces: list[str]) -> dict[str, Any]:
        """Return the member of a choice with these pieces, if it was asked for."""
        if not self.body.get("logprobs"):
            return {"logprobs": None}
        alternatives = [_logprob(f"or{i}", -1.5 - i) for i in range(self.body["top_logprobs"])]
        content = [_logprob(p, -0.25) | {"top_logprobs": alternatives} for p in pieces]
        return {"logprobs": {"content": content, "refusal": None}}

    def tool_call(self) -> dict[str, Any]:
        function = self.body["tools"][0]["function"]
        return {
            "id": "call_1",
            "type": "function",
            "function": {"name": function["name"], "arguments": '{"city":"Oslo"}'},
        }

    def base(self, kind: str) -> dict[str, Any]:
        return {
            "id": "fake-123",
            "object": kind,
            "created": 1_700_000_000,
            "model": self.body["model"],
            **self.behaviour.extra,
        }

    def whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.pieces)}
        if self.calls:
            message = {"role": "assistant", "content": None, "tool_calls": [self.tool_call()]}
        if self.behaviour.thoughts:
            message["reasoning_content"] = "".join(self.behaviour.thoughts)
        choices = [
            {"index": i, "message": message, "finish_reason": self.finish_reason}
            | self.logprobs(self.pieces)
            for i in range(self.body.get("n") or 1)
        ]
        answer = {**self.base("chat.completion"), "choices": choices}
        if self.behaviour.usage:
            answer["usage"] = self.usage
        return answer

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        chunk = {**self.base("chat.completion.chunk"), "choices": choices, **more}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    async def events(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield the number of content chunks so far (-1 at the very first event) and the event."""
        wants_usage = (self.body.get("stream_options") or {}).get("include_usage")
        quiet = {"usage": None} if wants_usage else {}
        number = 0
        for index in range(self.body.get("n") or 1):
            role = {"role": "assistant", "content": ""}
            yield number or -1, self.chunk([_choice(index, role)], **quiet)
            if self.calls:
                for delta in _tool_deltas(self.tool_call()):
                    yield number, self.chunk([_choice(index, delta)], **quiet)
                    number += 1
            else:
                for thought in self.behaviour.thoughts:
                    delta = {"reasoning_content": thought}
                    yield number, self.chunk([_choice(index, delta)], **quiet)
                for piece in self.pieces:
                    choice = _choice(index, {"content": piece}) | self.logprobs([piece])
                    yield number, self.chunk([choice], **quiet)
                    number += 1
            more: dict[str, Any] = dict(quiet)
            if self.behaviour.usage and self.behaviour.usage_with_choices:
                more = {"usage": self.usage}
            yield number, self.chunk([_choice(index, {}, self.finish_reason)], **more)
        if wants_usage and self.behaviour.usage and not self.behaviour.usage_with_choices:
            yield number, self.chunk([], usage=self.usage)


def _choice(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def _logprob(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _tool_deltas(call: dict[str, Any]) -> list[dict[str, Any]]:
    arguments = call["function"]["arguments"]
    head = {**call, "index": 0, "function": {**call["function"], "arguments": ""}}
    return [
        {"tool_calls": [head]},
        {"tool_calls": [{"index": 0, "function": {"arguments": arguments[:5]}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": arguments[5:]}}]},
    ]


@contextlib.asynccontextmanager
async def fake_openai(models: tuple[str, ...] = ("fake-model",)) -> AsyncIterator[FakeOpenAIServer]:
    """Run a fake on a free port."""
    server = FakeOpenAIServer(models)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def _serve(port: int, pace_s: float) -> None:
    server = FakeOpenAIServer()
    server.default = Behaviour(pace_s=pace_s)
    await server.start(port)
    print(f"fake OpenAI-compatible server on {server.url}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--pace-s", type=float, default=0.0)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments.port, arguments.pace_s))
