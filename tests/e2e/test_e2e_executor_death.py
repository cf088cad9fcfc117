"""Executors that die, an edge and a broker too, servers that fall over: on the whole stack."""

import asyncio
import contextlib
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest

from localforge.contracts import subjects
from localforge.faults import Settings
from tests.e2e.durable import application
from tests.e2e.slow_server import SLOW, Server, body_of, check_took, marker, pass_seconds, post
from tests.e2e.stack import EDGE, Stack, running
from tests.support import Lateness, wait_until

CONFIG = """\
[router]
# The plan is in order of price, whatever is learned.
gamma = 1e6
preferences.balanced = {{ cost = 1e7, latency = 0 }}

[[backends]]
name = "frail"
kind = "openai"
url = "{url}/v1"
slots = 1
retries = 0
breaker_failures = 2
breaker_open_s = 1
# No probe says that it is down before its breaker does.
probe_s = 3600
[[backends.models]]
name = "first"
price_in = 1
price_out = 1

[[backends]]
name = "sturdy"
kind = "openai"
url = "{other}/v1"
[[backends.models]]
name = "second"
price_in = 9
price_out = 9

[[backends]]
name = "twins"
kind = "openai"
urls = ["{url}/v1", "{other}/v1"]
probe_s = 3600
[[backends.models]]
name = "twin"
price_in = 20
price_out = 20
"""
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(name="slow", scope="module")
def _slow() -> Iterator[Server]:
    server = Server(SLOW)
    yield server
    server.close()


@pytest.fixture(name="quick", scope="module")
def _quick() -> Iterator[Server]:
    server = Server(Settings(keep_bodies=True))
    yield server
    server.close()


@pytest.fixture(name="mortal", scope="module")
def _mortal(
    tmp_path_factory: pytest.TempPathFactory, slow: Server, quick: Server
) -> Iterator[Stack]:
    config = CONFIG.format(url=slow.url, other=quick.url)
    with running(Stack(tmp_path_factory.mktemp("mortal"), config)) as stack:
        yield stack


def redispatches(stack: Stack) -> Counter[str]:
    """How many requests the edge has dispatched again, for each reason."""
    text = stack.http("GET", "/metrics").body.decode()
    found = re.findall(
        r'^localforge_edge_redispatches_total\{reason="(\w+)"\} (\S+)', text, re.MULTILINE
    )
    return Counter({reason: int(float(number)) for reason, number in found})


async def alive(stack: Stack, child: str) -> None:
    """Wait until an executor serves, after a test that killed it."""

    def serves() -> bool:
        with contextlib.suppress(OSError):
            reply = stack.http("POST", "/v1/route", body_of("ready", model="auto"))
            return (
                reply.status == 200
                and stack.serves(child)
                and all(e["model"] != "first" for e in reply.json["decision"]["exclusions"])
            )
        return False

    await wait_until(lambda: asyncio.to_thread(serves), timeout=30, description=f"{child} serves")


@pytest.mark.parametrize(
    ("path", "piece", "error", "end"),
    [
        ("/v1/chat/completions", b'"content":"word"', b'"code":"executor_lost"', b"[DONE]"),
        ("/v1/messages", b'"text":"word"', b"event: error", b"message_stop"),
    ],
    ids=["chat", "messages"],
)
async def test_a_stream_whose_executor_is_killed_ends_with_an_error_within_two_seconds(
    mortal: Stack, late: Lateness, path: str, piece: bytes, error: bytes, end: bytes
):
    await alive(mortal, "executor-frail")
    body = body_of(marker(), stream=True)
    with closing(await asyncio.to_thread(post, mortal, body, path)) as connection:
        got = b""
        while piece not in got:
            got += await asyncio.to_thread(connection.recv, 1000)
        mortal.kill("executor-frail")
        killed_at = time.monotonic()
        while data := await asyncio.to_thread(connection.recv, 65536):
            got += data
        took = time.monotonic() - killed_at

    assert got.count(error) == 1
    assert end not in got
    check_took(took, 2, late)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_executor_killed_the_moment_it_got_a_request_costs_two_seconds_at_most(
    mortal: Stack, rng: random.Random, late: Lateness, stream: bool
):
    before = redispatches(mortal)
    for moment in (0.0, rng.uniform(0, 0.3)):
        await alive(mortal, "executor-frail")
        body = body_of(marker(), model="auto", stream=stream)
        with closing(await asyncio.to_thread(post, mortal, body)) as connection:
            await pass_seconds(moment)
            mortal.kill("executor-frail")
            killed_at = time.monotonic()
            got = b""
            while data := await asyncio.to_thread(connection.recv, 65536):
                got += data
            took = time.monotonic() - killed_at

        # It may have been so quick that a stream had begun.
        whole = b"x-localforge-model: second" in got and b'"finish_reason":"stop"' in got
        lost = b'"code":"executor_lost"' in got and b"[DONE]" not in got
        assert whole != lost, (moment, got)
        check_took(took, 2, late)
    assert (redispatches(mortal) - before)["silent"] == 0


