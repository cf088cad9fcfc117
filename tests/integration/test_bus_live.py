"""The live lane of the bus on a real nats-server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from localforge.bus.bus import Bus
from localforge.bus.durable import Delivery
from localforge.bus.refusal import refuse
from localforge.contracts import subjects
from localforge.contracts.chat import ChatCompleted
from localforge.contracts.live import CancelCall, ChatCall, Failed, Lane
from localforge.errors import RequestRefused
from tests.support import wait_until
from tests.support_nats import ProvisionedServer

INBOX = "lf.inbox.edge1.r1"


class Inbox:
    """The edge's inbox."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, bytes, bool]] = []

    def take(self, subject: str, data: bytes, nobody: bool) -> None:
        self.frames.append((subject, data, nobody))


class Users:
    """Buses of several users, each in a process of its own as it were."""

    def __init__(self, server: ProvisionedServer) -> None:
        self._server = server
        self._buses: list[Bus] = []

    async def bus(self, user: str, local: dict[str, Any] | None = None) -> Bus:
        bus = Bus(self._server.config, user, local=local)
        await bus.connect()
        self._buses.append(bus)
        return bus

    async def close(self) -> None:
        for bus in self._buses:
            await bus.close()


@pytest.fixture(name="users")
async def _users(provisioned_server: ProvisionedServer) -> AsyncIterator[Users]:
    users = Users(provisioned_server)
    yield users
    await users.close()


def _call(request_id: str = "r1", **more: Any) -> ChatCall:
    return ChatCall(request_id=request_id, lane=Lane.LIVE, body=b'{"a" : 1}', deadline=1e12, **more)


async def test_a_hop_to_another_process_is_a_message_with_the_reply_subject(users: Users):
    edge, profiler = await users.bus("edge"), await users.bus("profiler")
    got: list[tuple[ChatCall, str]] = []

    def handler(call: ChatCall, reply: str) -> None:
        got.append((call, reply))

    await profiler.on_live(subjects.PROFILE, ChatCall, handler, queue="profiler")
    edge.forward(subjects.PROFILE, _call(), reply=INBOX)

    await wait_until(lambda: got, description="the call")
    assert got == [(_call(), INBOX)]


async def test_a_hop_within_the_process_is_a_call(users: Users):
    local: dict[str, Any] = {}
    edge, profiler = await users.bus("edge", local), await users.bus("profiler", local)
    got: list[ChatCall] = []

    def handler(call: ChatCall, reply: str) -> None:
        got.append(call)

    await profiler.on_live(subjects.PROFILE, ChatCall, handler, queue="profiler")
    call = _call()
    edge.forward(subjects.PROFILE, call, reply=INBOX)

    assert got[0] is call


async def test_a_process_that_serves_a_subject_itself_still_hears_it_from_others(users: Users):
    local: dict[str, Any] = {}
    profiler = await users.bus("profiler", local)
    elsewhere = await users.bus("edge")
    got: list[str] = []

    def handler(call: ChatCall, reply: str) -> None:
        got.append(call.request_id)

    await profiler.on_live(subjects.PROFILE, ChatCall, handler, queue="profiler")
    elsewhere.forward(subjects.PROFILE, _call("from elsewhere"), reply=INBOX)

    await wait_until(lambda: got == ["from elsewhere"], description="the call")


async def test_the_edge_hears_that_nobody_serves_a_hop(users: Users):
    edge, inbox = await users.bus("edge"), Inbox()
    await edge.subscribe("lf.inbox.edge1.*", inbox.take)

    edge.forward(subjects.PROFILE, _call(), reply=INBOX)

    await wait_until(lambda: inbox.frames, description="the broker's word")
    assert inbox.frames == [(INBOX, b"", True)]


async def test_it_hears_whose_executors_are_missing(users: Users):
    edge, router, inbox = await users.bus("edge"), await users.bus("router"), Inbox()
    await edge.subscribe("lf.inbox.edge1.*", inbox.take)

    router.forward(subjects.execute("local", "smollm"), _call(), reply=INBOX, backend="smollm")

    await wait_until(lambda: inbox.frames, description="the broker's word")
    assert inbox.frames == [(INBOX, b"smollm", True)]


async def test_of_a_queue_one_member_gets_each_message(users: Users):
    edge = await users.bus("edge")
    got: list[list[str]] = [[], []]
    for index in range(2):
        member = await users.bus("profiler")

        def handler(call: ChatCall, reply: str, mine: list[str] = got[index]) -> None:
            mine.append(call.request_id)

        await member.on_live(subjects.PROFILE, ChatCall, handler, queue="profiler")
    for index in range(40):
        edge.forward(subjects.PROFILE, _call(f"r{index}"), reply=INBOX)

    await wait_until(lambda: len(got[0]) + len(got[1]) == 40, description="all calls")
    assert sorted(got[0] + got[1]) == sorted(f"r{index}" for index in range(40))
    assert got[0]
    assert got[1]


