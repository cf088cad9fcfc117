"""Another API's requests, answered by way of a chat completion."""

from collections.abc import Callable
from typing import Protocol

from localforge.contracts.chat import Usage
from localforge.contracts.live import AnyFrame, Completed, Delta, Failed
from localforge.edge.asgi import HttpRequest
from localforge.edge.exchange import Exchange
from localforge.errors import LocalforgeError


class Translation(Protocol):
    """The way back of one request."""

    def whole(self, body: bytes, usage: Usage) -> bytes:
        """Return the answer for a whole chat completion."""

    def prompt(self, usage: Usage) -> None:
        """Take what is known of the prompt's tokens before the first events."""

    def events(self, data: bytes) -> bytes:
        """Return the events for those of a chat stream; may be empty."""

    def end(self, data: bytes, usage: Usage) -> bytes:
        """Return the last events for those of a chat stream."""


Dialect = Callable[[bytes], tuple[bytes, Translation]]
"""Turns a body into a chat request's and the way back. Raises `RequestRefused`."""


async def write_translated(
    request: HttpRequest, exchange: Exchange, frame: AnyFrame, translation: Translation
) -> None:
    """Write a stream's events in the other API's words.

    Args:
        request: Its events have begun.
        exchange: Where the following frames come from.
        frame: The first one.
        translation: Of this request.
    """
    while True:
        try:
            if isinstance(frame, Delta):
                if frame.summary is not None and frame.summary.prompt is not None:
                    translation.prompt(frame.summary.prompt)
                if events := translation.events(frame.data):
                    await request.write(events)
            elif isinstance(frame, Completed):
                await request.write(translation.end(frame.data, frame.usage), last=True)
                return
        except LocalforgeError as exc:
            request.facts["error"] = exc.code
            await request.refuse(exc)
            return
        if isinstance(frame, Failed):
            request.facts["error"] = frame.error.code
            await request.write(request.error_shape.event(frame.status, frame.error), last=True)
            return
        frame = await exchange.next()
