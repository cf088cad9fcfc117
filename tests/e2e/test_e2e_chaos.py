"""Parts of the running system die under load: nothing accepted is lost, nothing is done twice."""

import asyncio
import collections
import os
import random
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest

from localforge.bandit import FACT_SUBJECTS, Fold
from localforge.bandit.shipped import shipped_prior
from localforge.bus.pull import Pulled
from localforge.bus.tail import read_all
from localforge.contracts import subjects
from localforge.contracts.facts import DecisionMade, FeedbackGiven, OutcomeObserved
from localforge.features import SCHEMA
from tests.e2e.durable import application, dead_letters
from tests.e2e.stack import Provider, Stack, running
from tests.fakes.openai_server import Behaviour
from tests.support import wait_until

CONFIG = """\
[up]
# One process per service, so that each can die alone.
together = []

[[backends]]
name = "fake"
kind = "openai"
url = "{local}"
slots = 8
[[backends.models]]
name = "fake-a"
quality_prior = 0.5
[[backends.models]]
name = "fake-b"
quality_prior = 0.5
"""
CHILDREN = ("edge", "profiler", "router", "evaluator", "sweeper", "executor-fake")
DURABLE_REQUESTS = 60
FACT_PREFIXES = tuple(subject.removesuffix(">") for subject in FACT_SUBJECTS)


@pytest.fixture(name="chaos", scope="module")
def _chaos(tmp_path_factory: pytest.TempPathFactory, local: Provider) -> Iterator[Stack]:
    config = CONFIG.format(local=local.url)
    with running(Stack(tmp_path_factory.mktemp("chaos"), config)) as stack:
        yield stack


@pytest.fixture(name="rng")
def _rng() -> random.Random:
    return random.Random(20240607)


def _ask(text: str) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}]}


