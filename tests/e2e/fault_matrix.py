"""Runs every cell of the fault matrix and gathers what is known of it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterable

import aiohttp
import msgspec

from localforge.bus.pull import Pulled
from localforge.bus.tail import read_all
from localforge.contracts import subjects
from localforge.contracts.facts import OutcomeObserved
from tests.e2e.durable import Application, application
from tests.e2e.fault_answers import Seen, read_chat, read_message, read_stream
from tests.e2e.fault_cells import (
    CELLS,
    COMEBACK,
    DEADLINE_S,
    DURABLE_DEADLINE_S,
    SWITCHED,
    WAITING,
    Cell,
    body_of,
)
from tests.e2e.fault_servers import Servers
from tests.e2e.stack import Stack
from tests.support import wait_until

AT_ONCE = 6
WAITING_AT_ONCE = 32
"""They only wait."""


async def run_matrix(stack: Stack, servers: Servers) -> dict[Cell, Seen]:
    """Run every cell and gather what is known of it."""
    seen: dict[Cell, Seen] = {}
    live = [c for c in CELLS if c.api != "durable"]
    durable = [c for c in CELLS if c.api == "durable"]
    async with _client(stack) as http, application(stack) as app:
        for fault in SWITCHED:
            with servers.switched(fault):
                await _publish(app, [c for c in durable if c.fault is fault])
                await _ask_all(http, [c for c in live if c.fault is fault], seen, AT_ONCE)
                await _have_been_tried(stack, [c for c in durable if c.fault is fault])
        await _publish(app, [c for c in durable if c.fault not in SWITCHED])
        servers.schedule(f"{COMEBACK.fault}*2")
        await app.ask(COMEBACK.marker, body_of(COMEBACK))
        waiting = [c for c in live if c.fault in WAITING]
        others = [c for c in live if c.fault not in (*SWITCHED, *WAITING)]
        await asyncio.gather(
            _ask_all(http, waiting, seen, WAITING_AT_ONCE),
            _ask_all(http, others, seen, AT_ONCE),
            _take_results(app, [*durable, COMEBACK], seen),
        )
    await _add_attempts(stack, seen)
    _add_log_lines(stack, seen)
    for cell, found in seen.items():
        found.requests = servers.requests(cell)
    return seen


@contextlib.asynccontextmanager
async def _client(stack: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S + 10)
    async with aiohttp.ClientSession(stack.url, timeout=timeout) as http:
        yield http


async def _ask_all(
    http: aiohttp.ClientSession, cells: Iterable[Cell], seen: dict[Cell, Seen], at_once: int
) -> None:
    room = asyncio.Semaphore(at_once)

    async def one(cell: Cell) -> None:
        async with room:
            seen[cell] = await _ask(http, cell)

    await asyncio.gather(*(one(cell) for cell in cells))


async def _ask(http: aiohttp.ClientSession, cell: Cell) -> Seen:
    path = "/v1/chat/completions" if cell.api == "chat" else "/v1/messages"
    headers = {"x-localforge-deadline-s": f"{DEADLINE_S:g}"}
    began = time.monotonic()
    async with http.post(path, json=body_of(cell), headers=headers) as answer:
        data = await answer.read()
        took_s = time.monotonic() - began
        told = read_stream(data) if "event-stream" in answer.content_type else [json.loads(data)]
        cost = answer.headers.get("x-localforge-cost-usd")
        seen = (read_chat if cell.api == "chat" else read_message)(told, answer.status)
        seen.took_s = took_s
        seen.is_whole = seen.is_whole and (not cell.stream or seen.text != "")
        seen.model = answer.headers.get("x-localforge-model", "")
        seen.request_id = answer.headers.get("x-request-id", "")
        seen.cost_usd = float(cost) if cost else None
    return seen


async def _publish(app: Application, cells: Iterable[Cell]) -> None:
    for cell in cells:
        await app.ask(cell.marker, body_of(cell), deadline_s=DURABLE_DEADLINE_S)


async def _have_been_tried(stack: Stack, cells: Iterable[Cell]) -> None:
    """Wait until nothing is left to try of the cells before they come again."""
    for cell in cells:
        name = "fallback" if cell.place == "first" else "retry"
        more = {} if cell.place == "first" else {"delivery": 1}
        await wait_until(
            lambda name=name, cell=cell, more=more: stack.events(
                name, request_id=cell.marker, **more
            ),
            timeout=30,
            description=f"{cell.marker} has met its fault",
        )


async def _take_results(app: Application, cells: Iterable[Cell], seen: dict[Cell, Seen]) -> None:
    for cell in cells:
        result = await app.result(cell.marker, timeout=60)
        found = Seen(status=result.status)
        if result.error is not None:
            found.error = msgspec.to_builtins(result.error)
        else:
            found = read_chat([json.loads(bytes(result.response))], result.status)
        found.model = result.model
        found.request_id = result.id
        found.cost_usd, found.used = result.cost_usd, result.usage
        seen[cell] = found


async def _add_attempts(stack: Stack, seen: dict[Cell, Seen]) -> None:
    """Read the log until it has the last attempt of every request."""
    by_request = {found.request_id: found for found in seen.values()}

    async def read() -> bool:
        outcomes = await _outcomes(stack)
        for found in seen.values():
            found.attempts = []
        for outcome in outcomes:
            if outcome.request_id in by_request:
                by_request[outcome.request_id].attempts.append(outcome)
        return all(
            any(attempt.model == cell.model for attempt in found.attempts)
            if found.error is not None
            else found.attempts and found.attempts[-1].status == "ok"
            for cell, found in seen.items()
        )

    with contextlib.suppress(AssertionError):  # each cell says what it lacks
        await wait_until(read, timeout=15, description="every attempt is in the log")


def _add_log_lines(stack: Stack, seen: dict[Cell, Seen]) -> None:
    """Take from the log what was handed on to which model, and what the edge says it cost."""
    by_request = {found.request_id: found for found in seen.values()}
    for line in stack.events("fallback"):
        if found := by_request.get(line["request_id"]):
            found.fallbacks.append((line["model"], line["to"]))
    for line in stack.events("request"):
        if found := by_request.get(line.get("request_id", "")):
            found.logged_usd = line.get("cost_usd")


async def _outcomes(stack: Stack) -> list[OutcomeObserved]:
    found: list[Pulled] = []

    async def take(batch: list[Pulled]) -> None:
        found.extend(batch)

    async with stack.nats("admin") as client:
        await read_all(client, "admin", subjects.FEEDBACK.name, take)
    prefix = f"{subjects.OUTCOME_PREFIX}."
    outcomes = [OutcomeObserved.decode(f.data) for f in found if f.subject.startswith(prefix)]
    return sorted(outcomes, key=lambda outcome: outcome.observed_at)
