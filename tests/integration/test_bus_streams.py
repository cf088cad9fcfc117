"""Facts on their way to the stream and readers of it, over the deaths of the server."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import OutboundBufferLimitError
from nats.js import JetStreamContext
from structlog.testing import capture_logs

from localforge.bandit import Fold
from localforge.bus import head, pull
from localforge.bus import tail as tail_module
from localforge.bus.connection import settle
from localforge.bus.facts import FactPublisher
from localforge.bus.pull import Pulled, Puller
from localforge.bus.tail import Tail, read_all
from localforge.bus.wire import wire_of
from localforge.contracts import subjects
from localforge.contracts.facts import FeedbackGiven
from localforge.contracts.live import FactsDelayed
from localforge.errors import DependencyUnavailable
from localforge.router.checkpoints import Checkpoints
from tests.support import wait_until
from tests.support_nats import ProvisionedServer

SUBJECT = subjects.feedback("test")


def _fact(name: str) -> FeedbackGiven:
    return FeedbackGiven(feedback_id=name, decision_id=name, model="m", score=1)


class Reader:
    """What a handler got, with the sequences it got it at."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sequences: list[int] = []
        self.failures_left = 0

    async def take(self, batch: list[Pulled]) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise ZeroDivisionError
        self.sequences += [message.sequence for message in batch]
        self.names += [FeedbackGiven.decode(message.data).feedback_id for message in batch]

    async def has(self, count: int, timeout: float = 20) -> None:  # noqa: ASYNC109
        await wait_until(
            lambda: len(self.names) >= count,
            timeout=timeout,
            description=f"{count} messages; got {len(self.names)}",
        )


def _pulling(user: str) -> list[str]:
    names = (task.get_name() for task in asyncio.all_tasks())
    return [name for name in names if name.startswith("pull") and f"_INBOX_{user}." in name]


async def _publish(client: Client, *names: str) -> None:
    for name in names:
        await client.jetstream().publish(SUBJECT, _fact(name).encode())


def _names(start: int, stop: int) -> list[str]:
    return [f"f{index}" for index in range(start, stop)]


async def _restart(server: ProvisionedServer) -> None:
    """Kill the server and wait for the supervisor to have another one serve."""
    before = server.supervisor.status["nats"]
    os.kill(before.pid, signal.SIGKILL)

    def serves() -> bool:
        status = server.supervisor.status["nats"]
        return status.restarts > before.restarts and status.is_ready

    await wait_until(serves, timeout=15, description="another nats-server serves")


@pytest.fixture(name="admin")
async def _admin(provisioned_server: ProvisionedServer) -> Client:
    return await provisioned_server.connect("admin")


@pytest.fixture(name="reader")
def _reader() -> Reader:
    return Reader()


@pytest.fixture(name="tail")
async def _tail(provisioned_server: ProvisionedServer, reader: Reader) -> AsyncIterator[Tail]:
    router = await provisioned_server.connect("router")
    tail = Tail(router, "router", subjects.FEEDBACK.name, ("lf.feedback.>",), reader.take)
    yield tail
    await tail.stop()


@pytest.fixture(name="facts")
async def _facts(provisioned_server: ProvisionedServer) -> AsyncIterator[FactPublisher]:
    facts = FactPublisher("evaluator")
    await facts.start(await provisioned_server.connect("evaluator"))
    yield facts
    await facts.close(grace_s=0.1)


async def test_a_tail_reads_what_was_there_and_what_comes(
    tail: Tail, reader: Reader, admin: Client
):
    await _publish(admin, *_names(0, 5))
    await admin.jetstream().publish("lf.decision.d1", b"not for this reader")

    await tail.start(after=0)
    await tail.caught_up()
    before = list(reader.names)
    await _publish(admin, *_names(5, 10))
    await reader.has(10)

    assert before == _names(0, 5)
    assert reader.names == _names(0, 10)
    assert tail.sequence == reader.sequences[-1] == 11


async def test_a_tail_begins_behind_the_sequence_it_is_given(
    tail: Tail, reader: Reader, admin: Client
):
    await _publish(admin, *_names(0, 5))

    await tail.start(after=3)
    await tail.caught_up()

    assert reader.names == ["f3", "f4"]


async def test_a_tail_of_an_empty_stream_is_caught_up_at_once(tail: Tail, reader: Reader):
    await tail.start(after=0)
    await asyncio.wait_for(tail.caught_up(), 5)

    assert reader.names == []


