"""An executor that dies under a request: noticed within two seconds, and by nobody twice."""

import asyncio
import time
from collections.abc import Callable

import pytest

from localforge.bus import roll_call
from localforge.contracts import subjects
from localforge.contracts.cards import RegistrySnapshot, ReplicaState
from localforge.contracts.live import (
    Accepted,
    AnyFrame,
    ChatCall,
    Completed,
    Delta,
    Failed,
    Summary,
)
from localforge.edge import exchange as exchange_module
from localforge.edge.exchange import Exchange
from localforge.edge.service import EdgeService
from tests.support import wait_until
from tests.unit.edge.lane import BODY, Lane, chunk, completed, silent, summary

REAL = exchange_module.ALIVE_CHECK_S, roll_call.AGAIN_S
NAME = subjects.executor_name("local", "fake", "fake-1")


class Replicas:
    """A registry with executors."""

    def __init__(self, *states: ReplicaState, fresh: bool = True) -> None:
        replicas = {subjects.executor_name(s.zone, s.backend, s.replica): s for s in states}
        self.snapshot = RegistrySnapshot(fresh=fresh, replicas=replicas)

    def note(self, *states: ReplicaState) -> None:
        self.snapshot = Replicas(*states).snapshot


def replica(name: str = "fake-1", backend: str = "fake", **values: object) -> ReplicaState:
    given = {"zone": "local", "sent_at": time.time()} | values
    return ReplicaState(replica=name, backend=backend, **given)


@pytest.fixture(name="quick", autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "ALIVE_CHECK_S", 0.05)
    monkeypatch.setattr(roll_call, "AGAIN_S", 0.03)


def told(call: ChatCall, replica: str = "fake-1") -> Summary:
    return summary(call, backend="fake", replica=replica)


def accepts(lane: Lane, call: ChatCall) -> None:
    """Say that an executor has it, and nothing more."""
    lane.emit(Accepted(request_id=call.request_id, attempt=call.attempt, summary=told(call)))


def begins(lane: Lane, call: ChatCall) -> None:
    """Begin an answer, and say nothing more."""
    lane.emit(Delta(request_id=call.request_id, data=chunk(call, "a"), summary=told(call)))


def dead(service: EdgeService, lane: Lane, *names: str) -> Callable[[], bool]:
    """Say as the broker does, to every question about these, that nobody is there."""
    answered = 0

    def tick() -> bool:
        nonlocal answered
        while answered < len(lane.asked_alive):
            name = lane.asked_alive[answered].removeprefix("lf.alive.")
            answered += 1
            service.on_presence(name, nobody=name in names)
        return len(lane.sent) > 1

    return tick


async def test_a_silent_executor_is_asked_after_by_its_name_again_and_again(make_service, lane):
    service = make_service()
    lane.script = accepts
    exchange = service.accept(BODY)
    exchange.dispatch()

    def answered() -> bool:
        dead(service, lane)()
        return len(lane.asked_alive) >= 3

    await wait_until(answered, description="three questions")
    exchange.close()
    service.close()

    assert set(lane.asked_alive) == {f"lf.alive.{NAME}"}
    assert len(lane.sent) == 1


async def test_before_content_another_one_begins_anew_elsewhere(make_service, lane):
    service = make_service()
    lane.script = accepts
    exchange = service.accept(BODY)
    exchange.dispatch()
    lane.script = lambda lane, call: lane.emit(completed(call, body=b"{}"))

    await wait_until(dead(service, lane, NAME), description="a second dispatch")
    frame = await exchange.next()
    exchange.close()
    service.close()

    assert isinstance(frame, Completed)
    assert (lane.sent[1].attempt, lane.sent[1].avoid) == (1, ("fake",))


async def test_in_the_middle_of_an_answer_it_is_an_explicit_error(make_service, lane):
    service = make_service()
    lane.script = begins
    exchange = service.accept(BODY)
    exchange.dispatch()
    first = await exchange.next()
    task = asyncio.ensure_future(exchange.next())
    tick = dead(service, lane, NAME)

    await wait_until(lambda: tick() or task.done(), description="an end")
    second = task.result()
    exchange.close()
    service.close()

    assert isinstance(first, Delta)
    assert isinstance(second, Failed)
    assert (second.status, second.error.code) == (502, "executor_lost")
    assert len(lane.sent) == 1
    assert lane.cancelled == [exchange.call.request_id], "it may live, and only be cut off"


def says(*numbers: int, deltas: int) -> Callable[[Lane, ChatCall], None]:
    """Return a script of numbered pieces of an answer, and of its end."""

    def script(lane: Lane, call: ChatCall) -> None:
        for number in numbers:
            data = chunk(call, str(number))
            lane.emit(
                Delta(request_id=call.request_id, data=data, summary=told(call), number=number)
            )
        lane.emit(
            Completed(request_id=call.request_id, summary=told(call), data=b"end", deltas=deltas)
        )

    return script


