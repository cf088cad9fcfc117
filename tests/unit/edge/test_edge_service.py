"""Requests in flight: frames, attempts, deadlines, cancels. No HTTP, no broker."""

import asyncio

import msgspec
import pytest

from localforge.config import EdgeConfig
from localforge.contracts.live import Accepted, Completed, Delta, Failed
from localforge.contracts.trust import Label
from localforge.edge import exchange as exchange_module
from localforge.edge.exchange import ClientGone
from localforge.edge.keys import ApiKey
from localforge.edge.service import EdgeService
from localforge.errors import DependencyUnavailable, RequestRefused
from tests.support import wait_until
from tests.unit.edge.conftest import FixedRegistry
from tests.unit.edge.lane import (
    BODY,
    CHAT,
    completed,
    completion,
    delta,
    failed,
    silent,
    summary,
)


@pytest.fixture
def patience(monkeypatch):
    monkeypatch.setattr(exchange_module, "UNSERVED_S", 0.15)
    monkeypatch.setattr(exchange_module, "FIRST_BACKOFF_S", 0.01)


async def test_an_accepted_request_becomes_a_call_with_the_body_untouched(make_service, lane):
    service = make_service(deadline_s=60)
    key = ApiKey(id="k1", preference="cheap", minimum_label=Label.CONFIDENTIAL)

    exchange = service.accept(BODY, {b"x-localforge-label": b"internal"}, key)
    exchange.dispatch()
    exchange.close()

    call = lane.sent[0]
    assert call.body == BODY
    assert (call.model, call.preference, call.key_id) == ("auto", "cheap", "k1")
    assert call.declared_label is Label.INTERNAL
    assert call.minimum_label is Label.CONFIDENTIAL
    assert call.deadline == pytest.approx(service.clock() + 60, abs=1)
    assert lane.replies == [f"lf.inbox.e1.{call.request_id}"]


@pytest.mark.parametrize(
    ("model", "logged"),
    [("auto", "auto"), ("smart", "smart"), ("tiny", "tiny"), ("my diagnosis", "<unknown>")],
)
async def test_only_a_model_or_an_alias_that_there_is_may_be_logged(lane, model, logged):
    service = EdgeService(
        EdgeConfig(), lane, "e1", FixedRegistry(), aliases=lambda: {"smart": "tiny"}
    )
    lane.service = service

    exchange = service.accept(msgspec.json.encode(CHAT | {"model": model}))
    exchange.close()

    assert exchange.call.model == model
    assert exchange.requested == logged


async def test_a_client_that_hangs_up_before_the_request_goes_out_is_not_served(make_service, lane):
    """As between the word that a hop is unserved and the next try."""
    service = make_service()
    exchange = service.accept(BODY)
    exchange.abandon()
    exchange.dispatch()
    exchange.close()

    assert (lane.sent, lane.cancelled) == ([], [exchange.call.request_id])


async def test_a_question_that_cannot_be_sent_leaves_the_deadline_in_force(
    make_service, lane, monkeypatch
):
    monkeypatch.setattr(exchange_module, "ALIVE_CHECK_S", 0.01)
    service = make_service(deadline_s=0.2)
    lane.script = silent
    lane.ask_alive = lambda *_: False
    exchange = service.accept(BODY)
    lane.emit(
        Accepted(
            request_id=exchange.call.request_id,
            summary=summary(exchange.call, backend="fake", replica="r1"),
        )
    )
    exchange.dispatch()

    frame = await exchange.next()
    exchange.close()

    assert isinstance(frame, Failed)
    assert frame.status == 504


async def test_an_answer_ends_the_exchange_and_nothing_is_cancelled(make_service, lane):
    service = make_service()
    exchange = service.accept(BODY)
    exchange.dispatch()

    frame = await exchange.next()
    exchange.close()
    service.close()

    assert isinstance(frame, Completed)
    assert frame.body == completion(exchange.call)
    assert service.in_flight == 0
    assert lane.cancelled == []