async def test_without_a_queue_everybody_hears(users: Users):
    edge = await users.bus("edge")
    got: list[str] = []
    for user in ("executor-local-smollm", "executor-cloud-openai"):
        bus = await users.bus(user)

        def handler(call: CancelCall, reply: str, who: str = user) -> None:
            got.append(who)

        await bus.on_live(subjects.CANCEL, CancelCall, handler)
    edge.publish(subjects.CANCEL, CancelCall(request_id="r1"))

    await wait_until(lambda: len(got) == 2, description="both")
    assert set(got) == {"executor-local-smollm", "executor-cloud-openai"}


async def test_a_bad_message_and_a_crash_end_nothing(users: Users):
    edge, profiler = await users.bus("edge"), await users.bus("profiler")
    got: list[str] = []

    def handler(call: ChatCall, reply: str) -> None:
        if call.request_id == "crash":
            raise ZeroDivisionError
        got.append(call.request_id)

    await profiler.on_live(subjects.PROFILE, ChatCall, handler, queue="profiler")
    await edge.client.publish(subjects.PROFILE, b"\xc1 is no MessagePack")
    edge.forward(subjects.PROFILE, _call("crash"))
    edge.forward(subjects.PROFILE, _call("good"))

    await wait_until(lambda: got == ["good"], description="the good one")


async def test_a_refusal_is_a_frame_on_the_live_lane(users: Users):
    edge, profiler, inbox = await users.bus("edge"), await users.bus("profiler"), Inbox()
    await edge.subscribe("lf.inbox.edge1.*", inbox.take)

    refuse(profiler, _call(attempt=2), INBOX, RequestRefused("no", code="x", status=403))

    await wait_until(lambda: inbox.frames, description="the frame")
    frame = Failed.decode(inbox.frames[0][1])
    assert (frame.request_id, frame.attempt, frame.status) == ("r1", 2, 403)
    assert (frame.error.message, frame.error.code) == ("no", "x")


async def test_a_refusal_is_the_result_on_the_durable_lane(
    users: Users, provisioned_server: ProvisionedServer
):
    profiler = await users.bus("profiler")

    await profiler.end("r1", RequestRefused("no", code="x", status=403))
    await profiler.end("r1", RequestRefused("another", code="y", status=400))

    app = await provisioned_server.connect("app")
    stored = await app.jetstream().get_last_msg(
        subjects.RESULTS.name, subjects.result("r1"), direct=True
    )
    result = ChatCompleted.decode(stored.data or b"")
    assert result.error is not None
    assert (result.status, result.error.code, bytes(result.response)) == (403, "x", b"null")


async def test_a_bus_says_whether_it_is_connected(provisioned_server: ProvisionedServer):
    bus = Bus(provisioned_server.config, "edge")
    before = bus.connected
    await bus.connect()
    during = bus.connected
    await bus.close()
    await asyncio.sleep(0)

    assert (before, during, bus.connected) == (False, True, False)


async def test_a_bus_that_closes_without_a_broker_reconnects_no_more(
    provisioned_server: ProvisionedServer,
):
    bus = Bus(provisioned_server.config, "profiler")
    await bus.connect()
    await bus.on_live(subjects.PROFILE, ChatCall, _ignore, queue="profiler")
    bus.on_durable(subjects.PROFILER_DURABLE, ChatCall, _ignore_durable)
    await bus.start()
    await provisioned_server.close()  # whose own clients reconnect too
    await provisioned_server.supervisor.remove("nats")
    await wait_until(_reconnecting, description="the reconnecting")

    async with asyncio.timeout(2):
        await bus.close()

    assert (bus.client.is_closed, _reconnecting()) == (True, [])


async def test_a_bus_that_closes_leaves_its_subjects_before_anything_else(users: Users):
    local: dict[str, Any] = {}
    router = await users.bus("router", local)
    await router.on_live(subjects.ROUTE, ChatCall, _ignore, queue="router")

    closing = asyncio.create_task(router.close())
    await asyncio.sleep(0)
    left = dict(local)
    await closing

    assert left == {}


def _ignore(call: ChatCall, reply: str) -> None:
    return


async def _ignore_durable(call: ChatCall, delivery: Delivery) -> None:
    return


def _reconnecting() -> list[str]:
    names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]  # type: ignore[union-attr]
    return [name for name in names if name.endswith("._attempt_reconnect")]
