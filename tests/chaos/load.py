"""Requests on both lanes, and what became of each of them."""

import asyncio
import collections
import itertools
import json
import time
import uuid
from contextlib import suppress
from typing import Any

import aiohttp

from localforge.contracts.chat import ChatCompleted
from tests.chaos.asking import ASKED, TEXT, WHOLE
from tests.e2e.durable import Application

DEADLINE_S = 20.0
LATE_S = 5.0
"""Beyond the deadline a client counts as hanging."""


class LiveLoad:
    """HTTP clients of both APIs, streamed or not in turn, that ask again and again until stopped.

    Attributes:
        ends: How requests ended: `whole`, `error <code>`, `connection` (the edge went away), or
            what may never be: `wrong` (a short or mixed answer that looks whole), `hang`.
        whole: Whole answers by what was asked for.
        seconds: Of each whole answer.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.ends: collections.Counter[str] = collections.Counter()
        self.whole: collections.Counter[str] = collections.Counter()
        self.seconds: list[float] = []
        self._session = session
        self._url = url
        self._stopping = False

    def stop(self) -> None:
        """Let the requests under way be the last ones."""
        self._stopping = True

    async def client(self, number: int, pause_s: float) -> None:
        """Ask, wait a little, ask again; the number says with which API to begin."""
        for asking in itertools.islice(itertools.cycle(ASKED), number, None):
            if self._stopping:
                return
            started = time.monotonic()
            try:
                async with asyncio.timeout(DEADLINE_S + LATE_S):
                    end = await asking.ask(self._session, self._url)
            except TimeoutError:
                end = "hang"
            except (aiohttp.ClientError, OSError):
                end = "connection"
            self.ends[end] += 1
            if end == WHOLE:
                self.whole[asking.name] += 1
                self.seconds.append(time.monotonic() - started)
            await asyncio.sleep(pause_s)


class DurableLoad:
    """A NATS application that publishes at a steady pace.

    Attributes:
        accepted: Ids of the requests that JetStream has acknowledged.
    """

    def __init__(self, app: Application) -> None:
        self.accepted: list[str] = []
        self._app = app
        self._run = uuid.uuid4().hex[:6]
        self._stopping = False

    def stop(self) -> None:
        """Publish no more."""
        self._stopping = True

    async def publish(self, pause_s: float) -> None:
        """Publish, wait a little, publish again."""
        for number in itertools.count():
            if self._stopping:
                return
            request_id = f"{self._run}-{number}"
            body = {"model": "auto", "messages": [{"role": "user", "content": request_id}]}
            with suppress(TimeoutError):
                async with asyncio.timeout(60):
                    await self._app.ask(request_id, body)
                    self.accepted.append(request_id)
            await asyncio.sleep(pause_s)

    def heard_twice(self) -> list[str]:
        """Requests of which a subscriber heard more than one result."""
        return [i for i in self.accepted if self._app.heard[i] > 1]


def is_whole(result: ChatCompleted) -> bool:
    """Tell whether a durable result is the whole answer."""
    if result.status != 200:
        return False
    answer: dict[str, Any] = json.loads(bytes(result.response))
    return bool(answer["choices"][0]["message"]["content"] == TEXT)
