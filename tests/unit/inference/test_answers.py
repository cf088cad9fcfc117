"""Streams and whole answers: what is read, what is passed on, and what is no answer at all."""

import json
from typing import Any

import pytest

from localforge.contracts.chat import Usage
from localforge.errors import BackendUnavailable
from localforge.inference import Completion, Reply
from localforge.inference.answers import read_answer, render_answer
from localforge.inference.chunks import ChunkReader, closing_events
from localforge.inference.usage import settle_usage

CALL = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"a":1}'}}
USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 2},
    "vendor": 1,
}


def request(**changes: Any) -> Completion:
    return Completion(completion_id="chatcmpl-1", model="mine", upstream="u", body=b"{}", **changes)


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({"id": "theirs", "model": "x", "choices": [choice], **more}).encode()


class Stream:
    """A reader with what it wrote, batch by batch."""

    def __init__(self, expected_choices: int = 1, **changes: Any) -> None:
        self.batches: list[bytes] = []
        self.reply = Reply(self._write)
        self.reader = ChunkReader(request(**changes), self.reply, expected_choices)

    async def _write(self, data: bytes) -> None:
        self.batches.append(data)

    @property
    def written(self) -> list[dict[str, Any]]:
        events = b"".join(self.batches).split(b"\n\n")
        return [json.loads(event.removeprefix(b"data: ")) for event in events if event]


async def test_chunks_carry_our_id_and_model_and_everything_else_of_theirs() -> None:
    stream = Stream()

    await stream.reader.take([chunk({"content": "hé", "extra": [1]}, created=17, vendor={"a": 1})])

    assert stream.written == [
        {
            "id": "chatcmpl-1",
            "model": "mine",
            "choices": [
                {"index": 0, "delta": {"content": "hé", "extra": [1]}, "finish_reason": None}
            ],
            "created": 17,
            "vendor": {"a": 1},
        }
    ]
    assert stream.reply.created == 17


async def test_chunks_that_came_together_leave_together() -> None:
    stream = Stream()

    await stream.reader.take([chunk({"content": word}) for word in "abc"])
    await stream.reader.take([chunk({"content": "d"})])

    assert [batch.count(b"data: ") for batch in stream.batches] == [3, 1]
    assert "".join(stream.reply.text) == "abcd"


async def test_nothing_leaves_before_the_first_content() -> None:
    stream = Stream()

    await stream.reader.take([chunk({"role": "assistant", "content": ""})])
    assert (stream.batches, stream.reply.started) == ([], False)

    await stream.reader.take([chunk({"content": "a"})])
    assert len(stream.written) == 2
    assert stream.reply.started


@pytest.mark.parametrize(
    "delta",
    [{"tool_calls": [CALL]}, {"reasoning_content": "hm"}, {"reasoning": "hm"}, {"refusal": "no"}],
    ids=lambda delta: next(iter(delta)),
)
async def test_more_than_text_counts_as_content(delta: dict[str, Any]) -> None:
    stream = Stream()

    await stream.reader.take([chunk(delta)])

    assert stream.reply.started


async def test_usage_is_taken_out_wherever_it_is() -> None:
    stream = Stream()

    await stream.reader.take(
        [
            chunk({"content": "a"}, usage=None),
            chunk({}, "stop", usage=USAGE),
            json.dumps({"choices": [], "usage": USAGE}).encode(),
            b"[DONE]",
        ]
    )
    await stream.reader.end()

    assert [("usage" in event, len(event["choices"])) for event in stream.written] == [
        (False, 1),
        (False, 1),
    ]
    assert stream.reply.usage == Usage(prompt_tokens=5, completion_tokens=3, cached_tokens=2)
    assert stream.reader.done


async def test_a_client_that_asked_gets_null_usage_until_the_end() -> None:
    stream = Stream(include_usage=True)
    await stream.reader.take([chunk({"content": "a"}), chunk({}, "stop", usage=USAGE)])

    assert [event["usage"] for event in stream.written] == [None, None]
    closing = closing_events(
        request(include_usage=True), stream.reply, settle_usage(stream.reply, 0)
    )
    last = json.loads(closing.split(b"\n\n")[0].removeprefix(b"data: "))
    assert (last["usage"], last["choices"]) == (USAGE, [])