async def answer_of(exchange: Exchange) -> list[AnyFrame]:
    got = [await exchange.next()]
    while not isinstance(got[-1], Failed | Completed):
        got.append(await exchange.next())
    return got


@pytest.mark.parametrize(
    ("numbers", "deltas"), [((1, 3), 3), ((2, 3), 3), ((1, 2), 3), ((), 1), ((1, 2), 0)]
)
async def test_an_answer_with_a_gap_ends_in_an_error_and_is_called_off(
    make_service, lane, numbers, deltas
):
    service = make_service()
    lane.script = says(*numbers, deltas=deltas)
    exchange = service.accept(BODY)
    exchange.dispatch()

    got = await answer_of(exchange)
    exchange.close()
    service.close()

    assert isinstance(got[-1], Failed)
    assert (got[-1].status, got[-1].error.code) == (502, "frames_lost")
    assert lane.cancelled == [exchange.call.request_id]


@pytest.mark.parametrize(("numbers", "deltas"), [((1, 2, 3), 3), ((), 0), ((0, 0), 0)])
async def test_a_whole_answer_is_whole_also_from_a_sender_that_does_not_count(
    make_service, lane, numbers, deltas
):
    service = make_service()
    lane.script = says(*numbers, deltas=deltas)
    exchange = service.accept(BODY)
    exchange.dispatch()

    got = await answer_of(exchange)
    exchange.close()
    service.close()

    assert isinstance(got[-1], Completed)


async def test_executors_that_die_one_after_the_other_end_in_an_error(make_service, lane):
    service = make_service()

    def accepted_by_the_next(lane: Lane, call: ChatCall) -> None:
        who = told(call, f"fake-{call.attempt}")
        lane.emit(Accepted(request_id=call.request_id, attempt=call.attempt, summary=who))

    lane.script = accepted_by_the_next
    exchange = service.accept(BODY)
    exchange.dispatch()
    tick = dead(
        service, lane, *(subjects.executor_name("local", "fake", f"fake-{n}") for n in range(9))
    )
    task = asyncio.ensure_future(exchange.next())

    def ended() -> bool:
        tick()
        return task.done()

    await wait_until(ended, description="an end")
    frame = task.result()
    exchange.close()
    service.close()

    assert isinstance(frame, Failed)
    assert frame.error.code == "executor_lost"
    assert [call.attempt for call in lane.sent] == [0, 1, 2]


async def test_a_request_that_nobody_has_claimed_goes_on_when_an_executor_turns_out_dead(
    make_service, lane
):
    service = make_service(registry=Replicas(replica("fake-1"), replica("other-1", "other")))
    lane.script = silent
    exchange = service.accept(BODY)
    exchange.dispatch()

    await wait_until(dead(service, lane, NAME), description="a second dispatch")
    exchange.close()
    service.close()

    assert set(lane.asked_alive) == {f"lf.alive.{NAME}", "lf.alive.local.other.other-1"}
    assert lane.sent[1].avoid == ("fake",)


async def test_while_all_executors_live_an_unclaimed_request_is_left_where_it_is(
    make_service, lane
):
    service = make_service(registry=Replicas(replica()))
    lane.script = silent
    exchange = service.accept(BODY)
    exchange.dispatch()
    tick = dead(service, lane)

    def asked_often() -> bool:
        assert not tick()
        return len(lane.asked_alive) >= 4

    await wait_until(asked_often, description="four questions")
    exchange.close()
    service.close()


async def test_an_executor_that_died_long_ago_cannot_have_got_the_request(make_service, lane):
    service = make_service(
        registry=Replicas(replica("fake-0", sent_at=time.time() - 30), replica("fake-1"))
    )
    lane.script = silent
    exchange = service.accept(BODY)
    exchange.dispatch()

    await wait_until(lambda: lane.asked_alive, description="a question")
    exchange.close()
    service.close()

    assert set(lane.asked_alive) == {f"lf.alive.{NAME}"}


async def test_when_the_registry_is_old_everybody_in_it_is_asked_after(make_service, lane):
    service = make_service(registry=Replicas(replica(sent_at=time.time() - 30), fresh=False))
    lane.script = silent
    exchange = service.accept(BODY)
    exchange.dispatch()

    await wait_until(lambda: lane.asked_alive, description="a question")
    exchange.close()
    service.close()


