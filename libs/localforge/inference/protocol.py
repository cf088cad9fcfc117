"""What an executor asks of a backend, and what it gets back.

One `Adapter` per kind of backend.
An adapter speaks the backend's wire format and nothing else: plans, prices, seals and deadlines
belong to the executor.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

import msgspec

from localforge.contracts.cards import FoundModel, Health
from localforge.contracts.chat import Usage

LATEST = ":latest"
Write = Callable[[bytes], Awaitable[None]]
"""Takes server-sent events that were ready together, complete with their blank lines."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait for a backend; all in seconds."""

    connect_s: float = 5.0
    first_token_s: float = 60.0
    """From the request to the first content of a stream."""
    chunk_s: float = 30.0
    """Between two reads of a stream that has begun."""
    attempt_s: float = 120.0
    """For the whole answer."""


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """One chat completion to be run by an adapter."""

    completion_id: str
    """Put in place of the backend's own id."""
    model: str
    """LocalForge's name of the model, put in place of the backend's own."""
    upstream: str
    """The backend's own name of the model."""
    body: bytes
    """The client's JSON, untouched but for the sampling of a second answer in a cascade."""
    stream: bool = False
    include_usage: bool = False
    """The client asked for usage on the stream."""
    tried: frozenset[str] = frozenset()
    """Names of the backend's servers that have failed this request."""
    deadline: float = 0.0
    """Unix time in seconds at which its caller's patience ends, and cancels it; 0 means never."""


class BackendLoad(msgspec.Struct, frozen=True, kw_only=True):
    """How busy a model server says it is, whoever sent it the work."""

    running: int = 0
    waiting: int = 0
    kv_cache_use: float = 0.0
    """Share of the KV cache in use, 0 to 1."""
    loaded: tuple[str, ...] = ()
    """The backend's own names of the models in its memory now."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend says when it is asked how it is."""

    health: Health
    detail: str = ""
    """Why it is not `up`, in words for an operator."""
    models: tuple[str, ...] = ()
    """The backend's own names of what it serves; empty when it does not say."""
    found: tuple[FoundModel, ...] | None = None
    """What it serves, described; None when it was not asked or does not say."""
    is_exhaustive: bool = False
    """It serves nothing but `found`, and by no other names."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of `found` in every form; Ollama's may leave out the tag `latest`."""
        full = [model.name for model in self.found or ()]
        return (*full, *(n.removesuffix(LATEST) for n in full if n.endswith(LATEST)))


class Reply:
    """What one attempt has brought so far.

    The adapter fills it while it works and the executor owns it, so that usage, text and timings
    are there whether the attempt ends, fails or is cancelled.

    Args:
        write: Awaited with each batch of a stream, from its first content on.
    """

    __slots__ = (
        "_write",
        "accepted",
        "answer",
        "cost_usd",
        "created",
        "finish_reason",
        "first_content_at",
        "heard_at",
        "hidden",
        "in_doubt",
        "prompt",
        "server",
        "started",
        "text",
        "time_usd",
        "tool_calls",
        "usage",
        "usage_json",
    )

    def __init__(self, write: Write) -> None:
        self._write = write
        self.server = ""
        """Which of the backend's servers was asked; empty until one is."""
        self.accepted = False
        """The backend took the request, so its prompt may be billed."""
        self.in_doubt = False
        """The request went out and no status has come, as a server that does not stream sends none
        before its answer is finished: the backend may have worked on it, and may bill it."""
        self.started = False
        """Content is on its way to the caller, so no other model may answer any more."""
        self.first_content_at = 0.0
        """`time.monotonic` of the first content; 0 while there is none."""
        self.heard_at = 0.0
        """`time.monotonic` of the last content that was read; 0 while there is none."""
        self.finish_reason = ""
        self.text: list[str] = []
        """Pieces of the first choice's content."""
        self.hidden: list[str] = []
        """Everything else that was generated: other choices, reasoning, tool arguments."""
        self.tool_calls = 0
        self.created = 0
        """Unix time in seconds, from the backend; of a whole answer it is among its members."""
        self.usage: Usage | None = None
        self.prompt: Usage | None = None
        """Of the prompt alone, from a backend that counts it before it answers."""
        self.usage_json = b""
        """The backend's usage object as it came; empty when it gave none."""
        self.cost_usd: float | None = None
        """What the backend itself says it cost, in US dollars; counts before prices per token."""
        self.time_usd = 0.0
        """Its share of what the machine's time cost; counts beside prices per token."""
        self.answer: dict[str, msgspec.Raw] = {}
        """Members of an unstreamed completion, id and model already LocalForge's."""

    def note_content(self) -> None:
        """Note the time of the first content."""
        if not self.first_content_at:
            self.first_content_at = time.monotonic()

    async def write(self, data: bytes) -> None:
        """Pass on events that were ready together."""
        self.started = True
        self.heard_at = time.monotonic()
        await self._write(data)


class Adapter(Protocol):
    """A backend as the executor sees it."""

    @property
    def slots(self) -> int:
        """Requests it can run at the same time."""

    async def start(self) -> None:
        """Get ready to serve: open pools, load the model.

        Raises:
            ConfigError: It can never be ready, and why.
        """

    async def close(self) -> None:
        """Free everything; requests that still run fail."""

    async def probe(self) -> Probe:
        """Ask the backend how it is; never raises for a sick backend."""

    async def complete(self, request: Completion, reply: Reply) -> None:
        """Run one completion to its end and fill `reply`.

        Cancelling the task closes the connection to the backend at once, which stops the work
        there.

        Raises:
            BackendUnavailable: It failed before the first content; another model may answer.
            StreamBroken: It failed after the first content.
            BackendRefused: The backend says that the request is wrong.
            RequestRefused: The body is not a JSON object.
        """


@runtime_checkable
class Embedder(Protocol):
    """An adapter whose backend can also turn texts into vectors."""

    async def embed(self, request: Completion, reply: Reply) -> None:
        """Embed; `request.body` is OpenAI's embeddings request, and fills `reply` as `complete`.

        Raises:
            BackendUnavailable: It failed; another backend with the same model may do it.
            BackendRefused: The backend says that the request is wrong.
            RequestRefused: The body is no embeddings request.
        """


@runtime_checkable
class ReportsLoad(Protocol):
    """An adapter whose backend can be asked how busy it is, every two seconds."""

    async def load(self) -> BackendLoad:
        """Ask; an answer that does not come is no load."""
