"""What each NATS user can and cannot do, asked of a real nats-server."""

import asyncio
import json

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import APIError

from localforge.bus.connection import inbox_prefix, settle
from localforge.config import NatsConfig
from localforge.contracts import subjects
from tests.support import wait_until
from tests.support_nats import ProvisionedServer

LOCAL, REMOTE = "executor-local-smollm", "executor-cloud-openai"
SERVICES = ("edge", "profiler", "router", "evaluator", "sweeper", LOCAL, REMOTE, "app")

CONTENT_SUBJECTS = {
    "lf.profile": {"profiler"},
    "lf.route": {"router"},
    "lf.live.chat": {"edge"},
    "lf.exec.local.smollm": {LOCAL},
    "lf.exec.cloud.openai": {REMOTE},
    "lf.inbox.edge1.request1": {"edge"},
    "lf.result.request1": {"app"},
    "lf.answer.request1": set[str](),
    "lf.status.router": {"edge"},
    "lf.request.chat": set[str](),
    "lf.request.feedback": set[str](),
    "lf.work.route": set[str](),
    "lf.work.exec.local.smollm": set[str](),
    "lf.work.exec.cloud.openai": set[str](),
    "lf.evaluate.local": set[str](),
    "lf.dead.executor": set[str](),
    "lf.decision.d1": set[str](),
    "$JS.API.>": set[str](),
    "$O.lf-checkpoints.>": set[str](),
    "lf.>": set[str](),
    ">": set[str](),
}
"""Subject -> who may subscribe to it. The durable lane is read through consumers only."""

REMOTE_PUBLISHES = {
    # To the callers, along the plan, and its own facts.
    "lf.inbox.edge1.request1": True,
    "lf.answer.request1": True,
    "lf.outcome.cloud.openai": True,
    "lf.status.executor-cloud-openai": True,
    "lf.evaluate.local": True,
    "lf.dead.executor": True,
    "lf.exec.local.smollm": True,
    "lf.work.exec.local.smollm": True,
    "$JS.API.CONSUMER.INFO.LF_REQUESTS.executor-cloud-openai": True,
    "$JS.API.CONSUMER.MSG.NEXT.LF_REQUESTS.executor-cloud-openai": True,
    # In the name of others. What subscribers hear of results comes from the stream alone.
    "lf.result.request1": False,
    "lf.status.router": False,
    "lf.outcome.local.smollm": False,
    "lf.decision.d1": False,
    "lf.feedback.user": False,
    "lf.request.chat": False,
    "lf.work.route": False,
    "lf.profile": False,
    "lf.route": False,
    "lf.cancel": False,
    "lf.dead.router": False,
    "_INBOX_edge.x": False,
    # Reading streams through the JetStream API.
    "$JS.API.CONSUMER.CREATE.LF_REQUESTS": False,
    "$JS.API.CONSUMER.CREATE.LF_REQUESTS.mine": False,
    "$JS.API.CONSUMER.CREATE.LF_REQUESTS.mine.lf.work.exec.cloud.openai": False,
    "$JS.API.CONSUMER.CREATE.LF_EVALUATE": False,
    "$JS.API.CONSUMER.CREATE.LF_FEEDBACK": False,
    "$JS.API.CONSUMER.DURABLE.CREATE.LF_REQUESTS.executor-cloud-openai": False,
    "$JS.API.CONSUMER.DELETE.LF_REQUESTS.executor-local-smollm": False,
    "$JS.API.CONSUMER.MSG.NEXT.LF_REQUESTS.executor-local-smollm": False,
    "$JS.API.CONSUMER.MSG.NEXT.LF_REQUESTS.profiler-chat": False,
    "$JS.API.CONSUMER.MSG.NEXT.LF_EVALUATE.evaluator-content": False,
    "$JS.API.STREAM.MSG.GET.LF_REQUESTS": False,
    "$JS.API.STREAM.MSG.GET.LF_EVALUATE": False,
    "$JS.API.DIRECT.GET.LF_REQUESTS": False,
    "$JS.API.DIRECT.GET.LF_REQUESTS.lf.request.chat": False,
    "$JS.API.DIRECT.GET.LF_RESULTS.lf.result.request1": False,
    "$JS.API.STREAM.PURGE.LF_REQUESTS": False,
    "$JS.API.STREAM.DELETE.LF_FEEDBACK": False,
    "$JS.API.STREAM.UPDATE.LF_REQUESTS": False,
    "$JS.API.STREAM.NAMES": False,
    "$JS.ACK.LF_REQUESTS.profiler-chat.1.1.1.1.0": False,
    "$JS.ACK.LF_REQUESTS.executor-local-smollm.1.1.1.1.0": False,
}


