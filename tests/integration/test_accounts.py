"""Reply subjects that a user names for JetStream's answers, and what passes between accounts.

The broker does not check a reply subject, and JetStream answers there as the server. So a user that
shares JetStream's account could have anything published for it.
"""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from localforge.bus.bus import Bus
from localforge.bus.connection import inbox_prefix, settle
from localforge.bus.durable import Delivery
from localforge.contracts import subjects
from localforge.contracts.cards import Health
from localforge.contracts.live import (
    CancelCall,
    ExecuteCall,
    ProbeAnswer,
    ProbeCall,
)
from tests.fakes.calls import execute_call
from tests.support import wait_until
from tests.support_nats import ProvisionedServer, run_provisioned_server
from tests.unit.edge.lane import decided

LOCAL, REMOTE = "executor-local-smollm", "executor-cloud-openai"
BACKENDS = (("local", "smollm"), ("cloud", "openai"), ("abroad", "other"))
OTHER = "executor-abroad-other"

HOSTILE = (
    "$JS.API.STREAM.DELETE.LF_FEEDBACK",
    "$JS.API.STREAM.CREATE.LEAK",
    "$JS.API.STREAM.PURGE.LF_REQUESTS",
    "$JS.API.CONSUMER.CREATE.LF_REQUESTS",
    "lf.outcome.local.smollm",
    "lf.decision.d1",
    "lf.profile",
    "lf.exec.local.smollm",
    "_INBOX_edge.x",
)
"""Where neither `app` nor a remote executor may publish."""
LEAK = {
    "name": "LEAK",
    "subjects": ["leak"],
    "republish": {"src": "lf.exec.local.*", "dest": f"{inbox_prefix(REMOTE)}.leak"},
}
STORED = "$JS.API.DIRECT.GET.LF_RESULTS.lf.result.cfg5"
MISSING = "$JS.API.DIRECT.GET.LF_RESULTS.lf.result.nosuch"
PULL = f"$JS.API.CONSUMER.MSG.NEXT.LF_REQUESTS.{REMOTE}"
INFO = f"$JS.API.CONSUMER.INFO.LF_REQUESTS.{REMOTE}"
EXPIRING = b'{"batch":1,"expires":200000000}'
ONE = b'{"batch":1,"no_wait":true}'

TRICKS = {
    "the 404 of a direct get": ("app", MISSING, b""),
    "a stored result": ("app", STORED, b""),
    "the ack of a request": ("app", subjects.REQUEST_CHAT, b"question"),
    "the end of a pull": (REMOTE, PULL, EXPIRING),
    "a message of a pull": (REMOTE, PULL, ONE),
    "the ack of a fact": (REMOTE, subjects.outcome("cloud", "openai"), b"outcome"),
    "the ack of an answer": (REMOTE, subjects.answer("another"), b"answer"),
    "what is known of a consumer": (REMOTE, INFO, b""),
}
"""What JetStream is made to send -> who makes it, with which message."""


