"""Three times as many requests as can be answered: the rest are told so at once."""

import asyncio
import time
from collections.abc import Iterator

import aiohttp
import msgspec
import pytest

from tests.e2e.stack import Provider, Stack, running
from tests.fakes.openai_server import Behaviour
from tests.support import Lateness, wait_until

SLOTS, MODEL_S = 4, 0.2
SUSTAINABLE = SLOTS / MODEL_S
"""Requests per second."""
MAX_WAITING = 8
DEADLINE_S = 5.0
SECONDS = 10.0
TARGET_S = 0.5
"""A request that waits for longer before it is refused has waited for the model."""
CONFIG = """\
[edge]
queue_target_s = {target}

[[backends]]
name = "fake"
kind = "openai"
url = "{url}"
slots = {slots}
max_waiting = {waiting}
[[backends.models]]
name = "fake-a"
"""


class Answer(msgspec.Struct):
    """What one client saw."""

    at: float
    status: int
    took_s: float
    retry_after: str


@pytest.fixture(name="small", scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Provider]]:
    provider = Provider()
    config = CONFIG.format(url=provider.url, slots=SLOTS, waiting=MAX_WAITING, target=TARGET_S)
    try:
        with running(Stack(tmp_path_factory.mktemp("overload"), config)) as stack:
            yield stack, provider
    finally:
        provider.close()


async def _ask(session: aiohttp.ClientSession, stack: Stack) -> Answer:
    body = {"model": "auto", "messages": [{"role": "user", "content": "busy"}]}
    headers = {"x-localforge-deadline-s": str(DEADLINE_S)}
    started = time.monotonic()
    async with session.post(
        f"{stack.url}/v1/chat/completions", json=body, headers=headers
    ) as answer:
        await answer.read()
    ended = time.monotonic()
    return Answer(started, answer.status, ended - started, answer.headers.get("retry-after", ""))


@pytest.mark.timeout(120)
async def test_what_cannot_be_answered_in_time_is_refused_early(small: tuple[Stack, Provider]):
    stack, provider = small
    most_in_executor = 0

    def in_executor() -> int:
        text = stack.http("GET", "/metrics").body.decode()
        line = next(x for x in text.splitlines() if x.startswith("localforge_edge_in_flight "))
        return int(float(line.split()[1]))

    with provider.behaving(fake_a=Behaviour(first_s=MODEL_S)):
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, Lateness() as late:
            await _ask(session, stack)
            started = time.monotonic()
            tasks = []
            pause_s = 1 / (3 * SUSTAINABLE)
            while (now := time.monotonic()) < started + SECONDS:
                tasks.append(asyncio.create_task(_ask(session, stack)))
                if len(tasks) % 60 == 0:
                    found = await asyncio.to_thread(in_executor)
                    most_in_executor = max(most_in_executor, found)
                await asyncio.sleep(max(0.0, started + len(tasks) * pause_s - now))
            answers = await asyncio.gather(*tasks)
            await wait_until(
                lambda: asyncio.to_thread(lambda: in_executor() == 0),
                timeout=10,
                description="nothing is left waiting",
            )
            after = await _ask(session, stack)

    accepted = [a for a in answers if a.status == 200]
    refused = sorted((a for a in answers if a.status != 200), key=lambda a: a.took_s)
    assert {a.status for a in answers} == {200, 503}
    # Half of what the model can do at least: refusing is no excuse for idleness.
    assert len(accepted) >= SUSTAINABLE * SECONDS / 2, len(accepted)
    assert max(a.took_s for a in accepted) < DEADLINE_S
    assert all(int(a.retry_after) >= 1 for a in refused)
    usual_s = refused[len(refused) // 2].took_s
    assert usual_s < late.allowed(MODEL_S, at_most=TARGET_S), "a refusal takes no model's time"
    assert most_in_executor <= 2 * (SLOTS + MAX_WAITING)
    assert after.status == 200
