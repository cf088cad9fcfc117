"""How many requests the edge lets in, by what those before them met."""

import asyncio

import pytest

from localforge.contracts.chat import ApiError
from localforge.contracts.live import Completed, Failed, Summary
from localforge.edge.admission import INTERVAL_S, LEAST, MAX_MODELS, Admission, Ticket
from localforge.errors import Overloaded

TARGET_S = 1.0


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _answered(ticket: Ticket, now: float, delay_s: float) -> None:
    """A model begins after a delay and answers at once."""
    summary = Summary(decision_id="d", model="m", zone="local", upstream_s=0.0)
    ticket._entered_at = now - delay_s
    ticket.note(Completed(request_id="r", summary=summary), now)
    ticket.leave(now)


def _refused(ticket: Ticket, now: float, code: str = "busy") -> None:
    error = ApiError(message="no", type="api_error", code=code)
    ticket.note(Failed(request_id="r", status=503, error=error), now)
    ticket.leave(now)


def _fill(admission: Admission, model: str = "auto") -> list[Ticket]:
    tickets = []
    while True:
        try:
            tickets.append(admission.enter(model, _now()))
        except Overloaded:
            return tickets


async def _interval(admission: Admission, at: float, delay_s: float, *, wanted: int) -> int:
    """Let in as many as come, answer all of them; returns how many that were."""
    tickets = []
    for _ in range(wanted):
        try:
            tickets.append(admission.enter("auto", _now()))
        except Overloaded:
            break
    for ticket in tickets:
        await _answered(ticket, at, delay_s)
    return len(tickets)


async def test_what_is_under_way_is_bounded_and_the_rest_told_when_to_come_again():
    admission = Admission(most=5, target_s=TARGET_S)

    tickets = _fill(admission)
    with pytest.raises(Overloaded) as refused:
        admission.enter("auto", _now())

    assert len(tickets) == 5
    assert (refused.value.status, refused.value.code) == (503, "overloaded")
    assert 1 <= refused.value.retry_after_s <= 30


async def test_who_has_left_makes_room():
    admission = Admission(most=1, target_s=TARGET_S)
    now = _now()

    for _ in range(3):
        await _answered(admission.enter("auto", _now()), now, 0.0)

    assert admission.in_flight == 0


async def test_a_standing_queue_lowers_the_limit_and_its_end_raises_it_again():
    admission = Admission(most=100, target_s=TARGET_S)
    at = _now()
    passed = []
    for delay_s in [5.0] * 20 + [0.1] * 40:
        at += INTERVAL_S + 0.01
        passed.append(await _interval(admission, at, delay_s, wanted=200))

    assert passed[0] == 100
    assert passed[20] == LEAST
    assert passed[-1] == 100
    assert passed[20:] == sorted(passed[20:])


async def test_one_request_that_met_no_queue_shows_that_it_does_not_stand():
    admission = Admission(most=100, target_s=TARGET_S)
    at = _now() + INTERVAL_S - 0.1
    slow, fast = (
        [admission.enter("auto", _now()) for _ in range(9)],
        admission.enter("auto", _now()),
    )

    await _answered(fast, at, 0.0)
    for ticket in slow:
        await _answered(ticket, at + 1, 5.0)

    assert len(_fill(admission)) == 100


async def test_a_full_executor_lowers_the_limit():
    admission = Admission(most=1000, target_s=TARGET_S)
    at = _now() + INTERVAL_S + 0.1

    for ticket in [admission.enter("auto", _now()) for _ in range(50)]:
        _refused(ticket, at)

    assert len(_fill(admission)) == 40


async def test_other_failures_say_nothing_about_the_load():
    admission = Admission(most=1000, target_s=TARGET_S)
    at = _now() + 10

    for ticket in [admission.enter("auto", _now()) for _ in range(50)]:
        _refused(ticket, at, "backend_unavailable")

    assert len(_fill(admission)) == 1000


async def test_silence_counts_as_waiting():
    admission = Admission(most=100, target_s=TARGET_S)
    ticket = admission.enter("auto", _now())

    ticket.leave(_now() + 60)

    assert len(_fill(admission)) == LEAST


async def test_an_overloaded_model_takes_nothing_from_the_others():
    admission = Admission(most=1000, target_s=TARGET_S)
    at = _now() + 10
    _refused(admission.enter("slow", _now()), at)

    assert len(_fill(admission, "slow")) == LEAST
    assert len(_fill(admission, "fast")) == 1000 - LEAST


async def test_names_that_nothing_is_under_way_for_keep_no_room_from_others():
    admission = Admission(most=1000, target_s=TARGET_S)
    at = _now() + 10
    working = admission.enter("working", _now())
    for index in range(2 * MAX_MODELS):
        await _answered(admission.enter(f"misspelt-{index}", _now()), at, 0.0)
    for model in ("slow", "working"):
        _refused(admission.enter(model, _now()), at)
    working.leave(at)

    assert len(_fill(admission, "slow")) == len(_fill(admission, "working")) == LEAST
    assert len(_fill(admission, "fast")) == 1000 - 2 * LEAST
    assert len(admission._limits) <= MAX_MODELS


async def test_any_number_of_names_takes_bounded_memory():
    admission = Admission(most=10_000, target_s=TARGET_S)
    for index in range(2 * MAX_MODELS):
        admission.enter(f"model-{index}", _now())

    assert len(admission._limits) == MAX_MODELS + 1
