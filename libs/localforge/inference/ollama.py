"""Adapter for Ollama's own API: what it has, what each model can do, what is loaded."""

import asyncio
import re
import time
from collections.abc import Mapping

import msgspec

from localforge.contracts.cards import Capability, FoundModel, Health
from localforge.errors import BackendRefused, BackendUnavailable
from localforge.inference.chat_shapes import encode, read_chat
from localforge.inference.exchange import Exchange, sick
from localforge.inference.ollama_request import Thinking, translate
from localforge.inference.ollama_stream import LineReader
from localforge.inference.openai_compatible import OpenAICompatibleAdapter
from localforge.inference.protocol import (
    LATEST,
    BackendLoad,
    Completion,
    Probe,
    Reply,
    Timeouts,
)

URL = "http://127.0.0.1:11434"
DEFAULT_CONTEXT_TOKENS = 8192
"""Of a model whose context nobody has set: what it was trained for may not fit into memory."""
LIST_VALID_S = 30.0
"""A list of models older than this says nothing of them any more: the next request asks again
first. Probes renew it long before, every `probe_s` seconds."""
CAPABILITIES = frozenset({Capability.JSON_OBJECT, Capability.JSON_SCHEMA, Capability.SEED})
"""Of every model: Ollama's sampler keeps to a grammar."""
_CAPABILITIES = {
    "tools": Capability.TOOLS,
    "vision": Capability.VISION,
    "thinking": Capability.REASONING,
    "embedding": Capability.EMBEDDINGS,
}
_CHAT = "completion"
_COUNT = "general.parameter_count"
_ROUNDED = re.compile(r"(\d+(?:\.\d+)?) ?([KMBT])", re.IGNORECASE)
_UNITS = {"K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3}


class _Tag(msgspec.Struct):
    name: str
    digest: str = ""
    remote_host: object = None
    remote_model: object = None

    @property
    def is_elsewhere(self) -> bool:
        """Whether Ollama has this model run by another host; whatever it says of one counts."""
        return bool(self.remote_host or self.remote_model)


class _Tags(msgspec.Struct):
    models: list[_Tag] = []


class _Think(msgspec.Struct):
    values: list[str | bool] = []


class _Details(msgspec.Struct):
    parameter_size: object = None
    """As text, `8.0B` or `134.52M`."""


class _Shown(msgspec.Struct):
    capabilities: list[str] | None = None
    model_info: dict[str, msgspec.Raw] = {}
    details: _Details | None = None
    parameters: str = ""
    template: str = ""
    thinking: _Think | None = None


class _Known(msgspec.Struct):
    """What was learned of one model while its digest stays the same."""

    digest: str
    found: FoundModel
    thinking: Thinking
    is_usable: bool
    """It chats, or makes embeddings; what only fills gaps in text is of no use here."""


_tags = msgspec.json.Decoder(_Tags)
_shown = msgspec.json.Decoder(_Shown)
_encoder = msgspec.json.Encoder()


class OllamaAdapter:
    """One Ollama.

    Args:
        url: Base URL without `/api`; empty means the default port of this machine.
        api_key: Sent as a bearer token unless empty.
        slots: Requests it can run at the same time.
        timeouts: See `Timeouts`.
        contexts: Ollama's name of a model -> context in tokens, where configured.
        keep_alive: How long a model stays loaded after a request, as Ollama writes it.
    """

    def __init__(
        self,
        url: str = "",
        *,
        api_key: str = "",
        slots: int = 4,
        timeouts: Timeouts | None = None,
        contexts: Mapping[str, int] | None = None,
        keep_alive: str = "",
    ) -> None:
        base = (url or URL).rstrip("/").removesuffix("/v1").removesuffix("/api")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._exchange = Exchange(base, headers=headers, timeouts=timeouts or Timeouts())
        # Vectors come through its OpenAI door: the shapes are the edge's own.
        self._openai = OpenAICompatibleAdapter(
            f"{base}/v1", api_key=api_key, slots=slots, timeouts=timeouts
        )
        self._slots = slots
        self._contexts = contexts or {}
        self._keep_alive = keep_alive
        self._known: dict[str, _Known] = {}
        self._own: frozenset[str] = frozenset()
        """Models that it runs itself, by its last word."""
        self._asked_at: float | None = None
        """When it was asked for them; None while nothing it has said of them can be read."""
        self._asking = asyncio.Lock()

    @property
    def slots(self) -> int:
        """Requests it can run at the same time."""
        return self._slots

    async def start(self) -> None:
        """Allow requests; connections are made when they are needed."""
        await self._exchange.start()

    async def close(self) -> None:
        """Close all connections."""
        await self._exchange.close()
        await self._openai.close()

    async def probe(self) -> Probe:
        """Ask what it has, and about models that are new or changed what they can do.

        Models that Ollama has run elsewhere (`remote_host`) are not its own and are left out: their
        content would leave this site by an address that is on it.
        """
        try:
            await self._look()
        except BackendUnavailable as exc:
            return sick(exc)
        except (msgspec.DecodeError, UnicodeDecodeError, BackendRefused):
            return Probe(
                health=Health.DEGRADED, detail="what it says of its models is not Ollama's"
            )
        found = tuple(known.found for known in self._known.values() if known.is_usable)
        return Probe(
            health=Health.UP, models=tuple(f.name for f in found), found=found, is_exhaustive=True
        )

    async def load(self) -> BackendLoad:
        """Ask which models are in memory."""
        try:
            return BackendLoad(loaded=tuple(tag.name for tag in await self._list("/api/ps")))
        except (BackendUnavailable, BackendRefused, msgspec.DecodeError, UnicodeDecodeError):
            return BackendLoad()

    async def complete(self, request: Completion, reply: Reply) -> None:
        """Run one completion; see `Adapter.complete`."""
        chat = read_chat(request.body)
        known = self._known.get(await self._own_name(request.upstream))
        body = translate(
            chat,
            request.upstream,
            context_tokens=self._contexts.get(request.upstream)
            or (known.found.context_tokens if known else 0),
            keep_alive=self._keep_alive,
            thinking=known.thinking if known else Thinking(),
        )
        await self._exchange.stream(
            "/api/chat",
            encode(body),
            LineReader(request, reply),
            reply,
            content_type="application/x-ndjson",
            hurried=request.stream,
        )

    async def embed(self, request: Completion, reply: Reply) -> None:
        """Turn texts into vectors; see `Embedder.embed`."""
        await self._own_name(request.upstream)
        await self._openai.embed(request, reply)

    async def _own_name(self, upstream: str) -> str:
        """Return the name under which Ollama lists a model that it runs itself.

        Only such a model gets content. Another spelling, or a name that is not listed, may stand
        for one that Ollama fetches or has run elsewhere.

        Raises:
            BackendUnavailable: It is none of its own, or nothing shows that it is.
        """
        if not self._is_known():
            async with self._asking:
                if not self._is_known():
                    await self._ask_again()
        for name in (upstream, upstream + LATEST):
            if name in self._own:
                return name
        raise BackendUnavailable(
            "Ollama does not list this model as one that it runs itself; content for it could "
            "leave this site",
            code="backend_not_found",
        )

    def _is_known(self) -> bool:
        return self._asked_at is not None and time.monotonic() - self._asked_at < LIST_VALID_S

    async def _ask_again(self) -> None:
        try:
            await self._look()
        except (BackendUnavailable, BackendRefused, msgspec.DecodeError, UnicodeDecodeError) as exc:
            if self._is_known():
                return  # The list is read; what could not be read is what one model can do.
            if isinstance(exc, BackendUnavailable):
                raise
            raise BackendUnavailable(
                "what Ollama says of its models cannot be read, and so not whether it runs this "
                "one itself",
                code="backend_malformed",
            ) from exc

    async def _look(self) -> None:
        """Ask which models it has, and about new and changed ones what they can do."""
        now = time.monotonic()
        try:
            listed = await self._list("/api/tags")
        except (msgspec.DecodeError, UnicodeDecodeError, BackendRefused):
            self._asked_at = None
            raise
        # Ollama does not tell upper from lower case.
        elsewhere = {tag.name.lower() for tag in listed if tag.is_elsewhere}
        tags = [tag for tag in listed if tag.name.lower() not in elsewhere]
        self._own, self._asked_at = frozenset(tag.name for tag in tags), now
        self._known = {name: known for name, known in self._known.items() if name in self._own}
        for tag in tags:
            known = self._known.get(tag.name)
            if known is None or known.digest != tag.digest:
                self._known[tag.name] = await self._learn(tag)

    async def _list(self, path: str) -> list[_Tag]:
        return _tags.decode(await self._exchange.ask(path)).models

    async def _learn(self, tag: _Tag) -> _Known:
        question = _encoder.encode({"model": tag.name})
        shown = _shown.decode(await self._exchange.ask("/api/show", question))
        told = shown.capabilities
        if told is None:  # before 0.6.4
            told = [_CHAT, *(["tools"] if ".Tools" in shown.template else [])]
        found = {_CAPABILITIES[name] for name in told if name in _CAPABILITIES}
        if _CHAT in told:
            found |= CAPABILITIES
        return _Known(
            digest=tag.digest,
            found=FoundModel(
                name=tag.name,
                context_tokens=_context(shown),
                capabilities=frozenset(found),
                parameters_b=_size(shown),
            ),
            thinking=Thinking(
                offered="thinking" in told,
                values=tuple(shown.thinking.values) if shown.thinking else (),
            ),
            is_usable=bool(found),
        )


def _context(shown: _Shown) -> int:
    """Return the context that requests will set: the Modelfile's, or at most the default."""
    for line in shown.parameters.splitlines():
        name, _, value = line.strip().partition(" ")
        if name == "num_ctx" and value.strip().isdecimal():
            return int(value)
    trained = next(
        (int(raw) for name, raw in _numbers(shown) if name.endswith(".context_length")), 0
    )
    return min(trained or DEFAULT_CONTEXT_TOKENS, DEFAULT_CONTEXT_TOKENS)


def _size(shown: _Shown) -> float | None:
    """Return billions of parameters, counted or as it rounds them; None where it says neither."""
    counted = next((int(raw) for name, raw in _numbers(shown) if name == _COUNT), 0)
    if counted:
        return counted / 1e9
    rounded = _ROUNDED.fullmatch(str(shown.details.parameter_size if shown.details else ""))
    return float(rounded[1]) * _UNITS[rounded[2].upper()] or None if rounded else None


def _numbers(shown: _Shown) -> list[tuple[str, bytes]]:
    return [(name, bytes(raw)) for name, raw in shown.model_info.items() if bytes(raw).isdigit()]
