"""Spans reach a collector over OTLP, below the caller's own span, and carry no content."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.js.errors import NotFoundError
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from localforge.config import BackendConfig, Config, SealConfig
from localforge.contracts import subjects
from localforge.contracts.chat import ChatRequested
from localforge.contracts.facts import OutcomeObserved
from localforge.contracts.live import RouteCall
from localforge.errors import BackendRefused
from localforge.executor.service import ExecutorService
from localforge.hosting import Host
from localforge.profiler import app as profiler_app
from localforge.telemetry import gen_ai, tracing
from localforge.trust import ensure_key_pair
from tests.fakes.backend import FakeAdapter, KeepingSink
from tests.fakes.calls import VERIFIER, execute_call
from tests.fakes.collector import FakeCollector, spans_of
from tests.support import wait_until
from tests.support_nats import ProvisionedServer

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture(name="received")
def _received(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    with FakeCollector().serving() as collector:
        monkeypatch.setenv(tracing.ENDPOINT, collector.url)
        tracing.configure("test", {tracing.ENDPOINT: collector.url})
        try:
            yield collector.received
        finally:
            tracing.shutdown()


def _spans(received: list[bytes]) -> dict[str, Any]:
    return {span.name: span for span in spans_of(received)}


def test_a_services_span_hangs_below_the_edges_and_that_below_the_clients(
    received: list[bytes],
) -> None:
    request = tracing.RequestSpan("chat", f"00-{TRACE}-{PARENT}-01", "vendor=1", model="auto")
    with tracing.span("decide", request.traceparent, "vendor=1", request_id="r1"):
        pass
    with tracing.span("chat gpt-5", request.traceparent, is_client=True):
        pass
    request.end(status=200)
    tracing.shutdown()

    spans = _spans(received)
    chat, decide = spans["chat"], spans["decide"]
    assert chat.trace_id.hex() == decide.trace_id.hex() == TRACE
    assert chat.parent_span_id.hex() == PARENT
    assert (chat.trace_state, decide.trace_state) == ("vendor=1", "vendor=1")
    assert chat.kind == Span.SPAN_KIND_SERVER
    assert spans["chat gpt-5"].kind == Span.SPAN_KIND_CLIENT
    assert decide.parent_span_id == chat.span_id
    assert {a.key: a.value.string_value for a in decide.attributes} == {"request_id": "r1"}


def test_without_a_collector_the_clients_header_goes_on_as_it_is() -> None:
    header = f"00-{TRACE}-{PARENT}-00"

    request = tracing.RequestSpan("chat", header)
    with tracing.span("decide", request.traceparent):
        request.end()

    assert not tracing.enabled()
    assert header == request.traceparent


def _values(span: Any) -> dict[str, Any]:
    return {
        item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes
    }


async def _execute(adapter: FakeAdapter) -> None:
    service = ExecutorService(
        BackendConfig(name="fake", kind="openai", url="http://fake/v1"),
        adapter,
        replica="replica-1",
        verifier=VERIFIER,
    )
    sink = AnnotatingSink()
    with tracing.span("execute", "", **gen_ai.request_attributes("gpt-5", "openai")):
        await service.run(execute_call(), sink)


class AnnotatingSink(KeepingSink):
    def outcome(self, fact: OutcomeObserved) -> None:
        tracing.annotate(gen_ai.outcome_attributes(fact))


async def test_an_outcome_is_on_its_execute_span_by_the_gen_ai_conventions(
    received: list[bytes],
) -> None:
    await _execute(FakeAdapter())
    tracing.shutdown()

    execute = _spans(received)["execute"]
    values = _values(execute)
    assert values.pop("gen_ai.response.finish_reasons").values[0].string_value == "stop"
    assert values == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.model": "first",
        "gen_ai.provider.name": "openai",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 2,
    }


async def test_a_failed_attempt_marks_its_span_with_the_code_and_not_the_words(
    received: list[bytes],
) -> None:
    adapter = FakeAdapter()
    adapter.error = BackendRefused("your prompt `secret`", status=400, code="bad_prompt")

    await _execute(adapter)
    tracing.shutdown()

    execute = _spans(received)["execute"]
    assert _values(execute)["error.type"] == "bad_prompt"
    assert "gen_ai.response.model" not in _values(execute)
    assert execute.status.code == Status.STATUS_CODE_ERROR
    assert b"secret" not in b"".join(received)


def test_an_exception_leaves_its_code_on_the_span_and_not_its_words(received: list[bytes]) -> None:
    with (
        pytest.raises(BackendRefused),
        tracing.span("profile", "", request_id="r1"),
    ):
        raise BackendRefused("your prompt `secret`", status=400, code="bad_prompt")
    tracing.shutdown()

    assert _values(_spans(received)["profile"])["error.type"] == "bad_prompt"
    assert b"secret" not in b"".join(received)


async def test_the_durable_lane_goes_on_with_the_trace_of_the_messages_header(
    received: list[bytes], provisioned_server: ProvisionedServer, tmp_path: Path
) -> None:
    private_key, _ = ensure_key_pair(tmp_path)
    config = Config(
        nats=provisioned_server.config,
        seal=SealConfig(private_key_file=str(private_key)),
    )
    profiler = profiler_app.create(Host(config, {}))
    await profiler.start()
    try:
        app = await provisioned_server.connect("app")
        body = b'{"model":"auto","messages":[{"role":"user","content":"hi"}]}'
        await app.jetstream().publish(
            subjects.REQUEST_CHAT,
            ChatRequested(id="r1", request=msgspec.Raw(body)).encode(),
            headers={tracing.HEADER: f"00-{TRACE}-{PARENT}-01"},
        )
        admin = await provisioned_server.connect("admin")

        async def routed() -> bytes | None:
            try:
                last = await admin.jetstream().get_last_msg(
                    subjects.REQUESTS.name, subjects.WORK_ROUTE
                )
            except NotFoundError:
                return None
            return last.data

        data = await wait_until(routed, description="the router's work queue has the request")
    finally:
        await profiler.stop()
    tracing.shutdown()

    profile = _spans(received)["profile"]
    assert profile.parent_span_id.hex() == PARENT
    carried = RouteCall.decode(data).call.traceparent
    assert carried == f"00-{TRACE}-{profile.span_id.hex()}-01"
