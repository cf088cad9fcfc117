"""The feedback stream: decisions, outcomes and feedback. Facts and features, never content."""

import msgspec

from localforge.contracts.base import PublicContract, WireContract
from localforge.contracts.cards import Capability
from localforge.contracts.chat import Usage
from localforge.contracts.problems import ContractViolation
from localforge.contracts.subjects import is_outcome_of
from localforge.contracts.trust import Label, Seal

CHECKS = "checks"
"""`source` of a verdict that the checks of an answer's form have given."""
NOTHING = 0.0
"""Default of figures that are mostly 0: msgspec leaves out what is the default itself, and a 0 that
was computed is another object."""
SOUND = 1.0
"""A model none of whose answers has failed its checks."""


class Exclusion(msgspec.Struct, frozen=True, kw_only=True):
    """Why one model was not eligible."""

    model: str
    reason: str
    """Stable code: `disabled`, `zone`, `context`, `capability`, `health`, `breaker`, `price`,
    `latency`; `budget` of the request's key; by the request's `provider` object `provider`,
    `data_collection`, `max_price`."""
    detail: str = ""


class Candidate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One eligible model as the decision saw it: inputs, predictions, utility, probability."""

    model: str
    backend: str
    zone: str
    price_in: float
    """US dollars per million prompt tokens; an input."""
    price_out: float
    queue_depth: float = NOTHING
    """Requests ahead per slot, an input."""
    usd_per_hour: float = NOTHING
    """Its present share of the price of the machine's time, an input."""
    hour_share: float = 0.0
    """That share, in (0, 1], for an auditor to set another price; 0 in older logs."""
    quality_prior: float | None = None
    published_score: float | None = None
    tier: int = 0
    """Only the lowest tier present is drawn from; the others follow in the plan. An input."""
    quality: float = 0.0
    """Predicted probability that the answer is good."""
    quality_std: float = 0.0
    evidence: float = 0.0
    """Effective number of scored answers behind the prediction."""
    completion_tokens: float = 0.0
    """Predicted."""
    cost_usd: float = 0.0
    """Predicted cost of this request."""
    cost_std: float = 0.0
    """Standard deviation of what one such answer costs; 0 in older logs, too."""
    latency_s: float = 0.0
    """Predicted time to the complete answer, queue included."""
    latency_std: float = 0.0
    """Standard deviation of that of one such answer; 0 in older logs, too."""
    utility: float = 0.0
    probability: float = 0.0
    sound: float = SOUND
    """Share of its recent answers that pass the checks of their form, 0 to 1; its quality is not
    predicted above it."""
    failed_share: float = NOTHING
    """Predicted probability that an attempt at it fails, where that takes something off `utility`,
    which has the best other model's then, less the time lost."""
    lost_s: float = NOTHING
    """Predicted seconds until such an attempt has failed."""


class CascadePlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whom to ask one after the other, and when to be content with an answer."""

    test: str
    """`agreement`: two models are asked and compared; `self-consistency`: one is asked twice;
    `checks`: the form of one answer is looked at."""
    models: tuple[str, ...]
    """In the order they are asked, the same one twice under `self-consistency`; the last one's
    answer is taken as it is."""
    asks_pair: bool = False
    """The draw fell on the pair; otherwise on one model alone, and nothing is compared."""
    probability: float = 0.0
    """With which the draw falls on the pair."""
    qualities: tuple[float, ...] = ()
    """Predicted of the models."""
    beliefs: dict[str, float] = msgspec.field(default_factory=dict)
    """Probabilities that the test rests on, by `localforge.bandit.belief`."""
    escalation: float = 0.0
    """Price of asking the last model, in units of quality; under `checks` that of waiting, too."""
    if_agreed: str = ""
    """Whose answer is delivered when the pair agrees; the last model's means asking it."""
    if_agreed_probability: float = 0.0
    if_split: str = ""
    if_split_probability: float = 0.0
    if_passed: str = ""
    """Under `checks`, whose answer is delivered when the first one passes; empty in older logs,
    where it is the first."""
    if_failed: str = ""
    """Likewise when it fails; where it is empty, the last."""


class CascadeResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a pair that was asked, with what it takes to learn from it."""

    models: tuple[str, ...]
    qualities: tuple[float, ...]
    beliefs: dict[str, float]
    agreed: bool
    compared: bool = False
    """The answers were compared at the end of this attempt, and not of an earlier one."""
    delivered: str = ""
    """Whose answer the caller got; empty while another model is asked."""
    same: tuple[str, ...] = ()
    """Models of the pair whose answer is the same as the last model's."""


class DecisionMade(PublicContract, frozen=True, kw_only=True, tag="decision_made.v1"):
    """One decision with everything needed to make it again. On `lf.decision.<decision id>`."""

    decision_id: str
    request_id: str
    made_at: float
    """Unix time in seconds; not an input of the decision."""
    lane: str
    policy: str
    """Name and version of the policy, for example `igw.v1`."""
    policy_hash: str
    """Hash of the policy's parameters; a replay with others is refused."""
    state_sequence: int
    """Stream sequence up to which the learner had folded `LF_FEEDBACK`."""
    registry_version: int
    feature_schema: str
    features: bytes
    """Little endian; float16, or float32 where there are twice as many bytes."""
    prompt_tokens: int
    label: Label
    zones: tuple[str, ...]
    requested_model: str
    preference: str
    cost_weight: float
    """Utility per US dollar."""
    latency_weight: float
    """Utility per second."""
    explore: bool
    """False where exploration is not allowed: concrete model, tool loop, sticky conversation."""
    seed: int
    """Seed of the policy's counter-based generator; the counter is the decision id."""
    gamma: float = 0.0
    """Exploration parameter of the policy: larger explores less."""
    exploration_floor: float = NOTHING
    """Least probability of every candidate."""
    width: float = 0.0
    """Exploration parameter of policies that go by uncertainty: standard deviations that count."""
    max_tokens: int = 0
    """The request's own bound on completion tokens; 0 means none."""
    domain: str = ""
    preference_stated: bool = True
    """False: neither the request nor its key named `preference`, so it is the default."""
    policy_stated: bool = False
    """True: the request or its key named the policy. No input."""
    patience: float = 1.0
    """Share of the preference's latency weight that applies; below 1 only when none was stated."""
    incumbent: str = ""
    """Model that answered this conversation last and may have its prefix in a cache."""
    switching_cost: float = 0.0
    """Utility that every other model than the incumbent is charged."""
    goal: str = ""
    """The goal whose controller had a say in `cost_weight`."""
    shadow_price: float = NOTHING
    """What that controller asked for, in utility per US dollar."""
    goal_controller: str = ""
    """Name and version of its arithmetic; empty without a goal, and in older logs."""
    key_id: str = ""
    """API key of the request, which alone may read this over HTTP; empty where none was asked for.
    No input."""
    complexity: float = 0.0
    """0 (trivial) to 1 (hard), for rules."""
    needs: tuple[Capability, ...] = ()
    """What the request needs of a model, for rules; sorted."""
    rule: str = ""
    """The rule that gave `weights`."""
    weights: dict[str, float] = msgspec.field(default_factory=dict)
    """Models that the policies `static` and `rules` draw, in proportion. An input."""
    cascade_wanted: bool = False
    """Cheap models may be asked first. An input."""
    may_repeat: bool = False
    """One model may be asked twice, to compare its answer with itself. An input; False in older
    logs and where the caller wants the same answer every time."""
    cascade: CascadePlan | None = None
    """None where none was wanted, or none fits."""
    candidates: tuple[Candidate, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    chosen: str = ""
    propensity: float = 0.0
    """Probability with which `chosen` was drawn, in (0, 1]."""
    plan: tuple[str, ...] = ()
    """`chosen`, then the rest of the eligible set in order of utility."""


class ShadowDecided(PublicContract, frozen=True, kw_only=True, tag="shadow_decided.v1"):
    """What another policy would have done. On `lf.decision.<decision id>.shadow`."""

    decision_id: str
    """The decision that was acted on; its record has the inputs."""
    made_at: float
    policy: str
    policy_hash: str
    state_sequence: int
    """The learner may have moved on since the decision."""
    cost_weight: float
    latency_weight: float
    gamma: float
    exploration_floor: float
    seed: int
    live: str
    """The model that was chosen."""
    chosen: str
    """The model that the shadow would have chosen."""
    probabilities: dict[str, float]
    """Of every eligible model under the shadow."""
    width: float = 0.0


class Forecast(msgspec.Struct, frozen=True, array_like=True):
    """What a decision predicted of one model, as far as a goal for quality needs it."""

    quality: float
    quality_std: float
    cost_usd: float
    toll: float
    """What its utility loses beside the cost: latency, and a switch within a conversation."""


class OutcomeObserved(PublicContract, frozen=True, kw_only=True, tag="outcome_observed.v1"):
    """What one attempt at a backend cost and how long it took. On `lf.outcome.<zone>.<backend>`."""

    outcome_id: str
    """`<decision id>.<step of the plan>`, for a further try at the same model with `-<number>`,
    and for a failure of a later delivery with `-d<delivery>`; with `-ok` for an answer on the
    durable lane, at whatever delivery."""
    decision_id: str
    request_id: str
    model: str
    backend: str
    zone: str
    replica: str
    status: str
    """`ok`, `error`, `cancelled`."""
    finish_reason: str = ""
    error_code: str = ""
    usage: Usage = Usage()
    cost_usd: float = 0.0
    queue_s: float = 0.0
    first_token_s: float = 0.0
    """From the executor's start of the attempt to the first content."""
    total_s: float = 0.0
    streamed: bool = False
    domain: str = ""
    max_tokens: int = 0
    observed_at: float = 0.0
    key_id: str = ""
    """API key of the request, as configured; empty where none is asked for."""
    predicted: dict[str, float] = msgspec.field(default_factory=dict)
    """Not read any more; predicted qualities in older logs, which `forecasts` took the place of."""
    forecasts: dict[str, Forecast] = msgspec.field(default_factory=dict)
    """What was predicted of every model that could be drawn; only under a goal for quality."""
    cascade: CascadeResult | None = None
    """Of an attempt at which two answers were compared, or that was made because of it."""
    seal: Seal | None = None
    """Of an attempt in a remote zone: the profiler's signed leave, for an auditor to verify."""
    counted_tokens: int = 0
    """Prompt tokens that the profiler counted, beside which `usage` is what the backend bills; 0
    when unknown."""

    @property
    def identity(self) -> str:
        """What readers know a repetition by: another backend may report one under the same id."""
        return f"outcome {self.zone}.{self.backend} {self.outcome_id}"


class ForeignOutcome(ContractViolation):
    """An outcome of another backend than the one whose subject it came on."""


def outcome_on(subject: str, data: bytes) -> OutcomeObserved:
    """Decode an outcome that came on a subject.

    Raises:
        ContractViolation: It is none.
        ForeignOutcome: Nobody who may publish on the subject may report it.
    """
    fact = OutcomeObserved.decode(data)
    if not is_outcome_of(subject, fact.zone, fact.backend):
        raise ForeignOutcome("OutcomeObserved", "its backend is not the one of its subject")
    return fact


class FeedbackGiven(PublicContract, frozen=True, kw_only=True, tag="feedback_given.v1"):
    """A verdict on one answer and all it takes to learn from it. On `lf.feedback.<source>`."""

    feedback_id: str
    """A second message with the same id is ignored."""
    decision_id: str
    model: str
    score: float
    """0 to 1."""
    weight: float = 1.0
    """How much the verdict counts, 0 < weight <= 1."""
    source: str = "user"
    """`checks`, `user`, `test`."""
    feature_schema: str = ""
    features: bytes = b""
    """The features that the decision was made on, as they stand there. Empty for `checks`, which
    teach nothing that depends on the request."""
    propensity: float = 0.0
    checks: dict[str, float] = msgspec.field(default_factory=dict)
    """Scores of the single checks, for `checks`."""
    given_at: float = 0.0
    cascade: CascadeResult | None = None
    """When the answer is one that a cascade delivered."""


class StateImported(WireContract, frozen=True, kw_only=True, tag="state_imported.v1"):
    """A trained router that takes the place of what was learned so far. On `lf.state.import`.

    Numbers only, like the facts it was learned from. The whole state travels in the message, so
    that the stream alone is enough to make every later decision again.
    """

    import_id: str
    file: bytes
    """As `localforge router export` wrote it, signature included."""
    imported_at: float = 0.0
