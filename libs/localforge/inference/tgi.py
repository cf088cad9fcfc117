"""Adapter for Text Generation Inference, through `huggingface_hub.AsyncInferenceClient`.

Chat goes to the server's chat completions. A model without a chat template cannot do those: the
server is asked for a template at the first probe, and such a model's conversations go to plain
generation, as a transcript. It then takes no tools, and its card says so.
"""

import asyncio
import dataclasses
from typing import Any

import msgspec
from huggingface_hub import AsyncInferenceClient
from huggingface_hub.errors import TextGenerationError

from localforge.contracts.cards import FoundModel, Health
from localforge.contracts.chat import Usage
from localforge.errors import BackendRefused, BackendUnavailable, StreamBroken
from localforge.inference import tgi_transport
from localforge.inference.answers import read_answer
from localforge.inference.chat_shapes import ChatRequest, read_chat
from localforge.inference.chunks import ChunkReader
from localforge.inference.composer import Composer
from localforge.inference.exchange import Exchange, sick
from localforge.inference.failures import cannot_say, from_transport, malformed, sent_error
from localforge.inference.http_client import BodyTooLongError, HttpClient
from localforge.inference.metrics_page import TGI, read_load
from localforge.inference.protocol import BackendLoad, Completion, Probe, Reply, Timeouts
from localforge.inference.usage import note_counts

MEMBERS = (
    "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n", "presence_penalty",
    "response_format", "seed", "stop", "temperature", "tool_choice", "tools", "top_logprobs",
    "top_p",
)  # fmt: skip
"""Members of a chat request that the library's method takes by the same name."""
NO_TEMPLATE = "template not found"
"""What the server's refusal of a chat says when its model has no chat template."""
FINISH_REASONS = {"length": "length"}
TEMPLATE_PATH = "/chat_tokenize"
"""Applies the chat template and generates nothing."""
_TEMPLATED = b'{"messages":[{"role":"user","content":"?"}]}'
NO_BOUND_TOKENS = 1024
"""For generation without a bound; the server would stop at 100."""


class _Info(msgspec.Struct):
    model_id: str
    max_total_tokens: int = 0
    max_concurrent_requests: int = 0


_info = msgspec.json.Decoder(_Info)
_body = msgspec.json.Decoder(dict[str, Any])
_encoder = msgspec.json.Encoder()


class TgiAdapter:
    """One TGI server.

    Args:
        url: Base URL without a path.
        api_key: Sent as a bearer token unless empty.
        slots: Requests it can run at the same time.
        timeouts: See `Timeouts`.
    """

    def __init__(
        self, url: str, *, api_key: str = "", slots: int = 32, timeouts: Timeouts | None = None
    ) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        self._slots = slots
        self._timeouts = timeouts or Timeouts()
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._exchange = Exchange(self._url, headers=headers, timeouts=self._timeouts)
        self._http = HttpClient(
            self._url, headers=headers, connect_timeout_s=self._timeouts.connect_s
        )
        self._has_template: bool | None = None
        """None until the server has said."""
        self._started = False

    @property
    def slots(self) -> int:
        """Requests it can run at the same time."""
        return self._slots

    async def start(self) -> None:
        """Allow requests; connections are made when they are needed."""
        tgi_transport.install()
        await self._exchange.start()
        self._started = True

    async def close(self) -> None:
        """Close all connections."""
        self._started = False
        await self._exchange.close()
        await self._http.close()

    async def probe(self) -> Probe:
        """Ask which model it serves, and with what context."""
        try:
            info = _info.decode(await self._exchange.ask("/info"))
        except BackendUnavailable as exc:
            return sick(exc)
        except (msgspec.DecodeError, UnicodeDecodeError, BackendRefused):
            return Probe(health=Health.DEGRADED, detail="what it says of its model is not TGI's")
        if self._has_template is None:
            self._has_template = await self._ask_template()
        found = FoundModel(
            name=info.model_id,
            context_tokens=info.max_total_tokens,
            capabilities=frozenset() if self._has_template is False else None,
        )
        return Probe(health=Health.UP, models=(info.model_id,), found=(found,))

    async def _ask_template(self) -> bool | None:
        """Say whether the model has a chat template; None while the server does not tell."""
        try:
            await self._exchange.ask(TEMPLATE_PATH, _TEMPLATED)
        except BackendUnavailable:
            return None
        except BackendRefused as exc:
            # Servers of before that path say with a refusal of the first chat whether they have.
            return False if _lacks_template(exc) else None
        return True

    async def load(self) -> BackendLoad:
        """Read its metrics."""
        try:
            return read_load(await self._exchange.ask("/metrics"), TGI)
        except (BackendUnavailable, BackendRefused, ValueError):
            return BackendLoad()

    async def complete(self, request: Completion, reply: Reply) -> None:
        """Run one completion; see `Adapter.complete`."""
        chat = read_chat(request.body)
        if not self._started:
            raise BackendUnavailable("the adapter is not started", code="backend_not_started")
        tgi_transport.call.set(tgi_transport.Call(self._http, reply))
        try:
            await self._within_time(request, reply, chat)
        except BackendUnavailable as exc:
            if reply.started:
                raise StreamBroken(exc.message, code=exc.code) from exc
            raise

    async def _within_time(self, request: Completion, reply: Reply, chat: ChatRequest) -> None:
        now = asyncio.get_running_loop().time()
        end = now + self._timeouts.attempt_s
        first = min(end, now + self._timeouts.first_token_s) if request.stream else end
        try:
            async with asyncio.timeout_at(first) as limit:
                clock = _Clock(limit, end, self._timeouts.chunk_s, reply)
                # The library keeps each response until its client is closed.
                async with AsyncInferenceClient(base_url=self._url) as client:
                    await self._run(client, request, reply, chat, clock)
        except TimeoutError as exc:
            if not limit.expired():
                raise from_transport(exc) from exc
            raise BackendUnavailable(
                "the model server was too slow: no content in time", code="backend_timeout"
            ) from exc
        except TextGenerationError as exc:
            raise sent_error(type(exc).__name__) from exc
        except OSError as exc:
            raise from_transport(exc) from exc
        except BodyTooLongError as exc:
            raise BackendUnavailable(
                f"the model server sent {exc}", code="backend_answer_too_long"
            ) from exc
        except (ValueError, TypeError, AttributeError, KeyError) as exc:
            # What the library makes of an answer that is none.
            raise malformed("an answer that is not JSON of the expected shape") from exc

    async def _run(
        self,
        client: AsyncInferenceClient,
        request: Completion,
        reply: Reply,
        chat: ChatRequest,
        clock: "_Clock",
    ) -> None:
        if self._has_template is not False:
            try:
                await _chat(client, request, reply, clock)
            except BackendRefused as exc:
                if not _lacks_template(exc):
                    raise
                self._has_template = False
            else:
                return
        await _generate(client, request, reply, chat, clock)


