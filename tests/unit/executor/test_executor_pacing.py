"""How often a stream's events leave an executor."""

import asyncio

import pytest

from localforge.executor.pacing import (
    LEAST_PERIODS,
    MAX_HELD_BYTES,
    PERIOD_S,
    FramePacer,
    _next_period,
)
from tests.support import wait_until


class Sent:
    """Frames as they went out."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, data: bytes) -> None:
        await self.gate.wait()
        self.frames.append(data)


async def test_the_first_event_leaves_at_once() -> None:
    sent = Sent()

    await FramePacer(sent).write(b"a")

    assert sent.frames == [b"a"]


async def test_events_that_come_close_together_leave_as_one_frame() -> None:
    sent = Sent()
    pacer = FramePacer(sent)

    for event in (b"a", b"b", b"c", b"d"):
        await pacer.write(event)
    assert sent.frames == [b"a"]

    await wait_until(lambda: len(sent.frames) == 2, description="the second frame")
    assert sent.frames == [b"a", b"bcd"]


def test_streams_that_begin_at_different_times_have_their_next_frames_at_the_same_moment() -> None:
    dues = {_next_period(1_000 * PERIOD_S + at * PERIOD_S) for at in (0.01, 0.2, 0.5, 0.74)}

    assert len(dues) == 1


@pytest.mark.parametrize("now", [0.0, 7.0031, 7.0149, 7.0151, 7.0199, 7.02, 1234567.0199])
def test_the_next_frame_is_due_on_the_clock_and_not_too_soon(now: float) -> None:
    due = _next_period(now)

    assert due / PERIOD_S == pytest.approx(round(due / PERIOD_S), abs=1e-6)
    assert LEAST_PERIODS * PERIOD_S * 0.999 <= due - now <= (1 + LEAST_PERIODS) * PERIOD_S * 1.001


async def test_an_event_after_a_pause_is_not_held_back() -> None:
    sent = Sent()
    pacer = FramePacer(sent)
    await pacer.write(b"a")
    loop = asyncio.get_running_loop()
    ready = loop.time() + 0.03

    await wait_until(lambda: loop.time() > ready, description="the end of the frame period")
    await pacer.write(b"b")

    assert sent.frames == [b"a", b"b"]


async def test_what_is_held_goes_with_the_last_frame_and_only_there() -> None:
    sent = Sent()
    pacer = FramePacer(sent)
    await pacer.write(b"a")
    await pacer.write(b"b")

    assert pacer.take() == b"b"
    await pacer.flush()

    assert sent.frames == [b"a"]


async def test_a_flush_keeps_the_order_behind_a_slow_frame() -> None:
    sent = Sent()
    pacer = FramePacer(sent)
    await pacer.write(b"a")
    sent.gate.clear()
    await pacer.write(b"b")
    flushing = asyncio.create_task(pacer.flush())
    sent.gate.set()

    await flushing
    await pacer.write(b"c")
    await pacer.flush()

    assert b"".join(sent.frames) == b"abc"


async def test_a_flood_is_not_held_until_the_next_period() -> None:
    sent = Sent()
    pacer = FramePacer(sent)
    await pacer.write(b"a")

    await pacer.write(b"x" * (MAX_HELD_BYTES + 1))

    assert len(sent.frames) == 2


async def test_a_frame_that_cannot_be_sent_fails_the_next_write() -> None:
    async def send(data: bytes) -> None:
        if data != b"a":
            raise ConnectionError

    pacer = FramePacer(send)
    await pacer.write(b"a")
    await pacer.write(b"b")
    sending = None

    def on_its_way() -> bool:
        nonlocal sending
        sending = pacer._sending
        return sending is not None and sending.done()

    await wait_until(on_its_way, description="the frame was tried")
    with pytest.raises(ConnectionError):
        await pacer.write(b"c")


async def test_a_closed_stream_gives_back_what_it_holds_and_sends_nothing_more() -> None:
    sent = Sent()
    pacer = FramePacer(sent)
    await pacer.write(b"a")
    await pacer.write(b"b")

    assert pacer.close() == b"b"
    await asyncio.sleep(2 * PERIOD_S)
    assert sent.frames == [b"a"]
