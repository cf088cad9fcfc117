"""Every configuration key with its default. `deploy/config/localforge.example.toml` shows them all.

Unknown keys are refused. Secrets are references, `env:NAME` or `file:/path`, resolved by the
process that needs them and by no other.
"""

from typing import Annotated, Literal

import msgspec

from localforge.config.values import (
    Domain,
    LearnedPolicy,
    ModelName,
    ModelWeights,
    Name,
    NonNegative,
    PolicyName,
    Port,
    Positive,
    PositiveInt,
    PreferenceText,
    SecretRef,
    Share,
)
from localforge.contracts.cards import Capability
from localforge.contracts.subjects import execute
from localforge.contracts.trust import LOCAL_ZONE, Label

PreferenceName = Literal["quality", "balanced", "cheap", "fast"]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections."""


class EdgeConfig(Section, frozen=True, kw_only=True):
    """The HTTP edge."""

    host: str = "127.0.0.1"
    """Loopback unless told otherwise."""
    port: Port = 8080
    max_body_mb: Positive = 16
    deadline_s: Positive = 120
    """Default time for one request; a client may ask for less with `x-localforge-deadline-s`."""
    progress_s: Positive = 5
    """No sign of life for this long: the request is dispatched again."""
    max_in_flight: PositiveInt = 2048
    """Requests under way; more are refused with 503. Fewer when they would only wait."""
    queue_target_s: Positive = 10
    """Delay before a model begins to work on a request that is still no overload."""
    hosts: tuple[str, ...] = ()
    """Names besides loopback's that an edge without keys answers to, for example a proxy's."""


class KeyConfig(Section, frozen=True, kw_only=True):
    """One API key. With no key configured the edge asks for none."""

    id: Name
    secret: SecretRef
    preference: PreferenceText | None = None
    cascade: bool | None = None
    """Whether cheap models are asked first, when the request says nothing about it."""
    policy: PolicyName | None = None
    """The decision rule, when the request names none; None is `router.policy`."""
    minimum_label: Label | None = None
    budget_usd: NonNegative = 0
    """Hard limit on what its requests cost in each period; 0 is none."""
    budget_per: Literal["hour", "day", "month"] = "month"
    """UTC."""


class NatsConfig(Section, frozen=True, kw_only=True):
    """The broker. An empty url means `localforge up` starts its own."""

    url: str = ""
    credentials: str = ""
    """JSON file that maps a NATS user to its password; empty: the url carries what is needed."""
    connect_timeout_s: Positive = 5


class RedisConfig(Section, frozen=True, kw_only=True):
    """The registry's store. An empty url means `localforge up` starts its own."""

    url: str = ""
    prefix: str = "lf"
    timeout_s: Positive = 1


def _default_zones() -> dict[Label, tuple[str, ...]]:
    return {
        Label.PUBLIC: ("*",),
        Label.INTERNAL: ("*",),
        Label.CONFIDENTIAL: (LOCAL_ZONE,),
        Label.RESTRICTED: (LOCAL_ZONE,),
    }


class PolicyConfig(Section, frozen=True, kw_only=True):
    """Which label may go to which zones. `*` means every zone. Missing labels stay local."""

    default_label: Label = Label.INTERNAL
    """For content in which nothing was detected."""
    zones: dict[Label, tuple[str, ...]] = msgspec.field(default_factory=_default_zones)

    def allows(self, label: Label, zone: str) -> bool:
        """Tell whether content of a label may go to a zone."""
        zones = self.zones.get(label, (LOCAL_ZONE,))
        return zone in zones or "*" in zones


class SealConfig(Section, frozen=True, kw_only=True):
    """Keys of the seal that binds a body to its zones. `localforge up` makes its own pair."""

    private_key_file: str = ""
    """PEM, for profilers only."""
    public_key_file: str = ""
    """PEM, for executors. Without it an executor of a remote zone refuses to start."""
    ttl_s: NonNegative = 60
    """A seal outlives the request's deadline by this much, for clocks that differ."""


class Weights(Section, frozen=True, kw_only=True):
    """Prices of a preference: utility = quality - cost·USD - latency·seconds."""

    cost: NonNegative
    latency: NonNegative


def _default_weights() -> dict[PreferenceName, Weights]:
    return {
        "quality": Weights(cost=0.5, latency=0.0005),
        "balanced": Weights(cost=20, latency=0.003),
        "cheap": Weights(cost=200, latency=0.003),
        "fast": Weights(cost=20, latency=0.05),
    }