async def test_a_tail_reads_thousands_in_order(tail: Tail, reader: Reader, admin: Client):
    """More than one pull request brings."""
    names = _names(0, 3 * pull.MAX_BATCH)
    for name in names:
        await admin.publish(SUBJECT, _fact(name).encode())

    async def stored() -> bool:
        state = (await admin.jetstream().stream_info(subjects.FEEDBACK.name)).state
        return state.messages == len(names)

    await wait_until(stored, timeout=20, description="the stream has all of them")
    await tail.start(after=0)
    await tail.caught_up()

    assert reader.names == names


async def test_a_tail_goes_on_where_it_was_when_its_consumer_is_lost(
    tail: Tail, reader: Reader, admin: Client
):
    await _publish(admin, *_names(0, 5))
    await tail.start(after=0)
    await reader.has(5)
    js = admin.jetstream()
    (consumer,) = [
        c for c in await js.consumers_info(subjects.FEEDBACK.name) if not c.config.durable_name
    ]

    await js.delete_consumer(subjects.FEEDBACK.name, consumer.name)
    await _publish(admin, *_names(5, 10))
    await reader.has(10)

    assert reader.names == _names(0, 10)


async def test_a_tail_goes_on_where_it_was_when_the_server_dies(
    provisioned_server: ProvisionedServer, tail: Tail, reader: Reader, admin: Client
):
    await _publish(admin, *_names(0, 5))
    await tail.start(after=0)
    await reader.has(5)

    await _restart(provisioned_server)
    await _publish(await provisioned_server.connect("admin"), *_names(5, 10))
    await reader.has(10)

    assert reader.names == _names(0, 10)


async def test_a_batch_whose_handler_failed_comes_again(tail: Tail, reader: Reader, admin: Client):
    reader.failures_left = 1
    await _publish(admin, *_names(0, 5))

    await tail.start(after=0)
    await reader.has(5)
    await _publish(admin, *_names(5, 10))
    await reader.has(10)

    assert reader.names == _names(0, 10)


async def test_a_gap_is_answered_by_reading_again_from_there(
    tail: Tail, reader: Reader, admin: Client, monkeypatch: pytest.MonkeyPatch
):
    """As when the client drops messages because its reader is slow."""
    lost: list[int] = []
    hand_over = Puller._hand_over

    async def lose_one(self: Puller, batch: list[Pulled]) -> None:
        if not lost and len(batch) > 2:
            lost.append(batch.pop(1).sequence)
        await hand_over(self, batch)

    monkeypatch.setattr(Puller, "_hand_over", lose_one)
    await _publish(admin, *_names(0, 8))

    await tail.start(after=0)
    await reader.has(8)

    assert len(lost) == 1
    assert reader.names == _names(0, 8)


async def test_a_tail_keeps_out_of_what_a_busy_broker_is_writing(
    provisioned_server: ProvisionedServer,
    reader: Reader,
    admin: Client,
    monkeypatch: pytest.MonkeyPatch,
):
    """With blocks of 100 kB, and busy meaning that anything is written at all."""
    router = await provisioned_server.connect("router")
    behind_bytes = 100_000
    monkeypatch.setattr(head, "BEHIND_BYTES", behind_bytes)
    monkeypatch.setattr(head, "CALM_BYTES_PER_S", 0)
    held_back: list[int] = []

    async def take(batch: list[Pulled]) -> None:
        await reader.take(batch)
        state = (await admin.jetstream().stream_info(subjects.FEEDBACK.name)).state
        held_back.append(state.last_seq - batch[-1].sequence)

    tail = Tail(router, "router", subjects.FEEDBACK.name, ("lf.feedback.>",), take)
    await tail.start(after=0)
    await tail.caught_up()
    sent = 0

    async def is_kept_out() -> bool:
        nonlocal sent
        await _publish(admin, *_names(sent, sent + 20))
        sent += 20
        size = (await admin.jetstream().stream_info(subjects.FEEDBACK.name)).state.bytes
        few = behind_bytes / 2 * sent / size
        return len(held_back) >= 3 and min(held_back[-3:]) > few

    await wait_until(is_kept_out, timeout=40, description="batches that end before the head")
    await reader.has(sent)
    await tail.stop()

    assert reader.names == _names(0, sent)


async def test_the_feedback_stream_is_written_in_the_blocks_that_readers_count_on(
    provisioned_server: ProvisionedServer, admin: Client
):
    fact = bytes(1024 * 1024)
    for _ in range(10):
        await admin.jetstream().publish(SUBJECT, fact)
    await _restart(provisioned_server)
    blocks = [path.stat().st_size for path in provisioned_server.data.nats.rglob("*.blk")]

    assert sum(blocks) > 10 * len(fact)
    assert subjects.BLOCK_BYTES / 2 < max(blocks) <= subjects.BLOCK_BYTES


