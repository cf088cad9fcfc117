"""Messages of the live lane and of the durable lane's inner stages; MessagePack.

A request moves edge -> profiler -> router -> executor; the executor's frames go straight to the
edge's inbox. Each stage wraps what it got, so that a hop inside one process copies nothing.
"""

import enum

import msgspec

from localforge.contracts.base import PublicContract, WireContract
from localforge.contracts.cards import Capability, Health
from localforge.contracts.chat import ApiError, Usage
from localforge.contracts.facts import CascadePlan, DecisionMade, Forecast
from localforge.contracts.openrouter import ProviderRules
from localforge.contracts.trust import Label, Seal


class Lane(enum.StrEnum):
    """How a request came in."""

    LIVE = "live"
    DURABLE = "durable"


class Operation(enum.StrEnum):
    """What is wanted of a model."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"


class ChatCall(WireContract, frozen=True, kw_only=True, tag="chat_call.v1"):
    """One chat request as accepted, before anything is known about it. On `lf.profile`."""

    request_id: str
    lane: Lane
    body: bytes
    """OpenAI's JSON: the client's, untouched, or what it was translated to."""
    deadline: float
    """Unix time in seconds; a part that gets it later drops it."""
    model: str = "auto"
    stream: bool = False
    include_usage: bool = False
    """The client asked for a usage chunk at the end of the stream."""
    preference: str = ""
    declared_label: Label | None = None
    minimum_label: Label | None = None
    """The key's policy."""
    key_id: str = ""
    attempt: int = 0
    """Grows when the edge dispatches the request again."""
    allow_fallback: bool = True
    avoid: tuple[str, ...] = ()
    """Backends whose executor was lost with an earlier attempt: taken only if nothing else is."""
    dry_run: bool = False
    """Decide and explain, do not run."""
    cascade: bool | None = None
    """Whether cheap models may be asked first; None means the configured default."""
    max_cost_usd: float = 0.0
    """Hard limit on the predicted cost; 0 means none."""
    max_latency_s: float = 0.0
    """Hard limit on the predicted time to the whole answer; 0 means none."""
    operation: Operation = Operation.CHAT
    provider: ProviderRules | None = None
    traceparent: str = ""
    tracestate: str = ""
    """W3C, as it came with the client's `traceparent`."""
    policy: str = ""
    """The decision rule that the request or its key names; empty means the configured one."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What the profiler found out about one request, on this machine."""

    feature_schema: str
    features: bytes
    """`features.SCHEMA.dim` values, little endian: float16, or float32 where there are twice as
    many bytes. The decision is made on exactly these."""
    prompt_tokens: int
    domain: str
    complexity: float
    """0 (trivial) to 1 (hard)."""
    latency_tolerance: float
    """0 (a person waits for each token) to 1 (a batch job)."""
    needs: frozenset[Capability] = frozenset()
    longest_tokens: int = 0
    """Of several texts, each of which has a context of its own, those of the longest; 0 means that
    all of `prompt_tokens` share one."""
    max_tokens: int = 0
    """The request's own bound; 0 means none."""
    fixed: bool = False
    """The caller fixed a seed and temperature 0, so wants the same answer every time."""
    in_tool_loop: bool = False
    """The last message is a tool result."""
    turns: int = 1
    conversation: str = ""
    """Keyed hash of all messages; empty when conversations are not recognised."""
    continues: str = ""
    """Keyed hash of the messages before the last answer: the `conversation` of an earlier request,
    if this one continues it. Empty on a first turn."""
    prefix_tokens: int = 0
    """Of `prompt_tokens`, those up to and including the last answer."""
    label: Label = Label.RESTRICTED
    zones: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    """Codes of what made the label strict, never the content."""
    profile_s: float = 0.0


