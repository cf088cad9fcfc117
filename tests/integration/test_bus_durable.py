"""The durable lane of the bus on a real nats-server: what a handler's end means for the message."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from localforge.bus.bus import Bus
from localforge.bus.connection import settle
from localforge.bus.durable import Delivery
from localforge.contracts import subjects
from localforge.contracts.chat import ChatCompleted, ChatRequested
from localforge.contracts.facts import DecisionMade
from localforge.contracts.live import DeadLetter
from localforge.contracts.subjects import PROFILER_DURABLE, ROUTER_DURABLE, Durable
from localforge.embedded.nats_conf import MAX_PAYLOAD_BYTES
from localforge.errors import (
    ContractError,
    DependencyUnavailable,
    LocalforgeError,
    PermanentError,
    RequestRefused,
)
from tests.support import wait_until
from tests.support_nats import ProvisionedServer
from tests.unit.edge.lane import decided

Handler = Callable[[ChatRequested, Delivery], Awaitable[None]]


def _request(request_id: str) -> ChatRequested:
    return ChatRequested(id=request_id, request=msgspec.Raw(b'{"model":"auto"}'))


class Lane:
    """The profiler's consumer with a handler of the test, and what came of its messages.

    Attributes:
        deliveries: Delivery numbers by request id, as the handler saw them.
    """

    def __init__(self, server: ProvisionedServer) -> None:
        self.deliveries: dict[str, list[int]] = {}
        self.times: list[float] = []
        self._server = server
        self._bus = Bus(server.config, "profiler")

    async def serve(self, handler: Handler, durable: Durable = PROFILER_DURABLE) -> None:
        """Start to consume."""

        async def noted(request: ChatRequested, delivery: Delivery) -> None:
            self.deliveries.setdefault(request.id, []).append(delivery.number)
            self.times.append(asyncio.get_running_loop().time())
            await handler(request, delivery)

        await self._bus.connect()
        self._bus.on_durable(durable, ChatRequested, noted)
        await self._bus.start()

    async def publish(self, data: bytes, message_id: str) -> None:
        """Publish as an application."""
        app = await self._server.connect("app")
        await app.jetstream().publish(
            subjects.REQUEST_CHAT, data, headers={"Nats-Msg-Id": message_id}
        )

    async def left(self) -> int:
        """Messages that the work queue still holds."""
        admin = await self._server.connect("admin")
        return int((await admin.jetstream().stream_info(subjects.REQUESTS.name)).state.messages)

    async def dead(self, expected: int) -> list[DeadLetter]:
        """Wait for dead letters and return all."""
        admin = await self._server.connect("admin")

        async def count() -> int:
            state = (await admin.jetstream().stream_info(subjects.DEAD.name)).state
            return int(state.messages)

        async def enough() -> bool:
            return await count() >= expected

        await wait_until(enough, timeout=15, description=f"{expected} dead letters")
        return [
            DeadLetter.decode(
                (await admin.jetstream().get_msg(subjects.DEAD.name, seq)).data or b""
            )
            for seq in range(1, await count() + 1)
        ]

    async def emptied(self, timeout: float = 20) -> None:  # noqa: ASYNC109
        """Wait until the work queue holds nothing."""

        async def empty() -> bool:
            return await self.left() == 0

        await wait_until(empty, timeout=timeout, description="the work queue is empty")

    async def close(self) -> None:
        """Disconnect."""
        await self._bus.close()


@pytest.fixture(name="lane")
async def _lane(provisioned_server: ProvisionedServer) -> AsyncIterator[Lane]:
    lane = Lane(provisioned_server)
    yield lane
    await lane.close()


async def _nothing(request: ChatRequested, delivery: Delivery) -> None:
    return


def _raising(error: Exception) -> Handler:
    async def handler(request: ChatRequested, delivery: Delivery) -> None:
        raise error

    return handler


async def test_a_handler_that_returns_acknowledges(lane: Lane):
    await lane.serve(_nothing)
    await lane.publish(_request("r1").encode(), "r1")

    await lane.emptied()

    assert lane.deliveries == {"r1": [1]}
    assert await lane.dead(0) == []


async def test_a_retryable_error_is_delivered_again_after_a_delay(lane: Lane):
    async def handler(request: ChatRequested, delivery: Delivery) -> None:
        if delivery.number == 1:
            raise DependencyUnavailable("not now", retry_after_s=0.2)

    await lane.serve(handler)
    await lane.publish(_request("r1").encode(), "r1")

    await lane.emptied()

    assert lane.deliveries == {"r1": [1, 2]}
    # The consumer's own back-off is longer than what the error asked for.
    assert lane.times[1] - lane.times[0] >= PROFILER_DURABLE.backoff_s[0] * 0.9
    assert await lane.dead(0) == []


async def test_a_retryable_error_that_stays_ends_as_a_dead_letter(lane: Lane):
    durable = msgspec.structs.replace(PROFILER_DURABLE, max_deliver=3, backoff_s=(0.05,))
    await lane.serve(_raising(DependencyUnavailable("never", retry_after_s=0.05)), durable)
    await lane.publish(_request("r1").encode(), "r1")

    (letter,) = await lane.dead(1)
    await lane.emptied()

    assert lane.deliveries == {"r1": [1, 2, 3]}
    assert (letter.code, letter.deliveries) == ("dependency_unavailable", 3)
    assert letter.reason == "never (gave up after 3 deliveries)"


@pytest.mark.parametrize(
    "error",
    [
        PermanentError("no use", code="hopeless"),
        RequestRefused("no use", code="hopeless"),
        ContractError("no use", code="hopeless"),
        LocalforgeError("no use", code="hopeless"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_that_time_does_not_heal_is_buried_at_once(
    lane: Lane, error: LocalforgeError
):
    data = _request("r1").encode()
    await lane.serve(_raising(error))
    await lane.publish(data, "message-7")

    (letter,) = await lane.dead(1)
    await lane.emptied()

    assert lane.deliveries == {"r1": [1]}
    assert letter == msgspec.structs.replace(
        letter,
        service="profiler",
        subject="lf.request.chat",
        code="hopeless",
        reason="no use",
        message_id="message-7",
        deliveries=1,
        body=data,
    )


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"[]", b'{"type":"chat_completed.v1","id":"x"}']
)
async def test_what_is_no_such_message_is_buried_unhandled(lane: Lane, data: bytes):
    await lane.serve(_nothing)
    await lane.publish(data, "m1")

    (letter,) = await lane.dead(1)
    await lane.emptied()

    assert lane.deliveries == {}
    assert (letter.code, letter.body) == ("contract", data)
    assert "ChatRequested" in letter.reason


async def test_a_crash_is_delivered_again_by_the_consumers_back_off(lane: Lane):
    async def handler(request: ChatRequested, delivery: Delivery) -> None:
        if delivery.number == 1:
            raise ZeroDivisionError

    await lane.serve(handler)
    await lane.publish(_request("r1").encode(), "r1")

    await lane.emptied()

    assert lane.deliveries == {"r1": [1, 2]}
    assert await lane.dead(0) == []


async def test_a_handler_that_always_crashes_is_given_up_in_the_end(lane: Lane):
    durable = msgspec.structs.replace(PROFILER_DURABLE, max_deliver=2)
    await lane.serve(_raising(ZeroDivisionError("the prompt")), durable)
    await lane.publish(_request("r1").encode(), "r1")

    (letter,) = await lane.dead(1)
    await lane.emptied()

    assert lane.deliveries == {"r1": [1, 2]}
    assert (letter.code, letter.reason) == ("internal", "the handler failed every time")


@pytest.mark.parametrize(
    ("error", "events"),
    [
        (DependencyUnavailable("never", retry_after_s=0.05), ["retry", "dead_letter"]),
        (ZeroDivisionError(), ["handler_failed", "handler_failed", "dead_letter"]),
    ],
    ids=["retryable", "crash"],
)
async def test_what_is_logged_of_a_delivery_names_its_request_and_message(
    lane: Lane, error: Exception, events: list[str]
):
    durable = msgspec.structs.replace(PROFILER_DURABLE, max_deliver=2, backoff_s=(0.05,))
    with capture_logs(processors=[merge_contextvars]) as lines:
        await lane.serve(_raising(error), durable)
        await lane.publish(_request("r1").encode(), "message-7")
        await lane.dead(1)
        await lane.emptied()

    told = [line for line in lines if line["event"] in {"retry", "handler_failed", "dead_letter"}]
    assert [line["event"] for line in told] == events
    assert {(line["request_id"], line["message_id"]) for line in told} == {("r1", "message-7")}


async def test_work_that_says_it_goes_on_is_not_delivered_again(lane: Lane):
    """Longer than the consumer waits for an ack."""
    ack_wait_s = PROFILER_DURABLE.ack_wait_s

    async def handler(request: ChatRequested, delivery: Delivery) -> None:
        for _ in range(8):
            await asyncio.sleep(ack_wait_s / 4)
            await delivery.in_progress()

    await lane.serve(handler)
    # A machine that stands still for as long says nothing either: that one does not count.
    for index in range(5):
        await lane.publish(_request(f"r{index}").encode(), f"r{index}")
        await lane.emptied()
        if lane.deliveries[f"r{index}"] == [1]:
            break

    assert lane.deliveries[f"r{index}"] == [1], lane.deliveries


async def test_a_service_that_stops_gives_its_work_back_at_once(
    provisioned_server: ProvisionedServer,
):
    hanging, successor = Lane(provisioned_server), Lane(provisioned_server)
    forever = asyncio.Event()

    async def hang(request: ChatRequested, delivery: Delivery) -> None:
        await forever.wait()

    await hanging.serve(hang)
    await hanging.publish(_request("r1").encode(), "r1")
    await wait_until(lambda: hanging.deliveries, description="it is being worked on")
    closing = asyncio.create_task(hanging.close())
    await successor.serve(_nothing)

    await wait_until(lambda: successor.deliveries, timeout=15, description="the successor has it")
    await successor.emptied()
    forever.set()
    await closing
    await successor.close()


async def test_handlers_run_side_by_side(lane: Lane):
    running: set[str] = set()
    together = asyncio.Event()

    async def handler(request: ChatRequested, delivery: Delivery) -> None:
        running.add(request.id)
        if len(running) == 20:
            together.set()
        await together.wait()

    # All there before the first is taken, whose ack is awaited for a second and no longer.
    for index in range(20):
        await lane.publish(_request(f"r{index}").encode(), f"r{index}")
    await lane.serve(handler)

    await lane.emptied()

    assert {number for numbers in lane.deliveries.values() for number in numbers} == {1}


async def test_what_a_handler_records_while_the_bus_closes_is_published(
    provisioned_server: ProvisionedServer,
):
    bus, begun, finish = Bus(provisioned_server.config, "router"), asyncio.Event(), asyncio.Event()
    admin = await provisioned_server.connect("admin")

    async def handler(request: ChatRequested, delivery: Delivery) -> None:
        begun.set()
        await finish.wait()
        bus.facts.record(subjects.decision(request.id), decided(request.id))

    await bus.connect()
    bus.on_durable(ROUTER_DURABLE, ChatRequested, handler)
    await bus.start()
    await admin.jetstream().publish(subjects.WORK_ROUTE, _request("r1").encode())
    await begun.wait()

    closing = asyncio.create_task(bus.close())
    await settle(admin)
    finish.set()
    await closing

    assert bus.facts.pending == 0
    stored = await admin.jetstream().get_last_msg(subjects.FEEDBACK.name, subjects.decision("r1"))
    assert DecisionMade.decode(stored.data or b"").decision_id == "r1"


async def test_a_message_id_is_taken_once(provisioned_server: ProvisionedServer):
    bus = Bus(provisioned_server.config, "profiler")
    await bus.connect()
    try:
        message = _request("r1")
        first = await bus.publish_durable(subjects.WORK_ROUTE, message, message_id="r1.route")
        second = await bus.publish_durable(subjects.WORK_ROUTE, message, message_id="r1.route")
    finally:
        await bus.close()

    assert (first, second) == (True, False)


@pytest.mark.parametrize(
    ("subject", "size"),
    [(subjects.answer("r1\n"), 1), (subjects.WORK_ROUTE, MAX_PAYLOAD_BYTES)],
    ids=["no subject", "too large"],
)
async def test_what_can_never_be_sent_is_not_worth_another_try(
    provisioned_server: ProvisionedServer, subject: str, size: int
):
    bus = Bus(provisioned_server.config, "profiler")
    await bus.connect()
    message = ChatRequested(id="r1", request=msgspec.Raw(b'"%s"' % (b"x" * size)))
    try:
        with pytest.raises(ContractError):
            await bus.publish_durable(subject, message, message_id="r1")
    finally:
        await bus.close()


async def test_a_second_result_of_a_request_is_refused_whatever_its_message_id(
    provisioned_server: ProvisionedServer,
):
    bus = Bus(provisioned_server.config, "executor-cloud-openai")
    admin = await provisioned_server.connect("admin")
    app = await provisioned_server.connect("app")
    heard = await app.subscribe(subjects.result("r1"))
    await settle(app)
    await bus.connect()
    try:
        taken = [
            await bus.publish_durable(
                subjects.answer("r1"), ChatCompleted(id="r1", model=model), message_id=model
            )
            for model in ("first", "second")
        ]
    finally:
        await bus.close()
    stored = await admin.jetstream().get_last_msg(subjects.RESULTS.name, subjects.result("r1"))
    first = await heard.next_msg(timeout=20)
    await settle(app)

    assert taken == [True, False]
    assert ChatCompleted.decode(stored.data or b"").model == "first"
    assert ChatCompleted.decode(first.data).model == "first"
    assert heard.pending_msgs == 0


@pytest.mark.parametrize(
    ("data", "code"),
    [(b'{"type":"chat_requested.v1","id":"r1"}', "contract"), (_request("r1").encode(), "no")],
)
async def test_a_dead_letter_with_a_readable_id_gives_its_request_a_result(
    lane: Lane, provisioned_server: ProvisionedServer, data: bytes, code: str
):
    app = await provisioned_server.connect("app")
    results = await app.subscribe(subjects.result("r1"))
    await settle(app)
    await lane.serve(_raising(PermanentError("no", code="no")))
    await lane.publish(data, "r1")

    (letter,) = await lane.dead(1)
    result = ChatCompleted.decode((await results.next_msg(timeout=20)).data)

    assert result.error is not None
    assert (letter.code, result.error.code) == (code, code)


async def test_a_publish_that_no_stream_takes_is_an_error(provisioned_server: ProvisionedServer):
    bus = Bus(provisioned_server.config, "admin")
    await bus.connect()
    try:
        with pytest.raises(DependencyUnavailable, match=r"did not take lf\.nowhere"):
            await bus.publish_durable("lf.nowhere", _request("r1"), message_id="r1")
    finally:
        await bus.close()


async def test_an_unknown_user_is_named(provisioned_server: ProvisionedServer):
    config: Any = provisioned_server.config
    with pytest.raises(LocalforgeError, match="has no NATS user `nobody`"):
        Bus(config, "nobody")


async def test_a_broker_that_is_not_there_is_named_without_its_password():
    from localforge.config import NatsConfig

    bus = Bus(NatsConfig(url="nats://user:secret@127.0.0.1:9", connect_timeout_s=0.5), "router")

    with pytest.raises(DependencyUnavailable, match=r"NATS at nats://127\.0\.0\.1:9") as caught:
        await bus.connect()
    assert "secret" not in str(caught.value)
