"""The HTTP API: statuses, shapes, and what no input can bring about."""

import asyncio
from http import HTTPStatus

import aiohttp
import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from localforge.config import KeyConfig
from localforge.contracts.live import Explained
from localforge.contracts.trust import Label
from localforge.edge.health import Dependency, State
from localforge.edge.routes import UNMATCHED
from localforge.errors import DependencyUnavailable
from tests.unit.edge.lane import BODY, CHAT, completed, decided, delta, failed, summary

CHAT_PATH = "/v1/chat/completions"


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(http, edge, method, path, **options):
    async with http.request(method, edge.url + path, **options) as response:
        return response.status, response.headers, await response.read()


@pytest.fixture
def ask_app(make_edge):
    """Ask the application itself, without a server."""
    with asyncio.Runner() as runner:
        edge = make_edge()

        def ask(body: bytes) -> tuple[int, bytes]:
            scope = {"type": "http", "method": "POST", "path": CHAT_PATH, "headers": []}
            sent: list[dict] = []
            waiting = [{"type": "http.request", "body": body}]

            async def receive() -> dict:
                if waiting:
                    return waiting.pop()
                return await asyncio.Event().wait()

            async def send(message: dict) -> None:
                sent.append(message)

            runner.run(edge.app(scope, receive, send))
            return sent[0]["status"], b"".join(message["body"] for message in sent[1:])

        yield ask


def error_of(body: bytes) -> dict:
    found = msgspec.json.decode(body)
    assert list(found) == ["error"]
    assert set(found["error"]) == {"message", "type", "code", "param"}
    return found["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "param"),
    [
        ("POST", CHAT_PATH, b"{", 400, "invalid_json", None),
        ("POST", CHAT_PATH, b"[]", 400, "invalid_type", None),
        ("POST", CHAT_PATH, b"{}", 400, "missing_required_parameter", "model"),
        ("POST", CHAT_PATH, b'{"model":"a"}', 400, "missing_required_parameter", "messages"),
        ("POST", "/v1/route", b"{}", 400, "missing_required_parameter", "model"),
        ("POST", "/v1/feedback", b"{}", 400, "missing_required_parameter", "completion_id"),
        ("POST", "/v1/feedback", b'{"id":"x","score":1}', 400, "invalid_value", "id"),
        (
            "POST",
            "/v1/feedback",
            rb'{"id":"chatcmpl-1\n","score":1}',
            400,
            "invalid_value",
            "id",
        ),
        (
            "POST",
            "/v1/feedback",
            rb'{"id":"chatcmpl-1","score":1,"feedback_id":"f\n"}',
            400,
            "invalid_value",
            "feedback_id",
        ),
        (
            "POST",
            "/v1/feedback",
            b'{"id":"chatcmpl-1"}',
            400,
            "missing_required_parameter",
            "score",
        ),
        (
            "POST",
            "/v1/feedback",
            b'{"id":"chatcmpl-1","score":1,"thumbs_up":true}',
            400,
            "invalid_value",
            "score",
        ),
        (
            "POST",
            "/v1/feedback",
            b'{"id":"chatcmpl-1","completion_id":"chatcmpl-2","score":1}',
            400,
            "invalid_value",
            "completion_id",
        ),
        ("POST", "/v1/feedback", b'{"id":"chatcmpl-1","score":2}', 400, "invalid_value", "score"),
        ("GET", CHAT_PATH, None, 405, "method_not_allowed", None),
        ("DELETE", "/v1/models/tiny", None, 405, "method_not_allowed", None),
        ("GET", "/v1/models/none", None, 404, "model_not_found", "model"),
        ("GET", "/v1/models/", None, 404, "unknown_url", None),
        ("GET", "/v2", None, 404, "unknown_url", None),
        ("POST", "/v1/chat/completions/", BODY, 404, "unknown_url", None),
    ],
)
async def test_a_bad_request_has_openais_error_shape(
    http, edge, method, path, body, status, code, param
):
    found, headers, answer = await ask(http, edge, method, path, data=body)

    error = error_of(answer)
    assert (found, error["code"], error["param"]) == (status, code, param)
    assert error["type"] == "invalid_request_error"
    assert headers["content-type"] == "application/json"
    assert edge.lane.sent == []