async def test_a_request_handed_on_is_with_nobody_until_the_next_one_claims_it(make_service, lane):
    service = make_service(registry=Replicas(replica("fake-1"), replica("other-1", "other")))

    def handed_on(lane: Lane, call: ChatCall) -> None:
        accepts(lane, call)
        nobody = summary(call, model="next")
        lane.emit(Accepted(request_id=call.request_id, attempt=call.attempt, summary=nobody))

    lane.script = handed_on
    exchange = service.accept(BODY)
    exchange.dispatch()

    other = subjects.executor_name("local", "other", "other-1")
    await wait_until(dead(service, lane, other), description="a second dispatch")
    exchange.close()
    service.close()

    assert lane.sent[1].avoid == ("other",)


async def test_an_executor_on_a_lost_machine_is_given_up_for_its_silence(make_service, lane):
    service = make_service(registry=Replicas(replica(machine="far away")), machine="here")
    lane.script = accepts
    exchange = service.accept(BODY)
    exchange.dispatch()

    await wait_until(lambda: len(lane.sent) > 1, description="a second dispatch")
    exchange.close()
    service.close()

    assert lane.sent[1].avoid == ("fake",)


async def test_a_busy_executor_on_this_machine_is_not(make_service, lane):
    service = make_service(registry=Replicas(replica(machine="here")), machine="here")
    lane.script = accepts
    exchange = service.accept(BODY)
    exchange.dispatch()

    await wait_until(lambda: len(lane.asked_alive) >= 4, description="four questions")
    exchange.close()
    service.close()

    assert len(lane.sent) == 1


async def test_a_death_says_nothing_about_requests_of_other_executors(make_service, lane):
    service = make_service(registry=Replicas(replica("fake-1"), replica("fake-2")))
    lane.script = accepts
    mine = service.accept(BODY)
    mine.dispatch()
    lane.script = lambda lane, call: lane.emit(
        Accepted(request_id=call.request_id, summary=told(call, "fake-2"))
    )
    other = service.accept(BODY)
    other.dispatch()

    tick = dead(service, lane, NAME)
    await wait_until(lambda: tick() and len(lane.sent) > 2, description="a third dispatch")
    mine.close()
    other.close()
    service.close()

    assert [call.request_id for call in lane.sent[2:]] == [mine.call.request_id]


async def test_a_request_lost_just_before_the_death_was_found_goes_on_with_the_others(
    make_service, lane, monkeypatch
):
    monkeypatch.setattr(exchange_module, "ALIVE_CHECK_S", REAL[0])
    monkeypatch.setattr(roll_call, "AGAIN_S", REAL[1])
    service = make_service(registry=Replicas(replica()))
    lane.script = accepts
    claimed = service.accept(BODY)
    claimed.dispatch()
    lane.script = silent
    unclaimed: list[Exchange] = []

    def another() -> None:
        unclaimed.append(service.accept(BODY))
        service.retry(unclaimed[0])

    # Timers fire in their order however late they are, so that it is there before the question.
    asyncio.get_running_loop().call_later(REAL[0] - 0.05, another)
    tick = dead(service, lane, NAME)

    await wait_until(lambda: tick() and len(lane.sent) == 4, timeout=4, description="both go on")
    claimed.close()
    unclaimed[0].close()
    service.close()

    assert sorted(call.attempt for call in lane.sent) == [0, 0, 1, 1]
    assert {call.avoid for call in lane.sent if call.attempt} == {("fake",)}


async def test_an_executor_that_came_back_and_then_died_is_found_dead_again(make_service, lane):
    service = make_service(registry=Replicas(replica()))
    for number in (2, 4):
        lane.script = accepts
        exchange = service.accept(BODY)
        exchange.dispatch()
        lane.script = silent
        tick = dead(service, lane, NAME)
        await wait_until(
            lambda tick=tick, number=number: tick() and len(lane.sent) == number,
            description="it is dispatched again",
        )
        exchange.close()
    service.close()


@pytest.mark.parametrize("has_beaten", [False, True])
async def test_one_that_is_gone_is_asked_after_for_unclaimed_requests_once_it_has_beaten_again(
    make_service, lane, has_beaten
):
    state, other = replica(), replica("other-1", "other")
    registry = Replicas(state, other)
    service = make_service(registry=registry)
    lane.script = silent
    first = service.accept(BODY)
    first.dispatch()
    await wait_until(dead(service, lane, NAME), description="it is found dead")
    first.close()
    if has_beaten:
        registry.note(replica(sent_at=state.sent_at + 2), other)
    lane.asked_alive.clear()
    second = service.accept(BODY)
    second.dispatch()

    tick = dead(service, lane)

    def asked_often() -> bool:
        tick()
        return len(lane.asked_alive) >= 4

    await wait_until(asked_often, description="four questions")
    second.close()
    service.close()

    assert (f"lf.alive.{NAME}" in lane.asked_alive) is has_beaten
