"""What an executor tries again by itself, and what the log has of every attempt."""

import asyncio

import msgspec
import pytest
from structlog.testing import capture_logs

from localforge.contracts.live import Lane
from localforge.errors import (
    BackendUnavailable,
    LocalforgeError,
)
from localforge.inference import Completion, Reply
from tests.fakes.backend import FakeAdapter, KeepingSink
from tests.fakes.calls import execute_call, target
from tests.fakes.executor import make, run
from tests.support import wait_until


class Flaky(FakeAdapter):
    """Fails so many times, then answers."""

    def __init__(self, times: int, error: LocalforgeError) -> None:
        super().__init__()
        self.left = times
        self.cause = error

    async def complete(self, request: Completion, reply: Reply) -> None:
        self.error = self.cause if self.left else None
        self.left -= 1
        await super().complete(request, reply)


def rate_limited(asked_s: float = 0.0) -> BackendUnavailable:
    error = BackendUnavailable("busy", code="backend_rate_limited")
    error.asked_s = asked_s
    return error


async def test_the_last_model_of_a_plan_is_tried_again_and_every_attempt_is_told() -> None:
    adapter = Flaky(2, rate_limited())
    adapter.error_after = 1

    sink = await run(adapter, execute_call(), retries=2)

    assert [kind for kind in sink.kinds if kind != "Accepted"] == ["Completed"]
    assert [(o.outcome_id[-3:], o.status) for o in sink.outcomes] == [
        ("0.0", "error"),
        ("0-1", "error"),
        ("0-2", "ok"),
    ]
    # Each failed attempt had brought a token.
    assert sink.frames[-1].summary.cost_usd == pytest.approx(sum(o.cost_usd for o in sink.outcomes))
    assert sink.outcomes[0].cost_usd > 0
    assert sink.outcomes[2].queue_s > 0.1


async def test_the_log_line_of_a_retry_names_its_request_and_its_decision() -> None:
    call = msgspec.structs.replace(execute_call(), decision_id="d7")
    with capture_logs() as lines:
        await run(Flaky(1, rate_limited()), call, retries=1)

    (line,) = [line for line in lines if line["event"] == "retry"]
    assert (line["request_id"], line["decision_id"]) == (call.call.request_id, "d7")


async def test_a_retry_that_the_deadline_forbids_is_not_waited_for() -> None:
    adapter = Flaky(1, rate_limited(asked_s=1.9))

    sink = await run(adapter, execute_call(deadline_s=1.0), retries=2)

    assert (sink.kinds, len(adapter.requests)) == (["Failed"], 1)
    assert sink.frames[0].error.code == "backend_rate_limited"


async def test_with_another_model_to_ask_nobody_waits() -> None:
    adapter = Flaky(1, rate_limited())

    sink = await run(adapter, execute_call(target("a"), target("b", backend="other")), retries=2)

    assert [call.step for call, _ in sink.handed_on] == [1]
    assert len(adapter.requests) == 1


async def test_a_cancel_ends_the_wait_for_a_retry() -> None:
    service = make(Flaky(9, rate_limited(asked_s=1.9)), retries=2)
    sink = KeepingSink()
    call = execute_call()
    task = asyncio.create_task(service.run(call, sink))
    await wait_until(lambda: sink.outcomes, description="the first attempt failed")

    service.cancel(call.call.request_id)
    await asyncio.wait_for(task, 1)

    assert [o.status for o in sink.outcomes] == ["error", "cancelled"]
    assert service.load().in_flight == 0


async def test_a_failure_of_a_later_delivery_has_an_outcome_of_its_own() -> None:
    adapter = FakeAdapter()
    adapter.error = BackendUnavailable("busy", code="backend_cut")
    sink = KeepingSink()
    ids = []
    for delivery in (1, 2):
        sink.delivery = delivery
        await make(adapter).run(execute_call(), sink)
        ids.append(sink.outcomes[-1].outcome_id.partition(".")[2])

    assert ids == ["0", "0-d2"]


async def test_an_answer_of_a_durable_request_has_one_id_and_no_failures() -> None:
    """A fact with an id that is known already would be dropped."""
    adapter = FakeAdapter()
    call = execute_call()
    chat = msgspec.structs.replace(call.call, lane=Lane.DURABLE)
    call = msgspec.structs.replace(call, call=chat)
    sink = KeepingSink()
    ids = []
    cut = BackendUnavailable("cut", code="backend_cut")
    for delivery, error in ((1, cut), (2, None), (3, None)):
        adapter.error, sink.delivery = error, delivery
        await make(adapter).run(call, sink)
        ids.append(sink.outcomes[-1].outcome_id.partition(".")[2])

    assert ids == ["0", "0-ok", "0-ok"]
