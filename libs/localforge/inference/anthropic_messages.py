"""Adapter for Anthropic's Messages API."""

from collections.abc import Mapping

import msgspec

from localforge.contracts.cards import Capability, FoundModel, Health
from localforge.errors import BackendRefused, BackendUnavailable
from localforge.inference.anthropic_request import DEFAULT_MAX_TOKENS, ModelFacts, translate
from localforge.inference.anthropic_shapes import VERSION
from localforge.inference.anthropic_stream import MessageReader
from localforge.inference.chat_shapes import encode, read_chat
from localforge.inference.exchange import Exchange, sick
from localforge.inference.protocol import Completion, Probe, Reply, Timeouts

URL = "https://api.anthropic.com"
MODELS_PATH = "/v1/models?limit=1000"


class _Support(msgspec.Struct):
    supported: bool = False


class _ThinkingTypes(msgspec.Struct):
    adaptive: _Support = msgspec.field(default_factory=_Support)
    enabled: _Support = msgspec.field(default_factory=_Support)


class _Thinking(msgspec.Struct):
    supported: bool = False
    types: _ThinkingTypes = msgspec.field(default_factory=_ThinkingTypes)


class _Capabilities(msgspec.Struct):
    effort: _Support = msgspec.field(default_factory=_Support)
    image_input: _Support = msgspec.field(default_factory=_Support)
    pdf_input: _Support = msgspec.field(default_factory=_Support)
    structured_outputs: _Support = msgspec.field(default_factory=_Support)
    thinking: _Thinking = msgspec.field(default_factory=_Thinking)


class _Model(msgspec.Struct):
    id: str
    max_input_tokens: int | None = None
    max_tokens: int | None = None
    capabilities: _Capabilities | None = None


class _ModelList(msgspec.Struct):
    data: list[_Model]


_model_list = msgspec.json.Decoder(_ModelList)


class AnthropicAdapter:
    """Anthropic, or a server with its Messages API.

    Args:
        url: Base URL without `/v1`; empty means Anthropic's own.
        api_key: Sent as `x-api-key` unless empty.
        slots: Requests it can run at the same time.
        timeouts: See `Timeouts`.
        bounds: The backend's name of a model -> most tokens of an answer, where configured.
    """

    def __init__(
        self,
        url: str = "",
        *,
        api_key: str = "",
        slots: int = 32,
        timeouts: Timeouts | None = None,
        bounds: Mapping[str, int] | None = None,
    ) -> None:
        headers = {"anthropic-version": VERSION}
        if api_key:
            headers["x-api-key"] = api_key
        base = (url or URL).rstrip("/").removesuffix("/v1")
        self._exchange = Exchange(base, headers=headers, timeouts=timeouts or Timeouts())
        self._slots = slots
        self._bounds = bounds or {}
        self._models: dict[str, _Model] = {}

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

    async def probe(self) -> Probe:
        """Ask for the models and what they can do."""
        try:
            models = _model_list.decode(await self._exchange.ask(MODELS_PATH)).data
        except BackendUnavailable as exc:
            if exc.code == "backend_not_found":
                return Probe(health=Health.UP, detail="the server has no list of models")
            return sick(exc)
        except (msgspec.DecodeError, UnicodeDecodeError, BackendRefused):
            return Probe(health=Health.DEGRADED, detail="the list of models is not Anthropic's")
        self._models = {model.id: model for model in models}
        return Probe(
            health=Health.UP,
            models=tuple(self._models),
            found=tuple(map(_described, models)),
        )

    async def complete(self, request: Completion, reply: Reply) -> None:
        """Run one completion; see `Adapter.complete`."""
        chat = read_chat(request.body)
        body = encode(translate(chat, request.upstream, self._facts(request.upstream)))
        await self._exchange.stream(
            "/v1/messages",
            body,
            MessageReader(request, reply),
            reply,
            content_type="text/event-stream",
            hurried=request.stream,
        )

    def _facts(self, upstream: str) -> ModelFacts:
        model = self._models.get(upstream) or self._meant(upstream)
        told = model.max_tokens if model else None
        bound = self._bounds.get(upstream) or told or DEFAULT_MAX_TOKENS
        if model is None or model.capabilities is None:
            return ModelFacts(max_tokens=bound)
        thinking = model.capabilities.thinking
        return ModelFacts(
            max_tokens=bound,
            takes_effort=model.capabilities.effort.supported,
            takes_adaptive_thinking=thinking.types.adaptive.supported,
            takes_budget=thinking.types.enabled.supported,
            # Models that no longer take a budget of thinking take no sampling parameters either.
            takes_sampling=thinking.types.enabled.supported or not thinking.supported,
        )

    def _meant(self, alias: str) -> _Model | None:
        """Return the model behind a name without its date, or with `-latest` in its place."""
        start = alias.removesuffix("-latest") + "-"
        return next((m for name, m in self._models.items() if name.startswith(start)), None)


def _described(model: _Model) -> FoundModel:
    return FoundModel(
        name=model.id,
        context_tokens=model.max_input_tokens or 0,
        max_output_tokens=model.max_tokens or 0,
        capabilities=_offered(model.capabilities) if model.capabilities else None,
    )


def _offered(told: _Capabilities) -> frozenset[Capability]:
    flags = {
        Capability.TOOLS: True,
        Capability.VISION: told.image_input.supported,
        Capability.FILES: told.pdf_input.supported,
        Capability.JSON_SCHEMA: told.structured_outputs.supported,
        Capability.REASONING: told.thinking.supported or told.effort.supported,
    }
    return frozenset(capability for capability, offered in flags.items() if offered)