class GoalConfig(Section, frozen=True, kw_only=True):
    """What the router keeps to on the whole by its cost weight. One figure at most; 0 is none."""

    spend_usd: NonNegative = 0
    per: Literal["1000 requests", "hour", "day", "month"] = "day"
    """Of `spend_usd`; hours, days and months are UTC."""
    max_loss: Share = 0
    """Most quality lost on average against always asking the best model."""
    min_quality: Share = 0
    """Least mean quality."""

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures that are set."""
        named = (
            ("spend_usd", self.spend_usd),
            ("max_loss", self.max_loss),
            ("min_quality", self.min_quality),
        )
        return tuple(name for name, value in named if value)


class StickyConfig(Section, frozen=True, kw_only=True):
    """Conversations stay with their model unless another gains more than the lost cache costs."""

    enabled: bool = True
    ttl_s: Positive = 300
    """After so long without a turn the backend's cache is taken to be gone."""
    conversations: PositiveInt = 10_000
    """Remembered by each router."""
    prefill_tokens_per_s: Positive = 2000
    """How fast a backend reads a prompt that it has not cached."""
    cached_share: Share = 0.5
    """Price of a cached prompt token as a share of the full price, where a model names none."""


class ShadowConfig(Section, frozen=True, kw_only=True):
    """Another policy that decides on live traffic and is not acted on."""

    enabled: bool = False
    share: Share = 1.0
    """Of the requests, chosen by a hash of the decision id."""
    policy: LearnedPolicy = "matching"
    width: Positive = 0.3
    gamma: Positive = 25
    exploration_floor: Share = 0.0
    seed: int = 0
    preference: Literal["", "quality", "balanced", "cheap", "fast"] = ""
    """For requests that state none; empty means whatever the live policy goes by."""


class RuleConfig(Section, frozen=True, kw_only=True):
    """Models for the requests that all given conditions hold for."""

    name: str
    """Stands in the decisions it made."""
    models: ModelWeights
    domains: tuple[Domain, ...] = ()
    """Any of them; empty: whatever the domain."""
    needs: tuple[Capability, ...] = ()
    """All of them."""
    min_complexity: Share = 0
    max_complexity: Share = 1
    min_prompt_tokens: int = 0
    max_prompt_tokens: int = 0
    """0 means no bound."""

    @property
    def is_conditional(self) -> bool:
        """True when there are requests that it does not hold for."""
        return msgspec.structs.replace(self, name="", models={}) != RuleConfig(name="", models={})


class RouterConfig(Section, frozen=True, kw_only=True):
    """The decision."""

    preference: PreferenceName = "balanced"
    preferences: dict[PreferenceName, Weights] = msgspec.field(default_factory=_default_weights)
    """A preference given here replaces the built-in one; the others stay."""
    policy: PolicyName = "matching"
    """The decision rule; `docs/learning.md` describes each."""
    prior: Literal["shipped", "none"] = "shipped"
    """What is known before the first score: public outcomes, or only cards and prices."""
    width: Positive = 0.3
    """Exploration of every policy but `igw`: standard deviations of doubt that count."""
    gamma: Positive = 25
    """Inverse-gap exploration: larger explores less; grows with the square root of evidence."""
    exploration_floor: Share = 0.0
    """Least probability of every eligible model; 0 allows none."""
    static: ModelWeights = msgspec.field(default_factory=dict)
    """For the policy `static`: one model, or several to be drawn by weight."""
    rules: tuple[RuleConfig, ...] = ()
    """For the policy `rules`, and for the others while nothing is known. The first that holds."""
    seed: int = 0
    checkpoint_every: PositiveInt = 1000
    """Learned messages between two checkpoints."""
    heartbeat_timeout_s: Positive = 6
    """A replica silent for longer is not eligible."""
    goal: GoalConfig = GoalConfig()
    sticky: StickyConfig = StickyConfig()
    cascade: bool | tuple[PreferenceName, ...] = False
    """Ask cheap models first, for requests that say nothing about it: all, or those with one of
    these preferences."""
    shadow: ShadowConfig = ShadowConfig()

    def weights(self, preference: PreferenceName) -> Weights:
        """Return the prices of a preference."""
        return self.preferences.get(preference) or _default_weights()[preference]


DISCOVERING = frozenset({"vllm", "tgi", "ollama", "anthropic", "recorded"})
"""Kinds of backends that can say what they serve and what it can do."""


class ModelConfig(Section, frozen=True, kw_only=True):
    """One model of a backend. Prices are US dollars per million tokens; unset means look it up."""

    name: ModelName
    upstream: str = ""
    price_in: NonNegative | None = None
    price_out: NonNegative | None = None
    price_cached: NonNegative | None = None
    """Of prompt tokens that the backend read from its cache; unset means look it up."""
    price_cache_write: NonNegative | None = None
    """Of prompt tokens that it wrote to its cache; unset means look it up."""
    price_cache_write_1h: NonNegative | None = None
    """Of those that it keeps for an hour; unset means look it up."""
    context_tokens: PositiveInt | None = None
    """Prompt and answer together; unset means what the backend says, or else is known of it."""
    max_output_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    capabilities: frozenset[Capability] = frozenset()
    quality_prior: Share | None = None
    """A guess of how often it answers well; unset means by its size, else by its price."""
    parameters_b: Positive | None = None
    """Billions of parameters; unset means what the backend says, or else its name."""
    published_score: Share | None = None
    """Its score on a public benchmark that is like the traffic."""
    enabled: bool = True


