"""Cascades at the executor: one accepted answer reaches the caller, whatever was asked for it."""

import json
from typing import Any

import msgspec
import pytest

from localforge.config import BackendConfig
from localforge.contracts.facts import CascadePlan
from localforge.contracts.live import CascadeCall, ExecuteCall
from localforge.errors import BackendRefused, BackendUnavailable
from localforge.executor.service import ExecutorService
from localforge.inference import Completion, Reply
from tests.fakes.backend import FakeAdapter, KeepingSink
from tests.fakes.calls import VERIFIER, execute_call, target

MODELS = ("cheap", "other", "strong")
PLAN = tuple(target(model) for model in MODELS)
BELIEFS = dict.fromkeys(
    ("agree", "agreed", "last_agreed", "first_split", "second_split", "last_split"), 0.5
)
PAIR = CascadePlan(
    test="agreement",
    models=MODELS,
    asks_pair=True,
    qualities=(0.5, 0.5, 0.9),
    beliefs=BELIEFS,
    if_agreed="cheap",
    if_split="strong",
)
CHECKS = CascadePlan(test="checks", models=("cheap", "strong"))


class Saying(FakeAdapter):
    """Every model says what it is told to; an error in place of a text is raised."""

    def __init__(self, **answers: Any) -> None:
        super().__init__()
        self.answers = answers

    async def _complete(self, request: Completion, reply: Reply) -> None:
        said = self.answers[request.model]
        if isinstance(said, Exception):
            raise said
        self.words = [said]
        await super()._complete(request, reply)
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        reply.answer = {
            "id": msgspec.Raw(b'"chatcmpl-1"'),
            "model": msgspec.Raw(msgspec.json.encode(request.model)),
            "choices": msgspec.Raw(msgspec.json.encode([choice])),
        }


class Following(KeepingSink):
    """Takes every hand-on back to the same executor, as the bus would to the next one."""

    def __init__(self, service: ExecutorService) -> None:
        super().__init__()
        self._service = service

    async def hand_on(self, call: ExecuteCall, reason: Any) -> None:
        await super().hand_on(call, reason)
        # Over the wire, as between processes.
        await self._service.run(ExecuteCall.decode(call.encode()), self)


async def run(
    plan: CascadePlan, *targets: Any, stream: bool = False, chat: Any = None, **answers: Any
) -> tuple[Following, Saying]:
    adapter = Saying(**answers)
    backend = BackendConfig(name="fake", kind="openai", url="http://fake/v1", retries=0)
    service = ExecutorService(backend, adapter, replica="r", verifier=VERIFIER)
    sink = Following(service)
    call = execute_call(*(targets or PLAN), stream=stream, **(chat or {}))
    await service.run(msgspec.structs.replace(call, cascade=CascadeCall(plan=plan)), sink)
    return sink, adapter


def asked(adapter: Saying) -> list[str]:
    return [request.model for request in adapter.requests]


def said(sink: Following) -> str:
    """The text of the one answer."""
    assert sink.kinds == ["Completed"]
    content: str = json.loads(sink.frames[0].body)["choices"][0]["message"]["content"]
    return content


def streamed(sink: Following) -> tuple[str, list[str]]:
    """The text of the one stream, and the models its chunks name."""
    assert sink.kinds == ["Delta", "Completed"]
    data = b"".join(frame.data for frame in sink.frames)
    *events, done, rest = data.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
    return text, [chunk["model"] for chunk in chunks]


ATTEMPT_USD = 14e-6
"""10 prompt tokens and 2 generated ones, at 1 and 2 dollars a million."""


async def test_a_pair_that_agrees_is_accepted_and_both_are_paid_for() -> None:
    sink, adapter = await run(PAIR, cheap="B", other="The answer is B.", strong="C")

    assert said(sink) == "B"
    assert asked(adapter) == ["cheap", "other"]
    summary = sink.frames[0].summary
    assert summary.model == "cheap"
    assert summary.cost_usd == pytest.approx(2 * ATTEMPT_USD)
    assert [(o.model, o.status) for o in sink.outcomes] == [("cheap", "ok"), ("other", "ok")]
    assert [o.outcome_id[-2:] for o in sink.outcomes] == [".0", ".1"]
    result = sink.outcomes[1].cascade
    assert (result.agreed, result.compared, result.delivered) == (True, True, "cheap")
    assert [e.model for e in sink.evaluations] == ["cheap"]


async def test_a_pair_that_differs_goes_on_to_the_last_model() -> None:
    sink, adapter = await run(PAIR, cheap="A", other="B", strong="B")

    assert said(sink) == "B"
    assert asked(adapter) == list(MODELS)
    assert sink.frames[0].summary.model == "strong"
    assert sink.frames[0].summary.cost_usd == pytest.approx(3 * ATTEMPT_USD)
    compared, last = sink.outcomes[1].cascade, sink.outcomes[2].cascade
    assert (compared.agreed, compared.compared, compared.delivered) == (False, True, "")
    assert (last.compared, last.delivered, last.same) == (False, "strong", ("other",))
    assert [e.model for e in sink.evaluations] == ["strong"]