async def test_usage_that_counts_nothing_is_no_usage() -> None:
    stream = Stream()
    stream.reply.accepted = True

    await stream.reader.take(
        [chunk({"content": "word"}, "stop", usage={"prompt_tokens": 0, "completion_tokens": 0})]
    )

    assert settle_usage(stream.reply, 9) == Usage(
        prompt_tokens=9, completion_tokens=1, estimated=True
    )


@pytest.mark.parametrize(
    "payload",
    [
        b'{"choices":[{"delta":{"content"',
        b'{"choices":[{"index":0,"delta":{"content":"\xe2\x82"}}]}',
        b'{"vendor":"\xe2\x82","choices":[{"index":0,"delta":{"content":"a"}}]}',
        b'{"choices":7}',
        b'{"foo":1}',
        b"null",
    ],
    ids=["cut", "utf-8 in content", "utf-8 elsewhere", "shape", "no choices", "null"],
)
async def test_what_is_no_chunk_is_a_failure(payload: bytes) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        await Stream().reader.take([payload])

    assert caught.value.code == "backend_malformed"


async def test_an_error_event_is_a_failure_that_names_its_type_and_not_its_text() -> None:
    stream = Stream()

    with pytest.raises(BackendUnavailable, match="overloaded_error") as caught:
        await stream.reader.take(
            [b'{"error":{"message":"your prompt `secret`","type":"overloaded_error"}}']
        )

    assert (caught.value.code, "secret" in str(caught.value)) == ("backend_error", False)


async def test_a_stream_without_a_finish_reason_was_cut() -> None:
    stream = Stream()
    await stream.reader.take([chunk({"content": "a"}), b"[DONE]"])

    with pytest.raises(BackendUnavailable) as caught:
        await stream.reader.end()

    assert caught.value.code == "backend_cut"


async def test_every_choice_must_be_finished() -> None:
    stream = Stream(expected_choices=2)
    second = {"index": 1, "delta": {"content": "b"}, "finish_reason": None}
    await stream.reader.take([chunk({"content": "a"}, "stop")])
    assert not stream.reader.finished

    await stream.reader.take([json.dumps({"choices": [second]}).encode()])
    with pytest.raises(BackendUnavailable):
        await stream.reader.end()

    await stream.reader.take(
        [json.dumps({"choices": [{**second, "finish_reason": "stop"}]}).encode()]
    )
    await stream.reader.end()
    assert stream.reader.finished
    assert (stream.reply.text, stream.reply.hidden) == (["a"], ["b", "b"])


async def test_a_finish_that_comes_twice_finishes_no_other_choice() -> None:
    stream = Stream(expected_choices=2)
    other = {"index": 1, "delta": {"content": "b"}, "finish_reason": None}
    second = json.dumps({"id": "x", "choices": [other]}).encode()

    await stream.reader.take([chunk({"content": "a"}, "stop"), second, chunk({}, "stop")])

    assert not stream.reader.finished
    with pytest.raises(BackendUnavailable, match="before its answer was finished"):
        await stream.reader.end()


async def test_a_finish_that_comes_twice_is_passed_on_once() -> None:
    stream = Stream(expected_choices=2)
    again = {"index": 0, "delta": {}, "finish_reason": "stop"}
    other = {"index": 1, "delta": {"content": "b"}, "finish_reason": "stop", "x": 1}

    await stream.reader.take([chunk({"content": "a"}), chunk({}, "stop"), chunk({}, "stop")])
    await stream.reader.take([json.dumps({"choices": [again, other]}).encode()])
    await stream.reader.take([chunk({}, "stop", usage=USAGE)])
    await stream.reader.end()

    choices = [choice for event in stream.written for choice in event["choices"]]
    assert [(c["index"], c["finish_reason"]) for c in choices] == [
        (0, None),
        (0, "stop"),
        (1, "stop"),
    ]
    assert choices[2] == other
    assert stream.reply.usage is not None


