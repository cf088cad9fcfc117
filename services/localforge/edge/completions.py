"""`POST /v1/completions`: OpenAI's legacy text completions, answered by chat models."""

import msgspec

from localforge.dialects.completions import (
    CompletionBody,
    CompletionTranslation,
    SeveralCompletions,
    to_chats,
)
from localforge.edge.asgi import HttpRequest
from localforge.edge.chat import ChatEndpoint
from localforge.edge.service import EdgeService
from localforge.edge.several import Several
from localforge.request.reading import read

_completions = msgspec.json.Decoder(CompletionBody)


class CompletionsEndpoint:
    """Text completions, whole or streamed.

    Args:
        chat: Answers the chat requests they are turned into.
        service: Takes those of several prompts.
    """

    def __init__(self, chat: ChatEndpoint, service: EdgeService) -> None:
        self._chat = chat
        self._service = service

    async def create(self, request: HttpRequest) -> None:
        """Answer a text completion request."""
        key, body = await self._chat.receive(request)
        asked = read(_completions, body)
        chats = to_chats(asked)
        if len(chats) == 1:
            await self._chat.answer(request, key, chats[0], CompletionTranslation())
            return
        options = asked.stream_options
        merge = SeveralCompletions(
            len(chats),
            asked.n if isinstance(asked.n, int) else 1,
            include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        )
        exchanges = self._service.accept_all(chats, request.headers, key, request.id)
        await Several(request, exchanges, merge).run()
