"""Adapter for vLLM: OpenAI's wire format, and what vLLM tells of its models and of its load."""

import msgspec

from localforge.config import VENDORS
from localforge.contracts.cards import FoundModel, Health
from localforge.errors import BackendRefused, BackendUnavailable
from localforge.inference.exchange import Exchange, sick
from localforge.inference.metrics_page import VLLM, read_load
from localforge.inference.openai_compatible import OpenAICompatibleAdapter
from localforge.inference.protocol import BackendLoad, Completion, Probe, Reply, Timeouts


class _Model(msgspec.Struct):
    id: str
    max_model_len: int | None = None
    parent: str | None = None
    root: object = None
    """Path or name of its weights."""


class _ModelList(msgspec.Struct):
    data: list[_Model]


_model_list = msgspec.json.Decoder(_ModelList)


class VllmAdapter:
    """One vLLM server.

    Args:
        url: Base URL up to and including `/v1`.
        api_key: Sent as a bearer token unless empty.
        slots: Requests it can run at the same time.
        timeouts: See `Timeouts`.
    """

    def __init__(
        self, url: str, *, api_key: str = "", slots: int = 32, timeouts: Timeouts | None = None
    ) -> None:
        timeouts = timeouts or Timeouts()
        self._chat = OpenAICompatibleAdapter(
            url, api_key=api_key, slots=slots, timeouts=timeouts, vendor=VENDORS["vllm"]
        )
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # Its metrics are beside `/v1`, not under it.
        root = url.rstrip("/").removesuffix("/v1")
        self._pages = Exchange(root, headers=headers, timeouts=timeouts)

    @property
    def slots(self) -> int:
        """Requests it can run at the same time."""
        return self._chat.slots

    async def start(self) -> None:
        """Allow requests; connections are made when they are needed."""
        await self._chat.start()
        await self._pages.start()

    async def close(self) -> None:
        """Close all connections."""
        await self._chat.close()
        await self._pages.close()

    async def probe(self) -> Probe:
        """Ask for the models and their context; a LoRA adapter has that of its base."""
        try:
            models = _model_list.decode(await self._pages.ask("/v1/models")).data
        except BackendUnavailable as exc:
            return sick(exc)
        except (msgspec.DecodeError, UnicodeDecodeError, BackendRefused):
            return Probe(health=Health.DEGRADED, detail="the list of models is not vLLM's")
        lengths = {model.id: model.max_model_len or 0 for model in models}
        found = tuple(
            FoundModel(
                name=model.id,
                context_tokens=lengths[model.id] or lengths.get(model.parent or "", 0),
                weights=model.root if isinstance(model.root, str) else "",
            )
            for model in models
        )
        return Probe(health=Health.UP, models=tuple(lengths), found=found, is_exhaustive=True)

    async def load(self) -> BackendLoad:
        """Read its metrics."""
        try:
            return read_load(await self._pages.ask("/metrics"), VLLM)
        except (BackendUnavailable, BackendRefused, ValueError):
            return BackendLoad()

    async def complete(self, request: Completion, reply: Reply) -> None:
        """Run one completion; see `Adapter.complete`."""
        await self._chat.complete(request, reply)

    async def embed(self, request: Completion, reply: Reply) -> None:
        """Turn texts into vectors; see `Embedder.embed`."""
        await self._chat.embed(request, reply)