class Spy:
    """Hears, as `admin`, everything that is published in the account of the site."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.heard: set[str] = set()

    async def start(self) -> None:
        """Begin to listen."""
        await self.client.subscribe(">", cb=self._take)
        await settle(self.client)

    async def _take(self, msg: Msg) -> None:
        self.heard.add(msg.subject)

    async def streams(self) -> dict[str, Any]:
        """The names of the streams, and the subjects of the facts."""
        js = self.client.jetstream()
        facts = await js.stream_info("LF_FEEDBACK", subjects_filter=">")
        names = [info.config.name for info in await js.streams_info()]
        return {"names": sorted(names), "facts": sorted(facts.state.subjects or {})}


@pytest.fixture(name="spy")
async def _spy(provisioned_server: ProvisionedServer) -> Spy:
    spy = Spy(await provisioned_server.connect("admin"))
    await spy.start()
    return spy


@pytest.fixture(name="abroad")
async def _abroad(tmp_path: Path) -> AsyncIterator[ProvisionedServer]:
    """A server for two remote zones."""
    async with run_provisioned_server(tmp_path / "abroad", BACKENDS) as server:
        yield server


@pytest.mark.parametrize("trick", TRICKS)
async def test_nothing_is_published_where_a_hostile_reply_subject_points(
    provisioned_server: ProvisionedServer, spy: Spy, trick: str
):
    user, subject, payload = TRICKS[trick]
    errors: list[str] = []
    hostile = await provisioned_server.connect(user, errors)
    remote = await provisioned_server.connect(REMOTE)
    leaked: list[Msg] = []

    async def take(msg: Msg) -> None:
        leaked.append(msg)

    await remote.subscribe(f"{inbox_prefix(REMOTE)}.leak", cb=take)
    await remote.jetstream().publish("lf.answer.cfg5", json.dumps(LEAK).encode())
    if payload == ONE:
        for _ in (*HOSTILE, "one for who asks honestly"):
            await remote.jetstream().publish("lf.work.exec.cloud.openai", json.dumps(LEAK).encode())
    before = await spy.streams()

    for reply in HOSTILE:
        await hostile.publish(subject, payload, reply=reply)
    # An answer that comes after theirs, by the same way.
    honest = await hostile.subscribe(f"{inbox_prefix(user)}.honest")
    await hostile.publish(subject, payload, reply=f"{inbox_prefix(user)}.honest")
    await honest.next_msg(timeout=20)
    await settle(spy.client)
    heard = spy.heard & set(HOSTILE)
    after = await spy.streams()
    router = await provisioned_server.connect("router")
    await router.publish("lf.exec.local.smollm", b"restricted")
    await settle(router)
    await settle(remote)

    own = [subject] if subject.startswith("lf.outcome") else []
    assert heard == set()
    assert (before | {"facts": own}) == after
    assert leaked == []
    assert errors == []


@pytest.mark.parametrize(
    "reply", ["$JS.ACK.LF_REQUESTS.profiler-chat.1.1.1.1.0", "_R_.abcdef.x", "_GR_.a.b.x"]
)
async def test_reply_subjects_that_the_broker_would_not_replace_are_refused(
    provisioned_server: ProvisionedServer, spy: Spy, reply: str
):
    errors: list[str] = []
    app = await provisioned_server.connect("app", errors)

    await app.publish(MISSING, b"", reply=reply)
    honest = await app.request(MISSING, b"", timeout=20)
    await wait_until(lambda: errors, description="the refusal")
    await settle(spy.client)

    assert (honest.headers or {})["Status"] == "404"
    assert "reply subject" in errors[0].lower() or "permissions violation" in errors[0].lower()
    assert reply not in spy.heard


async def test_only_the_account_of_the_site_has_jetstream(provisioned_server: ProvisionedServer):
    """What nats-server offers every account by itself would answer beside the right one."""
    remote = await provisioned_server.connect(REMOTE)
    answers: list[dict[str, Any]] = []

    async def take(msg: Msg) -> None:
        answers.append(json.loads(msg.data))

    inbox = f"{inbox_prefix(REMOTE)}.info"
    await remote.subscribe(f"{inbox}.*", cb=take)
    for number in range(20):
        await remote.publish(INFO, b"", reply=f"{inbox}.{number}")
    await wait_until(lambda: len(answers) >= 20, description="20 answers")
    await settle(remote)

    assert [answer.get("error") for answer in answers] == [None] * 20
    assert {answer["name"] for answer in answers} == {REMOTE}


async def test_a_stream_takes_a_message_id_from_another_account_once(
    provisioned_server: ProvisionedServer,
):
    js = (await provisioned_server.connect(REMOTE)).jetstream()

    acks = [
        await js.publish("lf.outcome.cloud.openai", b"outcome", headers={"Nats-Msg-Id": "one"})
        for _ in range(2)
    ]

    assert [ack.duplicate for ack in acks] == [None, True]


async def test_nobody_can_take_the_message_id_of_a_fact_before_it_is_published(
    provisioned_server: ProvisionedServer,
):
    """The ids in facts are known to executors; a stream drops what has an id that it has seen."""
    remote = (await provisioned_server.connect(REMOTE)).jetstream()
    for taken in ("d1", "d1.0", "d1:checks", "d1:user"):
        await remote.publish("lf.outcome.cloud.openai", b"{}", headers={"Nats-Msg-Id": taken})
    router = Bus(provisioned_server.config, "router")
    await router.connect()

    router.facts.record(subjects.decision("d1"), decided("d1"), message_id="d1")
    await wait_until(lambda: router.facts.pending == 0, description="the fact is acked")
    admin = await provisioned_server.connect("admin")
    stored = await admin.jetstream().get_last_msg(subjects.FEEDBACK.name, subjects.decision("d1"))
    await router.close()

    assert stored.data == decided("d1").encode()


async def test_durable_work_of_a_remote_executor_is_kept_alive_given_back_and_acked(
    provisioned_server: ProvisionedServer,
):
    router = await provisioned_server.connect("router")
    remote = await provisioned_server.connect(REMOTE)
    admin = await provisioned_server.connect("admin")
    durable = subjects.executor_durable("cloud", "openai")
    await router.jetstream().publish("lf.work.exec.cloud.openai", b"work")

    pull = await remote.jetstream().pull_subscribe(
        durable.subject, durable.name, stream=durable.stream
    )
    (first,) = await pull.fetch(1, timeout=20)
    await first.in_progress()
    await first.nak()
    (second,) = await pull.fetch(1, timeout=20)
    await second.ack_sync()
    left = await admin.jetstream().stream_info("LF_REQUESTS")

    assert [m.metadata.num_delivered for m in (first, second)] == [1, 2]
    assert first.subject == "lf.work.exec.cloud.openai"
    assert left.state.messages == 0


async def test_a_remote_executors_consumer_takes_work_and_finishes_it(
    provisioned_server: ProvisionedServer,
):
    router = await provisioned_server.connect("router")
    admin = await provisioned_server.connect("admin")
    bus = Bus(provisioned_server.config, REMOTE)
    seen: list[tuple[int, str, str]] = []

    async def handle(_: ExecuteCall, delivery: Delivery) -> None:
        seen.append((delivery.number, delivery.subject, delivery.message_id))

    async def is_done() -> bool:
        return (await admin.jetstream().stream_info("LF_REQUESTS")).state.messages == 0

    await bus.connect()
    bus.on_durable(subjects.executor_durable("cloud", "openai"), ExecuteCall, handle)
    await bus.start()
    await router.jetstream().publish(
        "lf.work.exec.cloud.openai", execute_call().encode(), headers={"Nats-Msg-Id": "one"}
    )
    await wait_until(is_done, description="the work is acked")
    await bus.close()

    assert seen == [(1, "lf.work.exec.cloud.openai", "one")]


async def test_of_a_remote_backends_executors_one_gets_each_request(
    provisioned_server: ProvisionedServer,
):
    router = await provisioned_server.connect("router")
    got: list[list[bytes]] = [[], []]

    def keep(mine: list[bytes]) -> Callable[[Msg], Any]:
        async def take(msg: Msg) -> None:
            mine.append(msg.data)

        return take

    for mine in got:
        client = await provisioned_server.connect(REMOTE)
        await client.subscribe("lf.exec.cloud.openai", queue="openai", cb=keep(mine))
        await settle(client)
    for number in range(40):
        await router.publish("lf.exec.cloud.openai", b"%d" % number)

    await wait_until(lambda: sum(map(len, got)) >= 40, description="all requests")
    await settle(router)
    assert sorted(got[0] + got[1], key=int) == [b"%d" % number for number in range(40)]
    assert all(got)


@pytest.mark.parametrize(
    ("taker", "zone", "backend"), [(LOCAL, "local", "smollm"), (OTHER, "abroad", "other")]
)
async def test_a_remote_executor_hands_a_request_on_and_its_reply_subject_arrives(
    abroad: ProvisionedServer, taker: str, zone: str, backend: str
):
    giver, receiver = Bus(abroad.config, REMOTE), Bus(abroad.config, taker)
    got: list[str] = []

    def take(_: ExecuteCall, reply: str) -> None:
        got.append(reply)

    await giver.connect()
    await receiver.connect()
    await receiver.on_live(subjects.execute(zone, backend), ExecuteCall, take, queue=backend)
    giver.forward(
        subjects.execute(zone, backend), execute_call(), reply="lf.inbox.edge1.r1", backend=backend
    )

    await wait_until(lambda: got, description="the request")
    await giver.close()
    await receiver.close()
    assert got == ["lf.inbox.edge1.r1"]


async def test_the_edge_hears_which_model_nobody_serves_for_a_remote_executor(
    provisioned_server: ProvisionedServer,
):
    edge, remote = (Bus(provisioned_server.config, user) for user in ("edge", REMOTE))
    heard: list[tuple[str, bytes, bool]] = []
    await edge.connect()
    await remote.connect()
    await edge.subscribe("lf.inbox.edge1.*", lambda *frame: heard.append(frame))

    remote.forward(
        subjects.execute("local", "smollm"),
        execute_call(),
        reply="lf.inbox.edge1.r1",
        backend="smollm",
    )

    await wait_until(lambda: heard, description="the broker's word")
    await edge.close()
    await remote.close()
    assert heard == [("lf.inbox.edge1.r1", b"smollm", True)]


async def test_a_remote_executor_is_asked_whether_it_lives_and_how_it_is(
    provisioned_server: ProvisionedServer,
):
    edge, admin, remote = (
        Bus(provisioned_server.config, user) for user in ("edge", "admin", REMOTE)
    )
    heard: list[tuple[str, bool]] = []
    probed: list[bytes] = []
    cancelled: list[str] = []
    answer = ProbeAnswer(replica="r1", backend="openai", zone="cloud", health=Health.UP)
    for bus in (edge, admin, remote):
        await bus.connect()
    await edge.subscribe(
        subjects.lost("edge1", ">"), lambda subject, _, nobody: heard.append((subject, nobody))
    )
    await admin.subscribe("lf.inbox.cli.probe", lambda _, data, __: probed.append(data))
    await remote.answer_alive(subjects.alive("cloud", "openai", "r1"))
    await remote.on_live(
        subjects.CANCEL, CancelCall, lambda call, _: cancelled.append(call.request_id)
    )
    await remote.on_live(
        subjects.probe("cloud", "openai"),
        ProbeCall,
        lambda _, reply: remote.publish(reply, answer),
    )

    for replica in ("r1", "gone"):
        edge.ask_alive(
            subjects.alive("cloud", "openai", replica),
            subjects.lost("edge1", f"cloud.openai.{replica}"),
        )
    edge.publish(subjects.CANCEL, CancelCall(request_id="r2"))
    admin.publish(subjects.probe("cloud", "openai"), ProbeCall(), reply="lf.inbox.cli.probe")

    await wait_until(
        lambda: len(heard) == 2 and probed and cancelled, description="all have been heard"
    )
    for bus in (edge, admin, remote):
        await bus.close()
    assert set(heard) == {
        ("lf.inbox.edge1.lost.cloud.openai.r1", False),
        ("lf.inbox.edge1.lost.cloud.openai.gone", True),
    }
    assert [ProbeAnswer.decode(data) for data in probed] == [answer]
    assert cancelled == ["r2"]


async def test_a_remote_executor_learns_that_an_edge_has_gone(
    provisioned_server: ProvisionedServer,
):
    remote = Bus(provisioned_server.config, REMOTE)
    told: list[bool] = []
    inbox = f"{inbox_prefix(REMOTE)}.edge.edge1"
    await remote.connect()
    await remote.subscribe(inbox, lambda _, __, nobody: told.append(nobody))

    remote.ask_alive(subjects.edge_alive("edge1"), inbox)

    await wait_until(lambda: told, description="the broker's word")
    await remote.close()
    assert told == [True]


async def test_an_application_hears_at_once_that_no_edge_is_there(
    provisioned_server: ProvisionedServer,
):
    app = await provisioned_server.connect("app")

    with pytest.raises(NoRespondersError):
        await app.request("lf.live.chat", b"question", timeout=20)


async def test_accounts_come_and_go_with_the_backends_of_a_running_server(
    provisioned_server: ProvisionedServer,
):
    """Who stays is not cut off, and what passes between the accounts of those that stay passes."""
    edge = await provisioned_server.connect("edge")
    app = await provisioned_server.connect("app")
    remote = await provisioned_server.connect(REMOTE)

    async def answer(msg: Msg) -> None:
        await msg.respond(b"answer")

    await edge.subscribe("lf.live.chat", queue="edge", cb=answer)
    await settle(edge)
    await provisioned_server.change_backends(BACKENDS)
    other = await provisioned_server.connect(OTHER)
    added = [
        await client.jetstream().publish(f"lf.outcome.{subject}", b"outcome")
        for client, subject in ((other, "abroad.other"), (remote, "cloud.openai"))
    ]
    first = await app.request("lf.live.chat", b"question", timeout=20)
    info = await remote.request(INFO, b"", timeout=20)
    await provisioned_server.change_backends([("local", "smollm"), ("cloud", "openai")])
    await wait_until(lambda: not other.is_connected, description="the old user is cut off")
    kept = await remote.jetstream().publish("lf.outcome.cloud.openai", b"outcome")
    second = await app.request("lf.live.chat", b"question", timeout=20)

    assert [ack.seq for ack in (*added, kept)] == [1, 2, 3]
    assert first.data == second.data == b"answer"
    assert "error" not in msgspec.json.decode(info.data)
    assert [client.stats["reconnects"] for client in (edge, app, remote)] == [0, 0, 0]
