"""Request ids: one for each request, made before it is read, in its answer and in its log line."""

import asyncio

import aiohttp
import pytest
from structlog.testing import capture_logs

from localforge.contracts.live import Accepted
from localforge.edge.protocol import UNREAD
from localforge.errors import DependencyUnavailable
from tests.unit.edge.lane import BODY, CHAT, decided, delta, summary

HEADER = "x-request-id"
CHAT_PATH, MESSAGES_PATH = "/v1/chat/completions", "/v1/messages"


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", CHAT_PATH, b"{}", 400),
        ("POST", CHAT_PATH, b"{", 400),
        ("POST", CHAT_PATH, b"a" * 200_001, 413),
        ("POST", MESSAGES_PATH, b"{}", 400),
        ("POST", "/v1/completions", b"{}", 400),
        ("POST", "/v1/feedback", b"{}", 400),
        ("PUT", CHAT_PATH, b"", 405),
        ("GET", "/nowhere", b"", 404),
        ("GET", "/v1/models", b"", 200),
        ("GET", "/v1/models/nobody", b"", 404),
        ("GET", "/v1/decisions/nothing", b"", 404),
        ("GET", "/", b"", 200),
    ],
)
async def test_an_answer_without_an_exchange_has_the_id_of_its_log_line(
    http, run_edge, method, path, body, status
):
    edge = await run_edge(max_body_mb=0.2)
    with capture_logs() as lines:
        async with http.request(method, edge.url + path, data=body) as answer:
            assert answer.status == status
            ids = answer.headers.getall(HEADER)

    (line,) = [line for line in lines if line["event"] == "request"]
    assert ids == [line["request_id"]]
    assert len(ids[0]) == 26


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", [CHAT_PATH, MESSAGES_PATH])
async def test_a_chat_request_keeps_the_id_that_it_was_read_under(http, edge, path, stream):
    asked = {**CHAT, "max_tokens": 9, "stream": stream}
    with capture_logs() as lines:
        async with http.post(edge.url + path, json=asked) as answer:
            assert answer.status == 200
            await answer.read()

    (call,) = edge.lane.sent
    (line,) = [line for line in lines if line["event"] == "request"]
    assert answer.headers.getall(HEADER) == [call.request_id] == [line["request_id"]]
    assert line["decision_id"] == call.request_id


async def test_several_prompts_are_answered_under_the_id_of_the_first(http, edge):
    with capture_logs() as lines:
        asked = {"model": "auto", "prompt": ["one", "two"]}
        async with http.post(f"{edge.url}/v1/completions", json=asked) as answer:
            assert answer.status == 200

    (line,) = [line for line in lines if line["event"] == "request"]
    ids = [call.request_id for call in edge.lane.sent]
    assert answer.headers.getall(HEADER) == [line["request_id"]] == ids[:1]
    assert len(set(ids)) == 2


async def test_every_request_has_an_id_of_its_own(http, edge):
    ids = set()
    for _ in range(5):
        async with http.post(edge.url + CHAT_PATH, data=b"{}") as answer:
            ids.add(answer.headers[HEADER])

    assert len(ids) == 5


async def test_what_is_not_http_has_an_id_and_a_log_line_too(edge):
    with capture_logs() as lines:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(b"nonsense\r\n\r\n")
        answer = await reader.read()
        writer.close()

    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["route"], line["status"], line["error"]) == (UNREAD, 400, "invalid_http")
    assert f"{HEADER}: {line['request_id']}\r\n".encode() in answer


async def test_a_read_decision_is_named_in_the_log_line(http, edge):
    edge.log["01d"] = decided("01d").encode()
    with capture_logs() as lines:
        async with http.get(f"{edge.url}/v1/decisions/chatcmpl-01d") as answer:
            assert answer.status == 200

    (line,) = [line for line in lines if line["event"] == "request"]
    assert line["decision_id"] == "01d"


async def test_a_verdict_is_logged_with_its_decision(http, edge):
    edge.log["d1"] = decided("d1").encode()
    with capture_logs() as lines:
        verdict = {"completion_id": "chatcmpl-d1", "score": 1}
        async with http.post(f"{edge.url}/v1/feedback", json=verdict) as answer:
            assert answer.status == 202

    (line,) = [line for line in lines if line["event"] == "request"]
    assert line["decision_id"] == "d1"


async def test_a_lost_executor_and_a_lost_cancel_are_logged_with_both_ids(make_service, lane):
    service = make_service()

    def lost(request_id: str) -> None:
        raise DependencyUnavailable("the broker does not answer")

    lane.cancel = lost
    exchange = service.accept(BODY)
    call = exchange.call
    with capture_logs() as lines:
        known = summary(call, replica="r1", decision_id="d7")
        lane.emit(Accepted(request_id=call.request_id, summary=known))
        lane.emit(delta(call, "content"))
        exchange.on_lost("embedded", "r1")
    exchange.close()
    service.close()

    told = {line["event"]: (line["request_id"], line["decision_id"]) for line in lines}
    assert told["executor_lost"] == told["cancel_failed"] == (call.request_id, "d7")
