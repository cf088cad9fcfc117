"""Connections that misbehave, and servers that come and go."""

import asyncio
import gc
import signal
import socket

import msgspec
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from localforge.contracts.live import Accepted
from localforge.edge import exchange as exchange_module
from localforge.edge import server
from localforge.edge.protocol import EdgeProtocol
from localforge.edge.server import serve_http
from localforge.errors import ConfigError
from tests.support import wait_until
from tests.unit.edge.lane import BODY, CHAT, completed, completion, delta, silent, summary

STREAMED = msgspec.json.encode(CHAT | {"stream": True})


def head(length: int | None, *lines: str, path: str = "/v1/chat/completions") -> bytes:
    if length is not None:
        lines = (f"content-length: {length}", *lines)
    return "\r\n".join((f"POST {path} HTTP/1.1", "host: localhost", *lines, "", "")).encode()


class Connection:
    """A client that can do what a proper one would not."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict]:
        first = await self.reader.readuntil(b"\r\n\r\n")
        length = int(first.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
        return int(first.split(b" ", 2)[1]), msgspec.json.decode(
            await self.reader.readexactly(length)
        )


@pytest.fixture
async def connect(edge):
    opened = []

    async def open_one(limit: int = 2**16) -> Connection:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", edge.port, limit=limit))
        opened.append(connection)
        return connection

    yield open_one
    for connection in opened:
        connection.writer.close()


async def test_a_client_that_hangs_up_while_it_waits_cancels_at_once(edge, connect):
    edge.lane.script = silent
    client = await connect()
    client.write(head(len(BODY)) + BODY)
    await wait_until(lambda: edge.lane.sent, description="the dispatch")

    client.writer.close()

    await wait_until(lambda: edge.lane.cancelled, timeout=1, description="the cancel")
    await wait_until(lambda: edge.service.in_flight == 0, description="an empty table")
    assert edge.lane.cancelled == [edge.lane.sent[0].request_id]


async def test_a_client_that_hangs_up_in_the_stream_cancels_at_once(edge, connect):
    edge.lane.script = lambda lane, call: lane.emit(delta(call, "a", first=True))
    client = await connect()
    client.write(head(len(STREAMED)) + STREAMED)
    await client.reader.readuntil(b"\n\n\r\n")

    client.writer.transport.abort()

    await wait_until(lambda: edge.lane.cancelled, timeout=1, description="the cancel")
    await wait_until(lambda: edge.service.in_flight == 0, description="an empty table")


async def test_a_client_that_hangs_up_in_its_body_leaves_nothing(edge, connect):
    client = await connect()
    client.write(head(1000) + b"{")
    client.writer.close()
    again = await connect()
    again.write(head(len(BODY)) + BODY)

    assert (await again.answer())[0] == 200
    assert len(edge.lane.sent) == 1
    assert edge.service.in_flight == 0


async def test_a_body_in_pieces_is_one_body(edge, connect):
    client = await connect()
    client.write(head(len(BODY)))
    for byte in BODY:
        client.write(bytes([byte]))
        await client.writer.drain()
        await asyncio.sleep(0)

    assert (await client.answer())[0] == 200
    assert edge.lane.sent[0].body == BODY


async def test_one_connection_serves_many_requests_even_pipelined(edge, connect):
    client = await connect()
    client.write((head(len(BODY)) + BODY) * 3)

    for _ in range(3):
        assert (await client.answer())[0] == 200
    assert len({call.request_id for call in edge.lane.sent}) == 3


async def test_an_announced_body_over_the_limit_is_413_before_it_comes(run_edge):
    edge = await run_edge(max_body_mb=0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(head(10_001))

    status, answer = await Connection(reader, writer).answer()

    assert (status, answer["error"]["code"]) == (413, "body_too_large")
    assert "0.01 MB (`edge.max_body_mb`)" in answer["error"]["message"]
    writer.close()


async def test_a_chunked_body_over_the_limit_is_413_on_the_way(run_edge):
    edge = await run_edge(max_body_mb=0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(head(None, "transfer-encoding: chunked"))
    for _ in range(4):
        writer.write(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")

    status, answer = await Connection(reader, writer).answer()

    assert (status, answer["error"]["code"]) == (413, "body_too_large")
    writer.close()


@pytest.mark.parametrize("announced", [True, False])
async def test_a_client_that_reads_only_after_it_has_sent_everything_gets_its_413(
    run_edge, announced
):
    edge = await run_edge(max_body_mb=0.01)
    body = b"x" * 4_000_000
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    if announced:
        writer.write(head(len(body), "connection: close") + body)
    else:
        writer.write(head(None, "transfer-encoding: chunked", "connection: close"))
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    await writer.drain()

    status, answer = await Connection(reader, writer).answer()

    assert (status, answer["error"]["code"]) == (413, "body_too_large")
    writer.close()


async def test_a_body_of_exactly_the_limit_is_taken(run_edge):
    edge = await run_edge(max_body_mb=0.01)
    body = BODY[:-1] + b" " * (10_000 - len(BODY)) + b"}"
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(head(len(body)) + body)

    assert (await Connection(reader, writer).answer())[0] == 200
    writer.close()


@pytest.mark.parametrize(
    "start", [b"POST /v1/chat/com", head(1000), head(1000) + b"{"], ids=["line", "head", "body"]
)
async def test_a_client_that_trickles_its_request_is_408(edge, connect, monkeypatch, start):
    monkeypatch.setattr(EdgeProtocol, "WINDOW_S", 0.05)
    client = await connect()
    client.write(start)

    status, answer = await client.answer()

    assert (status, answer["error"]["code"]) == (408, "request_timeout")
    assert await client.reader.read() == b""
    assert edge.lane.sent == []


async def test_a_slow_model_is_not_a_slow_client(edge, connect, monkeypatch):
    monkeypatch.setattr(EdgeProtocol, "WINDOW_S", 0.02)

    async def slow(lane, call):
        await asyncio.sleep(0.1)
        lane.emit(completed(call, body=completion(call)))

    edge.lane.script = slow
    client = await connect()
    client.write(head(len(BODY)) + BODY)

    assert (await client.answer())[0] == 200


async def test_an_idle_connection_is_closed_and_one_that_waits_for_its_answer_is_not(
    make_edge, lane, monkeypatch
):
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.1)

    async def slow(lane, call):
        await asyncio.sleep(0.3)
        lane.emit(completed(call, body=completion(call)))

    lane.script = slow
    async with serve_http(make_edge().app, "127.0.0.1", 0) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        for _ in range(2):
            writer.write(head(len(BODY)) + BODY)
            assert (await Connection(reader, writer).answer())[0] == 200
        assert await asyncio.wait_for(reader.read(), 2) == b""
        writer.close()


async def test_a_connection_that_says_nothing_is_closed(make_edge, monkeypatch):
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.05)
    async with serve_http(make_edge().app, "127.0.0.1", 0) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        assert await asyncio.wait_for(reader.read(), 2) == b""
        writer.close()


def _cycles() -> int:
    return sum(isinstance(found, RequestResponseCycle) for found in gc.get_objects())


@pytest.mark.parametrize("body", [BODY, STREAMED, b"{"], ids=["whole", "streamed", "refused"])
async def test_a_request_leaves_nothing_to_the_garbage_collector(connect, body):
    client = await connect()
    gc.collect()
    before = _cycles()
    gc.disable()
    try:
        for _ in range(5):
            client.write(head(len(body)) + body)
            if body is STREAMED:
                await client.reader.readuntil(b"\r\n0\r\n\r\n")
            else:
                await client.answer()
        left = _cycles() - before
    finally:
        gc.enable()

    assert left <= 1, "a connection keeps its last one"


async def test_endless_headers_are_431(edge, connect):
    client = await connect()
    client.write(b"GET / HTTP/1.1\r\n")
    for number in range(80):
        client.write(f"x-{number}: {'y' * 1000}\r\n".encode())

    status, answer = await client.answer()

    assert (status, answer["error"]["code"]) == (431, "headers_too_large")


@pytest.mark.parametrize(
    ("lines", "param"),
    [
        (("x-localforge-label: restricted", "X-LocalForge-Label: public"), "x-localforge-label"),
        (("x-localforge-label: public", "x-localforge-label: public"), "x-localforge-label"),
        (("x-localforge-fallback: no", "x-localforge-fallback: yes"), "x-localforge-fallback"),
        (("host: 127.0.0.1",), "host"),
    ],
)
async def test_a_repeated_header_that_says_where_a_request_may_go_is_400(
    edge, connect, lines, param
):
    client = await connect()
    client.write(head(len(BODY), *lines) + BODY)

    status, answer = await client.answer()

    assert (status, answer["error"]["param"]) == (400, param)
    assert edge.lane.sent == []


@pytest.mark.parametrize(
    ("line", "param", "meant"),
    [
        ("X-LocalForge-Lable: restricted", "x-localforge-lable", "x-localforge-label"),
        ("x-localforge-labels: restricted", "x-localforge-labels", "x-localforge-label"),
        ("x-localforge_label: restricted", "x-localforge_label", "x-localforge-label"),
        ("x-localforge-max-cost: 1", "x-localforge-max-cost", "x-localforge-max-cost-usd"),
    ],
)
async def test_an_option_that_is_not_known_is_400_and_names_the_nearest(
    edge, connect, line, param, meant
):
    client = await connect()
    client.write(head(len(BODY), line) + BODY)

    status, answer = await client.answer()

    assert (status, answer["error"]["param"]) == (400, param)
    assert f"did you mean `{meant}`?" in answer["error"]["message"]
    assert edge.lane.sent == []


async def test_other_headers_may_be_repeated(connect):
    client = await connect()
    client.write(head(len(BODY), "x-other: 1", "x-other: 2", "x-localforge-label: public") + BODY)

    assert (await client.answer())[0] == 200


async def test_what_is_not_http_gets_an_error_in_the_usual_shape(edge, connect):
    client = await connect()
    client.write(b"\x16\x03\x01 this is not http\r\n\r\n")

    status, answer = await client.answer()

    assert (status, answer["error"]["code"]) == (400, "invalid_http")


async def test_a_reader_that_stops_reading_is_cut_off(edge, connect, monkeypatch):
    monkeypatch.setattr(exchange_module, "MAX_BUFFERED_BYTES", 256 * 1024)

    async def flood(lane, call):
        lane.emit(delta(call, "x", first=True))
        while call.request_id not in lane.cancelled:
            lane.emit(delta(call, "x" * 50_000))
            await asyncio.sleep(0)

    edge.lane.script = flood
    client = await connect(limit=1024)
    client.write(head(len(STREAMED)) + STREAMED)

    await wait_until(lambda: edge.lane.cancelled, description="the cancel")
    await wait_until(lambda: edge.service.in_flight == 0, description="an empty table")
    received = b""
    while part := await client.reader.read(2**16):
        received += part
    assert b"[DONE]" not in received
    assert not received.endswith(b"0\r\n\r\n"), "the client must see that the stream is broken"


async def test_shutdown_finishes_what_is_in_flight_and_takes_no_more(run_edge):
    edge = await run_edge(grace_s=5)
    finish = asyncio.Event()

    async def held(lane, call):
        await finish.wait()
        lane.emit(completed(call, body=completion(call)))

    edge.lane.script = held
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(head(len(BODY)) + BODY)
    await wait_until(lambda: edge.lane.sent, description="the dispatch")

    stopping = asyncio.create_task(edge.shut_down())

    async def is_refused() -> bool:
        try:
            _, probe = await asyncio.open_connection("127.0.0.1", edge.port)
        except ConnectionRefusedError:
            return True
        probe.close()
        return False

    await wait_until(is_refused, description="a closed port")
    end = asyncio.get_running_loop().time() + 0.4
    await wait_until(
        lambda: asyncio.get_running_loop().time() > end, description="a part of the grace time"
    )
    assert not stopping.done()
    finish.set()
    assert (await Connection(reader, writer).answer())[0] == 200
    await stopping
    writer.close()


async def test_what_outlives_the_grace_time_is_told_so(run_edge):
    edge = await run_edge(grace_s=0.1)
    edge.lane.script = silent
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(head(len(BODY)) + BODY)
    await wait_until(lambda: edge.lane.sent, description="the dispatch")

    await edge.shut_down()

    status, answer = await Connection(reader, writer).answer()
    assert (status, answer["error"]["code"]) == (503, "shutting_down")
    writer.close()


async def test_a_stream_that_outlives_the_grace_time_ends_with_an_error(run_edge):
    edge = await run_edge(grace_s=0.1)
    edge.lane.script = lambda lane, call: lane.emit(delta(call, "a", first=True))
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(head(len(STREAMED)) + STREAMED)
    await reader.readuntil(b"\n\n\r\n")

    await edge.shut_down()

    rest = await reader.read()
    assert b'"shutting_down"' in rest
    assert b"[DONE]" not in rest
    writer.close()


async def test_a_port_in_use_is_a_configuration_error_that_names_it(edge):
    with pytest.raises(ConfigError) as error:
        async with serve_http(edge.app, "127.0.0.1", edge.port):
            pass

    assert f"port {edge.port} on 127.0.0.1 is in use" in error.value.message
    assert "`--port`" in error.value.message


async def test_a_host_of_another_machine_is_a_configuration_error(edge):
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1"):
        async with serve_http(edge.app, "192.0.2.1", 0):
            pass


async def test_the_signals_of_the_process_are_left_alone(make_edge):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    async with serve_http(make_edge().app, "127.0.0.1", 0):
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


async def test_ipv6_is_served(edge):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    async with serve_http(edge.app, "::1", 0) as url:
        assert url.startswith("http://[::1]:")


async def test_a_queue_that_moves_keeps_a_long_wait_alive(run_edge):
    edge = await run_edge(progress_s=0.05)

    async def queued(lane, call):
        for position in range(12, 0, -1):
            lane.emit(
                Accepted(request_id=call.request_id, summary=summary(call), queue_position=position)
            )
            await asyncio.sleep(0.02)
        lane.emit(completed(call, body=completion(call)))

    edge.lane.script = queued
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(head(len(BODY)) + BODY)

    assert (await Connection(reader, writer).answer())[0] == 200
    assert len(edge.lane.sent) == 1
    writer.close()


@pytest.mark.parametrize("model", ["tiny\r\nx-evil: 1", "tiny\r"])
async def test_a_name_with_a_line_end_in_it_makes_no_header(edge, connect, model):
    edge.lane.script = lambda lane, call: lane.emit(
        msgspec.structs.replace(
            completed(call, body=completion(call)), summary=summary(call, model=model)
        )
    )
    client = await connect()
    client.write(head(len(BODY)) + BODY)

    # The server ends the connection instead.
    assert await client.reader.read() == b""


@pytest.mark.parametrize("line", ["connection: close", "connection: keep-alive"])
async def test_an_answer_says_the_same_whether_its_connection_ends_or_not(edge, connect, line):
    client = await connect()
    client.write(head(len(BODY), line) + BODY)
    first = await client.reader.readuntil(b"\r\n\r\n")
    names = [row.partition(b":")[0] for row in first.split(b"\r\n")[1:] if row]

    assert first.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    assert (b"connection" in names) == line.endswith("close")
    assert [name for name in names if name != b"connection"] == [
        b"date", b"content-type", b"content-length", b"x-request-id", b"x-localforge-decision",
        b"x-localforge-model", b"x-localforge-zone", b"x-localforge-overhead-ms",
        b"x-localforge-fallbacks", b"x-localforge-cost-usd",
    ]  # fmt: skip
