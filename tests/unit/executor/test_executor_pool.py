"""Which of a backend's servers a request goes to, with fake adapters behind real breakers."""

import asyncio
import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from localforge.config import BackendConfig
from localforge.contracts.cards import BreakerState, Health
from localforge.contracts.chat import Usage
from localforge.contracts.live import Target
from localforge.errors import BackendRefused, BackendUnavailable, LocalforgeError
from localforge.executor.breaker import Breaker
from localforge.executor.pool import Pool
from localforge.executor.server import Server, server_names
from localforge.executor.service import ExecutorService
from localforge.inference import Completion, Probe, Reply
from localforge.inference.protocol import BackendLoad
from tests.fakes.backend import FakeAdapter, KeepingSink
from tests.fakes.calls import VERIFIER, execute_call, target
from tests.support import wait_until

LONG = "a" * 4000


class Sick(FakeAdapter):
    """Says that it is down, as long as it is."""

    health = Health.DOWN

    async def probe(self) -> Probe:
        return Probe(health=self.health, detail="gone")


def pool_of(*adapters: FakeAdapter, failures: int = 2, open_s: float = 60.0) -> Pool:
    return Pool(
        [
            Server(f"s{number}", adapter, Breaker(failures, open_s))
            for number, adapter in enumerate(adapters)
        ]
    )


async def ask(pool: Pool, text: str = "hello", tried: frozenset[str] = frozenset()) -> str:
    async def write(_: bytes) -> None:
        return

    reply = Reply(write)
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    request = Completion(completion_id="c", model="m", upstream="m", body=body, tried=tried)
    await pool.complete(request, reply)
    return reply.server


def broken(code: str = "backend_cut") -> FakeAdapter:
    adapter = FakeAdapter()
    adapter.error = BackendUnavailable("broken", code=code)
    return adapter


async def test_requests_at_the_same_time_go_to_different_servers():
    gate = asyncio.Event()
    adapters = [FakeAdapter(), FakeAdapter()]
    for adapter in adapters:
        adapter.gate = gate
    pool = pool_of(*adapters)
    tasks = [asyncio.create_task(ask(pool)) for _ in range(4)]
    await wait_until(lambda: sum(a.running for a in adapters) == 4, description="all run")

    assert [a.running for a in adapters] == [2, 2]
    gate.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(
    ("known", "shares"),
    [
        pytest.param({"m": (10.0, 40.0)}, [2, 8], id="with this model"),
        pytest.param({"other": (10.0, 40.0)}, [2, 8], id="with another, this one being new"),
        pytest.param({"other": (10.0, 90.0), "m": (40.0, 10.0)}, [8, 2], id="with both"),
        pytest.param({"other": (10.0, 40.0), "m": (20.0, 0.0)}, [5, 5], id="one never had it"),
    ],
)
async def test_the_server_that_is_faster_gets_more(
    known: dict[str, tuple[float, float]], shares: list[int]
):
    adapters = [FakeAdapter(8), FakeAdapter(8)]
    pool = pool_of(*adapters)
    for model, speeds in known.items():
        for server, tokens_per_s in zip(pool._servers, speeds, strict=True):
            if tokens_per_s:
                server.note_speed(model, 0.1, 100, 100 / tokens_per_s)
    gate = asyncio.Event()
    for adapter in adapters:
        adapter.gate = gate
        adapter.usage = Usage()
    tasks = [asyncio.create_task(ask(pool)) for _ in range(10)]
    await wait_until(lambda: sum(a.running for a in adapters) == 10, description="all run")

    assert [a.running for a in adapters] == shares
    gate.set()
    await asyncio.gather(*tasks)


async def test_a_long_conversation_stays_where_it_began():
    pool = pool_of(*(FakeAdapter() for _ in range(4)))
    places = {await ask(pool, f"{number} {LONG}") for number in range(40)}

    for number in range(5):
        assert len({await ask(pool, f"{number} {LONG}") for _ in range(8)}) == 1
    assert places == {"s0", "s1", "s2", "s3"}


class Reporting(FakeAdapter):
    """Says how busy it is."""

    def __init__(self, **load: Any) -> None:
        super().__init__()
        self.told = BackendLoad(**load)

    async def load(self) -> BackendLoad:
        return self.told


async def test_requests_of_others_count_where_a_server_tells_of_them():
    pool = pool_of(Reporting(running=3, waiting=4), Reporting(running=1))
    await pool.load()

    assert {await ask(pool) for _ in range(5)} == {"s1"}


