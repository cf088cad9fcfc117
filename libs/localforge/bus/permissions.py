"""What each NATS user may publish and subscribe to: least privilege, everything else denied.

This is the second of the three locks on sensitive content: whatever a router decides, the broker
hands content only to users that are listed here. The lists say nothing of the reply subject of a
message, which the broker does not look at; the users' accounts do (`localforge.bus.accounts`).
The rules behind the lists:

- A user reads a JetStream stream only through its own durable consumers, which `localforge
  provision` creates. Whoever may create a consumer, or get messages by sequence, reads the whole
  stream, so nobody but `admin` may on streams that hold content.
- The exceptions stay on this site: the sweeper reads single messages of the work queue, to end
  with an error what nobody will finish, and the evaluator may make its own stream anew, which is
  in memory and gone when the broker restarts.
- Replies come to `_INBOX_<user>.>`, and only that user may subscribe there.
- Publishing is wider than subscribing. An executor hands a failed request on to any backend of
  its plan, so executors may publish into every zone, the local one included. That moves content
  only to where it was allowed before: a remote receiver verifies the seal, a local one may have any
  content, and the answer goes to an edge's inbox, which no executor can read.
"""

import re
from collections.abc import Iterable

import msgspec

from localforge.contracts import subjects
from localforge.contracts.subjects import Durable, Stream
from localforge.contracts.trust import LOCAL_ZONE
from localforge.errors import ConfigError

EDGE = "edge"
PROFILER = "profiler"
ROUTER = "router"
EVALUATOR = "evaluator"
ADMIN = "admin"
"""The command line: provisioning and audit."""
SWEEPER = "sweeper"
APP = "app"
"""Applications that use NATS instead of HTTP. They share one user, so each can read every result
whose request id it knows or guesses."""

SITE = "SITE"
"""The account of the services of this site and of JetStream. No user can have its name."""

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_API = "$JS.API"
CONSUMER_INFO_PREFIX = f"{_API}.CONSUMER.INFO."
"""Begins the subject where JetStream says how a consumer is, or that there is none."""


class Permissions(msgspec.Struct, frozen=True, kw_only=True):
    """The allow lists of one user; NATS subjects, wildcards included."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    account: str = SITE
    """Who is not of this site has one of its own, named like the user."""


def executor_user(zone: str, backend: str) -> str:
    """Return the NATS user of one backend's executors."""
    return f"executor-{zone}-{backend}"


def permissions(backends: Iterable[tuple[str, str]]) -> dict[str, Permissions]:
    """Return the permissions of every user.

    Args:
        backends: (zone, backend) of every configured backend.

    Raises:
        ConfigError: A name is not one subject token, or two backends would share a user.
    """
    users = {
        EDGE: _edge(),
        PROFILER: _profiler(),
        ROUTER: _router(),
        EVALUATOR: _evaluator(),
        SWEEPER: _sweeper(),
        APP: _app(),
        ADMIN: Permissions(publish=(">",), subscribe=(">",)),
    }
    owners: dict[str, tuple[str, str]] = {}
    for zone, backend in backends:
        for what, name in (("zone", zone), ("backend", backend)):
            # A wildcard or a dot in a name would widen the lists.
            if not _TOKEN.fullmatch(name):
                raise ConfigError(
                    f"backend `{backend}`: the {what} {name!r} is not a name of letters, digits, "
                    "`-` and `_`"
                )
        user = executor_user(zone, backend)
        if user in owners:
            # `a-b` in zone `c` and `b` in zone `c-a` would share a user and a durable.
            raise ConfigError(
                f"backends {owners[user][1]!r} (zone {owners[user][0]!r}) and {backend!r} "
                f"(zone {zone!r}) would share the NATS user `{user}`; rename one"
            )
        owners[user] = (zone, backend)
        users[user] = _executor(zone, backend)
    return users


def _edge() -> Permissions:
    return Permissions(
        publish=(
            subjects.PROFILE,
            subjects.CANCEL,
            # Whether an executor that has gone silent is still there.
            f"{subjects.ALIVE_PREFIX}.>",
            subjects.REQUEST_FEEDBACK,
            # That a hop is not served, which the bus passes on to the inbox of the request.
            f"{subjects.INBOX_PREFIX}.>",
            # Answers to clients of the live door, whose reply subjects the broker replaces.
            _REPLY_TO_ANOTHER_ACCOUNT,
            # One decision by its id, to explain it.
            _get_last(subjects.FEEDBACK, subjects.DECISION_PREFIX),
            # Whether JetStream answers, for readiness.
            f"{_API}.INFO",
        ),
        subscribe=(
            inbox_of(EDGE),
            subjects.LIVE_CHAT,
            f"{subjects.INBOX_PREFIX}.*.>",
            subjects.status("*"),
        ),
    )


def _profiler() -> Permissions:
    return Permissions(
        publish=(
            subjects.ROUTE,
            subjects.WORK_ROUTE,
            # A refused request gets its error as the answer, on either lane.
            f"{subjects.INBOX_PREFIX}.>",
            f"{subjects.ANSWER_PREFIX}.>",
            subjects.dead(PROFILER),
            *_consume(subjects.PROFILER_DURABLE),
        ),
        subscribe=(inbox_of(PROFILER), subjects.PROFILE),
    )


def _router() -> Permissions:
    return Permissions(
        publish=(
            *_EXECUTE,
            f"{subjects.INBOX_PREFIX}.>",
            f"{subjects.ANSWER_PREFIX}.>",
            f"{subjects.DECISION_PREFIX}.>",
            subjects.dead(ROUTER),
            subjects.status(ROUTER),
            *_consume(subjects.ROUTER_DURABLE),
            *_read_all(subjects.FEEDBACK),
            *_object_store(subjects.CHECKPOINT_BUCKET),
        ),
        subscribe=(inbox_of(ROUTER), subjects.ROUTE),
    )


