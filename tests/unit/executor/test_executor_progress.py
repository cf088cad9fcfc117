"""A durable delivery is kept alive while it is worked on."""

import asyncio
from contextlib import suppress

import pytest
from nats.errors import ConnectionClosedError

from localforge.bus.durable import Delivery
from localforge.executor import app
from tests.support import wait_until


class Faltering(Delivery):
    """One whose first signs of progress the connection does not take."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.signs = 0

    async def in_progress(self) -> None:
        if self.errors:
            raise self.errors.pop()
        self.signs += 1


async def test_a_sign_of_progress_that_is_lost_is_not_the_last(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(app, "PROGRESS_S", 0.001)
    delivery = Faltering(ConnectionClosedError(), RuntimeError("the handler is closed"))
    signs = asyncio.create_task(app._keep_alive(delivery))

    await wait_until(lambda: delivery.signs > 1, description="signs of progress")

    signs.cancel()
    with suppress(asyncio.CancelledError):
        await signs