class BackendConfig(Section, frozen=True, kw_only=True):
    """One backend; one executor process serves it."""

    name: Name
    kind: Literal["openai", "vllm", "tgi", "ollama", "anthropic", "embedded", "recorded"]
    zone: Name = LOCAL_ZONE
    url: str = ""
    """Base URL: up to and including `/v1` for `openai` and `vllm`, without a path for the others;
    empty means the usual one for `ollama` and `anthropic`."""
    urls: tuple[str, ...] = ()
    """Several servers with the same models, in place of `url`: replicas, or the GPUs of a host."""
    vendor: str = ""
    """Whose words an `openai` backend speaks (`localforge.config.vendors`); empty means by host."""
    discover: bool | None = None
    """Register what the backend serves, beside what is listed; unset means where none is listed."""
    api_key: SecretRef = ""
    slots: PositiveInt = 32
    """Requests run at the same time, by each of its servers; more wait."""
    max_waiting: Annotated[int, msgspec.Meta(ge=0)] = 64
    """Live requests that may wait; more go to the next model of their plan."""
    timeout_s: Positive = 120
    """For one attempt."""
    first_token_timeout_s: Positive = 60
    stall_timeout_s: Positive = 30
    """Between two pieces of a stream that has begun."""
    retries: Annotated[int, msgspec.Meta(ge=0)] = 2
    """Further tries where no other model may answer: at the end of a plan, or with no fallback."""
    retry_wait_s: NonNegative = 2
    """Longest wait before one; a server that asks for more is not asked again."""
    breaker_failures: PositiveInt = 5
    """Failures in a row that take a server out of use."""
    breaker_open_s: Positive = 5
    """For how long, the first time; doubles each further time, up to 60 s."""
    probe_s: Positive = 10
    """Between two probes of its health."""
    model_path: str = ""
    """GGUF file, for `embedded`; empty means the one that LocalForge ships with."""
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    """For `embedded`; 0 means the cores this process can really have."""
    keep_alive: str = ""
    """For `ollama`: how long a model stays loaded, `5m` or seconds; empty leaves it to Ollama."""
    data_file: str = ""
    """For `recorded`: a parquet file of outcomes."""
    pace: NonNegative = 1
    """For `recorded`: factor on its stand-in times; 0 answers at once."""
    usd_per_hour: NonNegative | None = None
    """Price of the machine; set, its models cost time and not tokens. 0 is free."""
    watts: NonNegative = 0
    """Drawn while it works, with `usd_per_kwh` a price by time too."""
    usd_per_kwh: NonNegative = 0
    models: tuple[ModelConfig, ...] = ()

    @property
    def subject(self) -> str:
        """The live-lane subject of its executors."""
        return execute(self.zone, self.name)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The base URLs of its servers; one empty string where it has none."""
        return self.urls or (self.url,)

    @property
    def discovers(self) -> bool:
        """Whether models that the backend names itself are registered."""
        if self.discover is None:
            return self.kind in DISCOVERING and not self.models
        return self.discover

    @property
    def is_priced_by_time(self) -> bool:
        """Whether its models cost time, which may be free, and not tokens."""
        return self.usd_per_hour is not None or self.watts > 0

    @property
    def hourly_usd(self) -> float:
        """US dollars for an hour of work: the machine, and the energy that it takes."""
        return (self.usd_per_hour or 0.0) + self.watts / 1000 * self.usd_per_kwh


class TelemetryConfig(Section, frozen=True, kw_only=True):
    """Logs, metrics and traces."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto`: console on a terminal, JSON elsewhere."""
    metrics_port: Port = 0
    """Of processes without an HTTP port of their own; under `up` each has the next one. 0: off."""
    metrics_host: str = "127.0.0.1"


class UpConfig(Section, frozen=True, kw_only=True):
    """What `localforge up` starts on this machine."""

    data_dir: str = ".localforge"
    together: tuple[Literal["edge", "profiler", "router", "sweeper", "evaluator"], ...] = (
        "edge",
        "profiler",
        "router",
        "sweeper",
    )
    """Services that share one process; the others have one each."""
    discover: bool = True
    """Without configured backends: look for an Ollama and for provider keys."""


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration."""

    edge: EdgeConfig = EdgeConfig()
    keys: tuple[KeyConfig, ...] = ()
    nats: NatsConfig = NatsConfig()
    redis: RedisConfig = RedisConfig()
    policy: PolicyConfig = PolicyConfig()
    seal: SealConfig = SealConfig()
    router: RouterConfig = RouterConfig()
    backends: tuple[BackendConfig, ...] = ()
    aliases: dict[str, str] = {}
    """Name in a request -> `auto` or a model name."""
    telemetry: TelemetryConfig = TelemetryConfig()
    up: UpConfig = UpConfig()

    def backend(self, name: str) -> BackendConfig:
        """Return a backend by name; `KeyError` when there is none."""
        return {b.name: b for b in self.backends}[name]

    @property
    def names(self) -> frozenset[str]:
        """Names of all backends."""
        return frozenset(b.name for b in self.backends)