async def test_no_error_shows_a_pattern_that_only_programs_read(http, edge):
    async with http.post(f"{edge.url}/v1/feedback", data=b'{"id":"x","score":1}') as answer:
        message = (await answer.json())["error"]["message"]

    assert message == "`id`: not of the form that it has here (see /openapi.json)"


async def test_405_says_what_is_allowed(http, edge):
    _, headers, _ = await ask(http, edge, "GET", CHAT_PATH)

    assert headers["allow"] == "POST"


async def test_curl_without_a_content_type_is_served(http, edge):
    kind = {"content-type": "application/x-www-form-urlencoded"}
    status, _, _ = await ask(http, edge, "POST", CHAT_PATH, data=BODY, headers=kind)

    assert status == HTTPStatus.OK


async def test_a_compressed_body_is_415(http, edge):
    status, _, body = await ask(
        http, edge, "POST", CHAT_PATH, data=b"\x1f\x8b", headers={"content-encoding": "gzip"}
    )

    assert (status, error_of(body)["code"]) == (415, "unsupported_encoding")


async def test_options_in_headers_reach_the_call(http, edge):
    headers = {
        "x-localforge-preference": "fast",
        "x-localforge-label": "confidential",
        "x-localforge-deadline-s": "7",
        "x-localforge-fallback": "no",
    }
    await ask(http, edge, "POST", CHAT_PATH, data=BODY, headers=headers)

    call = edge.lane.sent[0]
    assert (call.preference, call.declared_label) == ("fast", Label.CONFIDENTIAL)
    assert call.allow_fallback is False
    assert call.deadline == pytest.approx(edge.service.clock() + 7, abs=2)


async def test_a_stream_is_written_as_it_came_and_ends_once(http, edge):
    body = msgspec.json.encode(CHAT | {"stream": True})
    status, headers, answer = await ask(http, edge, "POST", CHAT_PATH, data=body)

    assert status == HTTPStatus.OK
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-localforge-model"] == "tiny"
    assert "x-localforge-cost-usd" not in headers
    assert answer.count(b"data: ") == 4
    assert answer.endswith(b"data: [DONE]\n\n")


async def test_a_stream_that_breaks_has_no_done(http, edge):
    def breaks(lane, call):
        lane.emit(delta(call, "half", first=True))
        edge.service.forget(call.request_id)

    edge.lane.script = breaks
    body = msgspec.json.encode(CHAT | {"stream": True, "localforge": {"deadline_s": 0.1}})
    status, _, answer = await ask(http, edge, "POST", CHAT_PATH, data=body)

    assert status == HTTPStatus.OK
    events = answer.split(b"\n\n")
    assert error_of(events[1].removeprefix(b"data: "))["code"] == "deadline_exceeded"
    assert b"[DONE]" not in answer


async def test_a_stream_of_one_frame_is_a_stream(http, edge):
    edge.lane.script = lambda lane, call: lane.emit(completed(call, data=b"data: [DONE]\n\n"))
    body = msgspec.json.encode(CHAT | {"stream": True})
    status, headers, answer = await ask(http, edge, "POST", CHAT_PATH, data=body)

    assert (status, answer) == (200, b"data: [DONE]\n\n")
    assert headers["x-localforge-zone"] == "local"


async def test_part_of_an_answer_where_a_whole_one_was_asked_is_502(http, edge):
    edge.lane.script = lambda lane, call: lane.emit(delta(call, "a", first=True))
    status, _, body = await ask(http, edge, "POST", CHAT_PATH, data=BODY)

    assert (status, error_of(body)["code"]) == (502, "backend_unavailable")


async def test_feedback_is_published_before_it_is_accepted(http, edge):
    edge.log["01"] = decided("01").encode()
    body = b'{"completion_id":"chatcmpl-01","score":0.5,"feedback_id":"f1","comment":"caf\xc3\xa9"}'
    status, _, answer = await ask(http, edge, "POST", "/v1/feedback", data=body)

    assert status == HTTPStatus.ACCEPTED
    assert msgspec.json.decode(answer) == {
        "id": "f1",
        "completion_id": "chatcmpl-01",
        "score": 0.5,
        "object": "feedback",
    }
    verdict = edge.published[0]
    assert (verdict.id, verdict.score, verdict.comment_bytes) == ("f1", 0.5, 5)


