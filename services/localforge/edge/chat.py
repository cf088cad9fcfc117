"""Chat completions, embeddings and dry runs: one exchange each, written out as it comes in."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

from localforge.contracts.live import (
    AnyFrame,
    Completed,
    Delta,
    Explained,
    Failed,
    Operation,
    Summary,
)
from localforge.edge.asgi import CLIENT_GONE, Header, HttpRequest, uncancel
from localforge.edge.body import encode
from localforge.edge.exchange import ClientGone, Exchange
from localforge.edge.explanation import explain
from localforge.edge.keys import ApiKey, KeyRing
from localforge.edge.service import EdgeService
from localforge.edge.translation import Dialect, Translation, write_translated
from localforge.errors import BackendUnavailable
from localforge.telemetry import metrics

_observe_overhead = metrics.EDGE_OVERHEAD_SECONDS.observe

Explain = Callable[[Explained], bytes]
"""Makes the answer of a dry run."""


def _explained(frame: Explained) -> bytes:
    return encode(explain(frame))


class ChatEndpoint:
    """Chat completions, whole or streamed, and dry runs.

    Args:
        service: The logic.
        keys: Returns the key ring in force.
        max_body: Most bytes of a body.
    """

    def __init__(self, service: EdgeService, keys: Callable[[], KeyRing], max_body: int) -> None:
        self._service = service
        self._keys = keys
        self._max_body = max_body

    async def receive(self, request: HttpRequest) -> tuple[ApiKey | None, bytes]:
        """Return the caller's key and the body of a request.

        Raises:
            RequestRefused: The key is none, or the body is too long.
        """
        key = self._keys().authenticate(request.headers)
        return key, await request.body(self._max_body)

    def complete(self, request: HttpRequest) -> Awaitable[None]:
        """Answer a chat completion request."""
        return self._exchange(request, dry_run=False)

    def route(self, request: HttpRequest) -> Awaitable[None]:
        """Explain what would be chosen for a chat completion request, and run nothing."""
        return self._exchange(request, dry_run=True)

    def translate(
        self, request: HttpRequest, dialect: Dialect, explained: Explain | None = None
    ) -> Awaitable[None]:
        """Answer a request of another API.

        Args:
            request: Not read yet.
            dialect: Turns its body into a chat request.
            explained: Makes the answer of what a dry run says; without it the request is run.
        """
        return self._exchange(
            request,
            dry_run=explained is not None,
            dialect=dialect,
            explained=explained or _explained,
        )

    def embed(self, request: HttpRequest) -> Awaitable[None]:
        """Answer an embeddings request."""
        return self._exchange(request, dry_run=False, operation=Operation.EMBEDDINGS)

    async def _exchange(
        self,
        request: HttpRequest,
        *,
        dry_run: bool,
        dialect: Dialect | None = None,
        operation: Operation = Operation.CHAT,
        explained: Explain = _explained,
    ) -> None:
        key, body = await self.receive(request)
        translation = None
        if dialect is not None:
            body, translation = dialect(body)
        exchange = self._service.accept(
            body,
            request.headers,
            key,
            dry_run=dry_run,
            may_stream=not dry_run and operation is Operation.CHAT,
            operation=operation,
            request_id=request.id,
        )
        await self._run(request, exchange, translation, explained)

    async def answer(
        self, request: HttpRequest, key: ApiKey | None, body: bytes, translation: Translation
    ) -> None:
        """Answer a request of another API that was received and translated already."""
        exchange = self._service.accept(body, request.headers, key, request_id=request.id)
        await self._run(request, exchange, translation, _explained)

    async def _run(
        self,
        request: HttpRequest,
        exchange: Exchange,
        translation: Translation | None,
        explained: Explain,
    ) -> None:
        request.on_disconnect(exchange.abandon)
        try:
            exchange.dispatch()
            await self._answer(request, exchange, translation, explained)
        except ClientGone:
            request.status = CLIENT_GONE
        except asyncio.CancelledError:
            if not exchange.aborted:
                raise
            # Cut off for not reading: no end is written, so the client sees a broken stream.
            uncancel()
            request.abort()
            request.facts["aborted"] = True
        finally:
            request.on_disconnect(None)
            exchange.close()
            call = exchange.call
            request.facts.update(
                requested=exchange.requested,
                stream=call.stream,
                key=call.key_id,
                attempts=call.attempt + 1,
            )
            if exchange.cost_usd is not None:
                request.facts["cost_usd"] = exchange.cost_usd

    async def _answer(
        self,
        request: HttpRequest,
        exchange: Exchange,
        translation: Translation | None,
        explained: Explain,
    ) -> None:
        frame = await exchange.next()
        headers = self._headers(request, exchange, frame)
        if isinstance(frame, Failed):
            await request.fail(frame.status, frame.error, headers, frame.retry_after_s)
        elif isinstance(frame, Explained):
            await request.reply(200, explained(frame), headers)
        elif isinstance(frame, Completed) and not exchange.call.stream:
            body = frame.body
            if translation is not None:
                body = translation.whole(body, frame.usage)
            await request.reply(200, body, headers)
        elif exchange.call.stream:
            await request.begin_events(headers)
            if translation is None:
                await _write_events(request, exchange, frame)
            else:
                await write_translated(request, exchange, frame, translation)
        else:
            raise BackendUnavailable("a part of an answer came where a whole one was asked")

    def _headers(self, request: HttpRequest, exchange: Exchange, frame: AnyFrame) -> list[Header]:
        if isinstance(frame, Failed):
            request.facts["error"] = frame.error.code
        summary: Summary | None = getattr(frame, "summary", None)
        if summary is None:
            return []
        overhead_s = max(perf_counter() - request.started_at - summary.upstream_s, 0.0)
        _observe_overhead(overhead_s)
        request.facts.update(
            decision_id=summary.decision_id,
            model=summary.model,
            zone=summary.zone,
            fallbacks=summary.fallbacks,
            overhead_ms=round(overhead_s * 1000, 3),
        )
        headers = [
            (b"x-localforge-decision", summary.decision_id.encode()),
            (b"x-localforge-model", summary.model.encode()),
            (b"x-localforge-zone", summary.zone.encode()),
            (b"x-localforge-overhead-ms", b"%.3f" % (overhead_s * 1000)),
            (b"x-localforge-fallbacks", b"%d" % summary.fallbacks),
        ]
        is_whole = isinstance(frame, Completed) and not exchange.call.stream
        if is_whole or isinstance(frame, Failed):
            headers.append(cost_header(summary.cost_usd))
        return headers


def cost_header(cost_usd: float) -> Header:
    """Return the header that says what an answer cost, or what was spent before it failed."""
    return (b"x-localforge-cost-usd", b"%.8f" % cost_usd)


async def _write_events(request: HttpRequest, exchange: Exchange, frame: AnyFrame) -> None:
    while True:
        if isinstance(frame, Delta):
            await request.write(frame.data)
        elif isinstance(frame, Completed):
            await request.write(frame.data, last=True)
            return
        elif isinstance(frame, Failed):
            # No `[DONE]`: a client must not take what came so far for a whole answer.
            request.facts["error"] = frame.error.code
            await request.write(request.error_shape.event(frame.status, frame.error), last=True)
            return
        frame = await exchange.next()