def _evaluator() -> Permissions:
    return Permissions(
        publish=(
            f"{subjects.FEEDBACK_PREFIX}.>",
            subjects.dead(EVALUATOR),
            *_consume(subjects.EVALUATOR_DURABLE),
            *_make(subjects.EVALUATION, subjects.EVALUATOR_DURABLE),
            subjects.status(EVALUATOR),
            *_consume(subjects.FEEDBACK_DURABLE),
            _get_last(subjects.FEEDBACK, subjects.DECISION_PREFIX),
            _get_last(subjects.FEEDBACK, subjects.OUTCOME_PREFIX),
        ),
        subscribe=(inbox_of(EVALUATOR),),
    )


def _sweeper() -> Permissions:
    return Permissions(
        publish=(
            f"{subjects.ANSWER_PREFIX}.>",
            subjects.work_execute("*", "*"),
            subjects.dead(SWEEPER),
            *_consume(subjects.SWEEPER_DURABLE),
            f"{_API}.DIRECT.GET.{subjects.REQUESTS.name}",
            f"{_API}.STREAM.MSG.DELETE.{subjects.REQUESTS.name}",
        ),
        subscribe=(inbox_of(SWEEPER),),
    )


def _executor(zone: str, backend: str) -> Permissions:
    user = executor_user(zone, backend)
    return Permissions(
        publish=(
            f"{subjects.INBOX_PREFIX}.>",
            f"{subjects.ANSWER_PREFIX}.>",
            subjects.outcome(zone, backend),
            subjects.fallback_outcome(zone, backend, "*"),
            subjects.EVALUATE,
            subjects.dead("executor"),
            subjects.status(user),
            *_EXECUTE,
            *_consume(subjects.executor_durable(zone, backend)),
        ),
        subscribe=(
            inbox_of(user),
            subjects.execute(zone, backend),
            subjects.CANCEL,
            subjects.alive(zone, backend, "*"),
            subjects.probe(zone, backend),
        ),
        account=SITE if zone == LOCAL_ZONE else user,
    )


def _app() -> Permissions:
    return Permissions(
        publish=(
            subjects.REQUEST_CHAT,
            subjects.LIVE_CHAT,
            _get_last(subjects.RESULTS, subjects.RESULT_PREFIX),
        ),
        # The default inbox too, so that a NATS client needs no settings. No service uses it.
        subscribe=(inbox_of(APP), _DEFAULT_INBOX, f"{subjects.RESULT_PREFIX}.>"),
        account=APP,
    )


_DEFAULT_INBOX = "_INBOX.>"
_REPLY_TO_ANOTHER_ACCOUNT = "_R_.>"
_EXECUTE = (subjects.execute("*", "*"), subjects.work_execute("*", "*"))


def inbox_of(user: str) -> str:
    """Where answers to a user come; only that user may subscribe there."""
    return f"_INBOX_{user}.>"


def _consume(durable: Durable) -> tuple[str, ...]:
    """Pull from one durable and ack; neither create, change nor delete it."""
    acks = (f"$JS.ACK.{durable.stream}.{durable.name}.>",) if durable.acked else ()
    return (
        f"{CONSUMER_INFO_PREFIX}{durable.stream}.{durable.name}",
        f"{_API}.CONSUMER.MSG.NEXT.{durable.stream}.{durable.name}",
        *acks,
    )


def _make(stream: Stream, durable: Durable) -> tuple[str, ...]:
    """Create one stream, and one consumer of it by name and filter."""
    return (
        f"{_API}.STREAM.INFO.{stream.name}",
        f"{_API}.STREAM.CREATE.{stream.name}",
        f"{_API}.CONSUMER.CREATE.{stream.name}.{durable.name}.{durable.subject}",
    )


def _get_last(stream: Stream, prefix: str) -> str:
    """Get the last message of a subject under `prefix` by direct get; not by sequence."""
    return f"{_API}.DIRECT.GET.{stream.name}.{prefix}.>"


def _read_all(stream: Stream) -> tuple[str, ...]:
    """Read a whole stream with ephemeral consumers, and single messages."""
    return (
        f"{_API}.STREAM.INFO.{stream.name}",
        f"{_API}.STREAM.MSG.GET.{stream.name}",
        f"{_API}.DIRECT.GET.{stream.name}",
        f"{_API}.DIRECT.GET.{stream.name}.>",
        *_ephemeral(stream.name),
    )


def _ephemeral(stream: str) -> tuple[str, ...]:
    return (
        f"{_API}.CONSUMER.CREATE.{stream}",
        f"{_API}.CONSUMER.CREATE.{stream}.>",
        f"{_API}.CONSUMER.INFO.{stream}.*",
        f"{_API}.CONSUMER.MSG.NEXT.{stream}.*",
        f"{_API}.CONSUMER.DELETE.{stream}.*",
        f"$JS.FC.{stream}.>",
    )


def _object_store(bucket: str) -> tuple[str, ...]:
    """Read and write one object store bucket, which is the stream `OBJ_<bucket>`."""
    stream = f"OBJ_{bucket}"
    return (
        f"$O.{bucket}.>",
        # nats-py looks the stream up by its subject; the answer has names only.
        f"{_API}.STREAM.NAMES",
        f"{_API}.STREAM.INFO.{stream}",
        f"{_API}.STREAM.MSG.GET.{stream}",
        # Replacing an object purges the chunks of the old one.
        f"{_API}.STREAM.PURGE.{stream}",
        *_ephemeral(stream),
    )
