"""Every subject, stream, bucket and durable name; the only place with such strings.

Stream and consumer settings live beside the names, so that `localforge provision` and the services
cannot disagree about them.
"""

import msgspec

# Live lane, core NATS. One hop each; the reply subject is the edge's inbox.
LIVE_CHAT = "lf.live.chat"
"""A NATS client's request-reply door to the live lane; served by the edge."""
PROFILE = "lf.profile"
ROUTE = "lf.route"
CANCEL = "lf.cancel"
"""Broadcast of a request id whose caller has gone."""
ALIVE_PREFIX = "lf.alive"
"""Every executor process subscribes to a subject of its own: it answers there, and the broker says
at once when nobody subscribes any more."""
INBOX_PREFIX = "lf.inbox"
"""The edge's inbox: `lf.inbox.<edge id>.<request id>`."""

# Durable lane, JetStream.
REQUEST_CHAT = "lf.request.chat"
"""Where applications publish `ChatRequested`."""
REQUEST_FEEDBACK = "lf.request.feedback"
"""Where `FeedbackSubmitted` waits for the evaluator."""
WORK_ROUTE = "lf.work.route"
RESULT_PREFIX = "lf.result"
"""Where applications hear and read results; written by the stream alone."""
ANSWER_PREFIX = "lf.answer"
"""Where services put results on their way into the stream."""

# Facts.
DECISION_PREFIX = "lf.decision"
SHADOW = "shadow"
"""Last token of the subjects of `ShadowDecided`."""
OUTCOME_PREFIX = "lf.outcome"
FEEDBACK_PREFIX = "lf.feedback"
STATE_IMPORT = "lf.state.import"
"""Where a trained router is put in the place of what was learned; only `admin` may."""

EVALUATE = "lf.evaluate.local"
"""Content to be scored. Only this site has an evaluator."""
DEAD_PREFIX = "lf.dead"
EXHAUSTED_PREFIX = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.LF_REQUESTS"
"""Where the broker says that a message of the work queue has used up its deliveries."""
STATUS_PREFIX = "lf.status"
"""Where a service says that its facts are delayed; core NATS."""


def execute(zone: str, backend: str) -> str:
    """Live-lane subject of one backend's executors."""
    return f"lf.exec.{zone}.{backend}"


def work_execute(zone: str, backend: str) -> str:
    """Durable-lane subject of one backend's executors."""
    return f"lf.work.exec.{zone}.{backend}"


def inbox(edge_id: str, request_id: str) -> str:
    """Where one request's frames go."""
    return f"{INBOX_PREFIX}.{edge_id}.{request_id}"


def executor_name(zone: str, backend: str, replica: str) -> str:
    """Name one executor process."""
    return f"{zone}.{backend}.{replica}"


def alive(zone: str, backend: str, replica: str) -> str:
    """The subject that is served as long as one executor process lives."""
    return alive_of(executor_name(zone, backend, replica))


def alive_of(name: str) -> str:
    """`alive` by the name of an executor process."""
    return f"{ALIVE_PREFIX}.{name}"


def lost(edge_id: str, name: str) -> str:
    """Where an edge is told whether an executor process is there: by itself, or by the broker."""
    return f"{INBOX_PREFIX}.{edge_id}.lost.{name}"


def edge_alive(edge_id: str) -> str:
    """The subject that is served as long as one edge process lives; it never answers there."""
    return lost(edge_id, "-")


def edge_of(reply: str) -> str:
    """Return the edge whose inbox a reply subject is; empty for any other subject."""
    tokens = reply.split(".")
    return tokens[2] if len(tokens) == 4 and reply.startswith(f"{INBOX_PREFIX}.") else ""


def result(request_id: str) -> str:
    """Where an application finds the one result of a request."""
    return f"{RESULT_PREFIX}.{request_id}"


def answer(request_id: str) -> str:
    """Where a service publishes a result.

    The stream stores the first one as `lf.result.<id>` and only then tells its subscribers, so
    nobody hears a second one, whoever publishes it.
    """
    return f"{ANSWER_PREFIX}.{request_id}"


def decision(decision_id: str) -> str:
    """One subject per decision, so that its record can be fetched by id."""
    return f"{DECISION_PREFIX}.{decision_id}"


def shadow_decision(decision_id: str) -> str:
    """Beside the decision it was made for; no decision id has a dot."""
    return f"{decision(decision_id)}.{SHADOW}"


def outcome(zone: str, backend: str) -> str:
    """One subject per backend, so that an executor can be held to its own."""
    return f"{OUTCOME_PREFIX}.{zone}.{backend}"


def is_outcome_of(subject: str, zone: str, backend: str) -> bool:
    """Tell whether a subject is one that this backend's executors may report outcomes on.

    The broker holds an executor to its own; what is inside a message it may write as it likes.
    """
    own = outcome(zone, backend)
    return subject == own or subject.startswith(f"{own}.")


def fallback_outcome(zone: str, backend: str, decision_id: str) -> str:
    """Where an outcome goes that answered in another model's place, to be found by its decision."""
    return f"{outcome(zone, backend)}.{decision_id}"


def feedback(source: str) -> str:
    """Subject of `FeedbackGiven` by its source: `checks`, `user`, `test`."""
    return f"{FEEDBACK_PREFIX}.{source}"


def dead(service: str) -> str:
    """Where a service puts what it could not handle."""
    return f"{DEAD_PREFIX}.{service}"


