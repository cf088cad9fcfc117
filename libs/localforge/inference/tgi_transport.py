"""The connections under `huggingface_hub`'s client are ours: failures mean the same everywhere.

The library would make a TLS context of its own for each client (47 ms), follow redirects, read
answers without a bound and hide most failures behind one exception. It lets the HTTP client be
chosen (`set_async_client_factory`), and that is given this transport.
"""

import codecs
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import NamedTuple

import httpx2
import msgspec
from huggingface_hub import set_async_client_factory

from localforge.errors import BackendUnavailable
from localforge.inference.chunks import DONE, members_decoder
from localforge.inference.exchange import drain
from localforge.inference.failures import error_in_answer, from_status, wrong_content_type
from localforge.inference.http_client import HttpClient, Response, read_bounded
from localforge.inference.protocol import Reply

MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
MAX_LINE_BYTES = 8 * 1024 * 1024
EVENTS, JSON = "text/event-stream", "application/json"


class Call(NamedTuple):
    """The request that is being made."""

    http: HttpClient
    """Connections of its adapter."""
    reply: Reply
    """Is told how far it has come."""


call: ContextVar[Call] = ContextVar("call")


def install() -> None:
    """Give every client of the library in this process this transport."""
    set_async_client_factory(_client)


def _client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=_Transport(call.get()), trust_env=False, timeout=None, verify=False
    )


class _Transport(httpx2.AsyncBaseTransport):
    """Sends a request over the adapter's own connections, with the adapter's own headers."""

    def __init__(self, call: Call) -> None:
        self._http = call.http
        self._reply = call.reply

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the response when its head has come.

        Raises:
            BackendUnavailable: It is no answer.
            BackendRefused: The server says that the request is wrong.
        """
        body = await request.aread()
        response = await self._http.post(request.url.raw_path.decode(), body, self._reply)
        try:
            await _check_status(response)
            self._reply.accepted = True
            await _check_content(response, _is_streamed(body))
        except BaseException:
            response.close()
            raise
        return httpx2.Response(200, headers=dict(response.headers), stream=_Body(response))


_utf8 = codecs.getincrementaldecoder("utf-8")


class _Body(httpx2.AsyncByteStream):
    """A response's bytes, bounded: a line of a stream, or a whole answer."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._is_done = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        streamed = self._response.content_type == EVENTS
        limit = MAX_LINE_BYTES if streamed else MAX_ANSWER_BYTES
        size = 0
        # The library would put a mark in the place of what is no text.
        text = _utf8()
        while data := await self._response.read():
            newline = data.rfind(b"\n") if streamed else -1
            size = len(data) - newline - 1 if newline >= 0 else size + len(data)
            if size > limit:
                raise BackendUnavailable(
                    f"the model server sent more than {limit} bytes",
                    code="backend_event_too_long" if streamed else "backend_answer_too_long",
                )
            text.decode(data)
            self._is_done = data.rstrip().endswith(DONE)
            yield data

    async def aclose(self) -> None:
        if self._is_done and not self._response.at_end:
            # The library reads no further; a connection is used again when its body was read.
            await drain(self._response)
        self._response.close()


def _is_streamed(body: bytes) -> bool:
    return bytes(members_decoder.decode(body).get("stream", b"")) == b"true"


async def _check_status(response: Response) -> None:
    if response.status != 200:
        body = await read_bounded(response, MAX_ERROR_BYTES)
        raise from_status(response.status, response.headers, body)


async def _check_content(response: Response, streamed: bool) -> None:
    expected = EVENTS if streamed else JSON
    if response.content_type == expected:
        return
    if response.content_type == JSON:
        try:
            members = members_decoder.decode(await read_bounded(response, MAX_ERROR_BYTES))
        except (msgspec.DecodeError, UnicodeDecodeError):
            members = {}
        if failure := error_in_answer(members):
            raise failure
    raise wrong_content_type(response.content_type, expected)
