"""What HTTP stacks cost for the edge's two kinds of answer: one JSON body, and a stream of events.

Each candidate runs in its own process inside an asyncio loop it did not start, as the edge must.
The figure to read is the CPU time of that process; the load generator's is not counted.
Candidates that are not installed are skipped. `python tests/bench/edge_stack.py --rounds 3`
"""

import argparse
import asyncio
import gc
import importlib.util
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import uvloop

CHUNKS = 200
CHUNK_GAP_S = 0.005
STREAMS = 16
CONCURRENCY = 32
ANSWER = {"id": "chatcmpl-1", "object": "chat.completion", "content": "x" * 400}
EVENT = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"token"}}]}\n\n'
BODY = msgspec.json.encode(
    {"model": "auto", "messages": [{"role": "user", "content": "x" * 900}], "temperature": 0.2}
)
STREAM_BODY = BODY.replace(b"{", b'{"stream":true,', 1)


class Request(msgspec.Struct):
    """What the edge reads of a body."""

    model: str
    messages: msgspec.Raw


_decode = msgspec.json.Decoder(Request).decode
_encode = msgspec.json.Encoder().encode


async def _events() -> AsyncIterator[bytes]:
    for _ in range(CHUNKS):
        await asyncio.sleep(CHUNK_GAP_S)
        yield EVENT


