"""The durable lane of the running system, used as an application uses it."""

import json
from typing import Any

import nats

from localforge.bus.connection import settle
from localforge.contracts import subjects
from localforge.contracts.chat import ChatCompleted, ChatRequested
from localforge.contracts.trust import Label
from tests.e2e.durable import application, dead_letters, raw
from tests.e2e.stack import Provider, Stack, saw_nothing
from tests.fakes.openai_server import WORDS, Behaviour
from tests.support import wait_until


def _ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "fake-a", "messages": [{"role": "user", "content": text}], **more}


async def test_a_published_request_gets_its_result(stack: Stack):
    async with application(stack) as app:
        assert await app.ask("durable-1", _ask("hello"))
        result = await app.result("durable-1")

    answer = json.loads(bytes(result.response))
    assert (result.status, result.model, result.zone, result.error) == (
        200,
        "fake-a",
        "local",
        None,
    )
    assert answer["choices"][0]["message"]["content"] == " ".join(WORDS)
    assert answer["id"] == f"chatcmpl-{result.decision_id}"
    assert answer["usage"]["completion_tokens"] == len(WORDS)


async def test_an_application_needs_nothing_but_a_nats_client(stack: Stack):
    """No code of ours: the password from the credentials file, JSON in, JSON out."""
    password = stack.password("app")
    client = await nats.connect(stack.runtime["nats_url"], user="app", password=password)
    try:
        results = await client.subscribe("lf.result.plain-1")
        request = {"type": "chat_requested.v1", "id": "plain-1", "request": _ask("plain")}
        await client.jetstream().publish(
            "lf.request.chat", json.dumps(request).encode(), headers={"Nats-Msg-Id": "plain-1"}
        )
        result = json.loads((await results.next_msg(timeout=20)).data)
    finally:
        await client.close()

    assert result["id"] == "plain-1"
    assert result["response"]["choices"][0]["message"]["content"] == " ".join(WORDS)


async def test_auto_and_the_embedded_model_work_on_the_durable_lane_too(stack: Stack):
    async with application(stack) as app:
        await app.ask("auto-1", _ask("hi", max_tokens=8) | {"model": "auto"})
        await app.ask("small-1", _ask("hi", max_tokens=8) | {"model": "smollm2-135m"})
        automatic, small = await app.result("auto-1"), await app.result("small-1")

    assert automatic.status == 200
    assert (small.status, small.model) == (200, "smollm2-135m")


async def test_a_request_published_twice_is_answered_once(stack: Stack, local: Provider):
    async with application(stack) as app:
        first = await app.ask("twice-1", _ask("published-twice"))
        second = await app.ask("twice-1", _ask("published-twice"))
        await app.result("twice-1")
        await app.ask("twice-after", _ask("a later one"))
        await app.result("twice-after")

        assert (first, second) == (True, False)
        assert app.heard["twice-1"] == 1
    assert len(local.saw("published-twice")) == 1


async def test_the_same_request_under_another_message_id_is_not_run_again(
    stack: Stack, local: Provider
):
    """The stages' own message ids are made from the request's id."""
    request = ChatRequested(id="again-1", request=raw(_ask("another-message-id")))
    async with application(stack) as app:
        await app.publish(request.encode(), "again-1")
        await app.result("again-1")
        await app.publish(request.encode(), "another-id")
        await app.ask("again-after", _ask("a later one"))
        await app.result("again-after")

        assert app.heard["again-1"] == 1
    assert len(local.saw("another-message-id")) == 1


async def test_what_is_no_request_becomes_a_dead_letter_with_the_reason(stack: Stack):
    async with application(stack) as app:
        await app.publish(b'{"type":"chat_requested.v1","id":"broken-1"', "broken-1")
        await app.publish(b'{"type":"chat_requested.v1","request":{}}', "broken-2")
        await app.publish(ChatRequested(id="bad id!", request=raw(_ask("x"))).encode(), "broken-3")

        async def letters() -> Any:
            found = {x.message_id: x for x in await dead_letters(stack)}
            return found if {"broken-1", "broken-2", "broken-3"} <= found.keys() else None

        found = await wait_until(letters, timeout=20, description="three dead letters")

    assert {
        (x.service, x.code, x.deliveries) for x in found.values() if "broken" in x.message_id
    } == {("profiler", "contract", 1)}
    assert "truncated" in found["broken-1"].reason
    assert "missing required field `id`" in found["broken-2"].reason
    assert "1 to 64 of A-Z a-z 0-9 _ -" in found["broken-3"].reason
    assert found["broken-2"].body == b'{"type":"chat_requested.v1","request":{}}'
    assert found["broken-2"].subject == "lf.request.chat"


