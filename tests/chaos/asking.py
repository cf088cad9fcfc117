"""One request of a live client, and what its answer is worth."""

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import aiohttp

from tests.fakes.openai_server import WORDS

TEXT = " ".join(WORDS)
WHOLE, WRONG = "whole", "wrong"
TURNS = [{"role": "user", "content": "chaos"}]


class Asking(ABC):
    """A way to ask: an API, streamed or not.

    Attributes:
        name: For the figures.
    """

    api: str
    path: str
    body: ClassVar[dict[str, Any]]

    def __init__(self, *, stream: bool) -> None:
        self.name = f"{self.api} streamed" if stream else self.api
        self._stream = stream

    async def ask(self, session: aiohttp.ClientSession, url: str) -> str:
        """Ask, and return how it ended: `whole`, `error <its name>` or `wrong`.

        Raises:
            aiohttp.ClientError: The connection ended before the answer did.
        """
        body = self.body | {"stream": self._stream}
        async with session.post(url + self.path, json=body) as answer:
            try:
                if answer.status == 200 and self._stream:
                    return await self._read(answer)
                told = json.loads(await answer.read())
            except ValueError:
                return WRONG  # no JSON, or no text
            if answer.status != 200:
                return self.error_of(told)
            return WHOLE if self.text_of(told) == TEXT else WRONG

    async def _read(self, answer: aiohttp.ClientResponse) -> str:
        text, end = "", ""
        async for data in _data(answer):
            if end:
                return WRONG  # nothing follows the end, and no end follows an error
            if self.is_end(data):
                end = WHOLE if text == TEXT else WRONG
                continue
            event: dict[str, Any] = json.loads(data)
            if "error" in event:
                end = self.error_of(event)
            else:
                text += self.piece_of(event)
        # A connection that ends well before the answer's own end is a short answer in silence; one
        # that was cut, as by an edge that is killed, has raised.
        return end or WRONG

    @abstractmethod
    def text_of(self, answer: dict[str, Any]) -> str:
        """Return the text of a whole answer."""

    @abstractmethod
    def piece_of(self, event: dict[str, Any]) -> str:
        """Return the text of an event."""

    @abstractmethod
    def is_end(self, data: str) -> bool:
        """Tell whether an event says that the answer is whole."""

    @abstractmethod
    def error_of(self, told: dict[str, Any]) -> str:
        """Return `error <its name>`."""


class Chat(Asking):
    """OpenAI's chat completions."""

    api = "chat"
    path = "/v1/chat/completions"
    body: ClassVar = {"model": "auto", "messages": TURNS}

    def text_of(self, answer: dict[str, Any]) -> str:
        """Of the only choice."""
        return str(answer["choices"][0]["message"]["content"])

    def piece_of(self, event: dict[str, Any]) -> str:
        """Of every choice."""
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"])

    def is_end(self, data: str) -> bool:
        """`[DONE]`."""
        return data == "[DONE]"

    def error_of(self, told: dict[str, Any]) -> str:
        """By code."""
        return f"error {told['error']['code']}"


class Messages(Asking):
    """Anthropic's messages."""

    api = "messages"
    path = "/v1/messages"
    body: ClassVar = {"model": "auto", "max_tokens": 100, "messages": TURNS}

    def text_of(self, answer: dict[str, Any]) -> str:
        """Of every block."""
        return "".join(block["text"] for block in answer["content"])

    def piece_of(self, event: dict[str, Any]) -> str:
        """Of a block."""
        return str(event["delta"]["text"]) if event["type"] == "content_block_delta" else ""

    def is_end(self, data: str) -> bool:
        """`message_stop`."""
        return bool(json.loads(data)["type"] == "message_stop")

    def error_of(self, told: dict[str, Any]) -> str:
        """By type: that API has no codes."""
        return f"error {told['error']['type']}"


ASKED = (Chat(stream=False), Messages(stream=True), Chat(stream=True), Messages(stream=False))


async def _data(answer: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """Yield the data of each event until the stream ends."""
    async for line in answer.content:
        if line.startswith(b"data:"):
            yield line.removeprefix(b"data:").decode().strip()