class RouteCall(WireContract, frozen=True, kw_only=True, tag="route_call.v1"):
    """A profiled request. On `lf.route` or `lf.work.route`."""

    call: ChatCall
    profile: Profile
    seal: Seal


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a plan."""

    model: str
    backend: str
    zone: str
    upstream: str
    price_in: float
    price_out: float
    price_cached: float | None = None
    """Of prompt tokens read from a cache; None means `price_in`."""
    price_cache_write: float | None = None
    """Of prompt tokens written to a cache; None means `price_in`."""
    price_cache_write_1h: float | None = None
    """Of those kept for an hour; None means `price_cache_write`."""


class ExecuteCall(WireContract, frozen=True, kw_only=True, tag="execute_call.v1"):
    """A decided request. On `lf.exec.<zone>.<backend>` or `lf.work.exec.<zone>.<backend>`."""

    call: ChatCall
    seal: Seal
    decision_id: str
    plan: tuple[Target, ...]
    step: int = 0
    """Index of the target to try now; grows with each fallback."""
    spent_usd: float = 0.0
    """Cost of the attempts so far, at earlier deliveries too."""
    spent_usage: Usage = Usage()
    """Tokens of the same attempts."""
    deliveries: int = 0
    """Durable lane: of the messages that this one took the place of, because they had cost
    something before they failed."""
    not_before: float = 0.0
    """Durable lane: Unix time in seconds before which such a message is not worked on."""
    feature_schema: str = ""
    """Of routers before `levels.v6`, like `features`; not read any more."""
    features: bytes = b""
    propensity: float = 0.0
    prompt_tokens: int = 0
    domain: str = ""
    needs: frozenset[Capability] = frozenset()
    max_tokens: int = 0
    predicted: dict[str, float] = msgspec.field(default_factory=dict)
    """Not read any more; for `OutcomeObserved.predicted` in older messages."""
    forecasts: dict[str, Forecast] = msgspec.field(default_factory=dict)
    """For `OutcomeObserved.forecasts`."""
    cascade: "CascadeCall | None" = None
    """Cheap models are asked first; their answers are held back until one is accepted."""

    @property
    def target(self) -> Target:
        """The target to try now."""
        return self.plan[self.step]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What the edge tells the client in response headers."""

    decision_id: str
    model: str
    zone: str
    fallbacks: int = 0
    cost_usd: float = 0.0
    backend: str = ""
    replica: str = ""
    """Name of the executor process, to ask whether it is still there."""
    upstream_s: float = 0.0
    """Time spent waiting for the backend: to its first byte when streamed, else to the end."""
    prompt: Usage | None = None
    """With the first `Delta`: tokens of the prompt, as far as they are known by then."""
    used: Usage | None = None
    """With the last frame: tokens of all attempts, as `cost_usd` is the cost of all."""


class Frame(WireContract, frozen=True, kw_only=True):
    """Anything an executor or router sends to the edge's inbox."""

    request_id: str
    attempt: int = 0
    """Of the `ChatCall` it answers; the edge ignores frames of an attempt it has given up."""


class Accepted(Frame, frozen=True, kw_only=True, tag="accepted.v1"):
    """A sign of life: sent when nothing else has been said for a while."""

    summary: Summary
    queue_position: int = 0


class Delta(Frame, frozen=True, kw_only=True, tag="delta.v1"):
    """Server-sent events that were ready together, ready to be written to the client."""

    data: bytes
    summary: Summary | None = None
    """With the first one."""
    number: int = 0
    """From 1, so that a lost one is noticed; 0 from a sender that does not count."""


class Completed(Frame, frozen=True, kw_only=True, tag="completed.v1"):
    """The end of an answer. Its cost is final."""

    summary: Summary
    body: bytes = b""
    """JSON of the whole completion; empty when it was streamed."""
    data: bytes = b""
    """The last server-sent events when it was streamed, `[DONE]` included."""
    deltas: int = 0
    """How many there were before it; 0 also from a sender that does not count."""
    usage: Usage = Usage()


class Failed(Frame, frozen=True, kw_only=True, tag="failed.v1"):
    """The request could not be answered, or the stream broke after it began."""

    status: int
    """HTTP status, had nothing been sent yet."""
    error: ApiError
    retry_after_s: float = 0.0
    summary: Summary | None = None


