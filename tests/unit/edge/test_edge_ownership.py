"""Whose decisions and answers a key may read and judge."""

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest

from localforge.config import KeyConfig
from tests.support import wait_until
from tests.unit.edge.lane import decided


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(
    http: aiohttp.ClientSession, edge: Any, method: str, path: str, **more: Any
) -> tuple[int, dict[str, Any]]:
    async with http.request(method, edge.url + path, **more) as answer:
        return answer.status, msgspec.json.decode(await answer.read())


TWO_KEYS: dict[str, Any] = {
    "keys": (KeyConfig(id="mine", secret="env:MINE"), KeyConfig(id="theirs", secret="env:THEIRS")),
    "secrets": {"env:MINE": "m", "env:THEIRS": "t"},
}


@pytest.mark.parametrize(
    ("owner", "status"), [("mine", 200), ("theirs", 404), ("", 404)], ids=["own", "other", "no one"]
)
async def test_a_key_reads_its_own_decisions_and_no_others(http, run_edge, owner, status):
    edge = await run_edge(**TWO_KEYS)
    edge.log["01d"] = decided("01d", key_id=owner).encode()

    found, body = await ask(
        http, edge, "GET", "/v1/decisions/chatcmpl-01d", headers={"x-api-key": "m"}
    )
    missing, answer = await ask(
        http, edge, "GET", "/v1/decisions/chatcmpl-02d", headers={"x-api-key": "m"}
    )

    assert (found, missing) == (status, 404)
    if status == 404:
        told = body["error"]["message"].replace("01d", "02d")
        assert told == answer["error"]["message"], "as if there were none"


async def test_without_keys_every_decision_may_be_read(http, edge):
    edge.log["01d"] = decided("01d", key_id="mine").encode()

    assert (await ask(http, edge, "GET", "/v1/decisions/01d"))[0] == 200
    assert (await ask(http, edge, "GET", "/v1/decisions/01d%0A"))[0] == 404, "by its very id"


@pytest.mark.parametrize(
    ("owner", "status"), [("mine", 202), ("theirs", 404), (None, 404)], ids=["own", "other", "none"]
)
async def test_a_key_judges_its_own_answers_and_no_others(http, run_edge, owner, status):
    edge = await run_edge(**TWO_KEYS)
    if owner is not None:
        edge.log["01d"] = decided("01d", key_id=owner).encode()
    body = b'{"id":"msg_01d","score":1}'

    found, answer = await ask(
        http, edge, "POST", "/v1/feedback", data=body, headers={"x-api-key": "m"}
    )

    assert found == status
    assert [verdict.key_id for verdict in edge.published] == (["mine"] if status == 202 else [])
    assert status == 202 or answer["error"]["code"] == "completion_not_found"


async def test_a_verdict_on_an_answer_that_nobody_gave_is_refused(http, edge):
    status, answer = await ask(http, edge, "POST", "/v1/feedback", data=b'{"id":"msg_x","score":1}')

    assert (status, answer["error"]["code"]) == (404, "completion_not_found")
    assert edge.published == []


async def test_a_verdict_may_be_quicker_than_the_decisions_record(http, edge):
    asked = asyncio.create_task(
        ask(http, edge, "POST", "/v1/feedback", data=b'{"id":"chatcmpl-01d","score":1}')
    )
    await wait_until(lambda: edge.fetched == ["01d"], description="it was looked for")
    edge.log["01d"] = decided("01d").encode()

    assert (await asked)[0] == 202


async def test_while_decisions_are_not_written_verdicts_are_taken_on_trust(http, edge):
    edge.is_delayed = True

    status, _ = await ask(http, edge, "POST", "/v1/feedback", data=b'{"id":"msg_x","score":1}')

    assert status == 202
