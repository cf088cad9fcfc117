"""What an executor says, and to whom, whatever its backend does."""

from typing import Any

import pytest

from localforge.contracts.chat import Usage
from localforge.errors import (
    BackendRefused,
    BackendUnavailable,
    ConfigError,
    PermanentError,
    StreamBroken,
)
from tests.fakes.backend import FakeAdapter
from tests.fakes.calls import at_step, execute_call, target
from tests.fakes.executor import make, run


async def test_an_unstreamed_answer_is_one_frame_with_usage_and_cost() -> None:
    sink = await run(FakeAdapter(), execute_call())

    assert sink.kinds == ["Completed"]
    done = sink.frames[0]
    assert done.body == (
        b'{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}'
    )
    assert (done.data, done.usage.total_tokens) == (b"", 12)
    assert done.summary.cost_usd == pytest.approx((10 * 1.0 + 2 * 2.0) / 1e6)
    assert (done.summary.model, done.summary.zone, done.summary.fallbacks) == ("first", "local", 0)


async def test_a_streamed_answer_is_its_first_event_at_once_and_an_end_with_done() -> None:
    sink = await run(FakeAdapter(), execute_call(stream=True))

    assert sink.kinds == ["Delta", "Completed"]
    assert sink.frames[0].data == b"data: one\n\n"
    assert sink.frames[0].summary is not None
    assert (sink.frames[0].number, sink.frames[1].deltas) == (1, 1), "a lost one is noticed"
    # The second event came within the same frame period, so it travels with the end.
    assert (sink.frames[1].body, sink.frames[1].data) == (
        b"",
        b"data:  two\n\ndata: [DONE]\n\n",
    )


async def test_a_stream_ends_with_usage_where_the_client_asked_for_it() -> None:
    sink = await run(FakeAdapter(), execute_call(stream=True, include_usage=True))

    _, usage_event, done_event, rest = sink.frames[-1].data.split(b"\n\n")
    assert b'"choices":[],"usage":{"prompt_tokens":10,' in usage_event
    assert (done_event, rest) == (b"data: [DONE]", b"")


@pytest.mark.parametrize("stream", [True, False])
async def test_missing_usage_is_estimated_the_same_streamed_or_not(stream: bool) -> None:
    adapter = FakeAdapter()
    adapter.usage = None

    sink = await run(adapter, execute_call(stream=stream))

    expected = Usage(prompt_tokens=7, completion_tokens=2, estimated=True)
    assert sink.frames[-1].usage == expected
    assert sink.outcomes[0].usage == expected
    assert sink.outcomes[0].cost_usd == pytest.approx(11e-6)


async def test_a_success_leaves_one_outcome_and_one_answer_to_score() -> None:
    sink = await run(FakeAdapter(), execute_call(stream=True))

    [outcome] = sink.outcomes
    assert outcome.outcome_id == "01hqexampleexampleexample0.0"
    assert (outcome.status, outcome.finish_reason, outcome.replica) == ("ok", "stop", "replica-1")
    assert 0 < outcome.first_token_s <= outcome.total_s
    [evaluation] = sink.evaluations
    assert (evaluation.answer, evaluation.finish_reason) == ("one two", "stop")
    assert evaluation.propensity == 0.5


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("length", "length"),
        ("MAX_TOKENS", "max_tokens"),
        ("", ""),
        ("Ended since the patient asked. " * 60, "other"),
        ("a" * 65, "other"),
    ],
)
async def test_a_backends_reason_for_the_end_is_kept_only_as_a_code(said: str, kept: str) -> None:
    adapter = FakeAdapter()
    adapter.finish_reason = said

    sink = await run(adapter, execute_call())

    assert [fact.finish_reason for fact in sink.outcomes] == [kept]
    assert [fact.finish_reason for fact in sink.evaluations] == [kept]


async def test_a_huge_request_is_answered_but_not_scored() -> None:
    body = b'{"messages":[{"role":"user","content":"' + b"a" * 300_000 + b'"}]}'

    sink = await run(FakeAdapter(), execute_call(body=body))

    assert sink.kinds == ["Completed"]
    assert sink.evaluations == []


async def test_a_failure_before_content_is_handed_on_with_what_it_cost() -> None:
    adapter = FakeAdapter()
    adapter.error = BackendUnavailable("cut", code="backend_cut")
    adapter.error_after = 1
    call = execute_call(target("first"), target("second", backend="other"))

    sink = await run(adapter, call)

    assert sink.frames == []
    [(following, reason)] = sink.handed_on
    assert (following.step, following.target.model, reason.code) == (1, "second", "backend_cut")
    assert following.seal == call.seal
    # 7 prompt tokens and one generated token, estimated, at 1 and 2 dollars a million.
    assert following.spent_usd == pytest.approx(9e-6)
    assert [(o.status, o.error_code) for o in sink.outcomes] == [("error", "backend_cut")]
    assert sink.evaluations == []


