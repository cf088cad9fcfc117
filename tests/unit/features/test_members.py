"""An object whose members can be read in two ways is refused, wherever it is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localforge.errors import RequestRefused
from localforge.features import parse_chat, parse_embeddings
from localforge.features.members import refuse_repeated

HI = '"model":"auto","messages":[{"role":"user","content":"hi"}]'
IMAGE = '{"messages":[{"role":"user","content":[{"type":"image_url","image_url":%s}]}]}'
AUDIO = '[{"type":"input_audio","input_audio":{"data":"UklG","format":"wav"}}]'


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (f'{{{HI},"model":"other"}}', "model"),
        (f'{{{HI},"Model":"other"}}', "Model"),
        (f'{{"Model":"other",{HI}}}', "Model"),
        (f'{{{HI},"Messages":[]}}', "Messages"),
        (f'{{{HI},"me\\u017f\\u017fages":[]}}', "meſſages"),
        (f'{{{HI},"foo":1,"Foo":2}}', "Foo"),
        (f'{{"messages":[{{"role":"user","content":{AUDIO},"content":"hi"}}]}}', "content"),
        (f'{{"messages":[{{"role":"user","c\\u006fntent":{AUDIO},"content":"hi"}}]}}', "content"),
        (f'{{"messages":[{{"role":"user","content" : {AUDIO},"content":"\\\\"}}]}}', "content"),
        (
            f'{{"messages":[{{"role":"user","content":"hi","Content":{AUDIO}}}]}}',
            "messages[0].Content",
        ),
        (
            f'{{"messages":[{{"role":"assistant","Content":{AUDIO}}}]}}',
            "messages[0].Content",
        ),
        (
            '{"messages":[{"role":"user","content":[{"type":"text","text":"a","Text":"b"}]}]}',
            "messages[0].content[0].Text",
        ),
        (
            IMAGE % '{"url":"data:,x","url":"https://a"}',
            "url",
        ),
        (
            IMAGE % '{"url":"https://a","URL":"data:,x"}',
            "messages[0].content[0].image_url.URL",
        ),
    ],
)
def test_a_chat_request_that_says_two_things_is_refused(body: str, param: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        parse_chat(body.encode())

    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ('"input":"hi","messages":[{"role":"user","content":"hi"}]', "messages"),
        ('"input":[1],"input":"hi"', "input"),
        ('"input":"hi","Input":[1]', "Input"),
    ],
)
def test_an_embeddings_request_that_says_two_things_is_refused(members: str, param: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        parse_embeddings(f'{{"model":"auto",{members}}}'.encode())

    assert caught.value.param == param


@pytest.mark.parametrize("length", [10, 10_000])
def test_a_long_body_is_looked_through_too(length: int) -> None:
    text = json.dumps('say "x" and \\' * length)
    body = f'{{"messages":[{{"role":"user","content":{text}}}]%s}}'

    assert parse_chat((body % "").encode())
    with pytest.raises(RequestRefused):
        parse_chat((body % ',"n":1,"n":1').encode())


def test_names_that_are_the_users_own_may_differ_in_case_only() -> None:
    properties = {"Name": {"type": "string"}, "name": {"type": "string"}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": properties}}}
    body = {"messages": [{"role": "user", "content": "hi"}], "tools": [tool], "userTag": 1}

    assert parse_chat(json.dumps(body).encode())["tools"] == [tool]


values = st.recursive(
    st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
tricky = st.dictionaries(st.sampled_from(['"', "\\", "a\\", '\\"', "a"]), values | st.text('\\"'))


@given(tricky, st.booleans())
def test_what_is_there_once_passes(value: dict, is_ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=is_ascii).encode(errors="surrogatepass")

    refuse_repeated(body, value)


@given(tricky, st.data())
def test_what_is_there_twice_is_found(value: dict, data: st.DataObject) -> None:
    names = st.sampled_from(['"', "\\", "a\\", '\\"', "a"])
    name = data.draw(names)
    both = [(name, data.draw(values | st.text('\\"'))) for _ in range(2)]
    pairs = [*value.items(), *both]
    body = "{" + ",".join(f"{json.dumps(key)}:{json.dumps(held)}" for key, held in pairs) + "}"

    with pytest.raises(RequestRefused):
        refuse_repeated(body.encode(), json.loads(body))