def probe(zone: str, backend: str) -> str:
    """Where all executors of one backend are asked by hand how it is; the answer is a reply."""
    return f"lf.probe.{zone}.{backend}"


def status(user: str) -> str:
    """Where one NATS user tells how its service is."""
    return f"{STATUS_PREFIX}.{user}"


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one JetStream stream. Times are in seconds, 0 means no limit."""

    name: str
    subjects: tuple[str, ...]
    retention: str = "limits"
    """`limits` or `workqueue`."""
    storage: str = "file"
    """`file` or `memory`."""
    max_age_s: float = 0
    max_bytes: int = -1
    max_msgs_per_subject: int = -1
    discard: str = "old"
    """`old` or `new`."""
    discard_new_per_subject: bool = False
    deny_delete: bool = False
    deny_purge: bool = False
    duplicate_window_s: float = 120
    allow_direct: bool = True
    stored_as: tuple[str, str] | None = None
    """(subject as published, subject as stored and then published to subscribers)."""


class Durable(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one durable pull consumer."""

    name: str
    stream: str
    subject: str
    acked: bool = True
    """Each message is acknowledged when it has been handled. Else it counts as handled when it is
    delivered, and none of the settings below applies."""
    backoff_s: tuple[float, ...] = ()
    """Redelivery delays after a missed ack; the first is the ack wait, the last repeats."""
    max_deliver: int = 20
    """After this many the message is dead-lettered. More than `len(backoff_s)`."""
    max_ack_pending: int = 256

    @property
    def ack_wait_s(self) -> float:
        """How long JetStream waits for an ack or a sign of progress."""
        return self.backoff_s[0]


REQUESTS = Stream(name="LF_REQUESTS", subjects=("lf.request.>", "lf.work.>"), retention="workqueue")
OUT_OF_REACH = 10**12
"""Messages per subject. No stream gets there, but nats-server 2.15 writes one that has such a limit
in blocks of `BLOCK_BYTES`, and others in blocks of twice that."""
BLOCK_BYTES = 4 * 1024 * 1024
"""The server holds the block that it is writing in memory."""
RESULTS = Stream(
    name="LF_RESULTS",
    subjects=("lf.answer.>",),
    stored_as=("lf.answer.>", "lf.result.>"),
    max_age_s=7 * 86400,
    # A second answer for the same request is refused by the broker, however late it comes.
    max_msgs_per_subject=1,
    discard="new",
    discard_new_per_subject=True,
)
FEEDBACK = Stream(
    name="LF_FEEDBACK",
    subjects=("lf.decision.>", "lf.outcome.>", "lf.feedback.>", "lf.state.>"),
    max_msgs_per_subject=OUT_OF_REACH,
    deny_delete=True,
    deny_purge=True,
    # A fact is published again five seconds after its last try. The broker keeps the ids of this
    # time in memory, one for every request.
    duplicate_window_s=12,
)
EVALUATION = Stream(
    name="LF_EVALUATE",
    subjects=("lf.evaluate.>",),
    # A work queue whose consumer need not acknowledge: delivered is done.
    retention="interest",
    storage="memory",
    max_age_s=600,
    max_bytes=64 * 1024 * 1024,
)
DEAD = Stream(name="LF_DEAD", subjects=("lf.dead.>",), max_age_s=30 * 86400)
EXHAUSTED = Stream(
    name="LF_EXHAUSTED",
    subjects=(f"{EXHAUSTED_PREFIX}.>",),
    retention="workqueue",
    max_age_s=30 * 86400,
)
"""Keeps the broker's word on messages that nobody could handle until the sweeper has acted."""
STREAMS = (REQUESTS, RESULTS, FEEDBACK, EVALUATION, DEAD, EXHAUSTED)

CHECKPOINT_BUCKET = "lf-checkpoints"
"""Object store bucket of the router's learner checkpoints."""

PROFILER_DURABLE = Durable(
    name="profiler-chat",
    stream=REQUESTS.name,
    subject=REQUEST_CHAT,
    backoff_s=(1, 2, 5, 10),
)
ROUTER_DURABLE = Durable(
    name="router-work",
    stream=REQUESTS.name,
    subject=WORK_ROUTE,
    backoff_s=(1, 2, 5, 10),
    # A request that no replica can take now is tried again until its deadline.
    max_deliver=500,
)
FEEDBACK_DURABLE = Durable(
    name="evaluator-feedback",
    stream=REQUESTS.name,
    subject=REQUEST_FEEDBACK,
    backoff_s=(1, 2, 5, 10),
    # Verdicts that wait for their decisions must not keep others from theirs.
    max_ack_pending=10_000,
)
SWEEPER_DURABLE = Durable(
    name="sweeper-exhausted",
    stream=EXHAUSTED.name,
    subject=f"{EXHAUSTED_PREFIX}.>",
    backoff_s=(5, 10, 20, 30),
    max_deliver=500,
)
EVALUATOR_DURABLE = Durable(
    name="evaluator-content",
    stream=EVALUATION.name,
    subject="lf.evaluate.>",
    # A lost score is no update, not harm; an acknowledgement for each would be most of the work.
    acked=False,
)


def executor_durable(zone: str, backend: str) -> Durable:
    """The durable consumer shared by all executors of one backend.

    The first redelivery comes 10 s after the last sign of progress; executors give one while they
    work, so only a dead one is waited for.
    """
    return Durable(
        name=f"executor-{zone}-{backend}",
        stream=REQUESTS.name,
        subject=work_execute(zone, backend),
        backoff_s=(10, 10, 20, 30),
        max_ack_pending=64,
    )
