"""Create streams, consumers and buckets; compare the ones that exist; change none silently."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from nats.js.errors import BucketNotFoundError, NotFoundError

from localforge.contracts import subjects
from localforge.contracts.subjects import Durable, Stream
from localforge.errors import ConfigError, DependencyUnavailable


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What provisioning did, or would have to do, to one stream or consumer."""

    kind: str
    """`stream`, `consumer` or `bucket`."""
    name: str
    action: str
    """`created`, `unchanged`, `updated` or `differs`."""
    differences: dict[str, tuple[Any, Any]] = {}
    """Setting -> (on the server, wanted)."""


async def provision(
    client: Client, backends: Iterable[tuple[str, str]], *, update: bool = False
) -> list[Change]:
    """Make the server hold what `localforge.contracts.subjects` says.

    Args:
        client: Connected as a user who may.
        backends: (zone, backend) of every backend, for the executors' consumers.
        update: Change what differs; otherwise a difference is an error.

    Returns:
        One entry per stream, consumer and bucket.

    Raises:
        ConfigError: Something on the server differs and `update` is false; names each setting.
    """
    js = client.jetstream()
    changes = [await ensure_stream(js, stream, update=update) for stream in subjects.STREAMS]
    changes += [await ensure_consumer(js, durable, update=update) for durable in durables(backends)]
    changes.append(await _bucket(js))
    differing = [change for change in changes if change.action == "differs"]
    if differing:
        lines = "; ".join(_describe(change) for change in differing)
        raise ConfigError(
            f"the server differs from this program: {lines}. "
            "Run `localforge provision --update` to change it."
        )
    return changes


async def made_at(client: Client, stream: Stream) -> datetime:
    """Return when a stream was made, by the server's clock.

    Raises:
        DependencyUnavailable: It cannot be asked.
    """
    try:
        made = (await client.jetstream().stream_info(stream.name)).created
    except (NatsError, TimeoutError) as exc:
        raise DependencyUnavailable(f"stream {stream.name}: {exc}") from exc
    assert made is not None, "nats-server tells it of every stream"
    return made


def durables(backends: Iterable[tuple[str, str]]) -> Sequence[Durable]:
    """Every durable consumer, those of the backends' executors included."""
    return (
        subjects.PROFILER_DURABLE,
        subjects.ROUTER_DURABLE,
        subjects.FEEDBACK_DURABLE,
        subjects.EVALUATOR_DURABLE,
        subjects.SWEEPER_DURABLE,
        *(subjects.executor_durable(zone, backend) for zone, backend in backends),
    )


def stream_config(stream: Stream) -> api.StreamConfig:
    """The nats-py settings of a stream."""
    return api.StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        retention=api.RetentionPolicy(stream.retention),
        storage=api.StorageType(stream.storage),
        max_age=stream.max_age_s,
        max_bytes=stream.max_bytes,
        max_msgs_per_subject=stream.max_msgs_per_subject,
        discard=api.DiscardPolicy(stream.discard),
        discard_new_per_subject=stream.discard_new_per_subject,
        deny_delete=stream.deny_delete,
        deny_purge=stream.deny_purge,
        duplicate_window=stream.duplicate_window_s,
        allow_direct=stream.allow_direct,
        subject_transform=api.SubjectTransform(*stream.stored_as) if stream.stored_as else None,
        republish=_republish(stream),
    )


def _republish(stream: Stream) -> api.RePublish | None:
    if stream.stored_as is None:
        return None
    _, stored = stream.stored_as
    return api.RePublish(src=stored, dest=stored)


def consumer_config(durable: Durable) -> api.ConsumerConfig:
    """The nats-py settings of a durable consumer."""
    if not durable.acked:
        return api.ConsumerConfig(
            name=durable.name,
            durable_name=durable.name,
            filter_subject=durable.subject,
            ack_policy=api.AckPolicy.NONE,
        )
    return api.ConsumerConfig(
        name=durable.name,
        durable_name=durable.name,
        filter_subject=durable.subject,
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=durable.ack_wait_s,
        max_deliver=durable.max_deliver,
        backoff=list(durable.backoff_s),
        max_ack_pending=durable.max_ack_pending,
    )


_STREAM_SETTINGS = (
    "subjects",
    "retention",
    "storage",
    "max_age",
    "max_bytes",
    "max_msgs_per_subject",
    "discard",
    "discard_new_per_subject",
    "deny_delete",
    "deny_purge",
    "duplicate_window",
    "allow_direct",
    "subject_transform",
    "republish",
)
_UNACKED_SETTINGS = ("filter_subject", "ack_policy")
_CONSUMER_SETTINGS = (
    *_UNACKED_SETTINGS,
    "ack_wait",
    "max_deliver",
    "backoff",
    "max_ack_pending",
)


async def ensure_stream(js: JetStreamContext, stream: Stream, *, update: bool = False) -> Change:
    """Create one stream when it is missing; otherwise compare, and change it only on request."""
    wanted = stream_config(stream)
    try:
        info = await js.stream_info(stream.name)
    except NotFoundError:
        await js.add_stream(wanted)
        return Change(kind="stream", name=stream.name, action="created")
    differences = _differences(info.config, wanted, _STREAM_SETTINGS)
    if not differences:
        return Change(kind="stream", name=stream.name, action="unchanged")
    if update:
        await js.update_stream(wanted)
    action = "updated" if update else "differs"
    return Change(kind="stream", name=stream.name, action=action, differences=differences)


async def ensure_consumer(
    js: JetStreamContext, durable: Durable, *, update: bool = False
) -> Change:
    """Create one consumer when it is missing; otherwise compare, and change it only on request."""
    wanted = consumer_config(durable)
    try:
        info = await js.consumer_info(durable.stream, durable.name)
    except NotFoundError:
        await js.add_consumer(durable.stream, config=wanted)
        return Change(kind="consumer", name=durable.name, action="created")
    settings = _CONSUMER_SETTINGS if durable.acked else _UNACKED_SETTINGS
    differences = _differences(info.config, wanted, settings)
    if not differences:
        return Change(kind="consumer", name=durable.name, action="unchanged")
    if update:
        await js.add_consumer(durable.stream, config=wanted)
    action = "updated" if update else "differs"
    return Change(kind="consumer", name=durable.name, action=action, differences=differences)


async def _bucket(js: JetStreamContext) -> Change:
    try:
        await js.object_store(subjects.CHECKPOINT_BUCKET)
    except (BucketNotFoundError, NotFoundError):
        await js.create_object_store(
            subjects.CHECKPOINT_BUCKET, config=api.ObjectStoreConfig(storage=api.StorageType.FILE)
        )
        return Change(kind="bucket", name=subjects.CHECKPOINT_BUCKET, action="created")
    return Change(kind="bucket", name=subjects.CHECKPOINT_BUCKET, action="unchanged")


def _differences(found: Any, wanted: Any, settings: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    pairs = {name: (getattr(found, name), getattr(wanted, name)) for name in settings}
    return {
        name: (_plain(have), _plain(want))
        for name, (have, want) in pairs.items()
        if _plain(have) != _plain(want)
    }


def _plain(value: Any) -> Any:
    """Make settings comparable, for people too: enums by value, whole numbers, None as false."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = getattr(value, "value", value)
    if isinstance(value, api.SubjectTransform | api.RePublish):
        return f"{value.src} -> {value.dest}"
    if isinstance(value, bool) or value is None:
        return bool(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _describe(change: Change) -> str:
    settings = ", ".join(
        f"{name} is {have!r}, wanted {want!r}" for name, (have, want) in change.differences.items()
    )
    return f"{change.kind} {change.name}: {settings}"
