"""The NATS door to the live lane."""

import msgspec
import pytest

from localforge.contracts.chat import ChatCompleted, ChatRequested, Usage
from localforge.contracts.problems import ContractViolation
from localforge.contracts.trust import Label
from localforge.edge.live_door import LiveDoor
from localforge.errors import DependencyUnavailable
from tests.support import wait_until
from tests.unit.edge.lane import CHAT, completed, completion, delta, failed, silent


class Replies:
    def __init__(self) -> None:
        self.sent: list[tuple[str, ChatCompleted]] = []
        self.error: DependencyUnavailable | None = None

    def __call__(self, reply: str, result: ChatCompleted) -> None:
        if self.error:
            raise self.error
        self.sent.append((reply, result))


@pytest.fixture
def replies():
    return Replies()


@pytest.fixture
def door(make_service, replies):
    return LiveDoor(make_service(deadline_s=60), replies, 60)


def request(body: dict | None = None, **changes) -> ChatRequested:
    return ChatRequested(
        id="job-1", request=msgspec.Raw(msgspec.json.encode(body or CHAT)), **changes
    )


async def test_an_answer_is_the_result_with_what_was_decided(door, lane, replies):
    asked = request(label=Label.RESTRICTED, preference="cheap", policy="greedy")
    door.on_request(asked, "_INBOX.1")
    await wait_until(lambda: replies.sent, description="the reply")

    (reply, result), call = replies.sent[0], lane.sent[0]
    assert (reply, result.id, result.status) == ("_INBOX.1", "job-1", 200)
    assert bytes(result.response) == completion(call)
    assert (result.model, result.zone, result.decision_id) == ("tiny", "local", call.request_id)
    assert (call.declared_label, call.preference) == (Label.RESTRICTED, "cheap")
    assert call.policy == "greedy"
    assert call.cascade is None


async def test_a_cascade_can_be_asked_for_and_all_that_it_asked_is_counted(door, lane, replies):
    usage = Usage(prompt_tokens=6, completion_tokens=4)

    def script(lane, call):
        frame = completed(call, body=completion(call))
        told = msgspec.structs.replace(frame.summary, used=usage)
        lane.emit(msgspec.structs.replace(frame, summary=told))

    lane.script = script
    door.on_request(request(cascade=True), "_INBOX.1")
    await wait_until(lambda: replies.sent, description="the reply")

    assert lane.sent[0].cascade is True
    assert replies.sent[0][1].usage == usage


async def test_a_stream_is_not_asked_for_whatever_the_body_says(door, lane, replies):
    door.on_request(request(CHAT | {"stream": True}), "_INBOX.1")
    await wait_until(lambda: replies.sent, description="the reply")

    assert lane.sent[0].stream is False


async def test_a_long_deadline_is_held_to_the_configured_one(door, lane, replies, make_service):
    door.on_request(request(deadline_s=600), "_INBOX.1")
    await wait_until(lambda: replies.sent, description="the reply")

    assert lane.sent[0].deadline - lane.service.clock() == pytest.approx(60, abs=2)


@pytest.mark.parametrize(
    ("body", "preference", "param"),
    [({"model": "auto"}, "", "messages"), (CHAT, "best", "x-localforge-preference")],
)
async def test_a_bad_request_is_an_error_result(door, lane, replies, body, preference, param):
    door.on_request(request(body, preference=preference), "_INBOX.1")
    await wait_until(lambda: replies.sent, description="the reply")

    result = replies.sent[0][1]
    assert (result.status, result.error.param) == (400, param)
    assert bytes(result.response) == b"null"
    assert lane.sent == []


async def test_a_failure_is_an_error_result(door, lane, replies):
    lane.script = lambda lane, call: lane.emit(failed(call, 502))
    door.on_request(request(), "_INBOX.1")
    await wait_until(lambda: replies.sent, description="the reply")

    result = replies.sent[0][1]
    assert (result.status, result.error.code) == (502, "backend_unavailable")


async def test_what_nothing_foresaw_is_an_error_result_without_its_words(
    door, replies, monkeypatch
):
    def accept(*_, **__):
        raise RuntimeError("secret words")

    monkeypatch.setattr(door._service, "accept", accept)
    door.on_request(request(), "_INBOX.1")
    await wait_until(lambda: replies.sent, description="the reply")

    result = replies.sent[0][1]
    assert (result.id, result.status) == ("job-1", 500)
    assert (result.error.type, result.error.code) == ("api_error", "internal")
    assert "secret" not in result.error.message


async def test_part_of_an_answer_is_an_error_result(door, lane, replies):
    lane.script = lambda lane, call: lane.emit(delta(call, "a", first=True))
    door.on_request(request(), "_INBOX.1")
    await wait_until(lambda: replies.sent, description="the reply")

    assert replies.sent[0][1].status == 502


async def test_what_the_body_asks_for_holds_as_over_http(door, lane, replies):
    door.on_request(request(CHAT | {"localforge": {"label": "restricted"}}), "_INBOX.1")
    door.on_request(request(CHAT | {"localforge": {"label": "top"}}), "_INBOX.2")
    await wait_until(lambda: len(replies.sent) == 2, description="the replies")

    assert [call.declared_label for call in lane.sent] == [Label.RESTRICTED]
    refused = dict(replies.sent)["_INBOX.2"]
    assert (refused.status, refused.error.param) == (400, "localforge.label")


async def test_what_is_no_request_is_answered_too(door, replies):
    door.refuse(ContractViolation("ChatRequested", "`label` is there more than once"), "_INBOX.1")

    [(reply, result)] = replies.sent
    assert (reply, result.status, result.error.code) == ("_INBOX.1", 400, "contract")
    assert "`label`" in result.error.message


async def test_without_a_reply_subject_nothing_is_run(door, lane):
    door.on_request(request(), "")

    assert lane.sent == []


@pytest.mark.parametrize(
    "reply",
    ["lf.cancel", "lf.alive.cloud.openai.x", "lf.inbox.e.1", "_INBOX", "_inbox.1", "x_R_.1"],
)
async def test_nothing_goes_to_a_subject_that_is_no_clients_inbox(door, lane, replies, reply):
    door.on_request(request(), reply)
    door.refuse(ContractViolation("ChatRequested", "it is no JSON"), reply)
    await door.close(1)

    assert (lane.sent, replies.sent) == ([], [])


@pytest.mark.parametrize("reply", ["_INBOX.a.1", "_INBOX_app.a.1", "_R_.a.1"])
async def test_an_inbox_is_answered_also_one_of_another_account(door, replies, reply):
    door.on_request(request(), reply)
    await wait_until(lambda: replies.sent, description="the reply")

    assert replies.sent[0][0] == reply


async def test_an_answer_that_cannot_be_sent_ends_quietly(door, lane, replies):
    replies.error = DependencyUnavailable("the broker is away")
    door.on_request(request(), "_INBOX.1")

    await wait_until(lambda: lane.sent, description="the dispatch")
    await door.close(1)
    assert lane.service.in_flight == 0


async def test_closing_gives_up_what_outlives_the_grace_time_and_says_so(door, lane, replies):
    lane.script = silent
    door.on_request(request(), "_INBOX.1")
    await wait_until(lambda: lane.sent, description="the dispatch")

    await door.close(0.01)

    [(reply, result)] = replies.sent
    assert (reply, result.id, result.status) == ("_INBOX.1", "job-1", 503)
    assert result.error.code == "shutting_down"
    assert lane.cancelled == [lane.sent[0].request_id]
    assert lane.service.in_flight == 0
