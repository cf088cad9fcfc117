"""Several chat requests that are answered as one: the prompts of a text completion.

Each is decided, run, charged and logged like any other; what comes of them goes into one answer. It
is whole or it is an error: when one of them fails the others are called off.
"""

import asyncio
import functools
from collections.abc import Sequence
from typing import Protocol

from localforge.contracts.chat import Usage
from localforge.contracts.live import Completed, Delta, Failed, Summary
from localforge.edge.asgi import CLIENT_GONE, Header, HttpRequest, uncancel
from localforge.edge.chat import cost_header
from localforge.edge.exchange import ClientGone, Exchange
from localforge.errors import BackendUnavailable


class Merge(Protocol):
    """The way back of all of them together; they are known by their number, from 0."""

    def whole(self, bodies: Sequence[bytes], usage: Usage) -> bytes:
        """Return the answer for whole chat completions."""

    def events(self, number: int, data: bytes) -> bytes:
        """Return the events for those of one chat stream; may be empty."""

    def end(self, usage: Usage) -> bytes:
        """Return the last events of all."""


class _OneFailed(Exception):  # noqa: N818  # reads as what happened
    def __init__(self, frame: Failed) -> None:
        self.frame = frame


class Several:
    """The exchanges of one HTTP request.

    A stream begins with the first content of any of them.

    Args:
        request: Read already.
        exchanges: Accepted and not dispatched yet; closed at the end.
        merge: Makes one answer of theirs.
    """

    def __init__(self, request: HttpRequest, exchanges: Sequence[Exchange], merge: Merge) -> None:
        self._request = request
        self._exchanges = exchanges
        self._merge = merge
        self._stream = exchanges[0].call.stream
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Answer, in whatever way."""
        request, exchanges = self._request, self._exchanges
        request.on_disconnect(self._abandon)
        try:
            ends = await self._all()
            await self._finish(ends)
        except _OneFailed as exc:
            await self._fail(exc.frame)
        except ClientGone:
            request.status = CLIENT_GONE
        except asyncio.CancelledError:
            if not any(exchange.aborted for exchange in exchanges):
                raise
            # Cut off for not reading: no end is written, so the client sees a broken stream.
            uncancel()
            request.abort()
            request.facts["aborted"] = True
        finally:
            request.on_disconnect(None)
            for exchange in exchanges:
                exchange.close()
            call = exchanges[0].call
            request.facts.update(
                requested=exchanges[0].requested,
                stream=self._stream,
                key=call.key_id,
                prompts=len(exchanges),
                attempts=sum(exchange.call.attempt + 1 for exchange in exchanges),
            )
            if (cost_usd := self._cost_usd()) is not None:
                request.facts["cost_usd"] = cost_usd

    async def _all(self) -> list[Completed]:
        """Return the last frames, when all have come; events are written as they come.

        Raises:
            _OneFailed: One has failed. The first one is raised, and the rest is not waited for.
        """
        tasks = [
            asyncio.ensure_future(self._one(number, exchange))
            for number, exchange in enumerate(self._exchanges)
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, number: int, exchange: Exchange) -> Completed:
        exchange.dispatch()
        while True:
            frame = await exchange.next()
            if isinstance(frame, Failed):
                raise _OneFailed(frame)
            if isinstance(frame, Completed):
                # While others are waited for, this one's deadline and ticket are over.
                exchange.close()
                if self._stream:
                    await self._write(number, frame.data)
                return frame
            if not isinstance(frame, Delta) or not self._stream:
                raise BackendUnavailable("a part of an answer came where a whole one was asked")
            await self._write(number, frame.data)

    async def _write(self, number: int, data: bytes) -> None:
        events = self._merge.events(number, data)
        if not events:
            return
        async with self._writing:
            if not self._request.in_events:
                await self._request.begin_events([])
            await self._request.write(events)

    async def _finish(self, ends: list[Completed]) -> None:
        usage = functools.reduce(Usage.plus, (end.usage for end in ends))
        summaries = [end.summary for end in ends]
        if not self._stream:
            body = self._merge.whole([end.body for end in ends], usage)
            await self._request.reply(200, body, [*self._headers(summaries), *self._cost()])
            return
        if not self._request.in_events:
            await self._request.begin_events(self._headers(summaries))
        await self._request.write(self._merge.end(usage), last=True)

    async def _fail(self, frame: Failed) -> None:
        request = self._request
        request.facts["error"] = frame.error.code
        if request.in_events:
            # No `[DONE]`: a client must not take what came so far for a whole answer.
            event = request.error_shape.event(frame.status, frame.error)
            await request.write(event, last=True)
        else:
            await request.fail(frame.status, frame.error, self._cost(), frame.retry_after_s)

    def _abandon(self) -> None:
        for exchange in self._exchanges:
            exchange.abandon()

    def _cost_usd(self) -> float | None:
        """Return what those cost that have ended, in US dollars; None where none says so."""
        known = [exchange.cost_usd for exchange in self._exchanges]
        told = [cost_usd for cost_usd in known if cost_usd is not None]
        return sum(told) if told else None

    def _cost(self) -> list[Header]:
        cost_usd = self._cost_usd()
        return [] if cost_usd is None else [cost_header(cost_usd)]

    def _headers(self, summaries: Sequence[Summary]) -> list[Header]:
        """Return what was decided, in the order of the prompts."""
        return [
            (b"x-localforge-decision", b",".join(s.decision_id.encode() for s in summaries)),
            (b"x-localforge-model", b",".join(s.model.encode() for s in summaries)),
            (b"x-localforge-zone", b",".join(s.zone.encode() for s in summaries)),
            (b"x-localforge-fallbacks", b"%d" % sum(s.fallbacks for s in summaries)),
        ]
