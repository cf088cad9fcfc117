"""Which waiting work nobody will finish, and how it ends."""

import msgspec
import pytest

from localforge.bus.work import Spent, request_id_of, spent_on
from localforge.contracts import subjects
from localforge.contracts.chat import ChatRequested, Usage
from localforge.contracts.live import ChatCall, ExecuteCall, Lane, Target
from localforge.contracts.trust import Label, Seal
from localforge.sweeper.service import LATE_S, ORPHAN_S, Backlog, End, HandOn, conclude

NOW = 1_000_000.0
GONE = subjects.work_execute("local", "gone")
STAYS = subjects.work_execute("local", "stays")


def _call(*backends: str, deadline: float = NOW + 60, allow_fallback: bool = True) -> ExecuteCall:
    return ExecuteCall(
        call=ChatCall(
            request_id="r1",
            lane=Lane.DURABLE,
            body=b"{}",
            deadline=deadline,
            allow_fallback=allow_fallback,
        ),
        seal=Seal(
            request_id="r1",
            body_sha256=b"",
            label=Label.INTERNAL,
            zones=("local",),
            expires_at=deadline,
            signature=b"",
        ),
        decision_id="d1",
        plan=tuple(
            Target(
                model=f"{b}-model", backend=b, zone="local", upstream="", price_in=0, price_out=0
            )
            for b in backends
        ),
    )


def _is_served(subject: str) -> bool:
    return subject == STAYS


def test_work_for_a_backend_that_is_gone_goes_to_the_next_of_its_plan() -> None:
    ending = conclude(GONE, _call("gone", "gone-too", "stays").encode(), NOW, _is_served)

    assert isinstance(ending, HandOn)
    assert (ending.call.step, ending.subject) == (2, STAYS)
    assert ending.message_id("9-1000") == "r1.execute.2.9-1000"


def test_work_that_was_put_back_is_handed_on_without_a_wait_and_with_its_account() -> None:
    used = Usage(prompt_tokens=9, estimated=True)
    waiting = msgspec.structs.replace(
        _call("gone", "stays"),
        spent_usd=0.25,
        spent_usage=used,
        deliveries=3,
        not_before=NOW + 20,
    )
    ending = conclude(GONE, waiting.encode(), NOW, _is_served)

    assert isinstance(ending, HandOn)
    call = ending.call
    assert (call.deliveries, call.not_before) == (0, 0.0)
    assert (call.spent_usd, call.spent_usage) == (0.25, used)
    assert spent_on(GONE, waiting.encode()) == Spent(0.25, used)


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        (subjects.REQUEST_CHAT, b'{"spent_usd": 1}'),
        (GONE, b"nonsense"),
        (GONE, _call("gone").encode()),
    ],
)
def test_work_that_has_cost_nothing_or_cannot_be_read_has_nothing_on_its_account(
    subject: str, body: bytes
) -> None:
    assert spent_on(subject, body) == Spent()


@pytest.mark.parametrize(
    ("call", "code", "status"),
    [
        (_call("gone", "gone-too"), "backend_removed", 502),
        (_call("gone", "stays", allow_fallback=False), "backend_removed", 502),
        (_call("gone", "stays", deadline=NOW - 1), "deadline_exceeded", 504),
    ],
)
def test_work_that_nobody_may_take_over_ends_with_an_error(
    call: ExecuteCall, code: str, status: int
) -> None:
    ending = conclude(GONE, call.encode(), NOW, _is_served)

    assert isinstance(ending, End)
    assert (ending.request_id, ending.error.code, ending.error.status) == ("r1", code, status)


@pytest.mark.parametrize("step", [-5, -1, 2])
def test_a_step_that_its_plan_does_not_have_ends_with_an_error(step: int) -> None:
    waiting = msgspec.structs.replace(_call("gone", "stays"), step=step)
    ending = conclude(GONE, waiting.encode(), NOW, _is_served)

    assert isinstance(ending, End)
    assert (ending.request_id, ending.error.code, ending.error.status) == ("r1", "wrong_step", 500)


def test_a_backend_must_be_missed_for_a_while() -> None:
    backlog = Backlog()
    backlog.note(7, GONE, _call("gone").encode(), NOW)
    backlog.note(8, STAYS, _call("stays").encode(), NOW)

    first = backlog.due(NOW, _is_served)
    back = backlog.due(NOW + ORPHAN_S - 1, lambda _: True)
    again = backlog.due(NOW + ORPHAN_S, _is_served)
    at_last = backlog.due(NOW + 2 * ORPHAN_S, _is_served)

    assert (first, back, again, at_last) == ([], [], [], [7])


def test_work_of_every_stage_is_due_after_its_deadline() -> None:
    backlog = Backlog()
    asked = ChatRequested(id="r1", request=msgspec.Raw(b"{}"), deadline_s=60)
    backlog.note(1, subjects.REQUEST_CHAT, asked.encode(), NOW)
    backlog.note(2, STAYS, _call("stays", deadline=NOW + 60).encode(), NOW)
    backlog.note(3, subjects.REQUEST_FEEDBACK, b"{}", NOW)
    backlog.note(4, subjects.REQUEST_CHAT, b"no message", NOW)

    early = backlog.due(NOW + 60 + LATE_S, _is_served)
    late = backlog.due(NOW + 61 + LATE_S, _is_served)
    backlog.forget(1)

    assert (early, late, len(backlog)) == ([], [1, 2], 1)


@pytest.mark.parametrize(
    ("subject", "body", "found"),
    [
        (subjects.REQUEST_CHAT, b'{"id":"r-1"}', "r-1"),
        (subjects.REQUEST_CHAT, b'{"id":"r.1"}', ""),
        (subjects.REQUEST_CHAT, b'{"id":7}', ""),
        (subjects.REQUEST_CHAT, b"\xff", ""),
        (subjects.REQUEST_FEEDBACK, b'{"id":"r1"}', ""),
        (GONE, _call("gone").encode(), "r1"),
        (GONE, b"{}", ""),
    ],
)
def test_an_id_is_read_where_there_is_one(subject: str, body: bytes, found: str) -> None:
    assert request_id_of(subject, body) == found
