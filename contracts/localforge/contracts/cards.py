"""What the registry holds: model cards and the state of the replicas that serve them."""

import enum

import msgspec

from localforge.contracts.base import PublicContract


class Capability(enum.StrEnum):
    """What a request may need and a model may offer."""

    TOOLS = "tools"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    VISION = "vision"
    AUDIO = "audio"
    LOGPROBS = "logprobs"
    N = "n"
    """Several choices in one answer."""
    SEED = "seed"
    REASONING = "reasoning"
    """Takes an effort or a budget for thinking."""
    FILES = "files"
    """Takes documents, such as a PDF."""
    EMBEDDINGS = "embeddings"
    """Turns texts into vectors; a model with this does nothing else."""


class Health(enum.StrEnum):
    """What a replica's executor says of it."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


class BreakerState(enum.StrEnum):
    """Whether requests may pass to a model server."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    """One at a time, on trial."""
    OPEN = "open"


class ModelCard(PublicContract, frozen=True, kw_only=True, tag="model_card.v1"):
    """One model at one backend: where it runs, what it costs, what it can do."""

    name: str
    """Unique name in LocalForge; the arm of the bandit."""
    backend: str
    """Name of the backend entry whose executor serves it."""
    zone: str
    upstream: str = ""
    """The backend's own name for the model; empty means `name`."""
    price_in: float = 0.0
    """US dollars per million prompt tokens."""
    price_out: float = 0.0
    """US dollars per million completion tokens."""
    price_cached: float | None = None
    """US dollars per million prompt tokens read from a cache; None means `price_in`."""
    price_cache_write: float | None = None
    """US dollars per million prompt tokens written to a cache; None means `price_in`."""
    price_cache_write_1h: float | None = None
    """Of those that are kept for an hour; None means `price_cache_write`."""
    context_tokens: int = 4096
    """Prompt and completion together."""
    max_output_tokens: int = 0
    """0 means only bounded by the context."""
    capabilities: frozenset[Capability] = frozenset()
    quality_prior: float | None = None
    """Expected quality before any feedback, 0 to 1, as a guess: the operator's, or one from
    `parameters_b`. None means unknown."""
    published_score: float | None = None
    """Measured on a public benchmark, 0 to 1: believed far longer than a guess."""
    enabled: bool = True
    usd_per_hour: float = 0.0
    """US dollars for an hour of the machine it runs on, shared by what runs there at a time."""
    parameters_b: float | None = None
    """Its size in billions of parameters; None means unknown."""

    @property
    def upstream_name(self) -> str:
        """The name to send to the backend."""
        return self.upstream or self.name


class ServerState(msgspec.Struct, frozen=True, kw_only=True):
    """One model server behind an executor."""

    name: str
    """Host and port, or as much of its address as tells it from the others."""
    health: Health = Health.UP
    detail: str = ""
    breaker: BreakerState = BreakerState.CLOSED
    in_flight: int = 0
    """Requests that this executor has there now."""
    slots: int = 1
    first_token_s: float = 0.0
    """As in `ReplicaState`."""
    tokens_per_s: float = 0.0


class ReplicaState(PublicContract, frozen=True, kw_only=True, tag="replica_state.v1"):
    """A heartbeat of one executor process for its backend."""

    replica: str
    """Unique per process."""
    backend: str
    zone: str
    health: Health = Health.UP
    detail: str = ""
    in_flight: int = 0
    """Requests that run or wait in this executor now."""
    slots: int = 1
    """Requests this backend can run at the same time."""
    sent_at: float = 0.0
    """Unix time in seconds of the sender."""
    models: tuple[str, ...] = ()
    first_token_s: float = 0.0
    """Learned time to the first token of streamed answers, in seconds; 0 until one has come."""
    tokens_per_s: float = 0.0
    """Learned speed of one answer; 0 until one has come."""
    backend_running: int = 0
    """Requests that the model server says it runs, whoever sent them; 0 where it does not say."""
    backend_waiting: int = 0
    """Requests that it says are waiting in it."""
    kv_cache_use: float = 0.0
    """Share of its KV cache in use, 0 to 1; 0 where it does not say."""
    loaded: tuple[str, ...] = ()
    """Models in its memory now, of a server that loads them on demand."""
    breaker: BreakerState = BreakerState.CLOSED
    """The best of its servers': `open` when none of them takes requests."""
    servers: tuple[ServerState, ...] = ()
    """The model servers that this executor spreads its requests over."""
    machine: str = ""
    """Tells the machine it runs on from others; empty where that is not known."""


class FoundModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model as its own backend describes it; what it does not say is 0 or None."""

    name: str
    """The backend's own name."""
    context_tokens: int = 0
    max_output_tokens: int = 0
    capabilities: frozenset[Capability] | None = None
    price_in: float | None = None
    """US dollars per million prompt tokens."""
    price_out: float | None = None
    parameters_b: float | None = None
    """Billions of parameters."""
    weights: str = ""
    """Name of its weights, where `name` is one that the operator gave it: vLLM's `root`."""


class RegistrySnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable view of the registry that one decision is made on."""

    version: int = 0
    """Grows with every change of a card."""
    cards: dict[str, ModelCard] = {}
    replicas: dict[str, ReplicaState] = {}
    """By `subjects.executor_name`: no backend can take the place of another's replica."""
    fresh: bool = False
    """False until the first read, and while the registry cannot be reached."""