async def test_a_request_that_cannot_be_answered_gets_its_error_as_the_result(stack: Stack):
    async with application(stack) as app:
        await app.ask("no-messages", {"model": "fake-a"})
        await app.ask("no-model", _ask("x") | {"model": "no-such"})
        await app.ask("late", _ask("x"), deadline_s=0.0)
        asked = ChatRequested(id="misspelt", request=raw(_ask("x"))).encode()
        await app.publish(asked[:-1] + b',"Label":"restricted"}', "misspelt")
        names = ("no-messages", "no-model", "late", "misspelt")
        found = {name: await app.result(name) for name in names}

    codes = {name: (r.status, r.error.code if r.error else "") for name, r in found.items()}
    assert codes["no-model"] == (404, "model_not_found")
    assert codes["late"] == (504, "deadline_exceeded")
    assert codes["no-messages"][0] == 400
    assert codes["misspelt"] == (400, "contract")
    assert {bytes(r.response) for r in found.values()} == {b"null"}


async def test_a_sensitive_request_stays_on_site(stack: Stack, cloud: Provider):
    async with application(stack) as app:
        await app.ask(
            "secret-auto",
            _ask("durable-sensitive", max_tokens=8) | {"model": "auto"},
            label=Label.CONFIDENTIAL,
        )
        await app.ask(
            "secret-named",
            _ask("durable-sensitive") | {"model": "cloud-model"},
            label=Label.CONFIDENTIAL,
        )
        automatic, by_name = await app.result("secret-auto"), await app.result("secret-named")

    assert (automatic.status, automatic.zone) == (200, "local")
    assert (by_name.status, by_name.error.code if by_name.error else "") == (
        403,
        "no_eligible_model",
    )
    saw_nothing("durable-sensitive", cloud)


async def test_a_failing_model_is_replaced_by_the_next_of_the_plan(stack: Stack, local: Provider):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    ids = [f"durable-fallback-{index}" for index in range(3)]
    with local.behaving(fake_a=Behaviour(status=503)):
        async with application(stack) as app:
            for request_id in ids:
                await app.ask(
                    request_id,
                    _ask("x", tools=tools) | {"model": "auto"},
                    label=Label.CONFIDENTIAL,
                    policy="rules",  # which puts `fake-a` first
                )
            found = [await app.result(request_id) for request_id in ids]

    assert {(r.status, r.model) for r in found} == {(200, "fake-b")}
    await wait_until(
        lambda: {e["request_id"] for e in stack.events("fallback")} >= set(ids),
        description="the log lines of the fallbacks",
    )


async def test_a_model_that_is_busy_for_a_moment_answers_in_the_end(stack: Stack, local: Provider):
    """A live caller would have got the 503; accepted work is tried again."""
    async with application(stack) as app:
        with local.behaving(fake_a=Behaviour(status=503)):
            await app.ask("patient-1", _ask("patient-durable"))
            await wait_until(lambda: local.saw("patient-durable"), description="the first try")
        result = await app.result("patient-1", timeout=30)

    assert result.status == 200
    assert len(local.saw("patient-durable")) >= 2


async def test_the_live_door_answers_a_nats_request(stack: Stack):
    request = ChatRequested(id="door-1", request=raw(_ask("through the live door")))
    async with stack.nats("app") as client:
        reply = await client.request(subjects.LIVE_CHAT, request.encode(), timeout=10)

    result = ChatCompleted.decode(reply.data)
    assert (result.id, result.status, result.model) == ("door-1", 200, "fake-a")


async def test_an_application_cannot_read_other_subjects(stack: Stack):
    """The broker refuses: requests and facts are not for applications."""
    errors: list[str] = []

    async def on_error(exc: Exception) -> None:
        errors.append(str(exc).lower())

    password = stack.password("app")
    client = await nats.connect(
        stack.runtime["nats_url"], user="app", password=password, error_cb=on_error
    )
    try:
        for subject in ("lf.request.>", "lf.decision.>", "lf.exec.>"):
            await client.subscribe(subject)
        await settle(client)
        await wait_until(lambda: len(errors) == 3, description=f"three refusals, got {errors}")
    finally:
        await client.close()

    assert all("permissions violation" in error for error in errors)