async def test_the_next_model_adds_its_cost_to_what_was_spent() -> None:
    call = at_step(execute_call(target("first", backend="other"), target("second")), 1)

    sink = await run(FakeAdapter(), call)

    assert sink.frames[0].summary.fallbacks == 1
    assert sink.outcomes[0].outcome_id.endswith(".1")
    assert sink.frames[0].summary.model == "second"


@pytest.mark.parametrize(
    ("plan", "allow_fallback"),
    [((target("only"),), True), ((target("first"), target("second")), False)],
    ids=["last of the plan", "no fallback allowed"],
)
async def test_a_failure_that_nobody_may_take_over_is_told(plan: Any, allow_fallback: bool) -> None:
    adapter = FakeAdapter()
    adapter.error = BackendUnavailable("busy", code="backend_rate_limited", retry_after_s=7)

    sink = await run(adapter, execute_call(*plan, allow_fallback=allow_fallback))

    assert (sink.kinds, sink.handed_on) == (["Failed"], [])
    failed = sink.frames[0]
    assert (failed.status, failed.error.code, failed.retry_after_s) == (
        502,
        "backend_rate_limited",
        7,
    )


async def test_a_refused_request_is_told_and_not_tried_elsewhere() -> None:
    adapter = FakeAdapter()
    adapter.error = BackendRefused("`top_k` is unknown", status=422, code="bad", param="top_k")

    sink = await run(adapter, execute_call(target("first"), target("second")))

    assert (sink.kinds, sink.handed_on) == (["Failed"], [])
    assert (sink.frames[0].status, sink.frames[0].error.param) == (422, "top_k")


async def test_what_no_adapter_should_raise_is_an_outcome_and_the_next_model_is_asked() -> None:
    adapter = FakeAdapter()
    adapter.error = ZeroDivisionError("secret words")

    sink = await run(adapter, execute_call(target("first"), target("second", backend="other")))

    assert sink.frames == []
    assert [(o.status, o.error_code) for o in sink.outcomes] == [("error", "internal")]
    assert [(call.step, reason.code) for call, reason in sink.handed_on] == [(1, "internal")]


@pytest.mark.parametrize("stream", [True, False])
async def test_what_no_adapter_should_raise_is_told_where_no_other_model_may_answer(
    stream: bool,
) -> None:
    adapter = FakeAdapter()
    adapter.error = ZeroDivisionError("secret words")
    adapter.error_after = 1

    sink = await run(adapter, execute_call(stream=stream), retries=2)

    assert sink.kinds == (["Delta", "Failed"] if stream else ["Failed"])
    failed = sink.frames[-1]
    assert (failed.status, failed.error.type, failed.error.code) == (500, "api_error", "internal")
    assert "secret" not in failed.error.message
    assert failed.summary.cost_usd == sink.outcomes[0].cost_usd > 0
    assert len(adapter.requests) == 1


async def test_a_broken_stream_fails_and_is_never_continued_by_another_model() -> None:
    adapter = FakeAdapter()
    adapter.error = StreamBroken("cut", code="backend_cut")
    adapter.error_after = 1

    sink = await run(adapter, execute_call(target("first"), target("second"), stream=True))

    assert (sink.kinds, sink.handed_on) == (["Delta", "Failed"], [])
    assert (sink.outcomes[0].status, sink.outcomes[0].error_code) == ("error", "backend_cut")


async def test_a_body_that_was_not_sealed_never_reaches_the_backend() -> None:
    adapter = FakeAdapter()
    call = execute_call(target("first"), target("second"), zones=("elsewhere",))

    sink = await run(adapter, call)

    assert adapter.requests == []
    assert (sink.kinds, sink.handed_on) == (["Failed"], [])
    assert (sink.frames[0].status, sink.frames[0].error.code) == (403, "seal_invalid")


async def test_without_a_verifier_the_zones_of_the_seal_still_count() -> None:
    adapter = FakeAdapter()

    sink = await run(adapter, execute_call(zones=("elsewhere",)), verifier=None)

    assert (adapter.requests, sink.frames[0].status) == ([], 403)


def test_a_remote_zone_is_not_served_without_a_verifier() -> None:
    with pytest.raises(ConfigError, match="remote zone `cloud`"):
        make(FakeAdapter(), zone="cloud", verifier=None)


@pytest.mark.parametrize(
    "wrong", [target("m", backend="other"), target("m", zone="cloud")], ids=["backend", "zone"]
)
async def test_a_call_for_another_executor_is_refused(wrong: Any) -> None:
    adapter = FakeAdapter()

    sink = await run(adapter, execute_call(wrong, zones=("cloud", "local")))

    assert (adapter.requests, sink.frames[0].error.code) == ([], "wrong_executor")


async def test_a_step_outside_the_plan_is_refused() -> None:
    with pytest.raises(PermanentError, match="step 3 of a plan with 1"):
        await run(FakeAdapter(), at_step(execute_call(), 3))
