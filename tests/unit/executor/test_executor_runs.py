"""When an executor runs a request, for how long, and what ends it before its time."""

import asyncio
import gc
from typing import Any

import pytest

from localforge.errors import (
    BackendUnavailable,
    DependencyUnavailable,
)
from localforge.executor import attempt as attempt_module
from localforge.executor.service import MAX_REMEMBERED
from tests.fakes.backend import FakeAdapter, KeepingSink
from tests.fakes.calls import execute_call, target
from tests.fakes.executor import make, run
from tests.support import wait_until


async def test_no_more_requests_run_than_there_are_slots_and_the_rest_come_in_order() -> None:
    adapter = FakeAdapter(slots=2)
    adapter.gate = asyncio.Event()
    service = make(adapter)
    calls = [execute_call(target(f"m{i}"), request_id=f"request-{i}") for i in range(6)]
    sinks = [KeepingSink() for _ in calls]
    tasks = [asyncio.ensure_future(service.run(c, s)) for c, s in zip(calls, sinks, strict=True)]
    await wait_until(lambda: service.load().in_flight == 6, description="all are in")

    assert (adapter.running, service.load().slots) == (2, 2)

    adapter.gate.set()
    await asyncio.gather(*tasks)
    assert adapter.most_running == 2
    assert [request.model for request in adapter.requests] == [f"m{i}" for i in range(6)]
    assert all(sink.kinds == ["Completed"] for sink in sinks)


async def test_a_deadline_that_passes_in_the_queue_is_a_504_and_the_backend_hears_nothing() -> None:
    adapter = FakeAdapter(slots=1)
    adapter.gate = asyncio.Event()
    service = make(adapter)
    first, second = KeepingSink(), KeepingSink()
    running = asyncio.ensure_future(service.run(execute_call(request_id="a"), first))
    await wait_until(lambda: adapter.running == 1, description="the slot is taken")

    plan = (target("one"), target("two"))
    await service.run(execute_call(*plan, request_id="b", deadline_s=0.05), second)

    assert second.kinds == ["Failed"]
    assert (second.frames[0].status, second.frames[0].error.code) == (504, "deadline_exceeded")
    assert (second.handed_on, len(adapter.requests)) == ([], 1)
    adapter.gate.set()
    await running
    assert service.load().in_flight == 0


async def test_a_call_that_comes_too_late_is_not_started() -> None:
    adapter = FakeAdapter()

    sink = await run(adapter, execute_call(deadline_s=-1))

    assert (adapter.requests, sink.frames[0].status) == ([], 504)


async def test_a_deadline_in_the_middle_of_an_answer_stops_the_backend() -> None:
    adapter = FakeAdapter()
    adapter.gate = asyncio.Event()

    sink = await run(adapter, execute_call(stream=True, deadline_s=0.05))

    assert sink.kinds == ["Delta", "Failed"]
    assert (adapter.cancelled, sink.outcomes[0].error_code) == (1, "deadline_exceeded")


async def test_a_cancel_stops_the_backend_and_leaves_an_outcome() -> None:
    adapter = FakeAdapter()
    adapter.gate = asyncio.Event()
    service, sink, call = make(adapter), KeepingSink(), execute_call(stream=True)
    running = asyncio.ensure_future(service.run(call, sink))
    await wait_until(lambda: sink.frames, description="the first word")

    service.cancel(call.call.request_id)
    await running

    assert adapter.cancelled == 1
    assert sink.kinds == ["Delta"]
    [outcome] = sink.outcomes
    assert (outcome.status, outcome.usage.completion_tokens) == ("cancelled", 1)


async def test_a_cancelled_wait_gives_its_place_to_the_next() -> None:
    adapter = FakeAdapter(slots=1)
    adapter.gate = asyncio.Event()
    service = make(adapter)
    sinks = [KeepingSink() for _ in range(3)]
    tasks = [
        asyncio.ensure_future(service.run(execute_call(request_id=f"r{i}"), sinks[i]))
        for i in range(3)
    ]
    await wait_until(lambda: service.load().in_flight == 3, description="all are in")

    service.cancel("r1")
    adapter.gate.set()
    await asyncio.gather(*tasks)

    assert [sink.kinds for sink in sinks] == [["Completed"], [], ["Completed"]]
    assert sinks[1].outcomes[0].status == "cancelled"
    assert service.load().in_flight == 0


