"""A timer that is mostly stopped before it rings."""

import asyncio

import pytest

from localforge.edge.lazy_timer import LazyTimer
from tests.support import wait_until

DELAY_S = 0.05


class Bell:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.rung_at: list[float] = []
        self.timer = LazyTimer(self.loop, DELAY_S, self.ring)

    def ring(self) -> None:
        self.rung_at.append(self.loop.time())


@pytest.fixture
async def bell():
    made = Bell()
    yield made
    made.timer.close()


async def test_it_rings_once_after_its_delay(bell):
    begun = bell.loop.time()
    bell.timer.start()

    await wait_until(lambda: bell.rung_at, description="the bell")
    await asyncio.sleep(2 * DELAY_S)

    assert len(bell.rung_at) == 1
    assert bell.rung_at[0] - begun >= DELAY_S
    assert not bell.timer.is_started


async def test_to_start_it_again_puts_it_off(bell):
    bell.timer.start()
    await asyncio.sleep(DELAY_S / 2)
    again = bell.loop.time()
    bell.timer.start()

    await wait_until(lambda: bell.rung_at, description="the bell")

    assert bell.rung_at[0] - again >= DELAY_S


@pytest.mark.parametrize("end", [LazyTimer.stop, LazyTimer.close])
async def test_it_does_not_ring_when_it_was_stopped(bell, end):
    bell.timer.start()
    end(bell.timer)
    assert not bell.timer.is_started

    await asyncio.sleep(2 * DELAY_S)

    assert bell.rung_at == []


async def test_it_can_be_started_after_it_was_stopped_and_after_it_rang(bell):
    bell.timer.start()
    bell.timer.stop()
    bell.timer.start()
    await wait_until(lambda: len(bell.rung_at) == 1, description="the bell")
    bell.timer.start()

    await wait_until(lambda: len(bell.rung_at) == 2, description="the bell again")
