"""The HTTP client of the model servers, against a server that says exactly what it is told to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from localforge.errors import ConfigError
from localforge.inference.http_client import (
    MAX_HEADER_BYTES,
    READ_AHEAD_BYTES,
    BodyTooLongError,
    BrokenConnectionError,
    ConnectError,
    HttpClient,
    read_bounded,
)
from tests.support import wait_until

OK = b"HTTP/1.1 200 OK\r\n"


class ScriptedServer:
    """Answers the n-th request with the n-th script; None in it closes the connection."""

    def __init__(self, *scripts: list[bytes | None]) -> None:
        self.scripts = list(scripts)
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1/"

    def stop(self) -> None:
        """Take no new connections."""
        assert self._server is not None
        self._server.close()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await wait_until(lambda: not self.open, description="every connection is closed")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                body = await reader.readexactly(int(length or 0))
                self.requests.append(head + body)
                for part in self.scripts.pop(0):
                    if part is None:
                        return
                    writer.write(part)
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.open -= 1


@pytest.fixture(name="talk")
async def _talk() -> AsyncIterator[object]:
    started: list[tuple[ScriptedServer, HttpClient]] = []

    async def talk(*scripts: list[bytes | None], **options: object) -> tuple:
        server = ScriptedServer(*scripts)
        url = await server.start()
        client = HttpClient(url, headers={"X-Mine": "1"}, connect_timeout_s=5, **options)
        started.append((server, client))
        return server, client

    yield talk
    for server, client in started:
        await client.close()
        await server.close()


async def test_a_request_is_what_was_asked_for(talk) -> None:
    server, client = await talk([OK + b"Content-Length: 2\r\n\r\nhi"])

    response = await client.post("/chat", b'{"a":1}')

    assert (response.status, await response.read(), await response.read()) == (200, b"hi", b"")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nX-Mine: 1\r\n" in head
    assert body == b'{"a":1}'


async def test_chunks_are_read_as_they_come_and_the_connection_is_kept(talk) -> None:
    head = OK + b"Transfer-Encoding: chunked\r\nContent-Type: Text/Event-Stream; x=y\r\n\r\n"
    server, client = await talk(
        [head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"], [OK + b"Content-Length: 0\r\n\r\n"]
    )

    response = await client.post("/", b"")
    assert response.content_type == "text/event-stream"
    assert await read_bounded(response, 5) == b"abcde"
    assert response.at_end
    response.close()
    (await client.get("/models")).close()

    assert server.connections == 1
    assert server.requests[1].startswith(b"GET /v1/models HTTP/1.1\r\n")


async def test_a_body_without_a_length_ends_with_its_connection(talk) -> None:
    server, client = await talk([OK + b"\r\nall of it", None], [OK + b"Content-Length: 0\r\n\r\n"])

    response = await client.get("/")
    assert await read_bounded(response, 100) == b"all of it"
    response.close()
    (await client.get("/")).close()

    assert server.connections == 2


async def test_a_body_that_is_cut_short_is_no_answer(talk) -> None:
    _, client = await talk([OK + b"Content-Length: 9\r\n\r\nhalf", None])

    response = await client.get("/")

    assert await response.read() == b"half"
    with pytest.raises(BrokenConnectionError):
        await response.read()


async def test_a_server_that_asks_to_close_gets_no_second_request_on_that_connection(talk) -> None:
    closing = OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
    server, client = await talk([closing], [OK + b"Content-Length: 0\r\n\r\n"])

    for _ in range(2):
        (await client.get("/")).close()

    assert server.connections == 2


async def test_what_follows_an_answer_unasked_begins_no_other(talk) -> None:
    twice = (OK + b"Content-Length: 1\r\n\r\na") + (OK + b"Content-Length: 1\r\n\r\nb")
    server, client = await talk([twice], [OK + b"Content-Length: 1\r\n\r\nc"])

    answers = []
    for _ in range(2):
        response = await client.get("/")
        answers.append(await read_bounded(response, 1))
        response.close()

    assert answers == [b"a", b"c"]
    assert server.connections == 2


async def test_an_interim_answer_is_passed_over(talk) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    _, client = await talk([interim + OK + b"Content-Length: 1\r\n\r\na"])

    response = await client.get("/")

    assert (response.status, await response.read()) == (200, b"a")


async def test_an_answer_given_up_closes_its_connection(talk) -> None:
    server, client = await talk([OK + b"Content-Length: 9\r\n\r\nhalf"])

    response = await client.get("/")
    response.close()

    await wait_until(lambda: not server.open, description="the server notices")


async def test_a_request_given_up_before_its_answer_closes_its_connection(talk) -> None:
    server, client = await talk([b"HTTP/1.1 200"])

    asking = asyncio.create_task(client.get("/"))
    await wait_until(lambda: server.requests, description="the request")
    asking.cancel()

    await wait_until(lambda: not server.open, description="the server notices")


@pytest.mark.parametrize(
    "said",
    [b"SSH-2.0-OpenSSH_9.2\r\n", OK + b"X: " + b"y" * (MAX_HEADER_BYTES + 1)],
    ids=["another protocol", "endless headers"],
)
async def test_what_is_no_http_is_a_broken_connection(talk, said: bytes) -> None:
    _, client = await talk([said])

    with pytest.raises(BrokenConnectionError):
        await client.get("/")


class Watched:
    in_doubt = False


@pytest.mark.parametrize(
    ("said", "in_doubt"),
    [
        ([None], True),
        ([b"HTTP/1.1 200", None], True),
        ([OK + b"Content-Length: 9\r\n\r\nhalf"], False),
        ([b"HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\nhalf"], False),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], False),
    ],
    ids=["closed", "half a head", "200", "500", "another protocol"],
)
async def test_a_server_that_gave_no_status_may_be_at_work(
    talk, said: list[bytes | None], in_doubt: bool
) -> None:
    _, client = await talk(said)
    watched = Watched()

    with contextlib.suppress(BrokenConnectionError):
        (await client.post("/", b"{}", watched)).close()

    assert watched.in_doubt == in_doubt


async def test_so_may_one_whose_request_was_given_up(talk) -> None:
    server, client = await talk([])
    watched = Watched()

    asking = asyncio.create_task(client.post("/", b"{}", watched))
    await wait_until(lambda: server.requests, description="the request")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    assert watched.in_doubt


async def test_a_request_lost_with_a_kept_connection_is_at_nobodys_work(talk) -> None:
    server, client = await talk([OK + b"Content-Length: 0\r\n\r\n"], [None])
    (await client.post("/", b"{}")).close()
    server.stop()
    watched = Watched()

    with pytest.raises(ConnectError):
        await client.post("/", b"{}", watched)

    assert not watched.in_doubt


async def test_a_body_over_the_bound_is_not_read_on(talk) -> None:
    _, client = await talk([OK + b"Content-Length: 9\r\n\r\nabcdefghi"])

    response = await client.get("/")

    with pytest.raises(BodyTooLongError, match="more than 8 bytes"):
        await read_bounded(response, 8)


async def test_a_server_that_sends_faster_than_it_is_read_is_paused(talk) -> None:
    sent = 64 * READ_AHEAD_BYTES
    _, client = await talk([OK + b"Content-Length: %d\r\n\r\n" % sent + b"x" * sent])

    response = await client.get("/")
    connection = response._connection
    await wait_until(lambda: connection._paused, description="the pause")
    held = connection._waiting_bytes
    assert held < 8 * READ_AHEAD_BYTES

    assert len(await read_bounded(response, sent)) == sent


async def test_nobody_there_is_a_connection_that_cannot_be_made() -> None:
    client = HttpClient("http://127.0.0.1:9", headers={}, connect_timeout_s=5)
    watched = Watched()

    with pytest.raises(ConnectError):
        await client.post("/", b"{}", watched)
    assert not watched.in_doubt
    await client.close()


@pytest.mark.parametrize("url", ["ftp://host/", "host:80", "http://"])
def test_another_kind_of_url_is_a_mistake_in_the_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match="not an http or https URL"):
        HttpClient(url, headers={}, connect_timeout_s=1)


def test_a_header_that_would_begin_another_line_is_refused() -> None:
    with pytest.raises(ConfigError, match="HTTP cannot carry"):
        HttpClient("http://h", headers={"Authorization": "a\r\nX: b"}, connect_timeout_s=1)
