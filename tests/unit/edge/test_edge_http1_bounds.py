"""What HTTP/1.1 lets a client say besides requests: ignored, bounded or refused."""

import asyncio
import gc

import msgspec
import pytest

from localforge.config import KeyConfig
from localforge.edge import server
from localforge.edge.protocol import EdgeProtocol
from tests.support import wait_until
from tests.unit.edge.lane import BODY, CHAT, delta, silent
from tests.unit.edge.test_edge_connections import Connection, head

LIVE = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
UPGRADE = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk")


@pytest.fixture
async def client(edge):
    connection = Connection(*await asyncio.open_connection("127.0.0.1", edge.port))
    yield connection
    connection.writer.close()


async def sent_apart(client: Connection, *pieces: bytes) -> None:
    """Send pieces that the server reads one by one."""
    for piece in pieces:
        client.write(piece)
        await client.writer.drain()
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_wish_for_another_protocol_is_ignored_and_the_body_is_the_body(
    edge, client, apart, chunked
):
    # The body would be a request of its own.
    inner = LIVE.ljust(100)
    body = msgspec.json.encode(CHAT | {"user": inner.decode()})
    if chunked:
        first = head(None, *UPGRADE, "transfer-encoding: chunked")
        second = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    else:
        first, second = head(len(body), *UPGRADE), body
    await sent_apart(client, *((first, second) if apart else (first + second,)))

    assert (await client.answer())[0] == 200
    assert [call.body for call in edge.lane.sent] == [body]
    client.write(head(len(BODY)) + BODY)
    assert (await client.answer())[0] == 200


@pytest.mark.parametrize("apart", [True, False])
async def test_a_body_that_is_a_request_is_no_request(client, apart):
    first = head(len(LIVE), *UPGRADE)
    await sent_apart(client, *((first, LIVE) if apart else (first + LIVE,)))
    client.write(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n")

    assert (await client.answer())[0] == 400, "the body is not JSON"
    assert (await client.answer())[0] == 404


async def test_the_body_of_a_get_that_wishes_for_another_protocol_is_no_request(client):
    lines = ("GET /livez HTTP/1.1", "host: localhost", f"content-length: {len(LIVE)}", *UPGRADE)
    first = "\r\n".join((*lines, "", "")).encode()
    client.write((first + LIVE) * 2 + b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n")

    assert [(await client.answer())[0] for _ in range(3)] == [200, 200, 404]


async def test_many_wishes_for_another_protocol_in_one_piece_are_all_answered(edge, client):
    client.write((head(len(BODY), *UPGRADE) + BODY) * 50)

    assert [(await client.answer())[0] for _ in range(50)] == [200] * 50
    assert {call.body for call in edge.lane.sent} == {BODY}


async def test_a_tunnel_is_refused_and_what_is_sent_through_it_is_not_read(edge, client):
    client.write(
        b"CONNECT localhost:1 HTTP/1.1\r\nhost: localhost\r\n\r\n" + head(len(BODY)) + BODY
    )

    status, answer = await client.answer()

    assert (status, answer["error"]["code"]) == (501, "not_implemented")
    assert await client.reader.read() == b""
    assert edge.lane.sent == []


STREAMED = msgspec.json.encode(CHAT | {"stream": True})
CHUNKED = head(None, "transfer-encoding: chunked")


@pytest.mark.parametrize("last", [b"0\r\n", b"0\r\nx: ", b"5;x="], ids=["many", "one", "extension"])
async def test_endless_trailers_are_431(edge, client, last):
    more = b"x-more: " + b"y" * 8000 + b"\r\n" if last == b"0\r\n" else b"y" * 8000
    await sent_apart(client, CHUNKED, b"2\r\n{}\r\n", last, *[more] * 9)

    status, answer = await client.answer()

    assert (status, answer["error"]["code"]) == (431, "headers_too_large")
    assert await client.reader.read() == b""
    assert edge.lane.sent == []


async def test_a_long_body_in_small_chunks_is_no_trailer(edge, client):
    body = BODY + b" " * 20_000
    client.write(CHUNKED)
    for byte in body:
        client.write(b"1\r\n%c\r\n" % byte)
    client.write(b"0\r\nx-checksum: 1\r\n\r\n")

    assert (await client.answer())[0] == 200
    assert edge.lane.sent[0].body == body


@pytest.mark.parametrize("apart", [True, False])
async def test_trailers_are_no_headers(edge, client, apart):
    pieces = (
        CHUNKED + b"%x\r\n%s\r\n" % (len(BODY), BODY),
        b"0\r\n",
        b"x-localforge-label: no\r\n\r\n",
    )
    await sent_apart(client, *(pieces if apart else (b"".join(pieces),)))

    assert (await client.answer())[0] == 200
    assert len(edge.lane.sent) == 1


@pytest.mark.parametrize("apart", [True, False])
async def test_a_key_in_a_trailer_is_none(run_edge, apart):
    edge = await run_edge(keys=(KeyConfig(id="k", secret="s"),), secrets={"s": "abc"})
    client = Connection(*await asyncio.open_connection("127.0.0.1", edge.port))
    pieces = (CHUNKED, b"2\r\n{}\r\n", b"0\r\n", b"authorization: Bearer abc\r\n\r\n")
    await sent_apart(client, *(pieces if apart else (b"".join(pieces),)))

    assert (await client.answer())[0] == 401
    client.writer.close()


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
async def test_two_keys_are_400(edge, client, name):
    client.write(head(len(BODY), f"{name}: Bearer a", f"{name}: Bearer b") + BODY)

    status, answer = await client.answer()

    assert (status, answer["error"]["param"]) == (400, name)
    assert edge.lane.sent == []


@pytest.mark.parametrize("length", [100, 300_000])
async def test_what_comes_before_a_head_is_no_part_of_it(client, length):
    body = BODY.ljust(length)
    client.write(head(len(body)) + body + LIVE[:20])
    assert (await client.answer())[0] == 200
    client.write(LIVE[20:] + LIVE * 5000)

    for _ in range(5001):
        assert (await client.answer())[0] == 200


def _the_connection() -> EdgeProtocol:
    found = [one for one in gc.get_objects() if isinstance(one, EdgeProtocol) and one.parser]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("path", ["/livez", "/v1/chat/completions"])
async def test_no_more_is_read_while_requests_wait_their_turn(client, path):
    await sent_apart(client, LIVE)
    await client.answer()
    connection = _the_connection()
    count = 2000
    request = head(len(BODY), f"x-padding: {'y' * 700}", path=path) + BODY
    if path == "/livez":
        request = LIVE[:-2] + b"x-padding: " + b"y" * 800 + b"\r\n\r\n"
    client.write(request * count)
    most = 0
    for _ in range(count):
        most = max(most, len(connection.pipeline))
        assert (await client.answer())[0] == 200

    assert 0 < most < 600, "one read of the server's at most"


async def test_line_ends_between_requests_keep_no_connection_open(make_edge, monkeypatch):
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.2)
    async with server.serve_http(make_edge().app, "127.0.0.1", 0) as url:
        client = Connection(
            *await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        )
        client.write(LIVE + b"\r\n")
        assert (await client.answer())[0] == 200
        ended = asyncio.ensure_future(client.reader.read())

        async def ends() -> bool:
            client.write(b"\r\n")
            return ended.done()

        await wait_until(ends, timeout=5, description="the end of the connection")
        client.writer.close()


async def test_an_answer_before_the_end_of_its_body_starts_no_idle_time(run_edge, monkeypatch):
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.05)
    edge = await run_edge(max_body_mb=0.01)
    client = Connection(*await asyncio.open_connection("127.0.0.1", edge.port))
    client.write(head(20_000) + b"x" * 10_000)
    assert (await client.answer())[0] == 413
    end = asyncio.get_running_loop().time() + 0.2
    await wait_until(lambda: asyncio.get_running_loop().time() > end, description="some time")

    client.write(b"x" * 10_000 + LIVE)

    assert (await client.answer())[0] == 200
    assert await asyncio.wait_for(client.reader.read(), 5) == b""
    client.writer.close()