async def test_deltas_that_wait_together_come_as_one(make_service, lane):
    service = make_service()
    lane.script = silent
    exchange = service.accept(BODY)
    exchange.dispatch()
    for text in ("a", "b", "c"):
        lane.emit(delta(exchange.call, text, first=text == "a"))
    lane.emit(completed(exchange.call, data=b"end"))

    first, second = await exchange.next(), await exchange.next()
    exchange.close()

    assert isinstance(first, Delta)
    assert first.data.count(b"data:") == 3
    assert first.summary is not None
    assert isinstance(second, Completed)


async def test_a_sign_of_life_is_not_for_the_client(make_service, lane):
    service = make_service()
    lane.script = silent
    exchange = service.accept(BODY)
    exchange.dispatch()
    call = exchange.call
    lane.emit(Accepted(request_id=call.request_id, summary=summary(call)))
    lane.emit(failed(call))

    assert isinstance(await exchange.next(), Failed)
    exchange.close()


async def test_silence_dispatches_again_and_old_frames_are_ignored(make_service, lane):
    service = make_service(progress_s=0.05)
    lane.script = silent
    exchange = service.accept(BODY)
    exchange.dispatch()

    await wait_until(lambda: len(lane.sent) == 2, description="a second dispatch")
    first, second = lane.sent
    lane.emit(completed(first, body=b"old"))
    lane.emit(completed(second, body=b"new"))
    frame = await exchange.next()
    exchange.close()
    service.close()

    assert (first.attempt, second.attempt) == (0, 1)
    assert first.request_id == second.request_id
    assert frame.body == b"new"
    assert lane.cancelled == [first.request_id], "the first attempt may still be running"


async def test_a_sign_of_life_keeps_the_watchdog_quiet(make_service, lane):
    service = make_service(progress_s=0.1)
    loop = asyncio.get_running_loop()

    async def slow(lane, call):
        end = loop.time() + 0.35
        while loop.time() < end:
            lane.emit(Accepted(request_id=call.request_id, summary=summary(call)))
            await asyncio.sleep(0.01)
        lane.emit(completed(call, body=b"{}"))

    lane.script = slow
    exchange = service.accept(BODY)
    exchange.dispatch()

    assert isinstance(await exchange.next(), Completed)
    exchange.close()
    assert len(lane.sent) == 1


async def test_three_silent_attempts_are_a_504(make_service, lane):
    service = make_service(progress_s=0.03)
    lane.script = silent
    exchange = service.accept(BODY)
    exchange.dispatch()

    frame = await exchange.next()
    exchange.close()
    service.close()

    assert isinstance(frame, Failed)
    assert (frame.status, frame.error.code) == (504, "no_progress")
    assert [call.attempt for call in lane.sent] == [0, 1, 2]
    assert lane.cancelled == [exchange.call.request_id]


async def test_an_answer_that_has_begun_is_never_begun_again(make_service, lane):
    service = make_service(progress_s=0.03)
    lane.script = lambda lane, call: lane.emit(delta(call, "a", first=True))
    exchange = service.accept(BODY)
    exchange.dispatch()

    first, second = await exchange.next(), await exchange.next()
    exchange.close()

    assert isinstance(first, Delta)
    assert isinstance(second, Failed)
    assert second.error.code == "no_progress"
    assert len(lane.sent) == 1


async def test_the_deadline_is_a_504_and_cancels(make_service, lane):
    service = make_service(deadline_s=0.05)
    lane.script = silent
    exchange = service.accept(BODY)
    exchange.dispatch()

    frame = await exchange.next()
    exchange.close()
    service.close()

    assert isinstance(frame, Failed)
    assert (frame.status, frame.error.code) == (504, "deadline_exceeded")
    assert lane.cancelled == [exchange.call.request_id]


async def test_no_responders_is_tried_again_until_somebody_serves(make_service, lane, patience):
    service = make_service()

    def third_time_lucky(lane, call):
        if call.attempt < 2:
            service.on_no_responders(call.request_id)
        else:
            lane.emit(completed(call, body=b"{}"))

    lane.script = third_time_lucky
    exchange = service.accept(BODY)
    exchange.dispatch()
    assert not service.served

    frame = await exchange.next()
    exchange.close()

    assert isinstance(frame, Completed)
    assert [call.attempt for call in lane.sent] == [0, 1, 2]
    assert service.served