async def test_a_tail_that_is_stopped_while_it_restarts_reads_no_more(
    tail: Tail, reader: Reader, admin: Client, monkeypatch: pytest.MonkeyPatch
):
    await tail.start(after=0)
    monkeypatch.setattr(tail, "_compare", tail.stop)
    await tail._restart("as when its consumer was lost")
    await _publish(admin, "f0")
    everything = Reader()
    await read_all(admin, "admin", subjects.FEEDBACK.name, everything.take)

    assert everything.names == ["f0"]
    assert reader.names == []
    assert _pulling("router") == []


async def test_a_tail_reads_on_whatever_keeps_it_from_beginning(
    tail: Tail, reader: Reader, admin: Client, monkeypatch: pytest.MonkeyPatch
):
    """As what uvloop raises on a connection that is just being lost."""
    await tail.start(after=0)
    failures = [RuntimeError("lost"), RuntimeError("lost")]

    async def fail() -> None:
        if failures:
            raise failures.pop()

    monkeypatch.setattr(tail, "_compare", fail)
    monkeypatch.setattr(tail_module, "RETRY_S", 0.01)
    await tail._restart("as when its consumer was lost")
    await _publish(admin, *_names(0, 5))
    await reader.has(5)

    assert failures == []


async def test_a_tail_reads_on_where_it_cannot_ask_how_far(
    tail: Tail, reader: Reader, admin: Client, monkeypatch: pytest.MonkeyPatch
):
    await tail.start(after=0)
    asked: list[str] = []

    async def fail(_: object, name: str) -> None:
        asked.append(name)
        raise RuntimeError("lost")

    monkeypatch.setattr(JetStreamContext, "stream_info", fail)
    await _publish(admin, *_names(0, 5))
    await reader.has(5)
    await _publish(admin, *_names(5, 10))
    await reader.has(10)

    assert asked
    assert reader.names == _names(0, 10)


async def test_reading_all_that_is_broken_off_leaves_nothing_behind(admin: Client):
    await _publish(admin, "f0")
    handled = asyncio.Event()

    async def take(_: list[Pulled]) -> None:
        handled.set()
        await asyncio.Event().wait()

    reading = asyncio.create_task(read_all(admin, "admin", subjects.FEEDBACK.name, take))
    await asyncio.wait_for(handled.wait(), 10)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    await wait_until(lambda: not _pulling("admin"), description="the end of its tasks")


async def test_a_tail_says_that_the_stream_ends_before_what_it_has_read(tail: Tail, admin: Client):
    """As after a power failure: nothing would come before the stream is as long again."""
    await _publish(admin, *_names(0, 5))
    with capture_logs() as lines:
        await tail.start(after=5)
        await tail._restart("as after the broker's")
        told_too_early = list(lines)
        tail.sequence = 9
        await tail._restart("as after the broker's")

    assert [line for line in told_too_early if line["log_level"] == "error"] == []
    (told,) = [line for line in lines if line["log_level"] == "error"]
    assert (told["event"], told["ends_at"], told["read_to"]) == ("stream_has_lost_messages", 5, 9)


async def test_a_checkpoint_from_beyond_the_end_of_the_log_is_not_used(
    provisioned_server: ProvisionedServer, admin: Client
):
    """As after a power failure, which took more of the log than of the checkpoint."""
    await _publish(admin, *_names(0, 5))
    checkpoints = Checkpoints(await provisioned_server.connect("router"), every=1)
    restored = []
    for sequence in (5, 6):
        fold = Fold("schema", 3)
        fold.sequence = sequence
        await checkpoints.write(fold, {})
        restored.append((await checkpoints.restore("schema", 3, "none")).sequence)

    assert restored == [5, 0]


async def test_a_stopped_tail_reads_no_more(tail: Tail, reader: Reader, admin: Client):
    await tail.start(after=0)
    await tail.stop()
    await _publish(admin, "f0")
    everything = Reader()
    await read_all(admin, "admin", subjects.FEEDBACK.name, everything.take)

    assert everything.names == ["f0"]
    assert reader.names == []


async def test_a_tail_whose_question_could_not_be_sent_asks_again(
    tail: Tail, reader: Reader, admin: Client, provisioned_server: ProvisionedServer
):
    """As while 64 MB wait for a broker that reads slowly."""
    await tail.start(after=0)
    await tail.caught_up()
    wire = wire_of(tail._client)
    send, refused = wire.send, []

    def refuse_once(subject: str, *args: Any, **kwargs: Any) -> None:
        if "MSG.NEXT" in subject and not refused:
            refused.append(subject)
            raise OutboundBufferLimitError
        send(subject, *args, **kwargs)

    wire.send = refuse_once  # type: ignore[method-assign]
    await _publish(admin, *_names(0, 5))
    await reader.has(5)
    await wait_until(lambda: refused, description="a question that could not be sent")
    await _publish(admin, *_names(5, 10))
    await reader.has(10)

    assert reader.names == _names(0, 10)