async def test_a_cancel_that_overtakes_its_request_still_counts() -> None:
    adapter = FakeAdapter()
    service, sink, call = make(adapter), KeepingSink(), execute_call()

    service.cancel(call.call.request_id)
    await service.run(call, sink)

    assert (adapter.requests, sink.frames) == ([], [])
    assert sink.outcomes[0].status == "cancelled"


async def test_cancels_of_strangers_are_forgotten_by_number_and_by_time() -> None:
    now = [1_000.0]
    service = make(FakeAdapter(), clock=lambda: now[0])
    for number in range(MAX_REMEMBERED + 50):
        service.cancel(f"request-{number}")
    assert len(service._cancelled) == MAX_REMEMBERED

    now[0] += 11
    service.cancel("one more")
    assert list(service._cancelled) == ["one more"]


async def test_nothing_is_kept_of_requests_that_have_ended() -> None:
    adapter = FakeAdapter()
    service = make(adapter)
    await service.run(execute_call(request_id="ok"), KeepingSink())
    adapter.error = BackendUnavailable("away")
    await service.run(execute_call(request_id="failed"), KeepingSink())

    assert (service._runs, service._by_request, service.load().in_flight) == ({}, {}, 0)


async def test_a_second_delivery_waits_for_the_first_and_says_nothing() -> None:
    adapter = FakeAdapter()
    adapter.gate = asyncio.Event()
    service, call = make(adapter), execute_call()
    first, second = KeepingSink(), KeepingSink()
    tasks = [asyncio.ensure_future(service.run(call, sink)) for sink in (first, second)]
    await wait_until(lambda: adapter.running == 1, description="the first runs")
    assert not tasks[1].done()

    adapter.gate.set()
    await asyncio.gather(*tasks)

    assert (first.kinds, second.kinds, len(adapter.requests)) == (["Completed"], [], 1)


async def test_a_newer_attempt_calls_off_the_one_the_edge_has_given_up() -> None:
    adapter = FakeAdapter()
    adapter.gate = asyncio.Event()
    service = make(adapter)
    old, new = KeepingSink(), KeepingSink()
    first = asyncio.ensure_future(service.run(execute_call(), old))
    await wait_until(lambda: adapter.running == 1, description="the first attempt runs")

    second = asyncio.ensure_future(service.run(execute_call(attempt=1), new))
    await first
    adapter.gate.set()
    await second

    assert (old.kinds, old.outcomes[0].status) == ([], "cancelled")
    assert (new.kinds, new.frames[0].attempt) == (["Completed"], 1)


async def test_silence_is_broken_by_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_module, "ACCEPTED_AFTER_S", 0.01)
    monkeypatch.setattr(attempt_module, "PROGRESS_EVERY_S", 0.02)
    adapter = FakeAdapter()
    adapter.gate = asyncio.Event()
    service, sink = make(adapter), KeepingSink()
    running = asyncio.ensure_future(service.run(execute_call(), sink))
    await wait_until(lambda: len(sink.frames) >= 3, description="three signs of life")

    adapter.gate.set()
    await running

    assert set(sink.kinds[:-1]) == {"Accepted"}
    assert sink.kinds[-1] == "Completed"
    said = len(sink.frames)
    assert said >= 4


async def test_a_quick_answer_needs_no_sign_of_life() -> None:
    sink = await run(FakeAdapter(), execute_call(stream=True))

    assert "Accepted" not in sink.kinds


async def test_what_the_sink_raises_ends_the_run_so_that_nothing_is_acked() -> None:
    class BrokenSink(KeepingSink):
        async def completed(self, frame: Any) -> None:
            raise DependencyUnavailable("JetStream did not take it")

    service = make(FakeAdapter())

    with pytest.raises(DependencyUnavailable):
        await service.run(execute_call(), BrokenSink())
    assert service._runs == {}


async def test_a_second_delivery_is_told_what_became_of_the_first() -> None:
    class BrokenSink(KeepingSink):
        async def completed(self, frame: Any) -> None:
            raise DependencyUnavailable("JetStream did not take it")

    adapter = FakeAdapter()
    adapter.gate = asyncio.Event()
    service, call = make(adapter), execute_call()
    tasks = [asyncio.ensure_future(service.run(call, BrokenSink())) for _ in range(2)]
    await wait_until(lambda: adapter.running == 1, description="the first runs")

    adapter.gate.set()
    ends = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(end) for end in ends] == [DependencyUnavailable] * 2


