"""The wire of a connection on a real nats-server: nats-py keeps it connected and subscribed."""

import os
import signal

import pytest
from nats.aio.client import Client

from localforge.bus.connection import settle
from localforge.bus.wire import CONGESTED_BYTES, Wire, wire_of
from tests.support import wait_until
from tests.support_nats import ProvisionedServer

SUBJECT = "lf.profile"


class Taken:
    """What a subscription was given."""

    def __init__(self) -> None:
        self.data: list[bytes] = []

    def take(self, subject: str, reply: str, data: bytes, headers: bytes) -> None:
        self.data.append(data)


@pytest.fixture(name="profiler")
async def _profiler(provisioned_server: ProvisionedServer) -> Client:
    return await provisioned_server.connect("profiler")


@pytest.fixture(name="wire")
async def _wire(provisioned_server: ProvisionedServer) -> Wire:
    return wire_of(await provisioned_server.connect("edge"))


async def _take(client: Client) -> Taken:
    taken = Taken()
    await wire_of(client).take(SUBJECT, taken.take, queue="profiler")
    await settle(client)
    return taken


async def test_a_burst_larger_than_the_socket_takes_arrives_whole_and_in_order(profiler, wire):
    taken = await _take(profiler)
    sent = [b"%06d" % number + b"." * 1000 for number in range(8_000)]
    assert sum(map(len, sent)) > 4 * CONGESTED_BYTES

    for data in sent:
        wire.send(SUBJECT, data)

    await wait_until(lambda: len(taken.data) == len(sent), description="the burst")
    assert taken.data == sent


async def test_a_message_of_many_megabytes_arrives_whole(profiler, wire):
    taken = await _take(profiler)
    data = os.urandom(16_000_000)

    wire.send(SUBJECT, data)
    wire.send(SUBJECT, b"after")

    await wait_until(lambda: len(taken.data) == 2, description="both")
    assert taken.data == [data, b"after"]


async def test_a_killed_broker_is_subscribed_to_again_and_gets_what_was_sent_meanwhile(
    provisioned_server, profiler, wire
):
    taken = await _take(profiler)
    server = provisioned_server.supervisor
    before = server.status["nats"]
    os.kill(before.pid, signal.SIGKILL)
    await wait_until(lambda: not wire.is_connected, description="the loss is noticed")
    wire.send(SUBJECT, b"meanwhile")
    await wait_until(lambda: wire.is_connected, timeout=30, description="the broker is back")
    await wait_until(lambda: profiler.is_connected, timeout=30, description="the profiler, too")
    await settle(profiler)
    wire.send(SUBJECT, b"afterwards")

    await wait_until(lambda: b"afterwards" in taken.data, description="what was sent last")
    # The other one may have come back before the profiler had subscribed again.
    assert taken.data in ([b"meanwhile", b"afterwards"], [b"afterwards"])
    assert server.status["nats"].restarts > before.restarts


async def test_leaving_hands_over_what_was_sent_before(profiler, wire):
    taken = Taken()
    subscription = await wire_of(profiler).take(SUBJECT, taken.take)
    await settle(profiler)
    for number in range(100):
        wire.send(SUBJECT, b"%d" % number)
    await settle(wire._client)

    await wire_of(profiler).leave(subscription)
    wire.send(SUBJECT, b"too late")
    await settle(wire._client)
    await settle(profiler)

    assert taken.data == [b"%d" % number for number in range(100)]


async def test_nothing_is_kept_of_what_was_left(profiler, wire):
    taken = Taken()
    known = set(wire_of(profiler)._frames.callbacks)
    dropped = await wire_of(profiler).take(SUBJECT, taken.take)
    left = await wire_of(profiler).take(SUBJECT, taken.take)

    await wire_of(profiler).drop(dropped)
    await wire_of(profiler).leave(left)
    wire.send(SUBJECT, b"too late")
    await settle(wire._client)
    await settle(profiler)

    assert set(wire_of(profiler)._frames.callbacks) == known
    assert taken.data == []


async def test_both_ways_of_one_client_work_side_by_side(provisioned_server, profiler):
    """JetStream's API goes nats-py's way, over the same connection."""
    taken = await _take(profiler)
    admin = await provisioned_server.connect("admin")
    wire_of(admin)
    other = await admin.subscribe("lf.cancel")
    await settle(admin)
    info = await admin.jetstream().stream_info("LF_FEEDBACK")
    edge = await provisioned_server.connect("edge")
    await edge.publish("lf.cancel", b"nats-py")
    wire_of(edge).send(SUBJECT, b"wire")

    assert (await other.next_msg(timeout=10)).data == b"nats-py"
    await wait_until(lambda: taken.data == [b"wire"], description="the message")
    assert info.config.name == "LF_FEEDBACK"