@pytest.mark.parametrize(("thumbs", "score"), [(b"true", 1.0), (b"false", 0.0)])
async def test_thumbs_are_a_score(http, edge, thumbs, score):
    edge.log["01"] = decided("01").encode()
    body = b'{"id":"chatcmpl-01","thumbs_up":' + thumbs + b"}"
    await ask(http, edge, "POST", "/v1/feedback", data=body)

    assert edge.published[0].score == score
    assert len(edge.published[0].id) == 26


async def test_feedback_that_cannot_be_kept_is_503(http, edge):
    edge.publish_error = DependencyUnavailable("JetStream did not take it", retry_after_s=2)
    edge.log["01"] = decided("01").encode()
    body = b'{"id":"chatcmpl-01","score":1}'
    status, headers, answer = await ask(http, edge, "POST", "/v1/feedback", data=body)

    assert (status, headers["retry-after"]) == (503, "2")
    assert error_of(answer)["code"] == "dependency_unavailable"


def explain(lane, call):
    decision = decided(call.request_id)
    lane.emit(Explained(request_id=call.request_id, decision=decision, findings=("email",)))


async def test_route_explains_and_runs_nothing(http, edge):
    edge.lane.script = explain
    body = msgspec.json.encode(CHAT | {"stream": True})
    status, _, answer = await ask(http, edge, "POST", "/v1/route", data=body)

    found = msgspec.json.decode(answer)
    assert status == HTTPStatus.OK
    assert edge.lane.sent[0].dry_run
    assert found["decision"]["chosen"] == "tiny"
    assert found["decision"]["candidates"][0]["probability"] == 1
    assert found["decision"]["candidates"][0]["cost_usd"] == 0, "defaults are shown"
    assert found["decision"]["exclusions"][0]["reason"] == "zone"
    assert found["findings"] == ["email"]
    assert "features" not in found["decision"]


@pytest.mark.parametrize(
    ("states", "status", "worst"),
    [
        ({"nats": State.OK, "registry": State.OK}, 200, "ok"),
        ({"nats": State.OK, "registry": State.DEGRADED}, 200, "degraded"),
        ({"nats": State.DOWN, "registry": State.DEGRADED}, 503, "down"),
    ],
)
async def test_readiness_is_as_good_as_the_worst_dependency(http, edge, states, status, worst):
    edge.health = {name: Dependency(status=state, detail="d") for name, state in states.items()}
    found, _, body = await ask(http, edge, "GET", "/readyz")

    answer = msgspec.json.decode(body)
    assert (found, answer["status"]) == (status, worst)
    assert {n: d["status"] for n, d in answer["dependencies"].items()} == states


async def test_liveness_does_not_depend_on_dependencies(http, edge):
    edge.health = {"nats": Dependency(status=State.DOWN)}

    assert (await ask(http, edge, "GET", "/livez"))[0] == HTTPStatus.OK


