"""One streamed exchange with a model server whose format is its own: clocks, bounds, retry.

The seam between such an adapter and its transport: an adapter brings a path, a body and a
`StreamReader`, and `Exchange` does what is the same for all of them.
"""

import asyncio
from typing import Protocol

import msgspec

from localforge.contracts.cards import Health
from localforge.errors import BackendUnavailable, StreamBroken
from localforge.inference.chunks import members_decoder
from localforge.inference.failures import (
    error_in_answer,
    from_status,
    from_transport,
    malformed,
    wrong_content_type,
)
from localforge.inference.http_client import BodyTooLongError, HttpClient, Response, read_bounded
from localforge.inference.protocol import Probe, Reply, Timeouts

MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
ASK_TIMEOUT_S = 3.0
"""For questions beside the completions: which models, how busy."""
DRAIN_S = 0.2
"""How long to wait for the end of a body whose answer is whole, to keep its connection."""
TIMER_STEP = 0.25
"""A stalled stream is given up after 1 to 1.25 times `Timeouts.chunk_s`."""


class StreamReader(Protocol):
    """Reads the body of one answer."""

    @property
    def finished(self) -> bool:
        """Whether the answer is whole; nothing that follows matters."""

    async def take(self, data: bytes) -> None:
        """Read some bytes of the body, which may end anywhere.

        Raises:
            BackendUnavailable: They are an error, or no answer.
        """

    async def end(self) -> None:
        """The body has ended or the answer is whole.

        Raises:
            BackendUnavailable: The answer is cut or empty.
        """


class Exchange:
    """A model server over HTTP.

    Args:
        url: What all paths are appended to.
        headers: Sent with every request.
        timeouts: See `Timeouts`.
    """

    def __init__(self, url: str, *, headers: dict[str, str], timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._http = HttpClient(
            url,
            headers={
                "Content-Type": "application/json",
                # Compressed events arrive late: a compressor holds back what it has not filled.
                "Accept-Encoding": "identity",
                "User-Agent": "LocalForge",
                **headers,
            },
            connect_timeout_s=timeouts.connect_s,
        )
        self._started = False

    async def start(self) -> None:
        """Allow requests; connections are made when they are needed."""
        self._started = True

    async def close(self) -> None:
        """Close all connections."""
        self._started = False
        await self._http.close()

    async def ask(self, path: str, body: bytes | None = None) -> bytes:
        """Return the body of a short question's answer: GET, or POST with a body.

        Raises:
            BackendUnavailable: No answer in time, or none that helps.
            BackendRefused: The server says that the question is wrong.
        """
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                response = await self._send(path, body)
                try:
                    answer = await read_bounded(response, MAX_ANSWER_BYTES)
                finally:
                    response.close()
        except TimeoutError as exc:
            raise BackendUnavailable(
                f"no answer in {ASK_TIMEOUT_S:g} s", code="backend_timeout"
            ) from exc
        except OSError as exc:
            raise from_transport(exc) from exc
        except BodyTooLongError as exc:
            raise _too_long(exc) from exc
        if response.status != 200:
            raise from_status(response.status, response.headers, answer)
        return answer

    async def stream(
        self,
        path: str,
        body: bytes,
        reader: StreamReader,
        reply: Reply,
        *,
        content_type: str,
        hurried: bool,
    ) -> None:
        """Send a request and feed its answer to `reader`.

        Args:
            path: Where to.
            body: JSON.
            reader: Reads the answer.
            reply: Is told that the request was accepted, and asked for content.
            content_type: What the answer must be.
            hurried: A caller waits for the first token, which has a time limit of its own.

        Raises:
            BackendUnavailable: It failed before content was passed on.
            StreamBroken: It failed after it.
            BackendRefused: The server says that the request is wrong.
        """
        try:
            await self._stream(path, body, reader, reply, content_type, hurried)
        except BackendUnavailable as exc:
            if reply.started:
                raise StreamBroken(exc.message, code=exc.code) from exc
            raise

    async def _stream(
        self,
        path: str,
        body: bytes,
        reader: StreamReader,
        reply: Reply,
        content_type: str,
        hurried: bool,
    ) -> None:
        now = asyncio.get_running_loop().time()
        end = now + self._timeouts.attempt_s
        first = min(end, now + self._timeouts.first_token_s) if hurried else end
        try:
            async with asyncio.timeout_at(first) as limit:
                response = await self._send(path, body, reply)
                try:
                    await _check_status(response)
                    reply.accepted = True
                    await _check_content(response, content_type)
                    await self._receive(response, reader, reply, limit, end)
                finally:
                    response.close()
        except TimeoutError as exc:
            if not limit.expired():
                raise from_transport(exc) from exc
            raise BackendUnavailable(
                "the model server was too slow: no content in time", code="backend_timeout"
            ) from exc
        except OSError as exc:
            raise from_transport(exc) from exc
        except BodyTooLongError as exc:
            raise _too_long(exc) from exc

    async def _receive(
        self,
        response: Response,
        reader: StreamReader,
        reply: Reply,
        limit: asyncio.Timeout,
        end: float,
    ) -> None:
        clock = asyncio.get_running_loop().time
        chunk_s = self._timeouts.chunk_s
        fresh_until = 0.0
        while not reader.finished:
            data = await response.read()
            if not data:
                break
            await reader.take(data)
            if not reply.first_content_at:
                continue
            now = reply.heard_at = clock()
            if now > fresh_until:
                # Moved on in steps: a timer for each chunk costs more than reading it.
                fresh_until = now + chunk_s * TIMER_STEP
                limit.reschedule(min(fresh_until + chunk_s, end))
        limit.reschedule(None)
        await reader.end()
        if not response.at_end:
            await drain(response)

    async def _send(self, path: str, body: bytes | None, reply: Reply | None = None) -> Response:
        if not self._started:
            raise BackendUnavailable("the adapter is not started", code="backend_not_started")
        if body is None:
            return await self._http.get(path)
        return await self._http.post(path, body, reply)


def sick(error: BackendUnavailable) -> Probe:
    """Return the probe of a backend that answered a question with an error, or not at all."""
    # Whether a slow one still completes requests is for its breaker to say.
    busy = error.code in ("backend_rate_limited", "backend_timeout")
    return Probe(health=Health.DEGRADED if busy else Health.DOWN, detail=error.message)


async def _check_status(response: Response) -> None:
    if response.status != 200:
        body = await read_bounded(response, MAX_ERROR_BYTES)
        raise from_status(response.status, response.headers, body)


async def _check_content(response: Response, content_type: str) -> None:
    if response.content_type != content_type:
        if response.content_type == "application/json":
            raise _named(await read_bounded(response, MAX_ERROR_BYTES)) or wrong_content_type(
                response.content_type, content_type
            )
        raise wrong_content_type(response.content_type, content_type)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise malformed("a compressed answer, which it was not asked for")


def _named(body: bytes) -> BackendUnavailable | None:
    try:
        return error_in_answer(members_decoder.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


async def drain(response: Response) -> None:
    """Read the end of a body whose answer is whole; a break here spoils nothing any more."""
    try:
        async with asyncio.timeout(DRAIN_S):
            while await response.read():
                pass
    except OSError:  # a timeout is one too
        return


def _too_long(exc: BodyTooLongError) -> BackendUnavailable:
    return BackendUnavailable(f"the model server sent {exc}", code="backend_answer_too_long")