async def test_requests_that_come_after_an_executor_died_go_to_another_model_at_once(
    mortal: Stack,
):
    await alive(mortal, "executor-frail")
    mortal.kill("executor-frail")
    # Routers do not know yet that it has gone.
    replies = await asyncio.gather(
        *(asyncio.to_thread(mortal.chat, body_of(marker(), model="auto")) for _ in range(3))
    )

    assert [(r.status, r.headers["x-localforge-model"]) for r in replies] == [(200, "second")] * 3


async def test_a_killed_edge_leaves_no_work_behind_and_serves_again(
    mortal: Stack, slow: Server, rng: random.Random, late: Lateness
):
    await alive(mortal, "executor-frail")
    text = marker()
    with closing(post(mortal, body_of(text))) as connection:
        await wait_until(lambda: slow.saw(text), description="the backend works")
        await pass_seconds(rng.uniform(0, 1))
        mortal.kill(EDGE)
        killed_at = time.monotonic(), time.time()
        with contextlib.suppress(ConnectionResetError):
            assert not await asyncio.to_thread(connection.recv, 65536)
        hung_up = time.monotonic() - killed_at[0]
    await wait_until(lambda: slow.saw(text)[0].ended_at, description="the backend is let go")
    let_go = slow.saw(text)[0].ended_at - killed_at[1]
    await alive(mortal, "executor-frail")

    check_took(hung_up, 1, late)
    assert slow.saw(text)[0].client_gone
    check_took(let_go, 2, late)


async def test_a_request_whose_executor_is_killed_before_it_answered_goes_to_another_model(
    mortal: Stack, slow: Server, late: Lateness
):
    await alive(mortal, "executor-frail")
    before = redispatches(mortal)
    running_one, queued = marker(), marker()
    with closing(post(mortal, body_of(running_one))):
        await wait_until(lambda: slow.saw(running_one), description="the only slot is taken")
        tasks = [
            asyncio.create_task(asyncio.to_thread(mortal.chat, body_of(text, model="auto")))
            for text in (queued, marker())
        ]
        began = time.monotonic()
        await wait_until(lambda: time.monotonic() - began > 1, description="they are queued")
        assert not slow.saw(queued)
        mortal.kill("executor-frail")
        killed_at = time.monotonic()
        replies = await asyncio.gather(*tasks)
        took = time.monotonic() - killed_at

    assert [(r.status, r.headers["x-localforge-model"]) for r in replies] == [(200, "second")] * 2
    again = redispatches(mortal) - before
    assert again["lost"] >= 2
    assert again["silent"] == 0
    check_took(took, 2, late)


async def test_a_request_that_no_other_model_may_answer_ends_within_two_seconds_too(
    mortal: Stack, slow: Server, late: Lateness
):
    await alive(mortal, "executor-frail")
    before = redispatches(mortal)
    text = marker()
    task = asyncio.create_task(asyncio.to_thread(mortal.chat, body_of(text, max_tokens=75)))
    await wait_until(lambda: slow.saw(text), description="the backend works")
    began = time.monotonic()
    await wait_until(lambda: time.monotonic() - began > 0.5, description="a sign of life")
    mortal.kill("executor-frail")
    killed_at = time.monotonic()

    def ended_or_runs_again() -> bool:
        return task.done() or len(slow.saw(text)) == 2

    await wait_until(ended_or_runs_again, timeout=10, description="an error, or another try")
    took = time.monotonic() - killed_at
    reply = await task

    check_took(took, 2, late)
    again = redispatches(mortal) - before
    assert again["lost"] >= 1
    assert again["silent"] == 0
    assert reply.status == 200 or reply.json["error"]["code"] in ("unserved", "executor_lost")