def _lacks_template(refused: BackendRefused) -> bool:
    return refused.status == 422 and NO_TEMPLATE in refused.message


class _Clock:
    """Moves the limit of a stream on while it goes on; see `Timeouts.chunk_s`."""

    def __init__(self, limit: asyncio.Timeout, end: float, chunk_s: float, reply: Reply) -> None:
        self._limit, self._end, self._chunk_s, self._reply = limit, end, chunk_s, reply

    def tick(self) -> None:
        if self._reply.first_content_at:
            now = asyncio.get_running_loop().time()
            self._limit.reschedule(min(now + self._chunk_s, self._end))


async def _chat(
    client: AsyncInferenceClient, request: Completion, reply: Reply, clock: _Clock
) -> None:
    body = _body.decode(request.body)
    body["max_tokens"] = body.get("max_completion_tokens") or body.get("max_tokens")
    if isinstance(body.get("stop"), str):
        body["stop"] = [body["stop"]]
    members = {name: body[name] for name in MEMBERS if body.get(name) is not None}
    more: dict[str, Any] = {"model": request.upstream}
    if not request.stream:
        answer = await client.chat_completion(body["messages"], **members, extra_body=more)
        read_answer(_encoder.encode(_without_nulls(answer)), request, reply)
        return
    more["stream_options"] = {"include_usage": True}
    reader = ChunkReader(request, reply, body.get("n") or 1)
    stream = await client.chat_completion(body["messages"], stream=True, **members, extra_body=more)
    async for chunk in stream:
        await reader.take([_encoder.encode(_without_nulls(chunk))])
        clock.tick()
    await reader.end()


async def _generate(
    client: AsyncInferenceClient,
    request: Completion,
    reply: Reply,
    chat: ChatRequest,
    clock: _Clock,
) -> None:
    if chat.tools or chat.response_format:
        raise cannot_say("a model without a chat template takes no tools", "tools")
    composer = Composer(request, reply)
    stream = await client.text_generation(
        _transcript(chat),
        details=True,
        stream=True,
        max_new_tokens=chat.bound or NO_BOUND_TOKENS,
        seed=chat.seed,
        stop=chat.stops or None,
        # The server takes only what is above 0 and below 1.
        temperature=chat.temperature or None,
        top_p=chat.top_p if chat.top_p is not None and 0 < chat.top_p < 1 else None,
        top_k=chat.top_k,
        do_sample=bool(chat.temperature) or None,
    )
    async for event in stream:
        # A server that says its last event twice adds nothing to a finished answer.
        if not event.token.special and not composer.finished:
            composer.text(event.token.text)
        if (details := event.details) is not None:
            usage = Usage(
                prompt_tokens=details.input_length, completion_tokens=details.generated_tokens
            )
            note_counts(reply, usage)
        if event.generated_text is not None and not composer.finished:
            reason = details.finish_reason if details is not None else ""
            composer.finish(FINISH_REASONS.get(reason, "stop"))
        await composer.flush()
        clock.tick()
    await composer.end()


def _transcript(chat: ChatRequest) -> str:
    """Return a conversation as text; a single turn is the prompt itself."""
    if len(chat.messages) == 1:
        return chat.messages[0].text
    turns = [f"{message.role.capitalize()}: {message.text}" for message in chat.messages]
    return "\n".join([*turns, "Assistant:"])


def _without_nulls(value: Any) -> Any:
    """Return the library's objects as JSON has them: it fills in None for what was not sent."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dict(vars(value))
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