async def test_the_router_may_have_drawn_the_second_answer() -> None:
    plan = msgspec.structs.replace(PAIR, if_split="other")

    sink, adapter = await run(plan, cheap="A", other="B", strong="C")

    assert (said(sink), asked(adapter)) == ("B", ["cheap", "other"])
    assert sink.outcomes[1].cascade.delivered == "other"


@pytest.mark.parametrize("usage", [True, False])
async def test_a_streaming_caller_gets_the_accepted_answer_alone(usage: bool) -> None:
    sink, adapter = await run(
        PAIR, stream=True, chat={"include_usage": usage}, cheap="A", other="A", strong="C"
    )

    assert [request.stream for request in adapter.requests] == [False, False]
    if usage:
        assert b'"usage":{"prompt_tokens":10' in sink.frames[-1].data
        return
    assert streamed(sink) == ("A", ["cheap", "cheap"])
    assert sink.frames[0].summary.model == "cheap"


async def test_the_last_model_streams_as_ever_and_nothing_before_it_goes_out() -> None:
    sink, adapter = await run(PAIR, stream=True, cheap="A", other="B", strong="C")

    assert [request.stream for request in adapter.requests] == [False, False, True]
    assert sink.kinds == ["Delta", "Completed"]
    assert sink.frames[0].data == b"data: C\n\n"


async def test_checks_let_a_sound_answer_pass() -> None:
    sink, adapter = await run(CHECKS, target("cheap"), target("strong"), cheap="The sea is wide.")

    assert (said(sink), asked(adapter)) == ("The sea is wide.", ["cheap"])
    assert sink.outcomes[0].cascade is None


async def test_checks_send_a_broken_answer_on() -> None:
    refusal = "I'm sorry, but I can't help with that."

    sink, adapter = await run(
        CHECKS, target("cheap"), target("strong"), cheap=refusal, strong="The sea is wide."
    )

    assert (said(sink), asked(adapter)) == ("The sea is wide.", ["cheap", "strong"])
    assert sink.frames[0].summary.cost_usd == pytest.approx(2 * ATTEMPT_USD)


REFUSAL = "I'm sorry, but I can't help with that."


async def test_a_failing_answer_is_accepted_where_the_router_has_learned_to() -> None:
    plan = msgspec.structs.replace(CHECKS, if_passed="cheap", if_failed="cheap")

    sink, adapter = await run(plan, target("cheap"), target("strong"), cheap=REFUSAL)

    assert (said(sink), asked(adapter)) == (REFUSAL, ["cheap"])


async def test_a_passing_answer_is_sent_on_where_the_router_has_learned_to() -> None:
    plan = msgspec.structs.replace(CHECKS, if_passed="strong", if_failed="strong")

    sink, adapter = await run(
        plan, target("cheap"), target("strong"), cheap="The sea is flat.", strong="It is wide."
    )

    assert (said(sink), asked(adapter)) == ("It is wide.", ["cheap", "strong"])
    assert sink.frames[0].summary.cost_usd == pytest.approx(2 * ATTEMPT_USD)


async def test_a_clear_defect_is_never_accepted() -> None:
    plan = msgspec.structs.replace(CHECKS, if_passed="cheap", if_failed="cheap")

    sink, adapter = await run(plan, target("cheap"), target("strong"), cheap=" ", strong="Wide.")

    assert (said(sink), asked(adapter)) == ("Wide.", ["cheap", "strong"])


async def test_an_answer_at_hand_is_delivered_when_the_model_asked_next_fails() -> None:
    failure = BackendUnavailable("down", code="backend_down")

    sink, _ = await run(PAIR, cheap="A", other="B", strong=failure)
    wrong, _ = await run(PAIR, cheap="A", other=BackendRefused("no", status=400), strong="C")

    assert said(sink) == said(wrong) == "A"
    assert sink.frames[0].summary.cost_usd == pytest.approx(2 * ATTEMPT_USD)
    assert [o.status for o in sink.outcomes] == ["ok", "ok", "error"]


async def test_a_pair_whose_first_fails_has_nothing_to_compare() -> None:
    failure = BackendUnavailable("down", code="backend_down")

    sink, adapter = await run(PAIR, cheap=failure, other="B", strong="C")

    assert (said(sink), asked(adapter)) == ("B", ["cheap", "other"])
    assert sink.outcomes[1].cascade is None


async def test_a_pair_whose_second_fails_asks_the_last() -> None:
    failure = BackendUnavailable("down", code="backend_down")

    sink, adapter = await run(PAIR, cheap="A", other=failure, strong="C")

    assert (said(sink), asked(adapter)) == ("C", list(MODELS))
    assert sink.outcomes[2].cascade is None


async def test_a_model_alone_is_no_cascade() -> None:
    plan = msgspec.structs.replace(PAIR, asks_pair=False)

    sink, adapter = await run(plan, stream=True, cheap="A")

    assert [request.stream for request in adapter.requests] == [True]
    assert sink.kinds == ["Delta", "Completed"]


async def test_a_zone_that_the_seal_forbids_is_refused_at_any_step() -> None:
    targets = (target("cheap"), target("other"), target("strong", zone="local", backend="fake"))

    sink, adapter = await run(PAIR, *targets, chat={"zones": ("cloud",)}, cheap="A", other="B")

    assert (sink.kinds, asked(adapter)) == (["Failed"], [])
    assert sink.frames[0].error.code == "seal_invalid"
