"""A model asked twice at the executor: another sample, compared, and all of it accounted for."""

import json
from typing import Any

import msgspec
import pytest

from localforge.config import BackendConfig
from localforge.contracts.facts import CascadePlan
from localforge.contracts.live import CascadeCall, ExecuteCall
from localforge.errors import BackendRefused, BackendUnavailable
from localforge.executor.cascade import is_second_ask
from localforge.executor.resample import TEMPERATURE, resampled
from localforge.executor.service import ExecutorService
from localforge.inference import Completion, Reply
from tests.fakes.backend import FakeAdapter, KeepingSink
from tests.fakes.calls import VERIFIER, execute_call, target

TWICE = CascadePlan(
    test="self-consistency",
    models=("cheap", "cheap", "strong"),
    asks_pair=True,
    qualities=(0.5, 0.5, 0.9),
    beliefs=dict.fromkeys(("agree", "agreed", "last_agreed", "first_split", "last_split"), 0.5),
    if_agreed="cheap",
    if_split="strong",
)
PLAN = tuple(target(model) for model in TWICE.models)
ATTEMPT_USD = 14e-6
"""10 prompt tokens and 2 generated ones, at 1 and 2 dollars a million."""


class Saying(FakeAdapter):
    """Says one thing after the other; an error in place of a text is raised."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = list(answers)

    async def _complete(self, request: Completion, reply: Reply) -> None:
        said = self.answers.pop(0)
        if isinstance(said, Exception):
            raise said
        self.words = [said]
        await super()._complete(request, reply)
        choice = {"index": 0, "message": {"role": "assistant", "content": said}}
        reply.answer = {
            "id": msgspec.Raw(b'"chatcmpl-1"'),
            "model": msgspec.Raw(msgspec.json.encode(request.model)),
            "choices": msgspec.Raw(msgspec.json.encode([{**choice, "finish_reason": "stop"}])),
        }


class Following(KeepingSink):
    """Takes every hand-on back to the same executor, as the bus would to the next one."""

    def __init__(self, service: ExecutorService) -> None:
        super().__init__()
        self._service = service

    async def hand_on(self, call: ExecuteCall, reason: Any) -> None:
        await super().hand_on(call, reason)
        await self._service.run(ExecuteCall.decode(call.encode()), self)


async def run(*answers: Any, plan: CascadePlan = TWICE, **chat: Any) -> tuple[Following, Saying]:
    adapter = Saying(*answers)
    backend = BackendConfig(name="fake", kind="openai", url="http://fake/v1", retries=0)
    service = ExecutorService(backend, adapter, replica="r", verifier=VERIFIER)
    sink = Following(service)
    call = execute_call(*PLAN, **chat)
    await service.run(msgspec.structs.replace(call, cascade=CascadeCall(plan=plan)), sink)
    return sink, adapter


def body_with(members: bytes) -> bytes:
    return b'{"messages":[{"role":"user","content":"hi"}],' + members + b"}"


def asked(adapter: Saying) -> list[str]:
    return [request.model for request in adapter.requests]


def temperatures(adapter: Saying) -> list[float | None]:
    return [json.loads(request.body).get("temperature") for request in adapter.requests]


def said(sink: Following) -> str:
    assert sink.kinds == ["Completed"]
    content: str = json.loads(sink.frames[0].body)["choices"][0]["message"]["content"]
    return content


async def test_the_first_answer_is_delivered_where_the_second_is_the_same() -> None:
    sink, adapter = await run("B", "The answer is B.", "C")

    assert said(sink) == "B"
    assert asked(adapter) == ["cheap", "cheap"]
    assert temperatures(adapter) == [None, TEMPERATURE]
    assert sink.frames[0].summary.cost_usd == pytest.approx(2 * ATTEMPT_USD)
    assert sink.frames[0].summary.used.completion_tokens == 4
    assert [o.outcome_id[-2:] for o in sink.outcomes] == [".0", ".1"]
    compared = sink.outcomes[1].cascade
    assert (compared.agreed, compared.compared, compared.delivered) == (True, True, "cheap")
    assert [e.model for e in sink.evaluations] == ["cheap"]


@pytest.mark.parametrize(("strong", "same"), [("A", ("cheap",)), ("B", ()), ("C", ())])
async def test_a_model_that_contradicts_itself_is_followed_by_the_strong_one(
    strong: str, same: tuple[str, ...]
) -> None:
    sink, adapter = await run("A", "B", strong)

    assert said(sink) == strong
    assert asked(adapter) == ["cheap", "cheap", "strong"]
    assert temperatures(adapter) == [None, TEMPERATURE, None]
    assert sink.frames[0].summary.cost_usd == pytest.approx(3 * ATTEMPT_USD)
    assert [o.outcome_id[-2:] for o in sink.outcomes] == [".0", ".1", ".2"]
    told, last = sink.outcomes[1].cascade, sink.outcomes[2].cascade
    assert (told.agreed, told.compared, told.delivered) == (False, True, "")
    # Its first answer is the model's; the second was asked for to be compared.
    assert (last.compared, last.delivered, last.same) == (False, "strong", same)


async def test_the_router_may_have_drawn_the_first_answer_all_the_same() -> None:
    sink, adapter = await run("A", "B", plan=msgspec.structs.replace(TWICE, if_split="cheap"))

    assert (said(sink), asked(adapter)) == ("A", ["cheap", "cheap"])
    assert sink.outcomes[1].cascade.agreed is False


async def test_a_streaming_caller_gets_the_first_answer_alone() -> None:
    sink, adapter = await run("A", "a.", stream=True)

    assert [request.stream for request in adapter.requests] == [False, False]
    assert b'"content":"A"' in b"".join(frame.data for frame in sink.frames)


async def test_a_model_that_fails_is_not_asked_again_in_its_second_part() -> None:
    sink, adapter = await run(BackendUnavailable("down", code="backend_down"), "C")

    assert (said(sink), asked(adapter)) == ("C", ["cheap", "strong"])
    assert sink.frames[0].summary.fallbacks == 1
    assert temperatures(adapter) == [None, None]
    assert sink.outcomes[1].cascade is None
    assert [o.outcome_id[-2:] for o in sink.outcomes] == [".0", ".2"]


async def test_a_second_ask_that_fails_is_followed_by_the_strong_model() -> None:
    sink, adapter = await run("A", BackendUnavailable("down", code="backend_down"), "C")

    assert (said(sink), asked(adapter)) == ("C", ["cheap", "cheap", "strong"])
    assert sink.outcomes[2].cascade is None


async def test_a_model_that_takes_no_temperature_is_asked_as_the_caller_did() -> None:
    refused = BackendRefused("only the default temperature is supported", status=400)

    sink, adapter = await run("A", refused, "A")

    assert (said(sink), asked(adapter)) == ("A", ["cheap"] * 3)
    assert temperatures(adapter) == [None, TEMPERATURE, None]
    assert [o.status for o in sink.outcomes] == ["ok", "error", "ok"]
    assert len({o.outcome_id for o in sink.outcomes}) == 3
    assert sink.outcomes[2].cascade.agreed


@pytest.mark.parametrize(("if_split", "delivered"), [("strong", "C"), ("cheap", "A")])
async def test_a_second_ask_that_is_refused_as_it_came_counts_as_a_contradiction(
    if_split: str, delivered: str
) -> None:
    refused = BackendRefused("no", status=400)
    plan = msgspec.structs.replace(TWICE, if_split=if_split)

    sink, adapter = await run("A", refused, refused, "C", plan=plan)

    assert said(sink) == delivered
    assert asked(adapter) == ["cheap"] * 3 + ["strong"] * (delivered == "C")
    assert not any(o.cascade for o in sink.outcomes)


@pytest.mark.parametrize("status", [401, 403, 404, 413])
async def test_another_refusal_than_that_of_the_change_is_not_asked_again(status: int) -> None:
    sink, adapter = await run("A", BackendRefused("no", status=status), "C")

    assert (said(sink), asked(adapter)) == ("C", ["cheap", "cheap", "strong"])
    assert sink.outcomes[2].cascade is None


@pytest.mark.parametrize("sampling", [b'"temperature":0', b'"seed":7', b'"seed":7,"top_p":0.5'])
async def test_a_model_that_could_only_repeat_itself_is_not_asked_as_the_caller_did(
    sampling: bytes,
) -> None:
    refused = BackendRefused("only the default temperature is supported", status=400)

    sink, adapter = await run("A", refused, "C", body=body_with(sampling))

    assert (said(sink), asked(adapter)) == ("C", ["cheap", "cheap", "strong"])
    assert not any(o.cascade for o in sink.outcomes)


@pytest.mark.parametrize("seed", [b"1.0", b"1.5", b'"a"', b"true"])
async def test_a_repeat_with_the_same_seed_is_no_agreement(seed: bytes) -> None:
    sink, adapter = await run("A", "A", "C", body=body_with(b'"seed":' + seed))

    assert (said(sink), asked(adapter)) == ("C", ["cheap", "cheap", "strong"])
    assert not any(o.cascade for o in sink.outcomes)
    assert sink.frames[0].summary.fallbacks == 0


async def test_a_call_that_cannot_be_begun_leaves_nothing_behind() -> None:
    sink, _ = await run("A", "A")
    second, _ = sink.handed_on[0]
    body = msgspec.structs.replace(second.call, body=b"{")
    backend = BackendConfig(name="fake", kind="openai", url="http://fake/v1")
    service = ExecutorService(backend, Saying(), replica="r", verifier=VERIFIER)

    with pytest.raises(msgspec.DecodeError):
        await service.run(msgspec.structs.replace(second, call=body), KeepingSink())

    assert (service._runs, service._by_request) == ({}, {})


async def test_only_a_second_ask_is_changed() -> None:
    sink, _ = await run("A", "B", "C")

    first, second = (call for call, _ in sink.handed_on)
    assert is_second_ask(first)
    assert not is_second_ask(second)
    # The seal is over the caller's body, which every step carries.
    assert first.call.body == second.call.body


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({}, {"temperature": TEMPERATURE}),
        ({"temperature": None}, {"temperature": TEMPERATURE}),
        ({"temperature": 0}, {"temperature": TEMPERATURE}),
        ({"temperature": 0.0, "top_p": 0.9}, {"temperature": TEMPERATURE, "top_p": 0.9}),
        ({"temperature": 1.2}, {"temperature": 1.2}),
        ({"top_p": 0.9}, {"top_p": 0.9}),
        ({"temperature": 1.2, "seed": 7}, {"temperature": 1.2, "seed": 6}),
        ({"top_p": 0.9, "seed": 0}, {"top_p": 0.9, "seed": 1}),
        ({"seed": 1.5}, {"temperature": TEMPERATURE, "seed": 1.5}),
        ({"seed": 1.0}, {"temperature": TEMPERATURE, "seed": 1.0}),
        ({"seed": "a"}, {"temperature": TEMPERATURE, "seed": "a"}),
        ({"seed": True}, {"temperature": TEMPERATURE, "seed": True}),
        ({"seed": 2**64}, {"temperature": TEMPERATURE, "seed": 2**64 + 1}),
        ({"seed": 2**63 - 1}, {"temperature": TEMPERATURE, "seed": 2**63 - 2}),
    ],
)
def test_a_second_ask_leaves_something_to_chance_and_the_rest_as_it_is(
    sampling: dict[str, Any], expected: dict[str, Any]
) -> None:
    rest = {"messages": [{"role": "user", "content": "é"}], "stop": ["x"], "unknown": {"a": 1}}

    asked_again = json.loads(resampled(json.dumps({**rest, **sampling}).encode()))

    assert asked_again == {**rest, **expected}