async def test_a_second_delivery_that_is_given_up_leaves_the_first_alone() -> None:
    adapter = FakeAdapter()
    adapter.gate = asyncio.Event()
    service, call, sink = make(adapter), execute_call(), KeepingSink()
    tasks = [asyncio.ensure_future(service.run(call, sink)) for _ in range(2)]
    await wait_until(lambda: adapter.running == 1, description="the first runs")
    await asyncio.sleep(0)

    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    adapter.gate.set()
    await tasks[0]

    assert sink.kinds == ["Completed"]


@pytest.mark.parametrize("end", ["cancel", "deadline"])
async def test_what_stops_a_request_does_not_stop_who_brought_it(end: str) -> None:
    adapter = FakeAdapter()
    adapter.gate = asyncio.Event()
    service, sink = make(adapter), KeepingSink()
    call = execute_call(deadline_s=0.05 if end == "deadline" else 30)

    async def bring() -> int:
        await service.run(call, sink)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    bringing = asyncio.ensure_future(bring())
    await wait_until(lambda: adapter.running == 1, description="it runs")
    if end == "cancel":
        service.cancel(call.call.request_id)

    assert await bringing == 0
    assert sink.outcomes[0].status == ("cancelled" if end == "cancel" else "error")


async def test_a_request_whose_adapter_crashes_gives_no_more_signs_of_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Crashing(FakeAdapter):
        async def _complete(self, request: Any, reply: Any) -> None:
            raise ZeroDivisionError

    monkeypatch.setattr(attempt_module, "ACCEPTED_AFTER_S", 0.01)
    service, sink = make(Crashing()), KeepingSink()

    await service.run(execute_call(), sink)
    await asyncio.sleep(0.03)

    assert sink.kinds == ["Failed"]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_an_answered_request_leaves_no_garbage_to_collect(stream: bool) -> None:
    service = make(FakeAdapter())
    await service.run(execute_call(stream=stream), KeepingSink())
    found = []
    for _ in range(3):
        gc.collect()
        gc.disable()
        try:
            await service.run(execute_call(stream=stream), KeepingSink())
            await asyncio.sleep(0)
            found.append(gc.collect())
        finally:
            gc.enable()

    # What somebody else leaves behind comes once, what a request leaves each time.
    assert min(found) == 0


async def test_draining_waits_and_then_cancels_what_is_late() -> None:
    adapter = FakeAdapter()
    adapter.gate = asyncio.Event()
    service, sink = make(adapter), KeepingSink()
    running = asyncio.ensure_future(service.run(execute_call(), sink))
    await wait_until(lambda: adapter.running == 1, description="it runs")

    await service.drain(0.01)

    with pytest.raises(asyncio.CancelledError):
        await running
    assert (sink.outcomes[0].status, sink.outcomes[0].error_code) == (
        "cancelled",
        "executor_stopping",
    )
    assert "Failed" not in sink.kinds, "without content its edge gives it to another"


async def test_a_request_that_ends_as_draining_begins_is_not_waited_for_nor_stopped() -> None:
    adapter = FakeAdapter()
    adapter.gate = asyncio.Event()
    service, sink, over = make(adapter), KeepingSink(), asyncio.Event()

    async def bring() -> str:
        await service.run(execute_call(), sink)
        await over.wait()
        return "went on"

    bringer = asyncio.ensure_future(bring())
    await wait_until(lambda: adapter.running, description="it runs")
    draining = asyncio.ensure_future(service.drain(0.05))
    adapter.gate.set()

    await asyncio.wait_for(draining, 20)
    over.set()
    assert (await bringer, sink.kinds) == ("went on", ["Completed"])


async def test_a_stream_that_draining_cuts_short_says_so() -> None:
    adapter = FakeAdapter()
    adapter.gate = asyncio.Event()
    service, sink = make(adapter), KeepingSink()
    running = asyncio.ensure_future(service.run(execute_call(stream=True), sink))
    await wait_until(lambda: "Delta" in sink.kinds, description="it has begun to answer")

    await service.drain(0.01)

    with pytest.raises(asyncio.CancelledError):
        await running
    last = sink.frames[-1]
    assert (last.status, last.error.code, last.error.type) == (503, "shutting_down", "api_error")
    assert sink.kinds.count("Failed") == 1