async def test_no_responders_for_long_is_a_503_with_retry_after(make_service, lane, patience):
    service = make_service()
    lane.script = lambda _, call: service.on_no_responders(call.request_id)
    exchange = service.accept(BODY)
    exchange.dispatch()

    frame = await exchange.next()
    exchange.close()

    assert isinstance(frame, Failed)
    assert (frame.status, frame.error.code) == (503, "unserved")
    assert frame.retry_after_s > 0
    assert len(lane.sent) > 2


async def test_a_broker_that_is_away_is_a_503_that_says_so(make_service, lane, patience):
    service = make_service()
    lane.refusal = DependencyUnavailable("the broker does not answer", retry_after_s=3)
    exchange = service.accept(BODY)
    exchange.dispatch()

    frame = await exchange.next()
    exchange.close()

    assert isinstance(frame, Failed)
    assert (frame.status, frame.retry_after_s) == (503, 3)
    assert frame.error.message == "the broker does not answer"


async def test_what_a_service_of_this_process_refuses_is_refused(make_service, lane):
    service = make_service()
    lane.refusal = RequestRefused("no such model", code="model_not_found", status=404)
    exchange = service.accept(BODY)
    exchange.dispatch()

    frame = await exchange.next()
    exchange.close()

    assert isinstance(frame, Failed)
    assert (frame.status, frame.error.code) == (404, "model_not_found")
    assert len(lane.sent) == 1


async def test_a_bug_behind_the_dispatch_is_a_500(make_service, lane):
    service = make_service()
    lane.refusal = KeyError("bug")
    exchange = service.accept(BODY)
    exchange.dispatch()

    frame = await exchange.next()
    exchange.close()

    assert isinstance(frame, Failed)
    assert (frame.status, frame.error.code) == (500, "internal")


async def test_a_client_that_goes_wakes_the_reader_and_cancels_once(make_service, lane):
    service = make_service()
    lane.script = silent
    exchange = service.accept(BODY)
    exchange.dispatch()
    reading = asyncio.create_task(exchange.next())
    await asyncio.sleep(0)

    exchange.abandon()

    with pytest.raises(ClientGone):
        await reading
    service.close()
    assert lane.cancelled == [exchange.call.request_id], "told before the reader has closed"
    exchange.close()
    service.close()
    assert lane.cancelled == [exchange.call.request_id]
    assert service.in_flight == 0


async def test_a_reader_that_does_not_read_is_cut_off_at_a_bound(make_service, lane, monkeypatch):
    monkeypatch.setattr(exchange_module, "MAX_BUFFERED_BYTES", 1000)
    service = make_service()
    lane.script = silent
    opened = asyncio.Event()
    exchanges = []

    async def read_nothing():
        exchange = service.accept(BODY)
        exchanges.append(exchange)
        exchange.dispatch()
        opened.set()
        try:
            await asyncio.Event().wait()
        finally:
            exchange.close()

    reader = asyncio.create_task(read_nothing())
    await opened.wait()
    for _ in range(10):
        lane.emit(delta(exchanges[0].call, "x" * 100))

    with pytest.raises(asyncio.CancelledError):
        await reader
    service.close()
    assert exchanges[0].aborted
    assert lane.cancelled == [exchanges[0].call.request_id]


async def test_what_has_been_read_does_not_count_against_the_bound(make_service, lane, monkeypatch):
    monkeypatch.setattr(exchange_module, "MAX_BUFFERED_BYTES", 1000)
    service = make_service()
    lane.script = silent
    exchange = service.accept(BODY)
    exchange.dispatch()

    for _ in range(20):
        lane.emit(delta(exchange.call, "x" * 50))
        lane.emit(delta(exchange.call, "x" * 50))
        assert isinstance(await exchange.next(), Delta)

    assert not exchange.aborted
    exchange.close()


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x80", b"\x81\xa4type\xa3odd", b"{}"])
async def test_bytes_that_are_no_frame_are_dropped(make_service, data):
    make_service().on_frame(data)


async def test_frames_nobody_waits_for_are_dropped(make_service, lane):
    service = make_service()
    exchange = service.accept(BODY)
    exchange.dispatch()
    await exchange.next()
    exchange.close()

    lane.emit(failed(exchange.call))
    service.on_no_responders(exchange.call.request_id)

    assert service.in_flight == 0