async def _raw(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    _decode(body)
    kind = b"text/event-stream" if scope["path"] == "/stream" else b"application/json"
    headers = [(b"content-type", kind)]
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for event in _events():
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    answer = _encode(ANSWER)
    headers.append((b"content-length", str(len(answer)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    async def chat(request: HttpRequest) -> Response:
        _decode(await request.body())
        return Response(_encode(ANSWER), media_type="application/json")

    async def stream(request: HttpRequest) -> Response:
        _decode(await request.body())
        return StreamingResponse(_events(), media_type="text/event-stream")

    return Starlette(
        routes=[Route("/chat", chat, methods=["POST"]), Route("/stream", stream, methods=["POST"])]
    )


def _litestar() -> Any:
    from litestar import Litestar, post
    from litestar import Request as HttpRequest
    from litestar.response import Stream

    # Bodies are read by hand: a `data: Request` argument is decoded to objects before it is
    # converted, so a `msgspec.Raw` field is refused.
    async def chat(request: HttpRequest[Any, Any, Any]) -> dict[str, str]:
        _decode(await request.body())
        return ANSWER

    async def stream(request: HttpRequest[Any, Any, Any]) -> Stream:
        _decode(await request.body())
        return Stream(_events(), media_type="text/event-stream")

    routes = [post("/chat", status_code=200)(chat), post("/stream", status_code=200)(stream)]
    return Litestar(routes, openapi_config=None, logging_config=None)


async def _uvicorn(app: Any, port: int) -> None:
    import uvicorn

    config = uvicorn.Config(
        app, port=port, http="httptools", lifespan="off", access_log=False, log_config=None
    )
    await uvicorn.Server(config).serve()


async def _granian(app: Any, port: int) -> None:
    from granian.constants import Interfaces
    from granian.server.embed import Server

    await Server(app, port=port, interface=Interfaces.ASGINL, log_enabled=False).serve()


def _edge() -> Any:
    """LocalForge's edge with keys, metrics and logs, on a live lane that answers at once."""
    from localforge.config import EdgeConfig, KeyConfig, TelemetryConfig
    from localforge.contracts.cards import RegistrySnapshot
    from localforge.contracts.live import ChatCall, Completed, Delta, Summary
    from localforge.edge.app import create_app
    from localforge.edge.keys import KeyRing
    from localforge.edge.service import EdgeService
    from localforge.telemetry import log

    class Lane:
        streams: ClassVar[set[asyncio.Task[None]]] = set()

        def send(self, call: ChatCall, reply: str) -> None:
            if call.stream:
                task = asyncio.create_task(self.stream(call))
                self.streams.add(task)
                task.add_done_callback(self.streams.discard)
                return
            done = Completed(
                request_id=call.request_id, summary=summary(call), body=_encode(ANSWER)
            )
            service.on_frame(done.encode())

        async def stream(self, call: ChatCall) -> None:
            told = summary(call)
            async for event in _events():
                delta = Delta(request_id=call.request_id, data=event, summary=told)
                service.on_frame(delta.encode())
            service.on_frame(Completed(request_id=call.request_id, summary=told).encode())

        def cancel(self, request_id: str) -> None:
            raise AssertionError(f"{request_id} was cancelled")

    class Registry:
        snapshot = RegistrySnapshot()
        degraded = False

    def summary(call: ChatCall) -> Summary:
        return Summary(decision_id=call.request_id, model="tiny", zone="local")

    async def unused(*_: Any) -> Any:
        raise AssertionError

    log.configure(TelemetryConfig(log_format="json"), "edge")
    config, keys = EdgeConfig(), KeyRing([KeyConfig(id="k", secret="env:K")], lambda _: "bench")
    service = EdgeService(config, Lane(), "bench")
    app = create_app(
        config, service, Registry(), unused, unused, unused, keys=lambda: keys, aliases=dict
    )

    async def at_our_paths(scope: dict[str, Any], receive: Any, send: Any) -> None:
        scope["path"] = "/v1/chat/completions"
        await app(scope, receive, send)

    return at_our_paths


async def _serve_http(app: Any, port: int) -> None:
    from localforge.edge.server import serve_http

    async with serve_http(app, "127.0.0.1", port):
        await asyncio.Event().wait()


Candidate = tuple[str, Callable[[], Any], Callable[[Any, int], Awaitable[None]]]
CANDIDATES: dict[str, Candidate] = {
    "raw ASGI, uvicorn": ("uvicorn", lambda: _raw, _uvicorn),
    "Starlette, uvicorn": ("starlette", _starlette, _uvicorn),
    "Litestar, uvicorn": ("litestar", _litestar, _uvicorn),
    "LocalForge's edge": ("localforge.edge", _edge, _serve_http),
    "raw ASGI, granian": ("granian", lambda: _raw, _granian),
    "Starlette, granian": ("granian", _starlette, _granian),
}


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _request(path: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    head += "authorization: Bearer bench\r\n"
    body = STREAM_BODY if path == "/stream" else BODY
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def _post(port: int, count: int) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request, took = _request("/chat"), []
    for _ in range(count):
        start = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200")
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
        took.append(time.perf_counter() - start)
    writer.close()
    return took


async def _stream(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_request("/stream"))
    answer = await reader.readuntil(b"\r\n0\r\n\r\n")
    assert answer.count(b"data:") == CHUNKS
    writer.close()


async def _measure(pid: int, port: int) -> tuple[float, float, float]:
    """Return CPU µs per request, p50 µs at concurrency 1 and CPU µs per streamed chunk."""
    await _post(port, 200)
    each, before = 400, _cpu_s(pid)
    await asyncio.gather(*(_post(port, each) for _ in range(CONCURRENCY)))
    request_cpu = (_cpu_s(pid) - before) / (CONCURRENCY * each)
    p50 = statistics.median(await _post(port, 500))
    before = _cpu_s(pid)
    await asyncio.gather(*(_stream(port) for _ in range(STREAMS)))
    chunk_cpu = (_cpu_s(pid) - before) / (STREAMS * CHUNKS)
    return request_cpu * 1e6, p50 * 1e6, chunk_cpu * 1e6


def _run_candidate(name: str) -> tuple[float, float, float]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--serve", name, str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            while server.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            return uvloop.run(_measure(server.pid, port))
        finally:
            server.kill()


def main() -> None:
    """Serve one candidate, or measure all in interleaved rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", nargs=2, metavar=("NAME", "PORT"))
    options = parser.parse_args()
    if options.serve:
        _, build, serve = CANDIDATES[options.serve[0]]
        app = build()
        # As LocalForge's host does: what the imports made is never garbage.
        gc.collect()
        gc.freeze()
        uvloop.run(serve(app, int(options.serve[1])))
        return
    names = [name for name, (needs, _, _) in CANDIDATES.items() if _is_installed(needs)]
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            found[name].append(_run_candidate(name))
    print("| stack | CPU µs/request, c=32 | p50 µs, c=1 | CPU µs/chunk, 16 streams |")
    print("|---|---|---|---|")
    for name, rounds in found.items():
        cells = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {name} | " + " | ".join(f"{cell:.0f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