@pytest.mark.parametrize("text", ["hello", LONG])
async def test_a_full_kv_cache_gets_nothing_new_while_another_has_room(text: str):
    full, free = Reporting(kv_cache_use=0.85), Reporting(kv_cache_use=0.3, waiting=9)
    pool = pool_of(full, free)
    await pool.load()
    spared = {await ask(pool, f"{number} {text}") for number in range(9)}
    free.told = BackendLoad(kv_cache_use=0.95, waiting=9)
    await pool.load()
    none_left = {await ask(pool) for _ in range(5)}

    assert spared == {"s1"}
    assert none_left == {"s0"}, "the usual choice, when all are full"


async def test_a_host_that_has_the_model_in_memory_is_asked_before_one_that_must_load_it():
    cold, warm = Reporting(), Reporting(loaded=("m:latest",), waiting=9)
    pool = pool_of(cold, warm)
    await pool.load()
    first = {await ask(pool) for _ in range(5)}
    gate = warm.gate = asyncio.Event()
    running = [asyncio.create_task(ask(pool)) for _ in range(warm.slots)]
    await wait_until(lambda: warm.running == warm.slots, description="it is full")
    beyond = await ask(pool)
    gate.set()
    await asyncio.gather(*running)

    assert (first, beyond) == ({"s1"}, "s0")


async def test_a_server_that_has_failed_a_request_is_not_asked_again_while_there_is_another():
    pool = pool_of(FakeAdapter(), FakeAdapter())

    assert {await ask(pool, tried=frozenset({"s0"})) for _ in range(5)} == {"s1"}
    assert not pool.has_other(frozenset({"s0", "s1"}))
    assert await ask(pool, tried=frozenset({"s0", "s1"}))


async def fails(pool: Pool, times: int) -> LocalforgeError:
    for _ in range(times):
        with pytest.raises(LocalforgeError) as caught:
            await ask(pool)
    return caught.value


def told(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"localforge_executor_{name}", labels) or 0.0


async def test_metrics_follow_a_breaker_through_its_states():
    adapter = broken()
    pool = pool_of(adapter, open_s=0.05)
    await pool.start()
    assert told("breaker_state", server="s0") == 0
    before = told("breaker_opened_total", server="s0")
    await fails(pool, 2)
    assert told("breaker_state", server="s0") == 2
    await wait_until(lambda: told("breaker_state", server="s0") == 1, description="half open")
    adapter.error = None
    await ask(pool)
    await pool.close()

    assert told("breaker_state", server="s0") == 0
    assert told("breaker_opened_total", server="s0") == before + 1


async def test_retries_are_counted_by_their_cause():
    before = told("retries_total", cause="backend_http_503")
    pool = pool_of(broken("backend_http_503"), FakeAdapter())
    for _ in range(2):
        await serve(pool, target("first"))

    assert told("retries_total", cause="backend_http_503") > before


async def test_a_server_that_keeps_failing_is_left_alone_and_capacity_follows():
    changes: list[BreakerState] = []
    pool = pool_of(broken(), FakeAdapter())
    pool.on_change = lambda: changes.append(pool.states[0].breaker)
    assert pool.slots == 4
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            await ask(pool, tried=frozenset({"s1"}))

    assert {await ask(pool) for _ in range(5)} == {"s1"}
    assert (pool.slots, changes, pool.breaker) == (2, [BreakerState.OPEN], BreakerState.CLOSED)


async def test_a_breaker_that_opens_is_told_once_however_many_requests_it_fails():
    changes: list[BreakerState] = []
    adapter = broken()
    adapter.slots, adapter.error_after, adapter.gate = 8, 2, asyncio.Event()
    pool = pool_of(adapter)
    pool.on_change = lambda: changes.append(pool.breaker)
    before = told("breaker_opened_total", server="s0")
    tasks = [asyncio.create_task(ask(pool)) for _ in range(8)]
    await wait_until(lambda: adapter.running == 8, description="all run")

    adapter.gate.set()
    ends = await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(end) for end in ends} == {BackendUnavailable}
    assert changes == [BreakerState.OPEN]
    assert told("breaker_opened_total", server="s0") == before + 1


async def test_when_all_are_left_alone_a_request_is_refused_at_once_with_the_time_to_wait():
    adapter = broken()
    pool = pool_of(adapter)
    await fails(pool, 2)

    error = await fails(pool, 1)

    assert (error.code, error.status, len(adapter.requests)) == ("breaker_open", 503, 2)
    assert 50 < error.retry_after_s <= 66
    assert pool.breaker is BreakerState.OPEN