async def _log_in(config: NatsConfig, login: dict[str, str]) -> str:
    """Return the server's answer, in its own protocol: nats-py leaves sockets open when refused."""
    host, _, port = config.url.removeprefix("nats://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        await reader.readline()
        writer.write(f"CONNECT {json.dumps({'verbose': False, **login})}\r\nPING\r\n".encode())
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()
        await writer.wait_closed()


async def _nothing(_: Msg) -> None:
    return


async def _denied(client: Client, errors: list[str], what: str, wanted: set[str]) -> set[str]:
    """Return the subjects that the server refused; all refusals have come when this returns."""
    await settle(client)

    def refused() -> set[str]:
        marker = f'permissions violation for {what} to "'
        return {e.lower().split(marker)[1].split('"')[0] for e in errors if marker in e.lower()}

    # `flush` orders the answers, so the errors have been read; their callbacks may still run.
    await wait_until(
        lambda: refused() >= {subject.lower() for subject in wanted},
        description=f"{what} refused: {sorted(wanted)}; heard {errors}",
    )
    return refused()


@pytest.mark.parametrize("user", SERVICES)
async def test_only_the_owner_of_a_subject_can_subscribe_to_it(
    provisioned_server: ProvisionedServer, user: str
):
    errors: list[str] = []
    client = await provisioned_server.connect(user, errors)
    foreign = {subject for subject, owners in CONTENT_SUBJECTS.items() if user not in owners}
    foreign |= {f"{inbox_prefix(other)}.x" for other in SERVICES if other != user}
    own = {subject for subject, owners in CONTENT_SUBJECTS.items() if user in owners}
    own |= {f"{inbox_prefix(user)}.x"}

    for subject in sorted(foreign | own):
        await client.subscribe(subject, cb=_nothing)

    assert {s.lower() for s in foreign} == await _denied(client, errors, "subscription", foreign)


async def test_an_executor_in_a_remote_zone_can_publish_only_what_its_work_needs(
    provisioned_server: ProvisionedServer,
):
    errors: list[str] = []
    client = await provisioned_server.connect(REMOTE, errors)
    refused = {subject for subject, allowed in REMOTE_PUBLISHES.items() if not allowed}

    for subject in REMOTE_PUBLISHES:
        await client.publish(subject, b"", reply=f"{inbox_prefix(REMOTE)}.x")

    assert {s.lower() for s in refused} == await _denied(client, errors, "publish", refused)


async def test_a_remote_executor_gets_nothing_of_a_local_request(
    provisioned_server: ProvisionedServer,
):
    """A wildcard that covers its own subject does not get it the others' either."""
    errors: list[str] = []
    remote = await provisioned_server.connect(REMOTE, errors)
    router = await provisioned_server.connect("router")
    got: list[str] = []

    async def take(msg: Msg) -> None:
        got.append(msg.subject)

    for subject in ("lf.exec.>", "lf.exec.*.*", "lf.exec.local.smollm", "lf.exec.cloud.openai"):
        await remote.subscribe(subject, cb=take)
    await settle(remote)
    await router.publish("lf.exec.local.smollm", b"confidential")
    await router.publish("lf.exec.cloud.openai", b"public")
    await settle(router)
    await wait_until(lambda: got, description="its own request")

    assert got == ["lf.exec.cloud.openai"]


async def test_a_live_request_passes_from_the_edge_to_an_executor_and_back(
    provisioned_server: ProvisionedServer,
):
    errors: list[str] = []
    edge = await provisioned_server.connect("edge", errors)
    profiler = await provisioned_server.connect("profiler", errors)
    router = await provisioned_server.connect("router", errors)
    local = await provisioned_server.connect(LOCAL, errors)
    remote = await provisioned_server.connect(REMOTE, errors)
    app = await provisioned_server.connect("app", errors)
    frames: list[bytes] = []
    cancelled: list[bytes] = []

    def forward(client: Client, subject: str):
        async def hop(msg: Msg) -> None:
            await client.publish(subject, msg.data, reply=msg.reply)

        return hop

    async def answer(msg: Msg) -> None:
        await local.publish(msg.reply, b"answer to " + msg.data)

    async def serve_live(msg: Msg) -> None:
        await msg.respond(b"live " + msg.data)

    async def take(msg: Msg) -> None:
        frames.append(msg.data)

    async def cancel(msg: Msg) -> None:
        cancelled.append(msg.data)

    await edge.subscribe("lf.inbox.edge1.>", cb=take)
    await edge.subscribe("lf.live.chat", queue="edge", cb=serve_live)
    await profiler.subscribe("lf.profile", queue="profiler", cb=forward(profiler, "lf.route"))
    await router.subscribe("lf.route", queue="router", cb=forward(router, "lf.exec.cloud.openai"))
    # The remote backend fails and hands the request on to the next of its plan, a local one.
    await remote.subscribe(
        "lf.exec.cloud.openai", queue="x", cb=forward(remote, "lf.exec.local.smollm")
    )
    await local.subscribe("lf.exec.local.smollm", queue="x", cb=answer)
    await remote.subscribe("lf.cancel", cb=cancel)
    for client in (edge, profiler, router, local, remote):
        await settle(client)
    await edge.publish("lf.profile", b"question", reply="lf.inbox.edge1.request1")
    await edge.publish("lf.cancel", b"request2")
    live = await app.request("lf.live.chat", b"question", timeout=20)
    await wait_until(lambda: frames and cancelled, description="the answer and the cancellation")

    assert frames == [b"answer to question"]
    assert cancelled == [b"request2"]
    assert live.data == b"live question"
    assert errors == []


async def test_a_durable_request_passes_every_stage_to_its_result(
    provisioned_server: ProvisionedServer,
):
    errors: list[str] = []
    app = await provisioned_server.connect("app", errors)
    results = await app.subscribe("lf.result.>")
    stages = (
        ("profiler", subjects.PROFILER_DURABLE, "lf.work.route"),
        ("router", subjects.ROUTER_DURABLE, "lf.work.exec.cloud.openai"),
        (REMOTE, subjects.executor_durable("cloud", "openai"), "lf.work.exec.local.smollm"),
        (LOCAL, subjects.executor_durable("local", "smollm"), "lf.answer.request1"),
    )

    await app.jetstream().publish("lf.request.chat", b"question")
    for user, durable, onward in stages:
        client = await provisioned_server.connect(user, errors)
        js = client.jetstream()
        # FastStream's durable consumers do the same two calls.
        pull = await js.pull_subscribe(durable.subject, durable.name, stream=durable.stream)
        (message,) = await pull.fetch(1, timeout=20)
        await message.in_progress()
        await js.publish(onward, message.data)
        await message.ack_sync()

    live = await results.next_msg(timeout=20)
    stored = await app.jetstream().get_msg("LF_RESULTS", subject="lf.result.request1", direct=True)
    assert live.data == b"question"
    assert stored.data == b"question"
    assert errors == []


async def test_facts_are_written_by_their_owners_and_read_by_router_and_evaluator(
    provisioned_server: ProvisionedServer,
):
    errors: list[str] = []
    router = await provisioned_server.connect("router", errors)
    remote = await provisioned_server.connect(REMOTE, errors)
    edge = await provisioned_server.connect("edge", errors)
    evaluator = await provisioned_server.connect("evaluator", errors)

    await router.jetstream().publish("lf.decision.d1", b"decision")
    await remote.jetstream().publish("lf.outcome.cloud.openai", b"outcome")
    await remote.jetstream().publish("lf.evaluate.local", b"content")
    await edge.jetstream().publish("lf.request.feedback", b"score")
    for durable in (subjects.EVALUATOR_DURABLE, subjects.FEEDBACK_DURABLE):
        js = evaluator.jetstream()
        pull = await js.pull_subscribe(durable.subject, durable.name, stream=durable.stream)
        (message,) = await pull.fetch(1, timeout=20)
        decision = await js.get_msg("LF_FEEDBACK", subject="lf.decision.d1", direct=True)
        await js.publish("lf.feedback.checks", message.data + b" of " + (decision.data or b""))
        if durable.acked:
            await message.ack_sync()

    ordered = await router.jetstream().subscribe(
        "lf.>", stream="LF_FEEDBACK", ordered_consumer=True
    )
    facts = [await ordered.next_msg(timeout=20) for _ in range(4)]
    await ordered.unsubscribe()
    info = await router.jetstream().stream_info("LF_FEEDBACK")
    assert [f.data for f in facts] == [
        b"decision",
        b"outcome",
        b"content of decision",
        b"score of decision",
    ]
    assert info.state.messages == 4
    assert errors == []


async def test_the_router_follows_the_facts_with_a_pull_consumer_of_its_own(
    provisioned_server: ProvisionedServer,
):
    errors: list[str] = []
    router = await provisioned_server.connect("router", errors)
    js = router.jetstream()
    await js.publish("lf.decision.d1", b"decision")
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=60)

    pull = await js.pull_subscribe("lf.decision.>", stream="LF_FEEDBACK", config=config)
    (message,) = await pull.fetch(1, timeout=20)

    assert message.data == b"decision"
    assert errors == []


