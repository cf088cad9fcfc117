"""Text completions and embeddings at the edge."""

import json
from typing import Any

import aiohttp
import msgspec
import pytest

from localforge.contracts.live import Operation
from tests.unit.edge.lane import completed, decided, delta, failed


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def post(http, edge):
    async def post(path: str, body: Any) -> tuple[int, bytes]:
        async with http.post(edge.url + path, json=body) as answer:
            return answer.status, await answer.read()

    return post


async def test_a_text_completion_is_answered_whole(edge, post):
    status, body = await post("/v1/completions", {"model": "auto", "prompt": "Once"})

    answer = json.loads(body)
    call = edge.lane.sent[0]
    assert status == 200
    assert (answer["object"], answer["choices"][0]["text"]) == ("text_completion", "hi there")
    assert answer["id"] == f"cmpl-{call.request_id}"
    assert answer["usage"]["total_tokens"] == 5
    assert json.loads(call.body)["messages"] == [{"role": "user", "content": "Once"}]


async def test_a_text_completion_streams_and_ends_with_done(edge, post):
    asked = {"model": "auto", "prompt": "Once", "stream": True}
    status, body = await post("/v1/completions", asked)

    events = body.decode().split("\n\n")
    assert (status, events[-2:]) == (200, ["data: [DONE]", ""])
    texts = [json.loads(e.removeprefix("data: "))["choices"][0]["text"] for e in events[:-2]]
    assert "".join(texts) == "hi there"


async def test_a_text_completion_that_breaks_ends_with_an_error_and_no_done(edge, post):
    def breaks(lane, call):
        lane.emit(delta(call, "half", first=True))
        lane.emit(failed(call))

    edge.lane.script = breaks
    asked = {"model": "auto", "prompt": "Once", "stream": True}
    _, body = await post("/v1/completions", asked)

    assert b"[DONE]" not in body
    assert json.loads(body.decode().split("\n\n")[-2].removeprefix("data: "))["error"]["code"] == (
        "backend_unavailable"
    )


async def test_a_stream_that_cannot_be_said_ends_with_an_error(edge, post):
    def odd(lane, call):
        lane.emit(delta(call, "half", first=True))
        lane.emit(completed(call, data=b'data: {"choices":5}\n\n'))

    edge.lane.script = odd
    asked = {"model": "auto", "prompt": "Once", "stream": True}
    _, body = await post("/v1/completions", asked)

    assert b"[DONE]" not in body
    assert b"backend_malformed" in body


async def test_what_a_chat_model_cannot_do_is_refused_in_openais_shape(post):
    asked = {"model": "auto", "prompt": "Once", "suffix": "end"}
    status, body = await post("/v1/completions", asked)

    assert (status, json.loads(body)["error"]["param"]) == (400, "suffix")


async def test_an_embeddings_request_goes_on_as_it_came(edge, post):
    vectors = {"object": "list", "data": [{"index": 0, "embedding": "AACAPw=="}]}
    edge.lane.script = lambda lane, call: lane.emit(
        completed(call, body=msgspec.json.encode(vectors))
    )
    asked = {
        "model": "bge",
        "input": ["text"],
        "encoding_format": "base64",
        "stream": True,
        "localforge": {"label": "confidential"},
    }

    status, body = await post("/v1/embeddings", asked)

    call = edge.lane.sent[0]
    assert (status, json.loads(body)) == (200, vectors)
    assert (call.operation, call.stream, call.model) == (Operation.EMBEDDINGS, False, "bge")
    assert json.loads(call.body) == asked
    assert call.declared_label == "confidential"


@pytest.mark.parametrize(
    ("body", "param"),
    [({"model": "m"}, "input"), ({"input": "x"}, "model"), ({"model": "", "input": "x"}, "model")],
)
async def test_an_embeddings_request_needs_model_and_input(post, body, param):
    status, answer = await post("/v1/embeddings", body)

    assert (status, json.loads(answer)["error"]["param"]) == (400, param)


@pytest.mark.parametrize("prefix", ["chatcmpl-", "cmpl-", "msg_"])
async def test_feedback_knows_the_ids_of_every_api(edge, post, prefix):
    edge.log["01abc"] = decided("01abc").encode()
    status, body = await post("/v1/feedback", {"id": f"{prefix}01abc", "score": 1})

    assert (status, json.loads(body)["completion_id"]) == (202, "chatcmpl-01abc")


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/v1/completions", b'"prompt":"Once"'),
        ("/v1/messages", b'"max_tokens":4,"messages":[{"role":"user","content":"x"}]'),
        ("/v1/embeddings", b'"input":"x"'),
    ],
)
async def test_a_repeated_wish_is_refused_in_every_api(edge, http, path, rest):
    wish = b'"localforge":{"label":"restricted"},"localforge":{"label":"public"}'
    async with http.post(
        edge.url + path, data=b'{"model":"auto",' + wish + b"," + rest + b"}"
    ) as a:
        status, said = a.status, await a.text()

    assert status == 400
    assert "`localforge` is there more than once" in said
    assert edge.lane.sent == []