async def test_durable_requests_of_a_killed_executor_are_each_answered_once(
    mortal: Stack, slow: Server
):
    await alive(mortal, "executor-frail")
    ids = [f"{marker()}-{number}" for number in range(3)]
    async with application(mortal) as app:
        for request_id in ids:
            await app.ask(request_id, body_of(request_id, max_tokens=20))
        await wait_until(
            lambda: any(slow.saw(i) for i in ids), timeout=20, description="one is being answered"
        )
        mortal.kill("executor-frail")
        await app.results(ids, timeout=60)
        results = [await app.result(request_id) for request_id in ids]

    assert [(r.id, r.status) for r in results] == [(i, 200) for i in ids]
    assert [app.heard[i] for i in ids] == [1, 1, 1]
    async with mortal.nats("admin") as client:
        info = await client.jetstream().stream_info(
            subjects.RESULTS.name, subjects_filter=subjects.result(">")
        )
        assert {(info.state.subjects or {}).get(subjects.result(i)) for i in ids} == {1}


async def test_a_server_that_is_down_is_not_chosen_any_more_until_it_is_back(
    mortal: Stack, slow: Server
):
    await alive(mortal, "executor-frail")

    def reasons() -> dict[str, str]:
        decision = mortal.route(body_of("route", model="auto"))
        return {e["model"]: e["reason"] for e in decision["exclusions"]}

    slow.refuse()
    try:
        for _ in range(2):
            reply = await asyncio.to_thread(mortal.chat, body_of("down", model="auto"))
            assert (reply.status, reply.headers["x-localforge-model"]) == (200, "second")
        await wait_until(
            lambda: asyncio.to_thread(lambda: reasons() == {"first": "breaker"}),
            timeout=10,
            description="the routers know",
        )
        reply = await asyncio.to_thread(mortal.chat, body_of("down", model="first"))
        assert reply.status == 503
        assert float(reply.headers["retry-after"]) >= 1
    finally:
        slow.listen()
    await wait_until(
        lambda: asyncio.to_thread(lambda: reasons() == {}), timeout=20, description="half open"
    )
    reply = await asyncio.to_thread(mortal.chat, body_of("back", model="first", max_tokens=2))

    assert (reply.status, reply.json["choices"][0]["message"]["content"]) == (200, "word word")


def test_a_conversation_stays_at_its_server_and_moves_only_when_that_one_fails(
    mortal: Stack, slow: Server, quick: Server
):
    text = marker()

    def ask() -> dict[str, str]:
        body = body_of(f"{text} {'a long beginning ' * 200}", model="twin", max_tokens=3)
        reply = mortal.chat(body)
        assert reply.status == 200, reply.body
        return reply.headers

    for _ in range(4):
        ask()
    seen = {server: len(server.saw(text)) for server in (slow, quick)}
    assert sorted(seen.values()) == [0, 4]

    home, other = sorted(seen, key=lambda server: -seen[server])
    home.refuse()
    try:
        headers = ask()
    finally:
        home.listen()

    assert (headers["x-localforge-fallbacks"], headers["x-localforge-model"]) == ("0", "twin")
    assert len(other.saw(text)) == 1


async def test_a_broker_that_dies_under_a_stream_leaves_no_gap_in_it(
    mortal: Stack, slow: Server, rng: random.Random
):
    await alive(mortal, "executor-frail")
    with closing(post(mortal, body_of(marker(), max_tokens=200, stream=True))) as connection:
        got = await asyncio.to_thread(connection.recv, 1000)
        await pass_seconds(rng.uniform(0, 1))
        mortal.kill("nats")
        while data := await asyncio.to_thread(connection.recv, 65536):
            got += data

    whole = b"[DONE]" in got and got.count(b'word"') == 200
    explicit = b'"error"' in got and b"[DONE]" not in got
    assert whole != explicit, got[-600:]