async def test_the_router_keeps_checkpoints_in_the_object_store(
    provisioned_server: ProvisionedServer,
):
    errors: list[str] = []
    router = await provisioned_server.connect("router", errors)
    store = await router.jetstream().object_store(subjects.CHECKPOINT_BUCKET)

    for content in (b"first" * 100_000, b"second" * 100_000):
        await store.put("latest", content)
    found = await store.get("latest")
    names = [entry.name for entry in await store.list()]
    await store.delete("latest")

    assert found.data == b"second" * 100_000
    assert names == ["latest"]
    assert errors == []


@pytest.mark.parametrize("user", [s for s in SERVICES if s != "router"])
async def test_nobody_but_the_router_reaches_the_checkpoints(
    provisioned_server: ProvisionedServer, user: str
):
    errors: list[str] = []
    client = await provisioned_server.connect(user, errors)
    attempts = {"$O.lf-checkpoints.C.x", "$JS.API.STREAM.MSG.GET.OBJ_lf-checkpoints"}

    for subject in attempts:
        await client.publish(subject, b"")

    assert {s.lower() for s in attempts} == await _denied(client, errors, "publish", attempts)


async def test_the_stream_of_facts_cannot_be_shortened_even_by_admin(
    provisioned_server: ProvisionedServer,
):
    admin = await provisioned_server.connect("admin")
    ack = await admin.jetstream().publish("lf.decision.d1", b"decision")

    with pytest.raises(APIError, match="purge"):
        await admin.jetstream().purge_stream("LF_FEEDBACK")
    with pytest.raises(APIError, match="delete"):
        await admin.jetstream().delete_msg("LF_FEEDBACK", ack.seq)


@pytest.mark.parametrize("login", [{}, {"user": "edge", "pass": "wrong"}, {"user": "nobody"}])
async def test_a_client_without_the_right_password_is_refused(
    provisioned_server: ProvisionedServer, login: dict[str, str]
):
    assert await _log_in(provisioned_server.config, login) == "-ERR 'Authorization Violation'"


async def test_a_backend_added_at_run_time_gets_its_user_without_a_restart(
    provisioned_server: ProvisionedServer,
):
    edge = await provisioned_server.connect("edge")
    before = provisioned_server.supervisor.status["nats"]

    await provisioned_server.change_backends(
        [("local", "smollm"), ("cloud", "openai"), ("cloud", "new")]
    )
    client = await provisioned_server.connect("executor-cloud-new")
    await client.subscribe("lf.exec.cloud.new", cb=_nothing)
    await settle(client)

    assert provisioned_server.supervisor.status["nats"] == before
    assert edge.is_connected
    assert edge.stats["reconnects"] == 0
