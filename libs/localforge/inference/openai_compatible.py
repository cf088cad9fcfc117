"""Adapter for any server with OpenAI's chat completions: vLLM, llama.cpp, OpenAI and more."""

import asyncio
import time
from contextlib import nullcontext

import msgspec

from localforge.config import Vendor, find_vendor
from localforge.contracts.cards import Health
from localforge.errors import BackendUnavailable, StreamBroken
from localforge.inference.answers import read_answer
from localforge.inference.chunks import ChunkReader
from localforge.inference.embeddings import build_embeddings, read_embeddings
from localforge.inference.failures import (
    from_status,
    from_transport,
    malformed,
    wrong_content_type,
)
from localforge.inference.http_client import BodyTooLongError, HttpClient, Response, read_bounded
from localforge.inference.protocol import Completion, Probe, Reply, Timeouts
from localforge.inference.request_body import build_body
from localforge.inference.sse import SseParser
from localforge.inference.usage import told_cost_usd

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Fits into one message of the bus, with what travels beside it."""
MAX_ERROR_BYTES = 64 * 1024
PROBE_TIMEOUT_S = 3.0
SETTLE_S = 2.0
"""How long to wait for usage and `[DONE]` after the last finish reason."""
TIMER_STEP = 0.25
"""A stalled stream is given up after 1 to 1.25 times `Timeouts.chunk_s`."""
DRAIN_S = 0.2
"""How long to wait for the end of a body after `[DONE]`, to keep its connection."""


class _Model(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Model] = []


_model_list = msgspec.json.Decoder(_ModelList)


class OpenAICompatibleAdapter:
    """One OpenAI-compatible server.

    Args:
        url: Base URL up to and including `/v1`.
        api_key: Sent as a bearer token unless empty.
        slots: Requests it can run at the same time; also the size of the connection pool.
        timeouts: See `Timeouts`.
        socket_path: Unix socket to connect to instead of the URL's host. Connections to it are
            used once: they are cheap, and llama.cpp closes them after a stream.
        vendor: Whose words it takes; None means by the URL's host.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str = "",
        slots: int = 32,
        timeouts: Timeouts | None = None,
        socket_path: str = "",
        vendor: Vendor | None = None,
    ) -> None:
        self._slots = slots
        self._timeouts = timeouts or Timeouts()
        self._vendor = vendor or find_vendor("", url)
        headers = {
            "Content-Type": "application/json",
            # Compressed events arrive late: a compressor holds back what it has not filled.
            "Accept-Encoding": "identity",
            "User-Agent": "LocalForge",
            **self._vendor.headers,
        }
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._http = HttpClient(
            url,
            headers=headers,
            connect_timeout_s=self._timeouts.connect_s,
            socket_path=socket_path,
            reuse=not socket_path,
        )

    @property
    def slots(self) -> int:
        """Requests it can run at the same time."""
        return self._slots

    async def start(self) -> None:
        """Nothing to do: connections are made when they are needed."""

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def probe(self) -> Probe:
        """Ask for the list of models, which every such server has."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                response = await self._http.get("/models")
                try:
                    body = await read_bounded(response, MAX_ANSWER_BYTES)
                finally:
                    response.close()
        except TimeoutError:
            # Busy, perhaps: whether it still completes requests is for its breaker to say.
            return Probe(health=Health.DEGRADED, detail=f"no answer in {PROBE_TIMEOUT_S:g} s")
        except OSError as exc:
            return Probe(health=Health.DOWN, detail=from_transport(exc).message)
        except BodyTooLongError as exc:
            return Probe(health=Health.DEGRADED, detail=f"the list of models has {exc}")
        return _judge(response, body)

    async def complete(self, request: Completion, reply: Reply) -> None:
        """Run one completion; see `Adapter.complete`."""
        try:
            await self._complete(request, reply)
        except BackendUnavailable as exc:
            if reply.started:
                raise StreamBroken(exc.message, code=exc.code) from exc
            raise
        finally:
            self._note_cost(reply)

    async def embed(self, request: Completion, reply: Reply) -> None:
        """Turn texts into vectors; see `Embedder.embed`."""
        body, wanted = build_embeddings(request)
        try:
            async with asyncio.timeout(self._timeouts.attempt_s) as limit:
                response = await self._http.post("/embeddings", body, reply)
                try:
                    await _check_status(response)
                    reply.accepted = True
                    if "json" not in response.content_type:
                        raise wrong_content_type(response.content_type, "application/json")
                    answer = await read_bounded(response, MAX_ANSWER_BYTES)
                    read_embeddings(answer, wanted, request, reply)
                finally:
                    response.close()
        except (OSError, BodyTooLongError) as exc:
            raise _failure(exc, limit) from exc
        finally:
            self._note_cost(reply)

    def _note_cost(self, reply: Reply) -> None:
        if self._vendor.tells_cost:
            reply.cost_usd = told_cost_usd(reply.usage_json)

    async def _complete(self, request: Completion, reply: Reply) -> None:
        body, choices = build_body(request, self._vendor)
        timeouts = self._timeouts
        # No timer of its own where its caller gives up before.
        limit, end = None, 0.0
        if request.stream or not 0 < request.deadline <= time.time() + timeouts.attempt_s:
            now = asyncio.get_running_loop().time()
            end = now + timeouts.attempt_s
            first = min(end, now + timeouts.first_token_s) if request.stream else end
            limit = asyncio.timeout_at(first)
        try:
            async with limit or nullcontext():
                response = await self._http.post("/chat/completions", body, reply)
                try:
                    await _check_status(response)
                    reply.accepted = True
                    if limit is None or not request.stream:
                        await _receive_answer(response, request, reply)
                    else:
                        await _check_streamed(response, request)
                        reader = ChunkReader(request, reply, choices)
                        await self._receive_stream(response, reader, reply, limit, end)
                finally:
                    response.close()
        except (OSError, BodyTooLongError) as exc:
            raise _failure(exc, limit) from exc

    async def _receive_stream(
        self,
        response: Response,
        reader: ChunkReader,
        reply: Reply,
        limit: asyncio.Timeout,
        end: float,
    ) -> None:
        clock = asyncio.get_running_loop().time
        chunk_s = self._timeouts.chunk_s
        fresh_until = 0.0
        parser = SseParser()
        while not reader.finished and not reader.done:
            data = await response.read()
            await reader.take(parser.feed(data) if data else parser.finish())
            if not data:
                break
            if reply.started and clock() > fresh_until:
                # Moved on in steps: a timer for each chunk costs more than reading it.
                fresh_until = clock() + chunk_s * TIMER_STEP
                limit.reschedule(min(fresh_until + chunk_s, end))
        if not response.at_end:
            limit.reschedule(None)
            await _settle(response, parser, reader)
        await reader.end()


def _failure(exc: OSError | BodyTooLongError, limit: asyncio.Timeout | None) -> BackendUnavailable:
    if isinstance(exc, BodyTooLongError):
        return BackendUnavailable(f"the model server sent {exc}", code="backend_answer_too_long")
    if isinstance(exc, TimeoutError) and limit is not None and limit.expired():
        return BackendUnavailable(
            "the model server was too slow: no content in time", code="backend_timeout"
        )
    return from_transport(exc)


def _judge(response: Response, body: bytes) -> Probe:
    if response.status == 404:
        return Probe(health=Health.UP, detail="the server has no list of models")
    if response.status != 200:
        error = from_status(response.status, response.headers, body)
        busy = response.status == 429
        return Probe(health=Health.DEGRADED if busy else Health.DOWN, detail=error.message)
    try:
        models = tuple(model.id for model in _model_list.decode(body).data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Probe(health=Health.DEGRADED, detail="the list of models is not OpenAI's shape")
    return Probe(health=Health.UP, models=models)


async def _check_status(response: Response) -> None:
    if response.status != 200:
        body = await read_bounded(response, MAX_ERROR_BYTES)
        raise from_status(response.status, response.headers, body)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise malformed("a compressed answer, which it was not asked for")


async def _receive_answer(response: Response, request: Completion, reply: Reply) -> None:
    if "json" not in response.content_type:
        raise wrong_content_type(response.content_type, "application/json")
    read_answer(await read_bounded(response, MAX_ANSWER_BYTES), request, reply)


async def _check_streamed(response: Response, request: Completion) -> None:
    """Raise unless the response is a stream; an error object in its place is named as one."""
    if response.content_type == "text/event-stream":
        return
    if "json" in response.content_type:
        body = await read_bounded(response, MAX_ANSWER_BYTES)
        read_answer(body, request, Reply(_discard))
    raise wrong_content_type(response.content_type, "text/event-stream")


async def _discard(_: bytes) -> None:
    return


async def _settle(response: Response, parser: SseParser, reader: ChunkReader) -> None:
    """Read what follows a finished answer: usage, `[DONE]` and the end of the body.

    The answer is whole already, so that a server which is slow or breaks off here spoils nothing
    but its usage figures, and its connection's next use.
    """
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(DRAIN_S if reader.done else SETTLE_S) as limit:
            while data := await response.read():
                was_done = reader.done
                await reader.take(parser.feed(data))
                if reader.done and not was_done:
                    limit.reschedule(clock() + DRAIN_S)
    except OSError:
        return