class Load:
    """Live requests, a few at a time, until it is stopped."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.ids: list[str] = []
        """Completion ids of the answers."""
        self.failures: list[str] = []
        self._session = session
        self._url = url
        self._stopping = False

    async def client(self) -> None:
        """Ask, give feedback, ask again."""
        while not self._stopping:
            try:
                async with self._session.post(
                    f"{self._url}/v1/chat/completions", json=_ask("under load")
                ) as answer:
                    body = await answer.json()
                if answer.status != 200:
                    self.failures.append(body["error"]["code"])
                    await asyncio.sleep(0.05)
                    continue
                self.ids.append(body["id"])
                verdict = {"completion_id": body["id"], "score": len(self.ids) % 2}
                async with self._session.post(f"{self._url}/v1/feedback", json=verdict):
                    pass
            except aiohttp.ClientError as exc:
                self.failures.append(type(exc).__name__)
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        """Let the requests under way be the last ones."""
        self._stopping = True

    async def more(self, answers: int) -> None:
        """Wait for so many more answers."""
        wanted = len(self.ids) + answers
        await wait_until(
            lambda: len(self.ids) >= wanted,
            timeout=30,
            description=f"{answers} more answers; failures: {collections.Counter(self.failures)}",
        )


@asynccontextmanager
async def _load(stack: Stack, clients: int = 4) -> AsyncIterator[Load]:
    async with aiohttp.ClientSession() as session:
        load = Load(session, stack.url)
        tasks = [asyncio.create_task(load.client()) for _ in range(clients)]
        try:
            yield load
        finally:
            load.stop()
            await asyncio.gather(*tasks)


async def _restarted(stack: Stack, child: str, old: int) -> None:
    """Wait until a child serves again under another pid."""

    def serves() -> bool:
        pid = stack.pid(child)
        return pid not in (0, old) and bool(stack.events("child_restarted", child=child, pid=pid))

    await wait_until(serves, timeout=30, description=f"{child} serves again")


async def _healthy(stack: Stack) -> None:
    def is_ok() -> bool:
        with suppress(OSError):
            return set(stack.readiness().values()) == {"ok"}
        return False

    await wait_until(lambda: asyncio.to_thread(is_ok), timeout=30, description="readiness")


async def _facts(stack: Stack) -> list[Pulled]:
    """Return the whole stream of facts."""
    found: list[Pulled] = []

    async def take(batch: list[Pulled]) -> None:
        found.extend(batch)

    async with stack.nats("admin") as client:
        await read_all(client, "admin", subjects.FEEDBACK.name, take)
    return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize("child", CHILDREN)
async def test_no_durable_request_is_lost_or_answered_twice_when_a_service_is_killed(
    chaos: Stack, local: Provider, child: str
):
    run = uuid.uuid4().hex[:6]
    ids = [f"{child}-{run}-{index}" for index in range(DURABLE_REQUESTS)]
    pace = Behaviour(first_s=0.15)
    with local.behaving(fake_a=pace, fake_b=pace):
        async with application(chaos) as app:
            for request_id in ids[: DURABLE_REQUESTS // 2]:
                await app.ask(request_id, _ask(request_id))
            await wait_until(
                lambda: len(app.heard) >= 5, timeout=20, description="some are answered"
            )
            old = chaos.kill(child)
            for request_id in ids[DURABLE_REQUESTS // 2 :]:
                await app.ask(request_id, _ask(request_id))
            await app.results(ids, timeout=60)
            results = [await app.result(request_id) for request_id in ids]
            await _restarted(chaos, child, old)
            await _healthy(chaos)

    assert {r.status for r in results} == {200}
    assert [r.id for r in results] == ids
    # The stream has room for one result of each request; who listens hears each that is taken.
    assert max(app.heard.values()) == 1
    assert await dead_letters(chaos) == []


@pytest.mark.timeout(120)
async def test_the_learners_state_survives_kills_at_any_moment(chaos: Stack, rng: random.Random):
    async with _load(chaos) as load:
        await load.more(20)
        # In good order first: what follows starts from its checkpoint.
        old = chaos.pid("router")
        os.kill(old, signal.SIGTERM)
        await _restarted(chaos, "router", old)
        for _ in range(3):
            await load.more(5)
            await asyncio.sleep(rng.uniform(0, 0.4))
            await _restarted(chaos, "router", chaos.kill("router"))
        await load.more(20)
    old = chaos.pid("router")
    os.kill(old, signal.SIGTERM)
    await _restarted(chaos, "router", old)
    lives = chaos.events("checkpoint") + chaos.events("learner_ready")
    states = {event["sequence"]: event["state_hash"] for event in lives}
    facts = [f for f in await _facts(chaos) if f.subject.startswith(FACT_PREFIXES)]

    uninterrupted = Fold(SCHEMA.name, SCHEMA.dim, shipped_prior())
    hashes = {0: uninterrupted.state_hash()}
    for fact in facts:
        uninterrupted.apply_bytes(fact.sequence, fact.subject, fact.data)
        if fact.sequence in states:
            hashes[fact.sequence] = uninterrupted.state_hash()
    assert len(chaos.events("checkpoint_restored")) >= 4
    assert uninterrupted.learner.arms.updates > 40
    assert states == hashes


@pytest.mark.timeout(120)
async def test_every_decision_made_in_the_chaos_can_be_made_again(chaos: Stack):
    replay = await asyncio.to_thread(chaos.cli, "audit", "replay", "--json")

    assert replay.returncode == 0, replay.stdout + replay.stderr


@pytest.mark.timeout(120)
async def test_the_loss_of_redis_is_not_felt(chaos: Stack):
    async with _load(chaos) as load:
        await load.more(10)
        old = chaos.kill("redis")
        await load.more(50)
        await _restarted(chaos, "redis", old)
        await load.more(50)
        # It answers again, but does not say a word: as a stalled disk or network would have it.
        os.kill(chaos.pid("redis"), signal.SIGSTOP)
        try:
            await wait_until(
                lambda: asyncio.to_thread(lambda: chaos.readiness()["registry"] == "degraded"),
                timeout=10,
                description="readiness says that the registry is degraded",
            )
            during = chaos.http("GET", "/readyz")
            await load.more(50)
        finally:
            os.kill(chaos.pid("redis"), signal.SIGCONT)
        await _healthy(chaos)
        await load.more(50)

    assert load.failures == []
    assert (during.status, during.json["status"]) == (200, "degraded")


@pytest.mark.timeout(120)
async def test_accepted_work_and_facts_survive_the_death_of_nats(chaos: Stack, local: Provider):
    ids = [f"nats-{index}" for index in range(DURABLE_REQUESTS)]
    pace = Behaviour(first_s=0.05)
    with local.behaving(fake_a=pace, fake_b=pace):
        async with application(chaos) as app, _load(chaos) as load:
            for request_id in ids[: DURABLE_REQUESTS // 2]:
                await app.ask(request_id, _ask(request_id))
            await load.more(10)
            old = chaos.kill("nats")
            for request_id in ids[DURABLE_REQUESTS // 2 :]:
                await app.ask(request_id, _ask(request_id))
            await _restarted(chaos, "nats", old)
            await load.more(20)
            await app.results(ids, timeout=60)
            results = [await app.result(request_id) for request_id in ids]
    await _healthy(chaos)
    assert {r.status for r in results} == {200}
    answered = {i.removeprefix("chatcmpl-") for i in load.ids} | {r.decision_id for r in results}

    async def told() -> bool:
        facts = await _facts(chaos)
        decisions, outcomes = _decided(facts), _answered(facts)
        assert max(decisions.values()) == max(outcomes.values()) == 1
        return answered <= decisions.keys() and answered <= outcomes.keys()

    await wait_until(told, timeout=20, description="one decision and one outcome of each answer")


def _decided(facts: list[Pulled]) -> collections.Counter[str]:
    """Count the records of each decision."""
    prefix = f"{subjects.DECISION_PREFIX}."
    return collections.Counter(
        DecisionMade.decode(f.data).decision_id for f in facts if f.subject.startswith(prefix)
    )


def _answered(facts: list[Pulled]) -> collections.Counter[str]:
    """Count the whole answers to each decision."""
    prefix = f"{subjects.OUTCOME_PREFIX}."
    outcomes = [OutcomeObserved.decode(f.data) for f in facts if f.subject.startswith(prefix)]
    return collections.Counter(o.decision_id for o in outcomes if o.status == "ok")


@pytest.mark.timeout(120)
async def test_answers_are_scored_again_after_the_death_of_nats(chaos: Stack):
    """The stream of content to score is in memory and dies with the server."""
    await _restarted(chaos, "nats", chaos.kill("nats"))
    await _healthy(chaos)

    async def scored() -> bool:
        reply = await asyncio.to_thread(chaos.chat, _ask("to be scored"))
        assert reply.status == 200, reply.body
        decision = reply.headers["x-localforge-decision"]
        for _ in range(20):
            given = [
                FeedbackGiven.decode(f.data)
                for f in await _facts(chaos)
                if f.subject == subjects.feedback("checks")
            ]
            if decision in {g.decision_id for g in given}:
                return True
            await asyncio.sleep(0.05)
        return False

    await wait_until(scored, timeout=45, description="an answer is scored")


async def test_who_comes_while_the_edge_is_away_waits_for_the_new_one(chaos: Stack) -> None:
    await _healthy(chaos)
    old = chaos.kill("edge")

    reply = await asyncio.to_thread(chaos.chat, _ask("while the edge is away"))

    assert reply.status == 200
    await _restarted(chaos, "edge", old)