async def test_who_may_not_read_the_stream_is_told(provisioned_server: ProvisionedServer):
    client = await provisioned_server.connect("edge")
    tail = Tail(client, "edge", subjects.FEEDBACK.name, (), Reader().take)

    with pytest.raises(DependencyUnavailable, match="cannot read stream LF_FEEDBACK"):
        await tail.start(after=0)


async def test_reading_all_tells_what_its_handler_raised(admin: Client, reader: Reader):
    await _publish(admin, "f0")
    reader.failures_left = 1

    with pytest.raises(ZeroDivisionError):
        await read_all(admin, "admin", subjects.FEEDBACK.name, reader.take)


async def test_facts_arrive_once_and_in_order(facts: FactPublisher, admin: Client, reader: Reader):
    names = _names(0, 3000)
    for name in names:
        facts.record(SUBJECT, _fact(name), message_id=name)
    await wait_until(lambda: facts.pending == 0, timeout=20, description="every ack")
    await read_all(admin, "admin", subjects.FEEDBACK.name, reader.take)

    assert reader.names == names
    assert facts.dropped == 0


async def test_a_fact_recorded_twice_is_in_the_stream_once(
    facts: FactPublisher, admin: Client, reader: Reader
):
    for _ in range(3):
        facts.record(SUBJECT, _fact("f0"), message_id="f0")
    await wait_until(lambda: facts.pending == 0, description="every ack")
    await read_all(admin, "admin", subjects.FEEDBACK.name, reader.take)

    assert reader.names == ["f0"]


async def test_facts_wait_while_the_server_is_away_and_arrive_once(
    provisioned_server: ProvisionedServer, facts: FactPublisher, reader: Reader
):
    names = _names(0, 300)
    for name in names[:100]:
        facts.record(SUBJECT, _fact(name), message_id=name)
    # Some of these are on their way, some have arrived without their ack.
    restarting = asyncio.create_task(_restart(provisioned_server))
    for name in names[100:]:
        facts.record(SUBJECT, _fact(name), message_id=name)
        await asyncio.sleep(0)
    await restarting
    await wait_until(lambda: facts.pending == 0, timeout=20, description="every ack")
    admin = await provisioned_server.connect("admin")
    await read_all(admin, "admin", subjects.FEEDBACK.name, reader.take)

    assert sorted(reader.names) == sorted(names)


async def test_one_task_tells_that_facts_are_late_however_often_that_begins(facts: FactPublisher):
    for _ in range(5):
        facts._fail("refused")
        facts._failing_since = 0.0

    assert len([t for t in asyncio.all_tasks() if "FactPublisher._tell" in str(t.get_coro())]) == 1


async def test_facts_that_the_stream_refuses_are_kept_and_said_to_be_late(
    facts: FactPublisher,
    admin: Client,
    reader: Reader,
    provisioned_server: ProvisionedServer,
):
    edge = await provisioned_server.connect("edge")
    words = await edge.subscribe(subjects.status("*"))
    await settle(edge)
    js = admin.jetstream()
    config = (await js.stream_info(subjects.FEEDBACK.name)).config
    await js.update_stream(config, max_msg_size=10)
    facts.record(SUBJECT, _fact("f0"), message_id="f0")
    word = await words.next_msg(timeout=10)

    await js.update_stream(config, max_msg_size=-1)
    await wait_until(lambda: facts.pending == 0, timeout=10, description="the ack")
    await read_all(admin, "admin", subjects.FEEDBACK.name, reader.take)

    assert (word.subject, FactsDelayed.decode(word.data).pending) == ("lf.status.evaluator", 1)
    assert reader.names == ["f0"]


async def test_more_facts_than_the_bound_are_dropped_and_counted():
    facts = FactPublisher("evaluator", max_buffered=10)

    for name in _names(0, 15):
        facts.record(SUBJECT, _fact(name), message_id=name)

    assert (facts.pending, facts.dropped) == (10, 5)


async def test_closing_waits_for_the_acks(
    provisioned_server: ProvisionedServer, admin: Client, reader: Reader
):
    facts = FactPublisher("evaluator")
    await facts.start(await provisioned_server.connect("evaluator"))
    for name in _names(0, 500):
        facts.record(SUBJECT, _fact(name), message_id=name)

    await facts.close()
    await read_all(admin, "admin", subjects.FEEDBACK.name, reader.take)

    assert reader.names == _names(0, 500)