@pytest.mark.parametrize(
    "error",
    [
        BackendRefused("no such top_k", status=400),
        BackendUnavailable("busy", code="backend_rate_limited"),
        BackendUnavailable("no such model", code="backend_not_found"),
    ],
    ids=lambda error: error.code,
)
async def test_an_answer_that_says_no_is_no_failure_of_the_server(error: LocalforgeError):
    adapter = FakeAdapter()
    adapter.error = error
    pool = pool_of(adapter)

    await fails(pool, 5)

    assert pool.breaker is BreakerState.CLOSED


async def test_a_probe_half_opens_the_breaker_and_a_request_closes_it():
    adapter = broken()
    pool = pool_of(adapter, open_s=0.05)
    await pool.start()
    await fails(pool, 2)
    await wait_until(
        lambda: pool.breaker is BreakerState.HALF_OPEN, description="the probe went well"
    )

    adapter.error = None
    await ask(pool)

    assert pool.breaker is BreakerState.CLOSED
    await pool.close()


async def test_while_the_probe_says_that_it_is_down_no_request_is_spent_on_it():
    adapter = Sick()
    adapter.error = BackendUnavailable("gone", code="backend_unreachable")
    pool = pool_of(adapter, open_s=0.02)
    await pool.start()
    await fails(pool, 2)
    breaker = pool._servers[0].breaker
    await wait_until(lambda: breaker._openings >= 3, description="probed twice in vain")

    assert (await fails(pool, 1)).code == "breaker_open"
    adapter.health = Health.UP
    await wait_until(lambda: pool.breaker is BreakerState.HALF_OPEN, description="well again")
    await pool.close()


class Unreadable(FakeAdapter):
    """Its adapter fails at what it says of itself."""

    async def probe(self) -> Probe:
        raise OverflowError("integer division result too large for a float")


async def test_a_probe_that_fails_unexpectedly_leaves_the_word_to_the_breaker():
    adapter = Unreadable()
    adapter.error = BackendUnavailable("broken", code="backend_cut")
    pool = pool_of(adapter, open_s=0.02)
    await pool.start()
    await fails(pool, 2)
    await wait_until(lambda: pool.breaker is BreakerState.HALF_OPEN, description="on trial")
    await fails(pool, 1)
    await wait_until(lambda: pool.breaker is BreakerState.HALF_OPEN, description="again")

    assert (await pool.probe()).health is Health.DEGRADED
    await pool.close()


async def test_the_backend_is_as_well_as_the_best_of_its_servers():
    pool = pool_of(Sick(), FakeAdapter())

    probe = await pool.probe()

    assert (probe.health, probe.detail) == (Health.UP, "s0: gone")
    assert {await ask(pool) for _ in range(5)} == {"s1"}


@pytest.mark.parametrize(
    ("urls", "names"),
    [
        (("http://a:1/v1", "http://u:p@b:1/v1"), ["a:1", "b:1"]),
        (("http://a/gpu0/v1", "http://a/gpu1/v1"), ["a/gpu0/v1", "a/gpu1/v1"]),
    ],
)
def test_servers_are_named_by_what_tells_them_apart(urls: tuple[str, ...], names: list[str]):
    assert server_names(BackendConfig(name="b", kind="openai", urls=urls)) == names


async def serve(pool: Pool, *plan: Target) -> KeepingSink:
    backend = BackendConfig(name="fake", kind="openai", url="http://fake/v1")
    sink = KeepingSink()
    service = ExecutorService(backend, pool, replica="r", verifier=VERIFIER)
    await service.run(execute_call(*plan), sink)
    return sink


async def test_another_server_answers_before_another_model_does_and_each_attempt_is_told():
    pool = pool_of(broken(), FakeAdapter(), broken())

    sink = await serve(pool, target("first"), target("second", backend="other"))

    assert (sink.kinds, sink.handed_on) == (["Completed"], [])
    told = [(o.outcome_id.rpartition(".")[2], o.status, o.replica) for o in sink.outcomes]
    assert told[0] == ("0", "error", "r/s0")
    assert told[-1] == (f"0-{len(told) - 1}", "ok", "r/s1")
    # 7 prompt tokens each failed attempt, unless it never got so far as to be billed.
    assert sink.frames[0].summary.cost_usd == pytest.approx(sum(o.cost_usd for o in sink.outcomes))


async def test_when_every_server_has_failed_the_next_model_is_asked():
    pool = pool_of(broken(), broken())

    sink = await serve(pool, target("first"), target("second", backend="other"))

    assert [o.outcome_id.rpartition(".")[2] for o in sink.outcomes] == ["0", "0-1"]
    assert [call.step for call, _ in sink.handed_on] == [1]