async def test_keys_guard_the_api_but_not_the_monitoring(http, run_edge):
    edge = await run_edge(keys=(KeyConfig(id="k", secret="env:K"),), secrets={"env:K": "s"})

    for method, path in (
        ("POST", CHAT_PATH),
        ("POST", "/v1/route"),
        ("POST", "/v1/feedback"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/tiny"),
    ):
        status, headers, body = await ask(http, edge, method, path)
        assert (status, error_of(body)["code"]) == (401, "missing_api_key"), path
        assert headers["www-authenticate"] == "Bearer"
    for path in ("/", "/livez", "/readyz", "/metrics", "/openapi.json"):
        assert (await ask(http, edge, "GET", path))[0] == HTTPStatus.OK, path


async def test_metrics_count_requests_by_route_and_status(http, edge):
    def count(route: str, status: str) -> float:
        labels = {"route": route, "status": status}
        return REGISTRY.get_sample_value("localforge_edge_requests_total", labels) or 0

    before = count(CHAT_PATH, "200"), count(UNMATCHED, "404")
    await ask(http, edge, "POST", CHAT_PATH, data=BODY)
    await ask(http, edge, "GET", "/nowhere")
    _, _, text = await ask(http, edge, "GET", "/metrics")

    assert (count(CHAT_PATH, "200"), count(UNMATCHED, "404")) == (before[0] + 1, before[1] + 1)
    assert b"localforge_edge_overhead_seconds_bucket" in text


async def test_a_request_leaves_one_log_line_without_content(http, edge):
    with capture_logs() as lines:
        await ask(http, edge, "POST", CHAT_PATH, data=BODY, headers={"authorization": "Bearer s"})

    (line,) = lines
    assert (line["event"], line["route"], line["status"]) == ("request", CHAT_PATH, 200)
    assert line["request_id"] == line["decision_id"] == edge.lane.sent[0].request_id
    assert (line["model"], line["zone"], line["attempts"]) == ("tiny", "local", 1)
    assert line["cost_usd"] == summary(edge.lane.sent[0]).cost_usd
    assert "hello" not in str(line)
    assert "Bearer" not in str(line)


async def test_a_model_that_a_client_invents_is_not_logged(http, edge):
    several = {"model": "my diagnosis", "prompt": ["a", "b"]}
    with capture_logs() as lines:
        await ask(http, edge, "POST", CHAT_PATH, json=CHAT | {"model": "my diagnosis"})
        await ask(http, edge, "POST", "/v1/completions", json=several)

    assert [line["requested"] for line in lines] == ["<unknown>", "<unknown>"]
    assert "diagnosis" not in str(lines)


@pytest.mark.parametrize("path", [CHAT_PATH, "/v1/messages"])
@pytest.mark.parametrize(
    ("stream", "begun"), [(False, False), (True, False), (True, True)], ids=str
)
async def test_a_failure_has_the_cost_of_what_was_tried(http, edge, path, stream, begun):
    def script(lane, call):
        if begun:
            lane.emit(delta(call, "half", first=True))
        lane.emit(failed(call, summary=summary(call, cost_usd=0.25)))

    edge.lane.script = script
    with capture_logs() as lines:
        _, headers, _ = await ask(
            http, edge, "POST", path, json=CHAT | {"stream": stream, "max_tokens": 9}
        )

    (line,) = lines
    assert (line["cost_usd"], line["error"]) == (0.25, "backend_unavailable")
    # What a stream has begun with cannot say what it will cost.
    assert headers.get("x-localforge-cost-usd") == (None if begun else "0.25000000")


async def test_a_failure_that_nobody_has_an_account_of_has_no_cost(http, edge):
    edge.lane.script = lambda lane, call: lane.emit(failed(call))
    with capture_logs() as lines:
        _, headers, _ = await ask(http, edge, "POST", CHAT_PATH, data=BODY)

    assert "cost_usd" not in lines[0]
    assert "x-localforge-cost-usd" not in headers


async def test_head_is_get_without_a_body(http, edge):
    status, headers, body = await ask(http, edge, "HEAD", "/livez")

    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0


async def test_the_openapi_document_covers_every_route(edge, http):
    _, _, body = await ask(http, edge, "GET", "/openapi.json")
    document = msgspec.json.decode(body)

    documented = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert documented == {(route.method, route.path) for route in edge.app.routes}


async def test_the_openapi_schemas_hold_for_real_answers(edge, http):
    _, _, body = await ask(http, edge, "GET", "/openapi.json")
    document = msgspec.json.decode(body)
    edge.lane.script = explain
    answers = {
        "ModelList": await ask(http, edge, "GET", "/v1/models"),
        "Readiness": await ask(http, edge, "GET", "/readyz"),
        "RouteExplanation": await ask(http, edge, "POST", "/v1/route", data=BODY),
        "ErrorAnswer": await ask(http, edge, "GET", "/nowhere"),
    }

    for name, (_, _, answer) in answers.items():
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.validate(msgspec.json.decode(answer), schema)
    jsonschema.validate(
        CHAT | {"unknown": 1},
        {"$ref": "#/components/schemas/ChatBody", "components": document["components"]},
    )


@settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.text(max_size=200).map(str.encode),
        st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ).map(msgspec.json.encode),
        st.fixed_dictionaries(
            {"model": st.just("auto"), "messages": st.just(CHAT["messages"])},
            optional={
                name: st.none() | st.integers() | st.text() | st.lists(st.integers())
                for name in ("stream", "n", "tools", "localforge", "preference", "max_tokens")
            },
        ).map(msgspec.json.encode),
    )
)
def test_no_body_brings_about_a_500(ask_app, data):
    status, body = ask_app(data)

    assert status in (200, 400)
    if status == HTTPStatus.BAD_REQUEST:
        assert error_of(body)["type"] == "invalid_request_error"