class Explained(Frame, frozen=True, kw_only=True, tag="explained.v1"):
    """The answer to a dry run."""

    decision: DecisionMade
    findings: tuple[str, ...] = ()


class CancelCall(WireContract, frozen=True, kw_only=True, tag="cancel_call.v1"):
    """The caller has gone. Broadcast on `lf.cancel`."""

    request_id: str


class EvaluateCall(WireContract, frozen=True, kw_only=True, tag="evaluate_call.v1"):
    """One answer to be scored. On `lf.evaluate.local`; never kept longer than minutes."""

    decision_id: str
    request_id: str
    model: str
    body: bytes
    """The request's JSON."""
    answer: str
    finish_reason: str = ""
    tool_calls: int = 0
    feature_schema: str = ""
    """Of executors before `levels.v6`, like `features`; not read any more."""
    features: bytes = b""
    propensity: float = 0.0
    traceparent: str = ""
    tracestate: str = ""


class HeldAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer that may still become the one that is delivered."""

    completed: Completed
    """Never streamed: with its body."""
    evaluation: EvaluateCall | None = None
    """None when there is too much of it to be scored."""


class CascadeCall(msgspec.Struct, frozen=True, kw_only=True):
    """Where a cascade stands."""

    plan: CascadePlan
    held: HeldAnswer | None = None
    """The best answer so far, delivered if no better one comes."""
    texts: dict[str, str] = msgspec.field(default_factory=dict)
    """By model, the answers of the pair in the form in which they are compared; of a model that is
    asked twice, the first one."""
    agreed: bool | None = None
    """Whether the pair gave the same answer, once both have."""


class DeadLetter(WireContract, frozen=True, kw_only=True, tag="dead_letter.v1"):
    """What could not be handled, why, and the bytes, kept in the zone they were allowed in."""

    service: str
    subject: str
    code: str
    """Stable code of the error."""
    reason: str
    message_id: str = ""
    deliveries: int = 1
    body: bytes = b""
    failed_at: float = 0.0


class DeliveriesExhausted(
    PublicContract, frozen=True, kw_only=True, tag="io.nats.jetstream.advisory.v1.max_deliver"
):
    """The broker's word that a message has used up its deliveries. On `$JS.EVENT.ADVISORY.…`.

    A schema of NATS, of which these are the fields that matter here.
    """

    stream: str
    consumer: str
    stream_seq: int
    deliveries: int = 0


class ProbeCall(WireContract, frozen=True, kw_only=True, tag="probe_call.v1"):
    """Somebody asks how a backend is. On `lf.probe.<zone>.<backend>`, to each of its executors."""

    upstream: str = ""
    """The backend's own name of a model to get one token from; empty asks none."""


class ProbeAnswer(WireContract, frozen=True, kw_only=True, tag="probe_answer.v1"):
    """How one executor finds its backend. The reply to a `ProbeCall`."""

    replica: str
    backend: str
    zone: str
    health: Health
    detail: str = ""
    probe_s: float = 0.0
    """Time that the backend took to say how it is."""
    models: tuple[str, ...] = ()
    """The backend's own names of what it serves; empty when it does not say."""
    answer_s: float = 0.0
    """Time to one token of the model that was named; 0 when none was, or none came."""
    error: str = ""
    """Why none came."""


class FactsDelayed(WireContract, frozen=True, kw_only=True, tag="facts_delayed.v1"):
    """A service's word that the feedback stream does not take its facts. On `lf.status.<user>`.

    Repeated every two seconds while that is so; silence means that all is well.
    """

    service: str
    pending: int
    """Facts kept in memory."""
    dropped: int = 0
    """Facts given up since the service started."""


AnyFrame = Accepted | Delta | Completed | Failed | Explained
_frames = msgspec.msgpack.Decoder(AnyFrame)


def decode_frame(data: bytes) -> AnyFrame:
    """Read any frame from an edge's inbox."""
    return _frames.decode(data)  # type: ignore[no-any-return]