async def test_content_after_a_finish_is_not_lost() -> None:
    stream = Stream()

    await stream.reader.take([chunk({"content": word}, "stop") for word in ("a", "b")])

    assert [event["choices"][0]["delta"]["content"] for event in stream.written] == ["a", "b"]
    assert stream.reply.text == ["a", "b"]


async def test_a_stream_without_content_is_empty_and_nothing_was_written() -> None:
    stream = Stream()
    await stream.reader.take([chunk({"role": "assistant"}), chunk({}, "stop"), b"[DONE]"])

    with pytest.raises(BackendUnavailable) as caught:
        await stream.reader.end()

    assert (caught.value.code, stream.batches) == ("backend_empty", [])


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_an_empty_answer_that_says_why_is_an_answer(reason: str) -> None:
    stream = Stream()
    await stream.reader.take([chunk({}, reason)])

    await stream.reader.end()

    assert stream.written[0]["choices"][0]["finish_reason"] == reason


async def test_tool_calls_are_counted_once_however_they_are_split() -> None:
    stream = Stream()
    pieces = [
        {"tool_calls": [{**CALL, "function": {"name": "find", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
    ]
    await stream.reader.take([chunk(piece) for piece in pieces])

    assert (stream.reply.tool_calls, "".join(stream.reply.hidden)) == (1, 'find{"a":1}')


async def nowhere(_: bytes) -> None:
    raise AssertionError("nothing is streamed here")


def whole(body: Any) -> Reply:
    reply = Reply(nowhere)
    reply.accepted = True
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    read_answer(raw, request(), reply)
    return reply


def answer(message: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "theirs", "model": "x", "created": 3, "choices": [choice], **more}


def test_a_whole_answer_keeps_everything_but_id_and_model() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning": "hm"}
    theirs = answer(message, "tool_calls", usage=USAGE, vendor={"a": [1.0]})

    reply = whole(theirs)

    expected = {**theirs, "id": "chatcmpl-1", "model": "mine"}
    assert json.loads(render_answer(reply, settle_usage(reply, 0))) == expected
    assert (reply.tool_calls, reply.finish_reason) == (1, "tool_calls")


async def test_estimates_are_equal_streamed_or_not() -> None:
    message = {"content": "Zürich is wide", "reasoning_content": "hm", "tool_calls": [CALL]}
    stream = Stream()
    stream.reply.accepted = True
    await stream.reader.take([chunk({"content": "Zür"}), chunk({"content": "ich is wide"})])
    await stream.reader.take([chunk({"tool_calls": [CALL]}), chunk({"reasoning_content": "hm"})])

    assert settle_usage(stream.reply, 4) == settle_usage(whole(answer(message)), 4)
    assert settle_usage(stream.reply, 4).completion_tokens == 7  # 28 bytes


def test_a_prompt_that_went_out_and_was_never_answered_counts() -> None:
    reply = Reply(nowhere)
    assert settle_usage(reply, 9) == Usage()

    reply.in_doubt = True

    assert settle_usage(reply, 9) == Usage(prompt_tokens=9, estimated=True)


def test_an_estimate_says_that_it_is_one() -> None:
    reply = whole(answer({"content": "four"}))

    usage = json.loads(render_answer(reply, settle_usage(reply, 9)))["usage"]

    assert usage == {
        "prompt_tokens": 9,
        "completion_tokens": 1,
        "total_tokens": 10,
        "estimated": True,
    }


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"choices":[', "backend_malformed"),
        (b'{"ok":true}', "backend_malformed"),
        ({"error": {"message": "no"}}, "backend_error"),
        ({"object": "error", "message": "no"}, "backend_error"),
        ({"error": "no", "choices": []}, "backend_error"),
        (answer({"content": ""}), "backend_empty"),
        (answer({"content": None}), "backend_empty"),
        ({"choices": []}, "backend_empty"),
    ],
)
def test_a_200_that_is_no_answer_is_a_failure(body: Any, code: str) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        whole(body)

    assert caught.value.code == code


def test_an_answer_with_a_null_error_is_an_answer() -> None:
    assert whole(answer({"content": "a"}, error=None)).text == ["a"]