GARBAGE = b"\x16\x03\x01 this is not http\r\n\r\n"


@pytest.mark.parametrize("queued", [0, 1, 2])
@pytest.mark.parametrize("last", [GARBAGE, b"CONNECT a:1 HTTP/1.1\r\n\r\n"], ids=["tls", "tunnel"])
async def test_no_error_is_written_into_another_answer(edge, client, queued, last):
    edge.lane.script = lambda lane, call: lane.emit(delta(call, "a", first=True))
    client.write(head(len(STREAMED)) + STREAMED)
    received = await client.reader.readuntil(b"\n\n\r\n")
    client.write((head(len(BODY)) + BODY) * queued + last)
    received += await client.reader.read()

    assert received.count(b"HTTP/1.1") == 1
    assert b"invalid_http" not in received
    await wait_until(lambda: edge.lane.cancelled, description="the cancel")
    await wait_until(lambda: edge.service.in_flight == 0, description="an empty table")


@pytest.mark.parametrize("last", [GARBAGE, b"CONNECT a:1 HTTP/1.1\r\n\r\n"], ids=["tls", "tunnel"])
async def test_an_error_is_not_taken_for_the_answer_to_the_request_before(edge, client, last):
    edge.lane.script = silent
    client.write(head(len(BODY)) + BODY)
    await wait_until(lambda: edge.lane.sent, description="the dispatch")
    client.write(last)

    assert await client.reader.read() == b""
    await wait_until(lambda: edge.lane.cancelled, description="the cancel")


async def test_a_broken_chunk_of_a_request_that_waits_ends_the_connection(edge, client):
    edge.lane.script = silent
    client.write(head(len(BODY)) + BODY)
    await wait_until(lambda: edge.lane.sent, description="the dispatch")
    client.write(CHUNKED + b"not a length\r\n")

    assert await client.reader.read() == b""
    assert len(edge.lane.sent) == 1


async def test_a_broken_chunk_of_the_only_request_is_400(edge, client):
    client.write(CHUNKED + b"not a length\r\n")

    assert (await client.answer())[0] == 400
    assert await client.reader.read() == b""
    assert edge.lane.sent == []
