"""Ask the executors of a backend, over the bus, how their backend is."""

import asyncio
import secrets
from contextlib import suppress

from localforge.bus.bus import Bus
from localforge.bus.permissions import ADMIN
from localforge.config import Config
from localforge.contracts import subjects
from localforge.contracts.live import ProbeAnswer, ProbeCall
from localforge.contracts.problems import ContractViolation

PATIENCE_S = 25.0
"""A little more than an executor gives its backend."""


async def probe_executors(
    config: Config, zone: str, backend: str, upstream: str, expected: int
) -> list[ProbeAnswer]:
    """Return what the executors of a backend say, by replica.

    Args:
        config: With the broker's address.
        zone: Of the backend.
        backend: Its name.
        upstream: The backend's own name of a model to get one token from; empty asks none.
        expected: So many executors are known; when all have answered nobody else is waited for.

    Raises:
        DependencyUnavailable: The broker does not answer.
    """
    bus = Bus(config.nats, ADMIN)
    await bus.connect()
    inbox = subjects.inbox(f"cli-{secrets.token_hex(4)}", "probe")
    answers: list[ProbeAnswer] = []
    complete = asyncio.Event()

    def take(_: str, data: bytes, nobody: bool) -> None:
        if not nobody:
            try:
                answers.append(ProbeAnswer.decode(data))
            except ContractViolation:
                return
        if nobody or len(answers) >= expected:
            complete.set()

    try:
        await bus.subscribe(inbox, take)
        bus.publish(subjects.probe(zone, backend), ProbeCall(upstream=upstream), reply=inbox)
        with suppress(TimeoutError):
            # Then those that have answered are shown.
            await asyncio.wait_for(complete.wait(), PATIENCE_S)
    finally:
        await bus.close()
    return sorted(answers, key=lambda answer: answer.replica)
